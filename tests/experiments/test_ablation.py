"""Ablations and learning curves: what is trained, what is said of it, and that nothing is trained twice."""

import json
import threading
from dataclasses import replace

import numpy as np
import pytest
from toys import TINY_MODEL

from pamela_hf.embeddings import load_embeddings
from pamela_hf.experiments import ablation
from pamela_hf.experiments.ablation import ONLY, PARTS, VARIANTS, available, data_identity, nested_part, plan, run
from pamela_hf.experiments.ablation_page import _line, ablation_table, shown_metrics
from pamela_hf.metrics import METRICS, user_metrics
from pamela_hf.ratings.builder import load_ratings
from pamela_hf.scoring import PamelaScorer
from pamela_hf.training.config import PIECES, TrainingConfig
from pamela_hf.training.train import load_sources

TINY = TrainingConfig(
    epochs=4, users_per_batch=4, images_per_user=12, learning_rate=1e-2, user_learning_rate=5e-2, row_prior_std=1.0,
    user_dropout=0.1, model=TINY_MODEL,
)  # fmt: skip
GRID = {"config": TINY, "variants": ["full", "no_user"], "seeds": [0, 1], "users": [3], "progress": False}


@pytest.fixture(scope="module")
def grid(ratings_folder, tmp_path_factory):
    output = tmp_path_factory.mktemp("grid")
    return output, run(ratings_folder, output, **GRID, keep_models=True)


@pytest.fixture
def sources(ratings_folder):
    return load_sources([ratings_folder])


def test_every_piece_has_a_variant(sources):
    found, skipped = plan(TINY, *sources)
    assert {f"no_{piece}" for piece in PIECES} | set(ONLY) | {"full"} == set(VARIANTS)
    assert [variant.name for variant in found] == list(VARIANTS) and not skipped
    both = plan(TINY, *sources, ["no_user+prompt"])[0][1]
    assert both.without == ("prompt", "user")
    with pytest.raises(ValueError, match="'no_users'; there are full, no_user"):
        plan(TINY, *sources, ["no_users"])


def test_what_is_not_there_is_skipped_with_the_reason(sources):
    data, embeddings = sources
    bare = {s: t.assign(**dict.fromkeys(("group", "style", "type"), np.nan)) for s, t in data.splits.items()}
    data = replace(data, splits=bare)
    embeddings.text_embeds[:] = 0
    config = replace(TINY, pairwise_weight=0.0, without=["taste_factors"])
    found, skipped = plan(config, data, embeddings, VARIANTS, {"users": [3, 7], "images": [1000]})
    assert "metadata" in skipped["no_metadata"] and "prompt" in skipped["no_prompt"]
    assert "pairwise_weight" in skipped["no_pairwise"] and "already" in skipped["no_taste_factors"]
    assert skipped["users=7"] == "train has 7, which is `full`" and "images=1000" in skipped
    by_name = {variant.name: variant for variant in found}
    assert by_name["user_only"].without == ("demographics",) and by_name["users=3"].part == ("users", 3)
    with pytest.raises(ValueError, match="users=0"):
        plan(TINY, data, embeddings, [], {"users": [0]})


@pytest.mark.parametrize("part", PARTS)
def test_parts_are_nested_random_and_of_the_size_asked(sources, part):
    train = sources[0].splits["train"]
    kept = [nested_part(train, part, size, 0) for size in (2, 3, 5)]
    for size, table in zip((2, 3, 5), kept):
        assert available(table, part) == size
        people = table.participant_id.astype(str)
        if part == "ratings_per_user":
            assert (people.value_counts() == size).all() and people.nunique() == available(train, "users")
        else:  # whole people, whole images
            column = {"users": "participant_id", "images": "image_id"}[part]
            assert len(table) == train[column].isin(table[column].unique()).sum()
    rows = [set(zip(table.participant_id, table.image_id)) for table in kept]
    assert rows[0] < rows[1] < rows[2]
    shuffled = train.sample(frac=1, random_state=1)
    assert set(zip(*(nested_part(shuffled, part, 2, 0)[c] for c in ("participant_id", "image_id")))) == rows[0]
    assert not nested_part(train, part, 2, 1).equals(kept[0])


