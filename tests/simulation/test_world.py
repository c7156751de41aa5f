"""The simulated world: deterministic, in the released layout, calibrated, and readable from its images."""

import csv
import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest
from scipy.stats import rankdata
from sklearn.linear_model import RidgeCV

from pamela_hf.encoder import FrozenEncoder
from pamela_hf.simulation.encoder import simulated_pairs, train_tiny_encoder
from pamela_hf.simulation.world import (
    FAMILIES,
    GROUPS,
    SCALARS,
    STYLES,
    SUBJECTS,
    VOCABULARY,
    Traits,
    new_rater_csv,
    plan_world,
    population_liking,
    prompt_from_traits,
    rate_matrix,
    render,
    simulated_newcomer,
    simulated_participants,
    traits_from_prompt,
    traits_named_in,
    with_traits,
    world_images,
    write_world,
)

# DOMAIN.md: means of the released training split.
GROUP_MEANS = {
    "abstract": 2.069, "product": 2.774, "still life": 2.943, "automotive": 3.114, "cinematic": 3.145,
    "portrait": 3.214, "fashion": 3.232, "cityscape": 3.255, "architecture": 3.277, "food": 3.341,
    "flower painting": 3.374, "landscape": 3.552, "travel": 3.515, "animal": 3.826,
}  # fmt: skip
SMALL = {"people": 14, "images": 80, "ratings": 500, "seed": 3, "size": 32, "progress": False}


@pytest.fixture(scope="module")
def full():
    return plan_world()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    out = tmp_path_factory.mktemp("simulated") / "world"
    return out, write_world(out, **SMALL)


def files_of(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def user_srocc(predicted, rated, users):
    """Mean per-user Spearman correlation."""
    return np.mean(
        [np.corrcoef(rankdata(predicted[users == u]), rankdata(rated[users == u]))[0, 1] for u in np.unique(users)]
    )


def test_full_plan_has_the_released_counts(full):
    counts = {split: len(rows) for split, rows in full.pairs.items()}
    assert counts == {
        "train": 50_222, "val_seen": 6_551, "val_unseen": 926, "test_seen": 9_735, "test_unseen": 2_470,
    }  # fmt: skip
    people = {split: set(rows[:, 0].tolist()) for split, rows in full.pairs.items()}
    images = {split: set(rows[:, 1].tolist()) for split, rows in full.pairs.items()}
    assert (len(people["train"]), len(images["train"])) == (156, 3_554)
    assert len(set.union(*people.values())) == 199 and len(set.union(*images.values())) == 5_077


@pytest.mark.parametrize("size", [(199, 5_077, 69_904), (60, 600, 9_000), (14, 80, 500)])
def test_splits_keep_people_and_images_apart(size):
    plan = plan_world(*size)
    people = {split: set(rows[:, 0].tolist()) for split, rows in plan.pairs.items()}
    images = {split: set(rows[:, 1].tolist()) for split, rows in plan.pairs.items()}
    assert people["val_seen"] == people["test_seen"] == people["train"]
    unseen = people["val_unseen"] | people["test_unseen"]
    assert not unseen & people["train"] and not people["val_unseen"] & people["test_unseen"]
    val, test = (images[f"{part}_seen"] | images[f"{part}_unseen"] for part in ("val", "test"))
    assert not val & images["train"] and not test & images["train"] and not val & test
    assert len(val | test | images["train"]) == size[1]
    assert sum(len(rows) for split, rows in plan.pairs.items() if split != "support_unseen") == size[2]
    for split, rows in plan.pairs.items():
        assert len(np.unique(rows, axis=0)) == len(rows)
        assert set(np.unique(plan.ratings[split])) <= {1, 2, 3, 4, 5}
    if size == (199, 5_077, 69_904):
        assert "support_unseen" not in plan.pairs
    else:
        assert people["support_unseen"] == unseen and images["support_unseen"] <= images["train"]


def test_a_world_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match="8 people"):
        plan_world(people=3, images=50, ratings=100)
    with pytest.raises(ValueError, match="change ratings, people or images"):
        plan_world(people=10, images=50, ratings=5_000)
    with pytest.raises(ValueError, match="ask for more ratings"):
        plan_world(people=10, images=400, ratings=300)


def test_written_world_is_the_released_layout(world):
    out, plan = world
    seen_paths = set()
    for split, pairs in plan.pairs.items():
        rows = json.loads((out / "annotations" / f"simulated_{split}.json").read_text(encoding="utf-8"))
        assert len(rows) == len(pairs)
        for row in rows:
            assert set(row) == {
                "participant_id", "image_id", "image_path", "original_score", "image_metadata",
                "user_demographics",
            }  # fmt: skip
            meta, person = row["image_metadata"], row["user_demographics"]
            assert isinstance(row["image_id"], int) and row["original_score"] in (1, 2, 3, 4, 5)
            assert (out / row["image_path"]).is_file()
            seen_paths.add(row["image_path"][:2])
            assert meta["group"] in GROUPS and set(meta) == {"prompt", "group", "style", "type"}
            assert meta["style"] in STYLES if meta["type"] == "Art" else meta["style"] is None
            low, high = map(int, person["age_binned"].split("-"))
            assert 19 <= low <= person["age"] <= high <= 60
            assert person["gender"] in ("male", "female", "prefer not to say")
    assert seen_paths == {"./", "im"}


