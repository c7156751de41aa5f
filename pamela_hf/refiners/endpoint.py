"""Variants from a chat model behind an OpenAI-style server, or from Hugging Face's Inference Providers.

Only prompts and predicted scores are sent. Inference Providers get the token that `huggingface_hub` finds (HF_TOKEN or
the login), another server the key in REFINER_API_KEY or none: never the Hub's token. Neither is stored
or logged.
"""

import logging
import os
import re
import time
from collections.abc import Sequence
from concurrent import futures
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from huggingface_hub import InferenceClient, get_session, get_token
from huggingface_hub.errors import HfHubHTTPError, InferenceTimeoutError, OfflineModeIsEnabled
from huggingface_hub.utils import hf_raise_for_status

from ..hub.scan import mask_secrets
from . import Trial, clean_prompt, prompt_key
from ._answers import messages, parse_variants
from .instructions import SCHEMA

logger = logging.getLogger(__name__)

# whatever HTTP library this release of huggingface_hub is built on, all its errors share this base
_HTTP_ERROR = next(base for base in HfHubHTTPError.__mro__ if base.__name__ == "HTTPError")
MAX_ANSWER = 4 << 20  # bytes; 2,048 tokens are some 10 KB
_UNUSABLE = (_HTTP_ERROR, OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError)
DEFAULT_MODEL = "meta-llama/Llama-3.1-8B-Instruct"