def test_figures_are_those_of_the_models_pooled_over_seeds(grid, ratings_folder):
    output, report = grid
    data, features = load_ratings(ratings_folder), load_embeddings(ratings_folder)
    table = data.splits["val_seen"]
    found = {}
    for variant in ("full", "no_user", "users=3"):
        models = sorted((output / "models").glob(f"{variant}-seed*"))
        assert len(models) == 2 and not (models[0] / "checkpoints").exists()
        scorers = [PamelaScorer.from_pretrained(model) for model in models]
        predicted = [scorer.predict(table, features).scores for scorer in scorers]
        found[variant] = np.array(
            [user_metrics(p, table.score, table.participant_id.astype(str)).values["user_srocc"] for p in predicted]
        )
    assert len(scorers[0].config.users) == 3
    assert len(PamelaScorer.from_pretrained(next((output / "models").glob("no_user-*"))).config.users) == 0
    for variant in ("full", "no_user"):
        cell = report["ablation"]["val_seen"][variant]["user_srocc"]
        assert cell["value"] == pytest.approx(found[variant].mean(), abs=1e-6)
        assert cell["sd"] == pytest.approx(np.std(found[variant].mean(1), ddof=1), abs=1e-6)
    gap = report["ablation"]["val_seen"]["no_user"]["user_srocc"]["difference"]
    own = (found["no_user"] - found["full"]).mean(0)
    assert gap["value"] == pytest.approx(own.mean(), abs=1e-6) and gap["n_users"] == 7
    rng = np.random.default_rng(5)
    draws = [own[rng.integers(7, size=7)].mean() for _ in range(20_000)]
    spread = np.quantile(draws, 0.975) - np.quantile(draws, 0.025)
    assert gap["ci_high"] - gap["ci_low"] == pytest.approx(spread, rel=0.15)
    assert gap["value"] < 0 and gap["ci_high"] < 0  # toy people's tastes differ: who it is must be missed
    last = report["curves"]["val_seen"]["users"][-1]
    assert last["size"] == 7 and last["cells"] == report["ablation"]["val_seen"]["full"]
    assert report["curves"]["val_unseen"]["users"][0]["cells"]["user_srocc"]["value"] == pytest.approx(
        np.mean([cell["user_srocc"] for cell in _unseen(output, ratings_folder)]), abs=1e-6
    )


def _unseen(output, ratings_folder):
    table, features = load_ratings(ratings_folder).splits["val_unseen"], load_embeddings(ratings_folder)
    for model in (output / "models").glob("users=3-*"):
        predicted = PamelaScorer.from_pretrained(model).predict(table, features).scores
        users = user_metrics(predicted, table.score, table.participant_id.astype(str))
        yield {"user_srocc": users.mean("user_srocc")}


def test_report_page_and_table(grid):
    output, report = grid
    stored = json.loads((output / "ablation.json").read_text())
    assert stored["meta"]["trained"] == 6 and list(stored["ablation"]) == ["val_seen", "val_unseen"]
    assert set(stored["ablation"]["val_seen"]["full"]) == set(METRICS)
    page = (output / "ablation.html").read_text()
    assert "people in training" in page and "no_user" in page and "://" not in page
    text = ablation_table(report)
    assert "| no_user |" in text and "val_unseen: people in training" in text and "SIMULATED" not in text
    assert "p00" not in json.dumps(stored) + page  # nobody's name


def _forbid(monkeypatch):
    def trains(*args, **options):
        raise AssertionError("trained again")

    monkeypatch.setattr(ablation, "train", trains)


