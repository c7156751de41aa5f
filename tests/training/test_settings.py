import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from taste_world import taste_world
from toys import TINY_MODEL
from transformers import AutoConfig

from pamela_hf.model.configuration_pamela import PamelaConfig
from pamela_hf.model.factors_pamela import Ratings
from pamela_hf.ratings.table import RatingData
from pamela_hf.training import pilot, settings
from pamela_hf.training.config import Choice, TrainingConfig
from pamela_hf.training.pilot import choose_by_pilot
from pamela_hf.training.run import Run
from pamela_hf.training.settings import best_of, choose_epochs, choose_factors, choose_shares
from pamela_hf.training.train import train

AUTO_MODEL = {key: value for key, value in TINY_MODEL.items() if not key.endswith("_share")}


def small(**changes) -> TrainingConfig:
    values = {"epochs": 4, "users_per_batch": 8, "learning_rate": 1e-2, "user_learning_rate": 5e-2}
    return TrainingConfig(**{**values, "model": AUTO_MODEL, **changes})


@pytest.fixture(scope="module")
def world():
    splits, embeddings = taste_world()
    levels = {"five": (1.0, 2.0, 3.0, 4.0, 5.0), "slider": tuple(10.0 * k for k in range(11))}
    return RatingData("world", splits, levels), embeddings


def rated(liking: np.ndarray, noise: float = 0.5, seed: int = 0) -> Ratings:
    """Everyone's ratings of all images, `liking (people, images)` and noise, in their own standard deviations."""
    value = liking + noise * np.random.default_rng(seed).normal(size=liking.shape)
    value = (value - value.mean(1, keepdims=True)) / value.std(1, keepdims=True)
    person, image = np.divmod(np.arange(liking.size), liking.shape[1])
    return Ratings(torch.tensor(person), torch.tensor(image), torch.tensor(value.ravel()), len(liking))


def test_text_share_is_where_people_differ():
    rng = np.random.default_rng(1)
    image, text = rng.normal(size=(120, 12)), rng.normal(size=(120, 8))
    metadata = np.zeros((120, 0), np.int64)

    def share(of_prompt: float) -> float:
        taste = (1 - of_prompt) ** 0.5 * rng.normal(size=(40, 12)) @ image.T / 12**0.5
        taste = taste + of_prompt**0.5 * rng.normal(size=(40, 8)) @ text.T / 8**0.5
        found = choose_shares(image, text, metadata, rated(taste))["text_share"]
        assert found.low <= found.value <= found.high
        return found.value

    assert share(0.0) < 0.1 and share(1.0) > 0.8 and 0.3 < share(0.5) < 0.7


def test_metadata_share_is_what_tastes_differ_within_kinds():
    rng = np.random.default_rng(2)
    image, kind = rng.normal(size=(160, 6)), rng.integers(1, 4, (160, 1))
    everywhere = rng.normal(size=(40, 6)) @ image.T
    within = np.take_along_axis(rng.normal(size=(40, 3, 6)) @ image.T, kind.T[:, None] - 1, axis=1)[:, 0]
    found = [choose_shares(image, None, kind, rated(taste))["metadata_share"].value for taste in (everywhere, within)]
    assert found[0] < 0.15 and found[1] > 0.6


def test_linear_share_is_the_part_of_everyones_taste_that_is_linear():
    rng = np.random.default_rng(3)
    image, none = rng.normal(size=(200, 4)), np.zeros((200, 0), np.int64)
    linear, curved = image @ rng.normal(size=4), np.cos(2 * image).sum(1)
    tastes = (np.tile(taste, (20, 1)) for taste in (linear, curved))
    found = [choose_shares(image, None, none, rated(taste))["linear_share"].value for taste in tastes]
    assert found[0] > 0.4 and found[1] < 0.15
    few = choose_shares(image[:80], None, none[:80], rated(np.tile(curved[:80], (20, 1))))["linear_share"]
    assert few.value == 0.5  # networks know so few images by heart


def test_the_prior_of_rows_is_as_wide_as_people_differ():
    rng = np.random.default_rng(4)
    image, none = rng.normal(size=(150, 6)), np.zeros((150, 0), np.int64)
    alike, own = image @ rng.normal(size=6), rng.normal(size=(30, 6)) @ image.T
    widths = [
        choose_shares(image, None, none, rated(alike + spread * own, noise=2.0))["row_prior_std"].value
        for spread in (0.1, 0.5, 2.0)
    ]
    assert widths[0] < 0.8 * widths[1] and widths[1] < 0.8 * widths[2]


