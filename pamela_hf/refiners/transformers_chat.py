"""Variants from a chat model that runs here, through transformers (default: Llama-3.1-8B-Instruct)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ..model.encoder_pamela import no_adapter
from . import Trial, clean_prompt, prompt_key
from ._answers import messages, parse_variants

DEFAULT_MODEL = "meta-llama/Llama-3.1-8B-Instruct"


class Refiner:
    """See the module.

    The answer is begun for the model (`["`), which holds most of them to a JSON array of strings, and sampled several
    times in one batch; what is still missing is asked for again.

    Args:
        model: a causal language model; default: that of `model_id`, loaded when first needed.
        tokenizer: its tokenizer, with a chat template; both are given or neither; default: that of `model_id`.
        model_id: Hub id or folder of the model where none is given; default: `DEFAULT_MODEL`.
        temperature: of sampling; default: 1.
        top_p: of sampling; default: 0.95.
        samples: answers sampled at a time; default: 2.
        retries: further batches of answers, while variants are missing; default: 2.
        max_new_tokens: tokens of one answer at most; default: 1024.
    """

    name = "transformers_chat"

    def __init__(
        self,
        model: Any = None,
        tokenizer: Any = None,
        model_id: str = DEFAULT_MODEL,
        temperature: float = 1.0,
        top_p: float = 0.95,
        samples: int = 2,
        retries: int = 2,
        max_new_tokens: int = 1024,
    ):
        if (model is None) != (tokenizer is None):
            raise ValueError("model and tokenizer belong together; pass both, or a model_id.")
        self.model, self.tokenizer, self.model_id = model, tokenizer, model_id
        self.temperature, self.top_p = temperature, top_p
        self.samples, self.retries, self.max_new_tokens = samples, retries, max_new_tokens

    @property
    def identity(self) -> str:
        """What a run's arguments call it."""
        config = getattr(self.model, "config", None)
        model = f"{type(self.model).__name__}-{config.hidden_size}" if config is not None else self.model_id
        return f"{self.name} {model}"

    def propose(self, prompt: str, history: Sequence[Trial], n: int, rng: np.random.Generator) -> list[str]:
        """Up to `n` distinct variants; fewer if the model does not give more within the retries.

        Raises:
            ValueError: the tokenizer has no chat template.
        """
        seen = {prompt_key(trial.prompt) for trial in history} | {prompt_key(prompt)}
        found: list[str] = []
        for _ in range(1 + self.retries):
            wanted = n - len(found)
            if wanted <= 0:
                break
            for answer in self._answers(messages(prompt, history, -(-wanted // self.samples) + 1), rng):
                for variant in map(clean_prompt, parse_variants(answer)):
                    if variant and prompt_key(variant) not in seen:
                        seen.add(prompt_key(variant))
                        found.append(variant)
        return found[:n]

    @torch.no_grad()
    def _answers(self, chat: list[dict[str, str]], rng: np.random.Generator) -> list[str]:
        if self.model is None:
            self._load()
        if not self.tokenizer.chat_template:
            raise ValueError(
                f"The tokenizer of {self.model_id!r} has no chat template. Use an instruction-tuned model, or set "
                "tokenizer.chat_template."
            )
        text = self.tokenizer.apply_chat_template(
            chat, add_generation_prompt=True, tokenize=False, enable_thinking=False
        )
        inputs = self.tokenizer(text + '["', return_tensors="pt", add_special_tokens=False)
        length = getattr(self.model.config, "max_position_embeddings", None) or 8192
        room = max(length - self.max_new_tokens, length // 2)
        inputs = {name: ids[:, -room:] for name, ids in inputs.items() if name in ("input_ids", "attention_mask")}
        hook = getattr(self.model, "_hf_hook", None)
        if hook is not None:  # model offloading brings it in at its first forward, too late for generate's own tensors
            hook.pre_forward(self.model)
        device = getattr(hook, "execution_device", None) or self.model.device
        with torch.random.fork_rng(devices=[device] if torch.device(device).type == "cuda" else []):
            torch.manual_seed(int(rng.integers(2**31)))
            out = self.model.generate(
                **{name: value.to(device) for name, value in inputs.items()},
                do_sample=True,
                temperature=self.temperature,
                top_p=self.top_p,
                num_return_sequences=self.samples,
                max_new_tokens=min(self.max_new_tokens, length - inputs["input_ids"].shape[1]),
                pad_token_id=self.tokenizer.pad_token_id
                if self.tokenizer.pad_token_id is not None
                else self.tokenizer.eos_token_id,
            )
        new = out[:, inputs["input_ids"].shape[1] :]
        return ['["' + answer for answer in self.tokenizer.batch_decode(new, skip_special_tokens=True)]

    def _load(self) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        device = "cuda" if torch.cuda.is_available() else "cpu"
        dtype = torch.bfloat16 if device == "cuda" else torch.float32
        self.tokenizer = AutoTokenizer.from_pretrained(self.model_id, trust_remote_code=False)
        safe = {"use_safetensors": True, "trust_remote_code": False, "adapter_kwargs": no_adapter(self.model_id)}
        self.model = AutoModelForCausalLM.from_pretrained(self.model_id, dtype=dtype, **safe).to(device)