def test_nothing_is_trained_twice_and_damage_is_mended(ratings_folder, tmp_path, monkeypatch, capfd):
    options = {**GRID, "variants": ["full"], "users": [], "seeds": [0]}
    first = run(ratings_folder, tmp_path, **{**options, "progress": True})
    bars = capfd.readouterr().err
    assert "ablations" in bars and "shards" not in bars  # the grid's bar, and none across it
    path = next((tmp_path / "cells").glob("*.json"))
    whole, real = path.read_text(), ablation.train
    with monkeypatch.context() as patched:
        _forbid(patched)
        again = run(ratings_folder, tmp_path, **options)
    assert again["ablation"] == first["ablation"] and again["meta"]["trained"] == 0
    digit = whole.index("0.", whole.index("user_srocc")) + 3
    changed = whole[:digit] + str((int(whole[digit]) + 1) % 10) + whole[digit + 1 :]
    for damaged in ("", whole[: len(whole) // 2], "[]", "null", '{"cell": {}}', changed):
        path.write_text(damaged)
        with monkeypatch.context() as patched:
            _forbid(patched)
            with pytest.raises(AssertionError, match="trained again"):
                run(ratings_folder, tmp_path, **options)
    assert ablation.train is real
    mended = run(ratings_folder, tmp_path, **options)
    strip = {"seconds": None}
    cells = [json.loads(text)["cell"] | strip for text in (whole, path.read_text())]
    assert cells[0] == cells[1] and mended["ablation"] == first["ablation"]  # the very figures
    assert not (tmp_path / ".training").exists()
    with monkeypatch.context() as patched:  # whatever defines a cell is in its name
        _forbid(patched)
        for other in ({"seeds": [1]}, {"config": replace(TINY, epochs=5)}, {"splits": ["test_seen"]}):
            with pytest.raises(AssertionError, match="trained again"):
                run(ratings_folder, tmp_path, **options | other)
        patched.setattr(ablation, "__version__", "0")
        with pytest.raises(AssertionError, match="trained again"):
            run(ratings_folder, tmp_path, **options)


def test_the_data_is_known_by_its_content(sources):
    data, embeddings = sources
    before = data_identity(data, embeddings)
    assert before == data_identity(*sources)
    train = data.splits["train"]
    other = train.assign(score=train.score.where(train.index != 0, 6 - train.score))
    other.loc[0, "score"] = train.score[0] % 5 + 1
    assert data_identity(replace(data, splits={**data.splits, "train": other}), embeddings) != before
    embeddings.image_embeds[0, 0] += 1
    assert data_identity(data, embeddings) != before


def test_a_second_process_is_refused(ratings_folder, tmp_path, monkeypatch):
    started, go_on = threading.Event(), threading.Event()
    real = ablation.train

    def slow(*args, **options):
        started.set()
        assert go_on.wait(60)
        return real(*args, **options)

    monkeypatch.setattr(ablation, "train", slow)
    options = {**GRID, "variants": [], "users": [], "seeds": [0]}
    first = threading.Thread(target=run, args=(ratings_folder, tmp_path), kwargs=options)
    first.start()
    try:
        assert started.wait(60)
        with pytest.raises(RuntimeError, match="another process is at work there"):
            run(ratings_folder, tmp_path, **options)
    finally:
        go_on.set()
        first.join()
    assert len(list((tmp_path / "cells").glob("*.json"))) == 1


def test_bad_arguments_are_refused_before_any_work(ratings_folder, tmp_path):
    for bad, message in (
        ({"splits": ["val"]}, "splits=.'val'.; the data has"),
        ({"seeds": []}, "give at least one"),
        ({"seeds": [1, 1]}, "each once"),
    ):
        with pytest.raises(ValueError, match=message):
            run(ratings_folder, tmp_path / "none", **GRID | bad)
    assert not (tmp_path / "none").exists()


def test_what_is_missing_leaves_a_dash_and_no_sd():
    nothing = dict.fromkeys(("value", "sd", "ci_low", "ci_high"), np.nan)
    alone = {"value": 0.1, "sd": None, "ci_low": np.nan, "ci_high": np.nan}
    shown = shown_metrics()
    row = {metric: {**nothing, "difference": alone} for metric in shown}
    assert _line("no_user", row, shown) == f"| no_user | {' | '.join('–' for _ in shown)} | +.100 | +.100 |"