def test_factors_are_shared_where_people_show_what_they_share(monkeypatch):
    monkeypatch.setattr(settings, "FACTOR_IMAGES", 0)  # their penalty is not asked
    rng = np.random.default_rng(4)
    latent = rng.normal(size=(1000, 12)) / np.sqrt(1 + 0.5 * np.arange(12))  # what people may like
    image = (latent @ rng.normal(size=(12, 128)) + 0.5 * rng.normal(size=(1000, 128))).astype(np.float32)
    kinds, everyone = rng.integers(1, 12, (1000, 1)), rng.normal(size=12)

    def chosen(tastes: np.ndarray, share: float = 0.2, name: str = "taste_factors", **off: float) -> float | None:
        users = [f"p{i}" for i in range(len(tastes))]
        style = {"style": [f"style {i}" for i in range(11)]}
        config = PamelaConfig(
            image_embed_dim=128, users=users, metadata=style, metadata_share=0.1,
            rating_scales={"five": [1, 2, 3, 4, 5]}, **off,
        )  # fmt: skip
        ratings = rated((everyone + tastes) @ latent.T, noise=1.0)
        few = torch.from_numpy(rng.random(len(ratings.value)) < share)
        few = Ratings(ratings.person[few], ratings.image[few], ratings.value[few], ratings.people)
        found = choose_factors(config, image, None, kinds, few)
        return found[name].value if name in found else None

    assert chosen(rng.normal(size=(9, 12))) == 0
    # thirty ratings tell less of a taste than what others share of it
    assert chosen(2 * rng.normal(size=(60, 2)) @ rng.normal(size=(2, 12)), share=0.03) == PamelaConfig().taste_factors
    assert chosen(rng.normal(size=(settings.MANY_PEOPLE, 12))) is None
    assert chosen(rng.normal(size=(9, 12)), linear_share=0.0) is None


def test_of_few_images_the_penalty_of_shared_factors_is_asked():
    rng = np.random.default_rng(5)
    image = rng.normal(size=(90, 32)).astype(np.float32)
    users = [f"p{i}" for i in range(60)]
    config = PamelaConfig(image_embed_dim=32, users=users, taste_axes=8, rating_scales={"five": [1, 2, 3, 4, 5]})

    def chosen(tastes: np.ndarray, wanted=settings.FACTORS, **by_hand: int) -> dict[str, Choice]:
        ratings = rated((rng.normal(size=32) + tastes) @ image.T, noise=6.0)
        few = torch.from_numpy(rng.random(len(ratings.value)) < 0.5)
        few = Ratings(ratings.person[few], ratings.image[few], ratings.value[few], ratings.people)
        tried, none = PamelaConfig(**config.to_diff_dict() | by_hand), np.zeros((90, 0), int)
        return choose_factors(tried, image, None, none, few, wanted=wanted)

    shared, none = 3 * rng.normal(size=(60, 2)) @ rng.normal(size=(2, 32)), np.zeros((60, 32))
    penalties = [chosen(tastes)["factor_penalty"].value for tastes in (shared, none)]
    assert penalties[0] < penalties[1] and penalties[1] == pytest.approx(config.factor_penalty)
    assert chosen(shared, taste_factors=0) == {}
    assert set(chosen(shared)) == {"factor_penalty", "taste_factors"}
    by_hand = [{"taste_factors"}, {"factor_penalty"}]
    assert [set(chosen(shared, wanted=wanted)) for wanted in by_hand] == by_hand


def test_few_ratings_that_are_noise_are_taken_for_noise():
    rng = np.random.default_rng(5)
    image, none = rng.normal(size=(400, 300)), np.zeros((400, 0), np.int64)
    person, rated = torch.arange(100).repeat_interleave(12), torch.from_numpy(rng.integers(0, 400, 1200))
    ratings = Ratings(person, rated, torch.from_numpy(rng.normal(size=1200)), 100)
    assert choose_shares(image, None, none, ratings)["row_prior_std"].value < 0.2