def test_everything_written_says_it_is_simulated(world):
    from PIL import Image

    out, plan = world
    assert "simulated" in (out / "README.md").read_text(encoding="utf-8").lower()
    assert all("simulated" in p.name for folder in ("annotations", "images") for p in (out / folder).iterdir())
    assert all(person.participant_id.startswith("simulated_") for person in plan.people)
    image = plan.images[0]
    with Image.open(out / image.path) as picture:
        assert "simulated" in picture.text["Source"]
        assert picture.tobytes() == render(picture.text["prompt"], int(picture.text["seed"]), 32).tobytes()
    assert world_images(out) == plan.images


def test_same_arguments_same_bytes_and_another_seed_another_world(world, tmp_path):
    out, _ = world
    write_world(tmp_path / "again", **SMALL)
    assert files_of(tmp_path / "again") == files_of(out)
    other = plan_world(14, 80, 500, seed=4)
    assert [i.prompt for i in other.images] != [i.prompt for i in world[1].images]


def test_a_folder_in_use_is_refused_and_a_failure_leaves_nothing(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "note.txt").write_text("keep")
    with pytest.raises(FileExistsError, match="mine"):
        write_world(tmp_path / "mine", **SMALL)
    assert files_of(tmp_path) == {"mine/note.txt": b"keep"}
    with pytest.raises(ValueError, match="size=8"):
        write_world(tmp_path / "broken", **{**SMALL, "size": 8})
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]


def test_images_and_ratings_are_the_same_in_another_process():
    code = (
        "import hashlib\nfrom pamela_hf.simulation.world import *\n"
        "p = simulated_newcomer(1)\n"
        "print(hashlib.sha256(render('a fox, golden hour', 9).tobytes()).hexdigest(),"
        " [p.rate('a fox, golden hour', s) for s in range(9)])"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    person = simulated_newcomer(1)
    pixels = hashlib.sha256(render("a fox, golden hour", 9).tobytes()).hexdigest()
    assert there.split(" ", 1) == [pixels, f"{[person.rate('a fox, golden hour', s) for s in range(9)]}\n"]


def test_prompts_are_read_by_their_words():
    named = traits_named_in("A CAT, symmetrical composition, worm's-eye view, close-up, oil painting, at night")
    assert named["group"] == "animal" and named["type"] == "Art"
    assert (
        named["symmetry"] > 0.9 and named["elevation"] < 0.1 and named["closeness"] > 0.8 and named["brightness"] < 0.15
    )
    assert set(traits_named_in("golden hour")) == {"warmth", "brightness", "contrast"}
    assert traits_named_in("a dog in the style of Synthetic_Cubism")["style"] == "Synthetic_Cubism"
    assert traits_named_in("zxqv, 123 !!") == {}
    for group, nouns in SUBJECTS.items():
        for noun in nouns:
            assert traits_named_in(noun) == {"group": group}
    for trait in SCALARS:
        for phrase, value in VOCABULARY[trait].items():
            assert traits_named_in(phrase)[trait] == value


def test_what_a_prompt_leaves_open_depends_on_the_seed_alone():
    plain, lit = traits_from_prompt("a cat", 5), traits_from_prompt("a cat, midnight", 5)
    assert lit.brightness < 0.15 and with_traits(lit, brightness=plain.brightness) == plain
    assert traits_from_prompt("a cat", 6) != plain
    assert {traits_from_prompt("", s).group for s in range(200)} == set(GROUPS)


def test_prompt_from_traits_comes_back():
    for seed in range(30):
        traits = traits_from_prompt("", seed)
        back = traits_from_prompt(prompt_from_traits(traits, seed=seed), seed + 100)
        assert (back.group, back.style, back.type) == (traits.group, traits.style, traits.type)
        assert np.mean([abs(getattr(back, n) - getattr(traits, n)) for n in SCALARS]) < 0.2


def test_traits_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"warmth=1\.5"):
        Traits(warmth=1.5)
    with pytest.raises(ValueError, match="choose one of"):
        Traits(group="cats")
    with pytest.raises(ValueError, match="'Art' has a style"):
        Traits(style="Baroque")


