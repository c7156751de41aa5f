"""`evaluate.load` on the metric's file: the docstring's examples, and the report's own numbers."""

import doctest
from pathlib import Path

import numpy as np
import pytest

from pamela_hf.metrics import METRICS, judge

evaluate = pytest.importorskip("evaluate")
ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def metric(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_EVALUATE_OFFLINE"):
            patch.setenv(name, "1")
        cache = str(tmp_path_factory.mktemp("evaluate"))
        yield evaluate.load(str(ROOT / "pamela_hf/user_metrics.py"), cache_dir=cache)


@pytest.fixture(scope="module")
def ratings():
    rng = np.random.default_rng(0)
    users, images = np.repeat(np.arange(12), 20), np.tile(np.arange(20), 12)
    references = rng.integers(1, 6, len(users))
    return references + rng.normal(size=len(users)), references, users, images


def test_docstring_examples_run(metric, monkeypatch):
    monkeypatch.chdir(ROOT)
    examples = doctest.DocTestParser().get_doctest(metric.inputs_description, {}, "user_metrics", None, 0)
    assert len(examples.examples) >= 6
    output = []
    result = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(examples, out=output.append)
    assert not result.failed, "".join(output)


def test_gives_the_reports_names_and_numbers(metric, ratings):
    predictions, references, users, images = ratings
    results = metric.compute(
        predictions=predictions, references=references, groups=users, image_ids=images, bootstrap=50, seed=3
    )
    estimates, _ = judge(predictions, references, users, images, bootstrap=50, seed=3)
    assert set(METRICS) < set(results) and results["n_users"] == 12
    for name in METRICS:
        np.testing.assert_equal(results[name], estimates[name].value)
        np.testing.assert_equal(results[f"{name}_ci_high"], estimates[name].as_dict()["ci_high"])


def test_batches_may_be_added_one_by_one(metric, ratings):
    predictions, references, users, _ = ratings
    users = [f"person {user}" for user in users]
    whole = metric.compute(predictions=predictions, references=references, groups=users)
    for part in np.array_split(np.arange(len(users)), 7):
        metric.add_batch(predictions=predictions[part], references=references[part], groups=[users[i] for i in part])
    np.testing.assert_equal(metric.compute(), whole)


def test_nan_is_refused(metric):
    with pytest.raises(ValueError, match="predictions row 1 is nan"):
        metric.compute(predictions=[1.0, float("nan")], references=[1, 2], groups=["a", "a"])


def test_each_argument_has_an_entry_of_its_own(metric):
    entries = metric.inputs_description.split("Returns:")[0].splitlines()
    named = [line.split(":")[0].strip() for line in entries if line.startswith("    ") and not line.startswith("     ")]
    assert named == ["predictions", "references", "groups", "image_ids", "probs", "bootstrap", "seed"]