class Refiner:
    """See the module.

    Args:
        model: as the server calls it; default: Llama-3.1-8B-Instruct, or what the server at `base_url` runs.
        base_url: of an OpenAI-style server, such as `http://127.0.0.1:8000/v1`; `None` = Inference Providers.
        api_key: of that server; default: the environment's REFINER_API_KEY.
        temperature: of sampling; default: 1.
        retries: further requests where variants are missing or the server fails; default: 3.
        wait: seconds before the first of these, doubled each time; default: 1.
        timeout: seconds for one request, whole; default: 120.

    Raises:
        ValueError: `base_url` is not an http(s) address.
    """

    name = "endpoint"

    def __init__(
        self,
        model: str | None = None,
        base_url: str | None = None,
        api_key: str | None = None,
        temperature: float = 1.0,
        retries: int = 3,
        wait: float = 1.0,
        timeout: float = 120.0,
    ):
        if base_url is not None:
            try:
                parts = urlsplit(base_url)
                right = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
            except ValueError:  # brackets or a port that are none
                right = False
            if not right or not base_url.isprintable() or " " in base_url:
                raise ValueError(
                    f"base_url={mask_secrets(base_url)!r} (--refiner-url) is not a server's address; expected "
                    "one such as http://127.0.0.1:8000/v1."
                )
        self.model = model or (DEFAULT_MODEL if base_url is None else None)
        self.base_url, self.temperature, self.retries = base_url, temperature, retries
        self.wait, self.timeout = wait, timeout
        self._api_key = api_key
        self._structured = True

    @property
    def identity(self) -> str:
        """What a run's arguments call it; no password that stands in the address."""
        server = mask_secrets(re.sub(r"(?<=//)[^/]*@", "", self.base_url or "Inference Providers"))
        return f"{self.name} {self.model or ''} {server}"

    def propose(self, prompt: str, history: Sequence[Trial], n: int, rng: np.random.Generator) -> list[str]:
        """Up to `n` distinct variants; fewer, with a warning, if the server fails or the model does not give more.

        Raises:
            ConnectionError: the server refuses the request (unknown model, no access), or Inference Providers are meant
                without a token or under HF_HUB_OFFLINE: asking again cannot help.
        """
        if self.base_url is None and (self._api_key or get_token()) is None:
            raise ConnectionError(
                "Inference Providers need an access token: `hf auth login` or HF_TOKEN. Or name a server of yours with "
                "--refiner-url, or choose another --refiner."
            )
        seen = {prompt_key(trial.prompt) for trial in history} | {prompt_key(prompt)}
        found: list[str] = []
        for attempt in range(1 + self.retries):
            if len(found) >= n:
                break
            answer = self._answer(messages(prompt, history, n - len(found)), int(rng.integers(2**31)))
            for variant in map(clean_prompt, parse_variants(answer)):
                if variant and prompt_key(variant) not in seen:
                    seen.add(prompt_key(variant))
                    found.append(variant)
            if answer is None and attempt < self.retries:
                time.sleep(self.wait * 2**attempt)
        return found[:n]

    def _answer(self, chat: list[dict[str, str]], seed: int) -> str | None:
        """The model's text; `None` where the server failed in a way that may pass."""
        # HTTP libraries bound each read, so a server that drips bytes would hold a run for ever: it is left behind
        answer: futures.Future[Any] = futures.Future()

        def ask() -> None:
            try:
                answer.set_result(self._ask(chat, seed))
            except BaseException as error:
                answer.set_exception(error)

        Thread(target=ask, daemon=True).start()
        try:
            content = answer.result(self.timeout)
            return content if isinstance(content, str) else ""
        except (InferenceTimeoutError, futures.TimeoutError):
            logger.warning("The refiner's server did not answer within %g s.", self.timeout)
        except OfflineModeIsEnabled:
            raise ConnectionError(
                "HF_HUB_OFFLINE=1 shuts Inference Providers off. Unset it, name a server of yours with --refiner-url, "
                "or choose another --refiner."
            ) from None
        except HfHubHTTPError as error:
            status = getattr(error.response, "status_code", None)
            if status in (400, 422) and self._structured:  # it does not know response_format: ask in plain words
                self._structured = False
                return self._answer(chat, seed)
            if status is not None and 400 <= status < 500 and status not in (408, 425, 429):
                raise ConnectionError(
                    f"The refiner's server refused the request with status {status}. Check --refiner-model, "
                    "--refiner-url and the access token (HF_TOKEN)."
                ) from None
            logger.warning("The refiner's server failed with status %s.", status)
        except _UNUSABLE as error:
            logger.warning("The refiner's server gave no usable answer: %s", mask_secrets(str(error)) or "no reason")
        return None

    def _ask(self, chat: list[dict[str, str]], seed: int) -> Any:
        """One request: the message's content, whatever it is."""
        options: dict[str, Any] = {"temperature": self.temperature, "seed": seed, "max_tokens": 2048}
        if self._structured:
            options["response_format"] = {"type": "json_schema", "json_schema": SCHEMA}
        if self.base_url is None:
            client = InferenceClient(api_key=self._api_key, timeout=self.timeout)
            return client.chat_completion(chat, model=self.model, **options).choices[0].message.content
        if self.model:
            options["model"] = self.model
        url = self.base_url.rstrip("/")
        if not url.endswith("/chat/completions"):
            url += "/chat/completions" if url.endswith("/v1") else "/v1/chat/completions"
        key = self._api_key if self._api_key is not None else os.environ.get("REFINER_API_KEY", "none")
        # a plain client: huggingface_hub's own refuses any address, the next room's too, under HF_HUB_OFFLINE
        headers = {"Authorization": f"Bearer {key}", "Accept-Encoding": "identity"}
        with type(get_session())(timeout=self.timeout) as http:
            with http.stream("POST", url, json={"messages": chat, **options}, headers=headers) as streamed:
                body = self._bounded(streamed)
            # what came, as a response that need not be read any more
            response = type(streamed)(streamed.status_code, content=body, request=streamed.request)
            hf_raise_for_status(response)
            return response.json()["choices"][0]["message"]["content"]

    def _bounded(self, streamed: Any) -> bytes:
        """The body of a response that is being read, within the limits of size and time; beyond these the connection is
        closed. A compressed one, which was not asked for, is not unpacked: a few kilobytes can become gigabytes."""
        coding = streamed.headers.get("content-encoding", "identity")
        if coding.lower() not in ("identity", ""):
            raise ValueError(f"its answer is compressed ({coding[:40]}), which was not asked for")
        body, deadline = bytearray(), time.monotonic() + self.timeout
        for part in streamed.iter_raw():
            body += part
            if len(body) > MAX_ANSWER:
                raise ValueError(f"its answer has more than {MAX_ANSWER >> 20} MiB")
            if time.monotonic() > deadline:
                raise ValueError(f"its answer took more than {self.timeout:g} s")
        return bytes(body)
