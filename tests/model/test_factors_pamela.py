import numpy as np
import pytest
import torch

from pamela_hf.model import factors_pamela
from pamela_hf.model.factors_pamela import MIN_NOISE, Products, Ratings, TasteFactors, factorize


def some_ratings(people: int, images: int, seed: int = 0) -> tuple[Ratings, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    z, rated = rng.normal(size=(people, images)), rng.random((people, images)) < 0.6
    person, image = np.nonzero(rated)
    return Ratings(*(torch.from_numpy(a) for a in (person, image, z[rated])), people), z, rated


def test_tastes_are_the_posterior_mean():
    """Against the formula of a Gaussian process with the same prior, person by person."""
    ratings, z, rated = some_ratings(3, 12)
    rng = np.random.default_rng(1)
    x, w, v, c, who = (rng.normal(size=size) for size in ((12, 5), 5, (2, 5), (4, 2), (3, 4)))
    factors = TasteFactors(*(torch.as_tensor(a) for a in (w, 0.3, v, c, 0.7)))
    tastes = factors.tastes(torch.from_numpy(x), ratings, torch.from_numpy(who))
    along = x @ v.T
    for person in range(3):
        here, prior = rated[person], who[person] @ c
        left = z[person, here] - (x @ w + 0.3)[here] - along[here] @ prior
        covariance = along[here] @ along[here].T + 0.7 * np.eye(here.sum())
        np.testing.assert_allclose(tastes[person], prior + along[here].T @ np.linalg.solve(covariance, left))
    silent = Ratings(ratings.person[:0], ratings.image[:0], ratings.value[:0], 3)
    np.testing.assert_allclose(factors.tastes(torch.from_numpy(x), silent, torch.from_numpy(who)), who @ c)
    np.testing.assert_allclose(factors.tastes(torch.from_numpy(x), silent), 0.0)


def test_mean_ratings_and_raters_of_images():
    ratings, z, rated = some_ratings(4, 9)
    mean, raters = ratings.likings(11)
    np.testing.assert_array_equal(raters[:9], rated.sum(0))
    np.testing.assert_allclose(mean[:9], (z * rated).sum(0) / np.maximum(rated.sum(0), 1))
    assert not mean[9:].any() and not raters[9:].any()


@pytest.mark.parametrize("std", [0.0, 0.7])
def test_what_raters_share_of_an_image_is_taken_out_as_far_as_they_share_it(std):
    """Against the posterior mean of a random effect whose variance, and the noise's, are known."""
    rng = np.random.default_rng(0)
    everyone, appeal = rng.normal(size=400), std * rng.normal(size=400)
    person, image = np.nonzero(rng.random((300, 400)) < 0.02)  # 6 raters each, some none or one
    said = everyone[image] + appeal[image] + 0.8 * rng.normal(size=len(image))
    ratings = Ratings(*map(torch.from_numpy, (person, image, said)), 300)
    beyond = ratings.beyond(torch.from_numpy(everyone))
    raters, left = np.bincount(image, minlength=400), said - everyone[image]
    effect = np.bincount(image, left, 400) * std**2 / (raters * std**2 + 0.8**2)
    np.testing.assert_allclose(beyond.value, left - effect[image], atol=0.1)
    assert beyond.people == 300 and torch.equal(beyond.image, ratings.image)
    # of images with one rater each, nothing is known to be shared
    alone = Ratings(torch.arange(400) % 300, torch.arange(400), torch.from_numpy(everyone + appeal), 300)
    np.testing.assert_allclose(alone.beyond(torch.from_numpy(everyone)).value, appeal)


@pytest.fixture(scope="module")
def world() -> tuple[torch.Tensor, Ratings, np.ndarray, np.ndarray]:
    """60 people who differ along two directions, of 5 features, and along nothing else."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 5)) / 5**0.5
    v = np.linalg.qr(rng.normal(size=(5, 2)))[0].T * 2
    tastes = rng.normal(size=(60, 2))
    z = x @ rng.normal(size=5) + tastes @ (x @ v.T).T + 0.5 * rng.normal(size=(60, 80))
    person, image = np.nonzero(rng.random(z.shape) < 0.5)
    return torch.from_numpy(x), Ratings(*map(torch.from_numpy, (person, image, z[person, image])), 60), v, tastes


def test_directions_of_taste_and_who_likes_them_are_found(world):
    x, ratings, v, tastes = world
    found = factorize(x, ratings, rank=3, penalty=0.1, everyone_penalty=0.1)
    truth = tastes @ v
    fitted = (found.tastes(x, ratings) @ found.directions).numpy()
    assert np.corrcoef(fitted.ravel(), truth.ravel())[0, 1] > 0.95
    assert 0.2 < found.noise < 0.3


def test_a_factor_that_nobody_needs_is_idle(world):
    x, ratings, *_ = world
    in_use = [factorize(x, ratings, rank=rank, penalty=2.0).all_in_use(x) for rank in (0, 1, 2, 3, 6)]
    assert in_use == [True, True, True, False, False]
    one = factorize(x, ratings, rank=2, penalty=2.0)
    assert not one.all_in_use(x[:1])  # one image cannot tell


def test_at_the_maximum_no_step_helps(world):
    """The likelihood written out with each person's whole covariance; the penalties as documented."""
    x, ratings, *_ = world
    found = factorize(x, ratings, rank=2, penalty=1.0)
    unit = len(ratings.value) / len(x)

    def loss(w, b, v, noise):
        total = 0.5 * unit * (2.0 * w.square().sum() + 1.0 * v.square().sum())
        for person in range(ratings.people):
            mine = ratings.person == person
            seen = x[ratings.image[mine]]
            spread = seen @ v.T @ v @ seen.T + noise * torch.eye(len(seen))
            total = total - torch.distributions.MultivariateNormal(seen @ w + b, spread).log_prob(ratings.value[mine])
        return total

    at = [one.clone().requires_grad_() for one in (found.weights, found.intercept, found.directions, found.noise)]
    loss(*at).backward()
    assert max(one.grad.abs().max() for one in at) < 0.05 * unit


def test_the_seed_decides_the_start_only(world):
    x, ratings, *_ = world
    a, b, c = (factorize(x, ratings, rank=2, penalty=1.0, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(a.directions, b.directions) and not torch.allclose(a.directions, c.directions)
    one, other = (f.tastes(x, ratings) @ f.directions for f in (a, c))
    torch.testing.assert_close(one, other, atol=1e-2, rtol=0)


@pytest.mark.parametrize(("people", "images"), [(1, 2), (1, 3), (1, 5), (2, 2), (3, 4)])
def test_ratings_that_can_be_fitted_exactly_still_have_noise(people, images):
    rng = np.random.default_rng(people * images)
    x = torch.from_numpy(rng.normal(size=(images, images)))
    person, image = (torch.from_numpy(a.ravel()) for a in np.indices((people, images)))
    ratings = Ratings(person, image, torch.from_numpy(rng.normal(size=people * images)), people)
    found = factorize(x, ratings, rank=16, penalty=0.01, everyone_penalty=0.01)
    assert found.noise >= MIN_NOISE and found.tastes(x, ratings).isfinite().all()


def test_the_likelihood_is_that_of_each_persons_whole_covariance():
    """Also of people with few ratings, many or none, around tastes that are foretold."""
    rng = np.random.default_rng(3)
    counts = (1, 0, 2, 9, 30, 8)
    person = torch.from_numpy(rng.permutation(np.repeat(np.arange(6), counts)))
    ratings = Ratings(person, torch.from_numpy(rng.integers(0, 7, 50)), torch.from_numpy(rng.normal(size=50)), 6)
    x, w, v, prior = (torch.from_numpy(rng.normal(size=size)) for size in ((7, 4), 4, (3, 4), (6, 3)))
    factors = TasteFactors(w, torch.tensor(0.3, dtype=torch.double), v, x.new_zeros(0, 3), torch.tensor(0.7))
    grouped = ratings.by_person()
    assert sum(group.image.numel() for group in grouped) <= 1.25 * 50
    order = torch.cat([group.people for group in grouped])
    assert sorted(order.tolist()) == [0, 2, 3, 4, 5]
    found = factors._products(x, grouped).around(prior[order]).surprise(x.new_tensor(0.7).log(), 50)
    expected = -0.5 * 50 * np.log(2 * np.pi)
    for one in order.tolist():
        seen, value = x[ratings.image[person == one]], ratings.value[person == one]
        spread = seen @ v.T @ v @ seen.T + 0.7 * torch.eye(len(seen))
        mean = factors.everyone(seen) + seen @ v.T @ prior[one]
        expected -= torch.distributions.MultivariateNormal(mean, spread).log_prob(value)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(("variance", "expected"), [(0.01, 0.1), (0.5, 0.5), (9.0, 1.0)])
def test_how_far_tastes_differ_beside_the_factors_is_found_within_bounds(variance, expected, monkeypatch):
    monkeypatch.setattr(factors_pamela, "MOST_PEOPLE", 150)  # of every other person
    rng = np.random.default_rng(5)
    x, own = torch.from_numpy(rng.normal(size=(60, 8)) / 8**0.5), torch.eye(8, dtype=torch.double)[2:]
    factors = TasteFactors(
        x.new_ones(8), x.new_zeros(()), 2 * torch.eye(8, dtype=torch.double)[:2], x.new_zeros(0, 2), x.new_ones(())
    )
    tastes = np.hstack([2 * rng.normal(size=(300, 2)), variance**0.5 * rng.normal(size=(300, 6))])
    z = factors.everyone(x).numpy() + tastes @ x.numpy().T + 0.5 * rng.normal(size=(300, 60))
    person, image = np.nonzero(rng.random(z.shape) < 0.5)
    ratings = Ratings(*map(torch.from_numpy, (person, image, z[person, image])), 300)
    found = factors.with_own(x, ratings, own, 0.1, 1.0)
    assert found.directions[2:].square().sum(1).mean() == pytest.approx(expected, rel=0.1)
    torch.testing.assert_close(found.directions[:2], factors.directions)
    if variance == 0.5:
        assert found.noise == pytest.approx(0.25, rel=0.1)


def test_few_and_many_ratings_of_a_person_say_the_same_by_either_matrix(monkeypatch):
    """Against densities of normal distributions, at the variance and noise that `with_own` asks about."""
    rng = np.random.default_rng(7)
    x, own = torch.from_numpy(rng.normal(size=(30, 12)) / 12**0.5), torch.eye(12, dtype=torch.double)[2:]
    factors = TasteFactors(
        x.new_ones(12), x.new_tensor(0.2), 2 * torch.eye(12, dtype=torch.double)[:2], x.new_zeros(0, 2), x.new_ones(())
    )
    rated = rng.random((40, 30)) < np.repeat([0.15, 0.3, 0.8], [10, 15, 15])[:, None]  # of 12 directions
    person, image = np.nonzero(rated)
    ratings = Ratings(*map(torch.from_numpy, (person, image, rng.normal(size=len(image)))), 40)
    asked = []

    def ask(cost, free, tolerance):
        with torch.no_grad():
            for logs in ([-1.2, -0.4], [-0.1, 0.3]):
                free[0].copy_(torch.tensor(logs))
                asked.append((*free[0].exp().tolist(), float(cost())))

    monkeypatch.setattr(factors_pamela, "_minimize", ask)
    factors.with_own(x, ratings, own, 0.01, 1.0)
    expected = []
    for variance, noise, _ in asked:
        kernel = 4 * x[:, :2] @ x[:, :2].T + variance * x[:, 2:] @ x[:, 2:].T
        of_person = [image[person == one] for one in range(40)]
        values = [ratings.value[person == one] - factors.everyone(x)[here] for one, here in enumerate(of_person)]
        expected.append(-sum(
            torch.distributions.MultivariateNormal(
                torch.zeros_like(value), kernel[here][:, here] + (MIN_NOISE + noise) * torch.eye(len(here))
            ).log_prob(value)
            for here, value in zip(of_person, values)
            if len(here)
        ))  # fmt: skip
    found = [value for *_, value in asked]
    constant = 0.5 * len(image) * np.log(2 * np.pi)
    np.testing.assert_allclose(found, [float(value) - constant for value in expected])


def test_the_likelihoods_derivatives_are_those_of_its_differences():
    generator = torch.Generator().manual_seed(0)
    root, moved, noise = (torch.randn(size, generator=generator).double() for size in ((4, 5, 5), (4, 5), ()))

    def surprise(root: torch.Tensor, moved: torch.Tensor, squares: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        return Products(root @ root.mT, moved, squares).surprise(noise, 30)

    given = (root, moved, torch.full((4,), 60.0).double(), noise)
    assert torch.autograd.gradcheck(surprise, [one.requires_grad_() for one in given])


def test_directions_that_no_image_tells_apart_change_nothing(world):
    """Of few images there are fewer axes than a person may have."""
    x, ratings, *_ = world
    found, own = factorize(x, ratings, rank=1, penalty=1.0), torch.eye(5).double()[:2]
    some, padded = (
        found.with_own(x, ratings, directions, 0.01, 1.0) for directions in (own, torch.cat([own, 0 * own]))
    )
    torch.testing.assert_close(padded.directions[:3], some.directions)
    assert not padded.directions[3:].any()
    torch.testing.assert_close(padded.noise, some.noise)
