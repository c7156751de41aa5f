"""TRL's own GRPOTrainer trains a refiner for one simulated person: what they truly like rises, for them.

PAMELA_REWARD=DIR takes a reward of a demo (`make demo`) instead of training a small one.
"""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

trl = pytest.importorskip("trl")

from pamela_hf.rewards import load_reward  # noqa: E402
from pamela_hf.scoring import PamelaScorer  # noqa: E402
from pamela_hf.simulation.pipeline import SimulatedPipeline  # noqa: E402
from pamela_hf.simulation.world import SCALARS, VOCABULARY, simulated_participants  # noqa: E402

SUBJECTS = ("a cottage", "a cat", "a bowl of fruit", "a street at noon")
PHRASES = sorted({phrase for name in SCALARS for phrase in VOCABULARY[name]})
PEOPLE = 60  # of the demo's world
LENGTH = 5  # phrases of a completion
STEPS = 60
TRAINED_FOR = 8  # people


@pytest.fixture(scope="module")
def reward_of_a_world(tmp_path_factory) -> str:
    """A reward that has learned the simulated people from their ratings, as the demo trains it, smaller."""
    if given := os.environ.get("PAMELA_REWARD"):
        return given
    from pamela_hf.cli import main as pamela
    from pamela_hf.simulation.encoder import simulated_pairs, train_tiny_encoder
    from pamela_hf.simulation.world import write_world

    place = tmp_path_factory.mktemp("world")
    data, encoder, model = str(place / "ratings"), str(place / "encoder"), str(place / "model")
    write_world(data, PEOPLE, 600, 9000, progress=False)
    train_tiny_encoder(*simulated_pairs(), encoder, progress=False)
    pamela(["embed", "--data", data, "--encoder", encoder])
    config = str(Path(__file__).parents[2] / "scripts" / "configs" / "demo.yaml")
    pamela(["train", "--config", config, "--data", data, "--output", model, "--encoder", encoder])
    return model


def phrase_tokenizer():
    """One token a phrase: a refiner that is too small to write English still writes prompts."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<pad>", "<eos>", *SUBJECTS, *PHRASES]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(", "), "removed")
    tokenizer.decoder = decoders.Fuse()
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>")
    made.padding_side = "left"
    return made


def tiny_refiner(tokenizer):
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=1,
            num_attention_heads=2, num_key_value_heads=2, head_dim=16, max_position_embeddings=64,
            bos_token_id=None, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        )
    )  # fmt: skip


@torch.no_grad()
def completions_of(model, tokenizer, n: int) -> list[str]:
    """n prompts for each subject, as the refiner writes them."""
    torch.manual_seed(1)
    texts = []
    for subject in SUBJECTS:
        inputs = tokenizer([subject] * n, return_tensors="pt")
        out = model.generate(
            input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], do_sample=True,
            max_new_tokens=LENGTH, min_new_tokens=LENGTH, pad_token_id=tokenizer.pad_token_id,
        )  # fmt: skip
        for row in out[:, inputs["input_ids"].shape[1] :].tolist():
            phrases = [tokenizer.convert_ids_to_tokens(token) for token in row]
            texts.append(", ".join([subject, *(word for word in phrases if word in PHRASES)]))
    return texts


def interval(values: np.ndarray, draws: int = 2000) -> tuple[float, float]:
    """95 % bootstrap interval of the mean of `(people, prompts)`, over both."""
    rng = np.random.default_rng(0)
    people, prompts = values.shape
    rows = rng.integers(0, people, (draws, people))
    columns = rng.integers(0, prompts, (draws, people, prompts))
    means = values[rows[:, :, None], columns].mean((1, 2))
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def trained_for(person, personal, tokenizer, output) -> list[str]:
    """What a refiner writes that GRPO trained on the rewards of one person's rows."""
    from datasets import Dataset

    model = tiny_refiner(tokenizer)

    def reward(prompts, completions, completion_ids, **columns):
        written = [
            ", ".join([subject, *(tokenizer.convert_ids_to_tokens(token) for token in ids)])
            for subject, ids in zip(prompts, completion_ids)
        ]
        return personal(prompts=prompts, completions=written, **columns)

    trainer = trl.GRPOTrainer(
        model=model,
        processing_class=tokenizer,
        reward_funcs=reward,
        train_dataset=Dataset.from_list(
            [{"prompt": subject, "user": person.participant_id} for subject in SUBJECTS] * (STEPS * 2)
        ),
        args=trl.GRPOConfig(
            output_dir=str(output), per_device_train_batch_size=32, num_generations=16, max_steps=STEPS,
            max_completion_length=LENGTH, learning_rate=2e-2, lr_scheduler_type="constant", beta=0.0, logging_steps=10,
            report_to=[], save_strategy="no", use_cpu=True, bf16=False, seed=0, disable_tqdm=True,
            generation_kwargs={"min_new_tokens": LENGTH}, gradient_checkpointing=False,
        ),
    )  # fmt: skip
    trainer.train()
    return completions_of(model.eval(), tokenizer, 50)


@pytest.mark.slow
@pytest.mark.parametrize("personal_only", [False, True])
def test_a_refiner_learns_one_person_s_taste_and_not_another_s(reward_of_a_world, tmp_path, personal_only):
    """With the plain reward everybody's refiner pleases them more than before. People share much of their taste, so it
    pleases others, too. With what is personal alone, each likes the prompts of their own refiner more than those of the
    others' refiners; and some like them less than before, which is what `personal_only` warns of."""
    scorer = PamelaScorer.from_pretrained(reward_of_a_world, device="cpu")
    known = {person.participant_id: person for person in simulated_participants(PEOPLE, 0)}
    people = _who_differ([known[name] for name in scorer.config.users if name in known], TRAINED_FOR)
    personal = load_reward("trl", model=scorer, pipeline=SimulatedPipeline(64), personal_only=personal_only)
    tokenizer = phrase_tokenizer()
    before = completions_of(tiny_refiner(tokenizer).eval(), tokenizer, 50)
    written = [trained_for(person, personal, tokenizer, tmp_path / person.participant_id) for person in people]

    def liked(person, texts):
        return np.array([person.true_liking(text, seed) for seed, text in enumerate(texts)])

    likings = np.array([[liked(person, texts) for texts in written] for person in people])  # (whose, for whom, prompts)
    own = likings[range(len(people)), range(len(people))]
    others = (likings.sum(1) - own) / (len(people) - 1)
    rise = own - np.array([liked(person, before) for person in people])
    print(likings.mean(2).round(2))
    print(f"own refiner: rise {rise.mean():.2f} {interval(rise)}; each person {rise.mean(1).round(2)}")
    print(f"own minus others' refiners: {(own - others).mean():.2f} {interval(own - others)}")
    if personal_only:
        assert interval(own - others)[0] > 0
    else:
        assert interval(rise)[0] > 0.2 and (rise.mean(1) > 0).all() and (own - others).mean() > 0


def _who_differ(people, n: int):
    """n people of the training whose tastes point away from each other, found one after the other."""
    weights = np.stack([person.weights for person in people])
    likeness = weights @ weights.T / np.outer(*[np.linalg.norm(weights, axis=1)] * 2)
    chosen = list(np.unravel_index(np.argmin(likeness), likeness.shape))
    while len(chosen) < n:
        chosen.append(int(np.argmin(likeness[chosen].max(0))))
    return [people[i] for i in chosen]