def test_pixels_follow_the_traits():
    def mean(channel, **traits):
        images = [render(with_traits(Traits(), **traits), s) for s in range(5)]
        pixels = np.stack([np.asarray(i, float) for i in images])
        return channel(pixels)

    light = lambda p: p.mean()  # noqa: E731
    red = lambda p: (p[..., 0] - p[..., 2]).mean()  # noqa: E731
    color = lambda p: np.ptp(p, axis=-1).mean()  # noqa: E731
    mirror = lambda p: -np.abs(p - p[:, :, ::-1]).mean()  # noqa: E731
    for channel, name in (
        (light, "brightness"),
        (red, "warmth"),
        (color, "saturation"),
        (mirror, "symmetry"),
    ):
        assert mean(channel, **{name: 1.0}) > mean(channel, **{name: 0.0}), name
    assert render("a cat", 1, size=100).size == (100, 100)


def test_ratings_one_by_one_are_the_matrix(full):
    people, images = full.people[:3], full.images[:4]
    matrix = rate_matrix(people, [i.traits for i in images], [i.seed for i in images])
    assert [[p.rate(i.prompt, i.seed) for i in images] for p in people] == matrix.tolist()
    first = full.pairs["train"][0]
    assert (
        full.people[first[0]].rate(full.images[first[1]].prompt, full.images[first[1]].seed) == full.ratings["train"][0]
    )
    for a, b in zip(simulated_participants(3), simulated_participants(5)):
        assert a.participant_id == b.participant_id and np.array_equal(a.weights, b.weights)


def test_calibration_consensus_and_noise(full):
    traits, seeds = [i.traits for i in full.images], [i.seed for i in full.images]
    again = rate_matrix(full.people, traits, seeds, occasion=1)
    pairs = np.concatenate(list(full.pairs.values()))
    rated = np.concatenate(list(full.ratings.values())).astype(float)
    true_mean = population_liking(full.people, traits)
    assert user_srocc(true_mean[pairs[:, 1]], rated, pairs[:, 0]) == pytest.approx(0.64, abs=0.02)
    second = again[pairs[:, 0], pairs[:, 1]].astype(float)
    assert user_srocc(second, rated, pairs[:, 0]) == pytest.approx(0.875, abs=0.01)


def test_calibration_means_follow_the_released_aggregates(full):
    rated = np.concatenate(list(full.ratings.values())).astype(float)
    traits = [full.images[i].traits for i in np.concatenate(list(full.pairs.values()))[:, 1]]
    group, style = np.array([t.group for t in traits]), np.array([t.style or "" for t in traits])
    # One world is a sample of people and images: a group of 250 images is known to about .05.
    off = {name: rated[group == name].mean() - wanted for name, wanted in GROUP_MEANS.items()}
    assert max(map(abs, off.values())) < 0.15 and np.mean(list(map(abs, off.values()))) < 0.08, off
    assert rated[style != ""].mean() == pytest.approx(2.989, abs=0.08)
    assert rated[style == ""].mean() == pytest.approx(3.255, abs=0.08)
    assert np.mean(style != "") == pytest.approx(0.352, abs=0.02)
    by_style = {s: rated[style == s].mean() for s in STYLES}
    assert min(by_style, key=by_style.get) == "Minimalism" and by_style["Minimalism"] == pytest.approx(1.890, abs=0.2)
    assert by_style["Romanticism"] == pytest.approx(3.656, abs=0.2)
    assert sorted(by_style, key=by_style.get)[-3:].count("Romanticism") == 1


def test_people_differ_and_hardly_anyone_likes_abstract_images(full):
    traits, seeds = [i.traits for i in full.images], [i.seed for i in full.images]
    matrix = rate_matrix(full.people, traits, seeds)
    abstract = np.array([t.group == "abstract" for t in traits])
    assert np.mean(matrix[:, abstract].mean(1) > 3.0) < 0.06
    night = [p.true_liking("a street, at night", 1) - p.true_liking("a street, bright", 1) for p in full.people]
    assert min(night) < -0.3 and max(night) > 0.3


