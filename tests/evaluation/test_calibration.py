"""Calibration against the truth of made-up predictions, and against sums written out."""

import numpy as np
import pytest

from pamela_hf.evaluation.calibration import BINS, calibration
from pamela_hf.metrics import randomized_pit

LEVELS = np.arange(1, 6)


@pytest.fixture(scope="module")
def honest():
    """Ratings drawn from the predicted distributions themselves: (ratings, groups, probs)."""
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.ones(5), 20_000)
    ratings = (rng.random(20_000)[:, None] > probs.cumsum(1)[:, :4]).sum(1) + 1
    return ratings, np.arange(20_000) % 40, probs


def test_the_true_distribution_is_calibrated(honest):
    found = calibration(*honest, LEVELS)
    assert found["error"] < 0.01
    # The intervals of ten tenths and ten bins: one or two of the twenty may miss.
    missed = [not cell["ci_low"] <= 0.1 <= cell["ci_high"] for cell in found["pit"]]
    missed += [not cell["ci_low"] <= cell["predicted"] <= cell["ci_high"] for cell in found["reliability"]]
    assert sum(missed) <= 3
    assert sum(cell["share"] for cell in found["reliability"]) == pytest.approx(1)
    assert sum(cell["value"] for cell in found["pit"]) == pytest.approx(1)


def test_too_sure_is_a_valley_too_unsure_a_hill_too_high_a_slope(honest):
    ratings, groups, probs = honest
    sure = probs**3 / (probs**3).sum(1, keepdims=True)
    vague = np.tile([0.5, 0, 0, 0, 0.5], (len(ratings), 1))
    middling = np.tile([0.01, 0.04, 0.9, 0.04, 0.01], (len(ratings), 1))
    high = np.roll(probs, 1, axis=1)
    high[:, 4] += high[:, 0]
    high[:, 0] = 0
    pit = {name: [cell["value"] for cell in calibration(ratings, groups, p, LEVELS)["pit"]]
           for name, p in [("sure", sure), ("middling", middling), ("high", high)]}  # fmt: skip
    for name in ("sure", "middling"):
        assert min(pit[name][0], pit[name][-1]) > 0.15 > 0.1 > pit[name][4]
    assert pit["high"][0] > 0.2 and pit["high"][-1] < 0.1
    assert calibration(np.full(len(ratings), 3), groups, vague, LEVELS)["pit"][5]["value"] == 1
    found = calibration(ratings, groups, sure, LEVELS)
    assert found["error"] > 0.05
    low, top = found["reliability"][0], found["reliability"][-1]
    assert low["value"] > low["predicted"] and top["value"] < top["predicted"]


def test_the_histogram_is_the_mean_of_the_randomized_one(honest):
    ratings, groups, probs = (part[:300] for part in honest)
    draws = np.concatenate([randomized_pit(ratings, probs, LEVELS, rng) for rng in range(400)])
    expected = np.histogram(draws, np.linspace(0, 1, BINS + 1))[0] / len(draws)
    pit = calibration(ratings, groups, probs, LEVELS)["pit"]
    np.testing.assert_allclose([cell["value"] for cell in pit], expected, atol=0.004)


def test_bins_and_intervals_are_those_of_the_definition():
    rng = np.random.default_rng(1)
    probs = rng.dirichlet(np.ones(3), 60)
    levels = np.array([0, 50, 100])
    ratings, groups = rng.choice(levels, 60), rng.integers(0, 6, 60)
    found = calibration(ratings, groups, probs, levels, bootstrap=200, seed=3)
    asked = [(probs[i, k:].sum(), ratings[i] >= levels[k], groups[i]) for i in range(60) for k in (1, 2)]
    weights = np.random.default_rng(3).multinomial(6, np.full(6, 1 / 6), size=200)
    off = 0.0
    for b, cell in enumerate(found["reliability"]):
        here = [(p, yes, group) for p, yes, group in asked if b / 10 <= p < (b + 1) / 10 or (b == 9 and p == 1)]
        p, yes, group = map(np.array, zip(*here))
        assert cell["predicted"] == pytest.approx(p.mean()) and cell["value"] == pytest.approx(yes.mean())
        assert cell["share"] == pytest.approx(len(here) / len(asked))
        off += abs(p.sum() - yes.sum()) / len(asked)
        with np.errstate(invalid="ignore"):
            draws = (weights[:, group] * yes).sum(1) / weights[:, group].sum(1)
        np.testing.assert_allclose(
            [cell["ci_low"], cell["ci_high"]], np.nanquantile(draws, [0.025, 0.975]), atol=1e-9, err_msg=str(b)
        )
    assert found["error"] == pytest.approx(off)


def test_scales_of_different_length_and_certainty_are_read_row_by_row():
    probs = np.array([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])
    levels = np.array([[1.0, 2.0, np.nan], [0.0, 50.0, 100.0]])
    found = calibration(np.float32([2, 100]), ["a", "b"], probs, levels, bootstrap=0)
    assert [cell["share"] for cell in found["reliability"]][5] == pytest.approx(1 / 3)
    assert found["reliability"][9]["share"] == pytest.approx(2 / 3) and found["reliability"][9]["value"] == 1
    assert np.isnan(found["reliability"][0]["value"]) and np.isnan(found["reliability"][9]["ci_low"])
    np.testing.assert_allclose([cell["value"] for cell in found["pit"]], [0.05] * 5 + [0.15] * 5)
    impossible = calibration([1.0], ["a"], [[0.0, 1.0, 0.0]], levels[:1], bootstrap=0)
    assert impossible["pit"][0]["value"] == 1 and impossible["error"] == 1
