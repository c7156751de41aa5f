"""The model of the scores so far."""

import numpy as np

from pamela_hf.prompts.surrogate import PromptSurrogate, word_features


def test_the_surrogate_predicts_and_knows_what_it_does_not_know():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 4))
    y = 3 + x @ [0.5, -0.3, 0.0, 0.2]
    surrogate = PromptSurrogate(np.concatenate([x, x[:1]]), [""] * 61)
    surrogate.fit(y[:40])
    assert np.corrcoef(surrogate.mean[:20], y[40:])[0, 1] > 0.9
    assert surrogate.std[-1] < 0.5 * surrogate.std[:20].mean()  # the last one is the first of those seen
    chosen = surrogate.by_upper_bound(8, 1.0, rng)
    assert len(set(chosen)) == 8 and len(set(surrogate.by_sampling(8, 1.0, rng))) == 8
    assert y[40:][surrogate.by_upper_bound(5, 0.0, rng)].mean() > np.quantile(y[40:], 0.7)


def test_the_surrogate_survives_one_score_and_equal_prompts():
    surrogate = PromptSurrogate(None, ["a", "a", "a", "a b"])
    surrogate.fit([3.0])
    assert np.isfinite(surrogate.mean).all() and np.isfinite(surrogate.std).all()
    for pick in (surrogate.by_sampling, surrogate.by_upper_bound):
        assert sorted(pick(3, 1.0, np.random.default_rng(0))) == [0, 1, 2]
    assert word_features(["a b, c", "c"]).shape == (2, 4)