def test_newcomer_csv(world, tmp_path):
    out, plan = world
    person = new_rater_csv(out, tmp_path / "new" / "newcomer.csv", ratings=20, seed=5)
    with (tmp_path / "new" / "newcomer.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 20 == len({row["image"] for row in rows})
    images = {image.path: image for image in plan.images}
    for row in rows:
        image = images[row["image"]]
        assert image.part == "train" and (out / row["image"]).is_file()
        assert int(row["score"]) == person.rate(image.prompt, image.seed) and row["prompt"] == image.prompt
    assert person.participant_id not in {p.participant_id for p in plan.people}
    with pytest.raises(ValueError, match="ratings=1000"):
        new_rater_csv(out, tmp_path / "more.csv", ratings=1000)


def r_squared(train_x, train_y, test_x, test_y):
    """Held-out R² of a ridge probe, per column of y (N, K), and its predictions."""
    mean, sd = train_x.mean(0), train_x.std(0) + 1e-6
    probe = RidgeCV(np.logspace(0, 4, 7)).fit((train_x - mean) / sd, train_y)
    predicted = probe.predict((test_x - mean) / sd)
    return 1 - ((predicted - test_y) ** 2).mean(0) / test_y.var(0), predicted


def probe_all(folder, fitted=1_500, held_out=600):
    """R² of every scalar trait and (R², accuracy) of group and style family from the image features; then the
    R² of every scalar trait from the prompt features."""
    images, prompts = simulated_pairs(fitted + held_out, seed=77)
    traits = [traits_from_prompt(p, -1 - k - (fitted + held_out) * 77) for k, p in enumerate(prompts)]
    encoder = FrozenEncoder(str(folder), device="cpu")
    seen = np.concatenate([encoder.embed_images(images[k : k + 256]) for k in range(0, len(images), 256)])
    read = np.concatenate([encoder.embed_prompts(prompts[k : k + 256]) for k in range(0, len(prompts), 256)])
    y = np.array([[getattr(t, name) for name in SCALARS] for t in traits])
    report = dict(zip(SCALARS, r_squared(seen[:fitted], y[:fitted], seen[fitted:], y[fitted:])[0].tolist()))
    text = dict(zip(SCALARS, r_squared(read[:fitted], y[:fitted], read[fitted:], y[fitted:])[0].tolist()))
    for name, values, of in (("group", GROUPS, "group"), ("family", FAMILIES, "family")):
        y = np.array([[getattr(t, of) == v for v in values] for t in traits], float)
        _, predicted = r_squared(seen[:fitted], y[:fitted], seen[fitted:], y[fitted:])
        truth = y[fitted:]
        total = 1 - ((predicted - truth) ** 2).sum() / ((truth - truth.mean(0)) ** 2).sum()
        report[name] = (float(total), float((predicted.argmax(1) == truth.argmax(1)).mean()))
    return report, text


@pytest.fixture(scope="module")
def short_encoder(tmp_path_factory):
    """An encoder of ten seconds: enough to see that it learns, not for every trait (see the slow test)."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("encoder") / "encoder"
    images, prompts = simulated_pairs(640)
    train_tiny_encoder(images, prompts, out, epochs=10)
    torch.set_num_threads(threads)
    return out


def test_a_short_encoder_already_reads_palette_and_light(short_encoder):
    report, _ = probe_all(short_encoder, fitted=600, held_out=300)
    assert all(report[name] > 0.5 for name in ("warmth", "brightness", "contrast")), report
    assert report["group"][1] > 0.3, report  # chance: .12


def test_encoder_loads_by_the_auto_classes(short_encoder):
    from transformers import AutoModel, AutoTokenizer
    from transformers.models.auto.image_processing_auto import AutoImageProcessor

    model = AutoModel.from_pretrained(short_encoder)
    tokenizer = AutoTokenizer.from_pretrained(short_encoder)
    image_processor = AutoImageProcessor.from_pretrained(short_encoder)
    ids = tokenizer(["a cat, golden hour"], padding="max_length", max_length=64, return_tensors="pt")["input_ids"]
    pixels = image_processor(images=[render("a cat", 1, 100)], return_tensors="pt")["pixel_values"]
    assert type(model).__name__ == "SiglipModel" and ids.shape == (1, 64) and pixels.shape == (1, 3, 64, 64)
    assert int(ids[0, -1]) == tokenizer.eos_token_id and tokenizer.unk_token_id not in ids[0].tolist()
    assert model.get_image_features(pixel_values=pixels).pooler_output.shape == (1, 96)
    assert model.get_text_features(input_ids=ids).pooler_output.shape == (1, 96)
    assert "not SigLIP2 weights" in (short_encoder / "README.md").read_text(encoding="utf-8")


def test_encoder_refuses_what_it_cannot_use(short_encoder, tmp_path):
    images, prompts = simulated_pairs(40)
    with pytest.raises(FileExistsError, match="encoder"):
        train_tiny_encoder(images, prompts, short_encoder)
    with pytest.raises(ValueError, match="39 prompts"):
        train_tiny_encoder(images, prompts[:39], tmp_path / "e")
    assert not (tmp_path / "e").exists()


@pytest.mark.slow
def test_every_trait_is_readable_from_the_encoder(tmp_path):
    images, prompts = simulated_pairs(4_000)
    train_tiny_encoder(images, prompts, tmp_path / "encoder")
    report, text = probe_all(tmp_path / "encoder")
    assert all(report[name] >= 0.5 for name in SCALARS), report
    assert report["group"][0] >= 0.5 and report["family"][0] >= 0.5, report
    assert all(text[name] > 0.4 for name in SCALARS), text  # half of the traits aren't in the prompt
