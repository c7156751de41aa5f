"""Variants from a chat model behind an OpenAI-style server, or from Hugging Face's Inference Providers.

Only prompts and predicted scores are sent. Inference Providers get the token that `huggingface_hub` finds (HF_TOKEN or
the login), another server the key in REFINER_API_KEY or none: never the Hub's token. Neither is stored
or logged.
"""

import logging
import os
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError, InferenceTimeoutError

from . import Trial, clean_prompt, prompt_key
from ._answers import messages, parse_variants
from .instructions import SCHEMA

logger = logging.getLogger(__name__)

# whatever HTTP library this release of huggingface_hub is built on, all its errors share this base
_HTTP_ERROR = next(base for base in HfHubHTTPError.__mro__ if base.__name__ == "HTTPError")
DEFAULT_MODEL = "meta-llama/Llama-3.1-8B-Instruct"


class Refiner:
    """See the module.

    Args:
        model: as the server calls it; default: Llama-3.1-8B-Instruct, or what the server at `base_url` runs.
        base_url: of an OpenAI-style server, such as `http://127.0.0.1:8000/v1`; `None` = Inference Providers.
        api_key: of that server; default: the environment's REFINER_API_KEY. temperature: of sampling.
        retries: further requests where variants are missing or the server fails.
        wait: seconds before the first of these, doubled each time. timeout: seconds for one request.
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
        self.model = model or (DEFAULT_MODEL if base_url is None else None)
        self.base_url, self.temperature, self.retries = base_url, temperature, retries
        self.wait, self.timeout = wait, timeout
        self._api_key = api_key
        self._client: Any = None
        self._structured = True

    @property
    def identity(self) -> str:
        """What a run's arguments call it."""
        return f"{self.name} {self.model or ''} {self.base_url or 'Inference Providers'}"

    def propose(self, prompt: str, history: Sequence[Trial], n: int, rng: np.random.Generator) -> list[str]:
        """Up to `n` distinct variants; fewer, with a warning, if the server fails or the model does not give more.

        Raises:
            ConnectionError: the server refuses the request (unknown model, no access): asking again cannot help.
        """
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
        if self._client is None:
            key = self._api_key
            if self.base_url is not None and key is None:
                key = os.environ.get("REFINER_API_KEY", "none")
            self._client = InferenceClient(base_url=self.base_url, api_key=key, timeout=self.timeout)
        options: dict[str, Any] = {}
        if self._structured:
            options["response_format"] = {"type": "json_schema", "json_schema": SCHEMA}
        if self.base_url is None:
            options["model"] = self.model
        elif self.model:  # `model=` would take the place of the server's address
            options["extra_body"] = {"model": self.model}
        try:
            out = self._client.chat_completion(
                chat,
                temperature=self.temperature,
                seed=seed,
                max_tokens=2048,
                **options,
            )
            content = out.choices[0].message.content
            return content if isinstance(content, str) else ""
        except InferenceTimeoutError:
            logger.warning("The refiner's server did not answer within %g s.", self.timeout)
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
        except (_HTTP_ERROR, OSError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            logger.warning("The refiner's server gave no usable answer (%s).", type(error).__name__)
        return None