def test_epochs_make_enough_steps(world):
    data, embeddings = world
    epochs = [choose_epochs(small(epochs="auto", users_per_batch=n), data, embeddings).value for n in (1, 2, 64)]
    assert epochs[-1] == settings.MOST_EPOCHS and epochs[0] < epochs[1] <= epochs[2]
    assert epochs[0] >= settings.FEWEST_EPOCHS


def test_nobody_to_tell_from():
    none = Ratings(torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.long), torch.zeros(0), 1)
    assert choose_shares(np.ones((3, 2)), None, np.zeros((3, 0), np.int64), none) == {}


def test_the_best_lies_between_its_neighbours():
    values = (0.0, 0.1, 0.2, 0.3, 0.4)
    choice = best_of(values, np.array([-((v - 0.23) ** 2) for v in values]), 0.01)
    assert choice.value == pytest.approx(0.23) and (choice.low, choice.high) == pytest.approx((0.13, 0.33))
    figures = np.array([-((v - 0.23) ** 2) for v in values])
    nearest = [best_of(values, figures, 0.01, usual).value for usual in (0.0, 0.2, 1.0)]
    assert nearest == pytest.approx([0.13, 0.2, 0.33])
    flat = best_of(values, np.zeros(5), 0.01)
    assert (flat.low, flat.high) == (0.0, 0.4)


def test_training_chooses_writes_down_and_resumes_with_its_choices(world, tmp_path, monkeypatch):
    data, embeddings = world
    model = train(small(), data, embeddings, tmp_path / "run", progress=False)
    chosen = json.loads((tmp_path / "run" / "settings.json").read_text())
    few = {"taste_factors", "factor_penalty"}  # few people, few images; there is no metadata
    assert set(chosen) == {"text_share", "linear_share", "taste_share", "row_prior_std", *few}
    config = AutoConfig.from_pretrained(tmp_path / "run")
    assert config.chosen == chosen == model.config.chosen
    for name in ("text_share", "linear_share", "taste_share"):
        assert getattr(config, name) == chosen[name]["value"]
    first = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])
    assert first["step"] == 0 and first["chosen/text_share"] == chosen["text_share"]["value"]

    # killed in the second epoch: it goes on with the same choices, and makes none anew
    take_step = Run.take_step

    def killed(self, parts, epoch, step):
        if len(self.ratings.arrays) == len(data.splits["train"]) and epoch == 2:  # a pilot has fewer
            raise KeyboardInterrupt
        return take_step(self, parts, epoch, step)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "take_step", killed)
        with pytest.raises(KeyboardInterrupt):
            train(small(), data, embeddings, tmp_path / "again", progress=False)
    monkeypatch.setattr(settings, "_choose", lambda *_: pytest.fail("chosen anew"))
    resumed = train(small(), data, embeddings, tmp_path / "again", resume=True, progress=False)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_a_number_by_hand_wins_and_needs_no_pilot(world, tmp_path, monkeypatch):
    monkeypatch.setattr(Run, "pilot", lambda self, epochs: pytest.fail("a pilot was trained"))
    by_hand = {"text_share": 0.33, "taste_share": 0.7, "taste_factors": 3, "factor_penalty": 9.0}
    config = small(epochs=1, row_prior_std=0.2, model={**AUTO_MODEL, **by_hand, "linear_share": "auto"})
    found = train(config, *world, tmp_path / "run", progress=False).config
    assert {name: getattr(found, name) for name in by_hand} == by_hand and set(found.chosen) == {"linear_share"}


def test_too_few_images_leave_the_usual_settings(world, tmp_path):
    data, embeddings = world
    few = data.splits["train"]
    few = few[few["image_id"].isin([f"i{k}" for k in range(6)])].reset_index(drop=True)
    part = dataclasses.replace(data, splits={"train": few})
    config = train(small(epochs=1), part, embeddings, tmp_path / "run", progress=False).config
    assert config.chosen is None and (config.linear_share, config.taste_share) == (0.5, 0.5)


def test_only_what_training_can_choose_is_auto():
    assert TrainingConfig(model={"taste_share": "auto"}).is_auto("taste_share")
    assert not TrainingConfig(row_prior_std=None).is_auto("row_prior_std")
    with pytest.raises(ValueError, match="training chooses text_share"):
        TrainingConfig(model={"hidden_size": "auto"})
    with pytest.raises(ValueError, match="row_prior_std='some' must be a number"):
        TrainingConfig(row_prior_std="some")


