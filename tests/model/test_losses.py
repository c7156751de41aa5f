import math

import numpy as np
import pytest
import torch
from scipy.special import expit

from pamela_hf.model.losses import (
    CHOICE_LAPSE,
    CUTPOINT_PAD,
    MAX_STRETCH,
    ChoiceTargets,
    choice_log_probs,
    ordinal_log_probs,
    ordinal_moments,
    ordinal_nll,
    pairwise_logistic,
    preference_probability,
    within_group_pairs,
)
from pamela_hf.study.analysis import probabilities


def test_ordinal_probabilities_are_differences_of_logistic_cdfs():
    utility = torch.tensor([-3.0, 0.0, 0.7, 5.0])
    cutpoints = torch.tensor([-2.0, -0.5, 0.5, 2.0])
    cdf = expit(cutpoints.numpy()[None] - utility.numpy()[:, None])
    expected = np.diff(np.concatenate([np.zeros((4, 1)), cdf, np.ones((4, 1))], 1), axis=1)
    got = ordinal_log_probs(utility, cutpoints.expand(4, -1)).exp()
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_padded_levels_have_no_probability_and_finite_gradients():
    utility = torch.tensor([0.3, -40.0, 40.0], requires_grad=True)
    cutpoints = torch.tensor([-1.0, 1.0, CUTPOINT_PAD, 2 * CUTPOINT_PAD], requires_grad=True)
    log_probs = ordinal_log_probs(utility, cutpoints.expand(3, -1))
    probs = log_probs.exp()
    assert (probs[:, 3:] == 0).all()
    torch.testing.assert_close(probs.sum(-1), torch.ones(3))
    ordinal_nll(log_probs, torch.tensor([1, 2, 0])).sum().backward()
    assert utility.grad.isfinite().all() and cutpoints.grad.isfinite().all()


def test_moments_are_those_of_the_probabilities_averaged_over_members():
    utility, levels = 3 * torch.randn(4, 6, 3), (1.0, 2.0, 4.0, 8.0)
    utility[0, 0], utility[1, 1] = 30.0, -30.0  # members that are certain
    cutpoints = torch.tensor([-2.0, 0.3, 0.9]) * torch.tensor([0.5, 1.0, 2.0]).unsqueeze(-1)
    probs = ordinal_log_probs(utility, cutpoints).exp().mean(0).double()
    mean = probs @ torch.tensor(levels).double()
    std = (probs * (torch.tensor(levels) - mean.unsqueeze(-1)).square()).sum(-1).sqrt()
    found = ordinal_moments(utility, cutpoints.T.unsqueeze(1), levels)
    torch.testing.assert_close(found[0].double(), mean, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[1].double(), std, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("utility", [-200.0, -50.0, 50.0, 200.0])
def test_log_probabilities_stay_finite_in_the_tails(utility):
    log_probs = ordinal_log_probs(torch.tensor([utility]), torch.tensor([[-2.0, -1.0, 1.0, 2.0]]))
    assert log_probs.isfinite().all()


def test_pairs_are_of_one_group_and_rated_differently():
    labels = torch.tensor([3, 1, 3, 0, 2])
    groups = torch.tensor([7, 7, 7, 8, 8])
    preferred, other = within_group_pairs(labels, groups)
    assert set(zip(preferred.tolist(), other.tolist())) == {(0, 1), (2, 1), (4, 3)}


def test_pairwise_loss_is_the_negative_log_of_the_preference_probability():
    utility = torch.tensor([0.5, -1.0])
    loss = pairwise_logistic(utility, torch.tensor([0]), torch.tensor([1]))
    torch.testing.assert_close(loss, -preference_probability(utility[:1], utility[1:]).log())


def test_the_link_of_the_heads_is_the_link_of_the_model():
    """[`pamela_hf.heads.fitting.level_gradients`] is the same link in numpy, with the same bounds."""
    import numpy as np

    from pamela_hf.heads.fitting import level_gradients

    rng = np.random.default_rng(0)
    utility, shift, stretch = rng.normal(size=(3, 200)) * np.array([[4], [1], [1.5]])
    cutpoints = np.sort(rng.normal(size=(200, 6)) * 3, axis=1)
    cutpoints[:100, 4:] = CUTPOINT_PAD * np.array([1, 2])
    stretch = stretch.clip(-MAX_STRETCH, MAX_STRETCH)
    ours = torch.from_numpy(cutpoints * np.exp(stretch)[:, None] + shift[:, None])
    expected = ordinal_log_probs(torch.from_numpy(utility), ours).exp().numpy()
    for i in range(200):
        got, *_ = level_gradients(utility[i : i + 1] - shift[i], stretch[i], cutpoints[i : i + 1])
        np.testing.assert_allclose(got[0], expected[i], atol=1e-9)
    assert expected.sum(1) == pytest.approx(1)


def test_choices_follow_davidson_s_model_of_ties_but_for_slips():
    margin = torch.tensor([-3.0, 0.0, 0.5, 40.0])
    log_nu = torch.tensor(-0.4)
    probs = choice_log_probs(margin, log_nu).exp()
    half, nu = (margin / 2).exp(), log_nu.exp()
    expected = torch.stack([half, nu.expand_as(half), 1 / half], -1) / (half + nu + 1 / half)[:, None]
    torch.testing.assert_close(probs, (1 - CHOICE_LAPSE) * expected + CHOICE_LAPSE / 3)
    theta = np.array([0.5, 0.0])
    win, tie = probabilities(theta, np.array(-0.4))  # the same model as a study's
    assert expected[2, 0].item() == pytest.approx(win[0, 1], abs=1e-6)
    assert expected[2, 1].item() == pytest.approx(tie[0, 1], abs=1e-6)


def test_one_absurd_choice_costs_a_bounded_amount_and_gradients_stay_finite():
    utilities = torch.tensor([[-500.0, 500.0, 0.0]], requires_grad=True)
    link = torch.zeros(2, requires_grad=True)
    targets = ChoiceTargets(torch.tensor([[0, 1], [2, 1]]), torch.tensor([False, True]), torch.ones(2))
    loss = targets.loss(utilities, link, torch.zeros(3))
    loss.backward()
    assert loss.item() == pytest.approx(-math.log(CHOICE_LAPSE / 3), abs=0.01)
    assert utilities.grad.isfinite().all() and link.grad.isfinite().all()


def test_weights_penalty_and_total_of_choices():
    utilities, link = torch.tensor([[1.0, 0.0, 2.0]]), torch.tensor([0.0, -1.0])
    pairs, ties = torch.tensor([[0, 1], [1, 2]]), torch.tensor([False, False])
    one, two = (-choice_log_probs(torch.tensor(margin), link[1])[0].item() for margin in (1.0, -2.0))
    targets = ChoiceTargets(pairs, ties, torch.tensor([1.0, 3.0]), torch.tensor([0.5, 0.0]), torch.tensor(8.0))
    loss = targets.loss(utilities, link, torch.tensor([2.0, 0.0, 0.0])).item()
    assert loss == pytest.approx(((one + 0.5 * 2.0) + 3 * two) / 8)