@dataclasses.dataclass
class Foretold:
    """A pilot's scorer: what everyone likes, `astray` of it at random, and `taste_share` of what a person likes beside
    it."""

    config: PamelaConfig
    astray: float = 0.0

    def predict(self, asked: pd.DataFrame, embeddings: None) -> SimpleNamespace:
        utility = asked["alike"] + self.astray * asked["chance"] + self.config.taste_share * asked["own"]
        return SimpleNamespace(utility=utility.to_numpy())


def asked_of_a_pilot(
    images: int, rest: float = 1.0, told: float = 1.0, astray: dict[int, float] | None = None
) -> tuple[dict[str, Choice], list]:
    """What is chosen where whole tastes are the best to count, what the pilot was trained on, and how many epochs each
    time. `astray`: by epochs in all, how far what everyone likes is off; asks for epochs."""
    rng = np.random.default_rng(1)
    person, image = (a.ravel() for a in np.indices((40, images)))
    alike, own = rng.normal(size=images)[image], rng.normal(size=(2, len(image)))
    table = pd.DataFrame({
        "participant_id": pd.Categorical([f"p{i}" for i in person]),
        "image_id": [f"i{i}" for i in image], "prompt": None, "chance": rng.normal(size=images)[image],
        "alike": rest * alike, "own": own[0], "score": told * (alike + own[0] + 3 * own[1]),
    })  # fmt: skip
    trained = []

    def begin(config: TrainingConfig, part: RatingData):
        trained.append(part.splits["train"])

        def train_on(epochs: int) -> Foretold:
            trained.append(epochs)
            return Foretold(PamelaConfig(users=["p0"]), (astray or {}).get(sum(trained[1:]), 0.0))

        return train_on

    data = RatingData("made up", {"train": table}, {})
    return choose_by_pilot(TrainingConfig(epochs=4), data, None, begin, astray is not None), trained


def test_few_images_say_little_against_the_usual_taste_share():
    few, many = (asked_of_a_pilot(images)[0]["taste_share"] for images in (40, 600))
    usual = pilot.USUAL_TASTE_SHARE
    assert abs(few.value - usual) < abs(many.value - usual) and 0.85 < many.value <= 1.0
    assert many.high - many.low < few.high - few.low <= 2 * pilot.USUAL_TASTE_STD


def test_a_rest_that_ranks_nothing_leaves_the_usual_taste_share():
    found = asked_of_a_pilot(40, rest=0.0)[0]["taste_share"]
    assert found.value == pytest.approx(pilot.USUAL_TASTE_SHARE, abs=0.05)


def test_unseen_images_that_nobody_rates_differently_choose_nothing():
    assert asked_of_a_pilot(40, told=0.0)[0] == {}


def test_a_pilot_of_many_ratings_is_of_some_people(monkeypatch):
    monkeypatch.setattr(pilot, "PILOT_RATINGS", 400)
    chosen, (trained, *epochs) = asked_of_a_pilot(40)
    assert trained["participant_id"].nunique() == 13 and len(trained) == 13 * 32  # whole people, 400 or more
    assert chosen["taste_share"].high <= 1.0 and epochs == [4] and "epochs" not in chosen


@pytest.mark.parametrize(
    "astray, epochs, trained",
    [
        ({4: 1.0, 8: 1.0}, 4, [4, 4]),  # as long again is worth nothing
        ({4: 1.0, 8: 2.0}, 4, [4, 4]),  # or harms
        ({4: 1.0, 8: 0.5, 16: 0.5}, 8, [4, 4, 8]),
        ({4: 1.0, 8: 0.5, 16: 0.0, 32: 0.0}, 16, [4, 4, 8]),  # no more than four times as many
    ],
)
def test_more_epochs_where_unseen_images_are_ranked_better(astray, epochs, trained):
    chosen, (_, *asked) = asked_of_a_pilot(200, astray=astray)
    assert chosen["epochs"].value == epochs and asked == trained


def test_few_unseen_ratings_are_asked_for_no_more_epochs():
    chosen, (_, *asked) = asked_of_a_pilot(20, astray={4: 1.0, 8: 0.0})  # four of each person
    assert "epochs" not in chosen and asked == [4]
