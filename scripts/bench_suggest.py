"""Which pictures to ask about: rules of asking, compared on the same people.

    python scripts/bench_suggest.py --model runs/demo/model --world runs/demo/ratings
    python scripts/bench_suggest.py --model DIR --data FOLDER --answers 10

Each rule asks a person so many questions out of a pool of pictures, refitting after every few; judged is the order of
other pictures, by SROCC with the true liking of a simulated person (--world) or with the ratings of a real one (--data:
people and pictures of train alone; what the model knows of everybody was fitted on them, for each rule alike). Printed:
the mean over people, and the difference to asking by chance with its paired 95 % interval. --blank: a blank base of
the pictures' features in place of the model.

random       by chance
diverse      each picture as unlike those before it as can be (farthest first, Gonzalez 1985)
suggest      what says most about all pictures, by what people differ about (`pamela_hf.heads.suggest`)
pictures     the same by the encoder's features, as `suggest` has it for a blank base
pleasing     the same, every eighth question a likely favourite
informative  what lessens the doubt about the pool's ranking most by the base's account, each picture counting alike
uneven       the same, each picture counting as much as the base says that people differ about it
uncertain    the pictures whose utility is least known
"""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import rankdata

from pamela_hf import PamelaRewardModel, PamelaScorer
from pamela_hf.embeddings import Embeddings, load_embeddings
from pamela_hf.heads.answers import collect
from pamela_hf.heads.fitting import Answers, Posterior, fit_row
from pamela_hf.heads.head import prior_of
from pamela_hf.heads.suggest import design_features, rating_information, representative
from pamela_hf.ratings.builder import load_ratings
from pamela_hf.simulation.raters import liking_matrix, rate_matrix, simulated_participants
from pamela_hf.simulation.traits import traits_from_prompt
from pamela_hf.simulation.world import world_images

RULES = ("random", "diverse", "suggest", "pictures", "pleasing", "informative", "uneven", "uncertain")


@dataclass
class World:
    """Pictures and people: `levels (U, N)` of every rating, −1 where there is none; `truth (U, N)` to judge by."""

    embeddings: Embeddings
    levels: np.ndarray
    truth: np.ndarray


@dataclass
class Asked:
    """What the rules know: the pool's pictures and, of all N pictures, utilities and slopes around everyone's taste;
    what they are by the encoder, and by what people differ about."""

    plain: Answers
    prior: np.ndarray
    cutpoints: np.ndarray
    features: np.ndarray
    design: np.ndarray

    def belief(self, images: np.ndarray, levels: np.ndarray) -> Posterior:
        if not len(images):
            return Posterior(np.zeros(len(self.prior)), self.prior)
        cutpoints = np.tile(self.cutpoints, (len(images), 1))
        answers = Answers(
            self.plain.utility, self.plain.slope, self.plain.style, images, levels, cutpoints, np.zeros(len(images))
        )
        return fit_row(answers, self.prior)


def simulated_world(folder: Path, people: int) -> World:
    embeddings = load_embeddings(folder)
    by_id = {str(image.image_id): image for image in world_images(folder)}
    images = [by_id[id] for id in embeddings.image_ids]
    traits = [traits_from_prompt(image.prompt, image.seed) for image in images]
    raters = simulated_participants(people, seed=77)
    levels = rate_matrix(raters, traits, [image.seed for image in images]) - 1
    return World(embeddings, levels, liking_matrix(raters, traits))


def rated_world(folder: Path, people: int, scorer: PamelaScorer) -> World:
    table = load_ratings(folder).splits["train"]
    embeddings = load_embeddings(folder)
    ids = [id for id in embeddings.image_ids if id in set(table["image_id"].astype(str))]
    names = sorted(table["participant_id"].astype(str).unique())[:people]
    table = table[table["participant_id"].astype(str).isin(names)]
    at = table["participant_id"].astype(str).map({name: i for i, name in enumerate(names)}).to_numpy()
    column = table["image_id"].astype(str).map({id: i for i, id in enumerate(ids)}).to_numpy()
    truth = np.full((len(names), len(ids)), np.nan)
    truth[at, column] = table["score"].to_numpy()
    scale = np.asarray(scorer.config.rating_scales[scorer.config.default_scale])
    levels = np.where(np.isnan(truth), -1, np.searchsorted(scale, np.nan_to_num(truth, nan=scale[0])))
    return World(embeddings.subset(ids), levels, truth)


def prepared(scorer: PamelaScorer, embeddings: Embeddings) -> Asked:
    # as in the app, pictures alone
    pictures = Embeddings(embeddings.image_ids, embeddings.image_embeds, None, list(embeddings.image_ids))
    answered = collect(scorer, [(id, None) for id in pictures.image_ids], (), (), embeddings=pictures, only_images=True)
    prior = prior_of(scorer.model)
    answers, features = answered.linearized(scorer, None, prior), pictures.image_embeds
    return Asked(answers, prior, answered.cutpoints, features, design_features(answers, prior, features))


def ask(rule: str, world: Asked, levels: np.ndarray, pool: np.ndarray, count: int, every: int, seed: int) -> np.ndarray:
    """The pictures that a rule asks one person about."""
    rng = np.random.default_rng(seed)
    if rule == "random":
        return rng.permutation(pool)[:count]
    if rule == "diverse":
        return pool[diverse_order(world.features[pool], count, rng)]
    asked = pool[:0]
    while len(asked) < count:
        belief = world.belief(asked, levels[asked])
        fresh = np.setdiff1d(pool, asked)
        picked = choose(rule, world, belief, asked, fresh, min(every, count - len(asked)))
        if rule == "pleasing" and len(asked) % 8 >= 8 - every:
            best = fresh[np.argmax(world.plain.utility[fresh] + world.plain.slope[fresh] @ belief.row)]
            picked = np.append(picked[:-1], best) if best not in picked else picked
        asked = np.append(asked, picked)
    return asked


def choose(rule: str, world: Asked, belief: Posterior, asked: np.ndarray, fresh: np.ndarray, count: int) -> np.ndarray:
    pool = np.sort(np.concatenate([asked, fresh]))
    slope, at, known = world.plain.slope[pool], np.searchsorted(pool, fresh), np.searchsorted(pool, asked)
    if rule in ("suggest", "pleasing", "pictures"):
        features = world.features if rule == "pictures" else world.design
        return pool[representative(features[pool], count, at, known)]
    if rule == "informative":
        slope = even_slopes(slope, world.prior)
    if rule == "uncertain":
        centred = slope[at] - slope.mean(0)
        return fresh[np.argsort(-np.einsum("nh,hg,ng->n", centred, belief.covariance, centred))[:count]]
    information = rating_information(world.plain, belief.row, world.cutpoints)[fresh]
    return fresh[most_informative(slope[at], information, belief.covariance, count, slope)]


def diverse_order(features: np.ndarray, count: int, rng: np.random.Generator) -> list[int]:
    """Rows of `features (N, D)`, the first by chance, each next as far as can be from those before it, by cosine."""
    vectors = features - features.mean(0)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    picked = [int(rng.integers(len(features)))]
    while len(picked) < count:
        nearest = (vectors @ vectors[picked].T).max(1)
        nearest[picked] = np.inf
        picked.append(int(nearest.argmin()))
    return picked


def even_slopes(slope: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """`(N, H)` slopes less their mean, scaled so that people differ about each image as much as about any other.

    What the base says people differ about most are a few unusual images, and real people differ about those little more
    than about others.

    Args:
        slope: `(N, H)` of the images.
        prior: `(H, H)` covariance of people's rows.
    """
    centred = slope - slope.mean(0)
    variance = np.einsum("nh,hg,ng->n", centred, prior, centred)
    return centred * np.sqrt(variance.mean() / np.maximum(variance, 1e-12 * max(variance.max(), 1e-300)))[:, None]


def most_informative(
    slope: np.ndarray, information: np.ndarray, covariance: np.ndarray, n: int, pool: np.ndarray
) -> list[int]:
    """Which n images to ask about: greedily, the one whose rating would lessen the variance of the pool's utilities
    most, those before it known (transductive design: Yu, Bi & Tresp 2006)."""
    # a constant added to all utilities ranks nothing
    centred = pool - pool.mean(0)
    matters = centred.T @ centred / len(pool)
    free, chosen, covariance = np.ones(len(slope), bool), [], covariance.copy()
    for _ in range(min(n, len(slope))):
        known = slope @ covariance
        gain = ((known @ matters) * known).sum(1) / (1 / np.maximum(information, 1e-9) + (known * slope).sum(1))
        best = int(np.argmax(np.where(free, gain, -np.inf)))
        noise = 1 / max(information[best], 1e-9)
        covariance -= np.outer(known[best], known[best]) / (noise + known[best] @ slope[best])
        chosen.append(best)
        free[best] = False
    return chosen


def compare(world: World, asked: Asked, rules: list[str], count: int, every: int) -> dict[str, np.ndarray]:
    """Rule → SROCC of each person on a third of their pictures, the same for every rule."""
    found: dict[str, list[float]] = {rule: [] for rule in rules}
    for person, levels in enumerate(world.levels):
        rated = np.random.default_rng(person).permutation(np.flatnonzero(levels >= 0))
        judged, pool = rated[: len(rated) // 3], rated[len(rated) // 3 :]
        for rule in rules:
            images = ask(rule, asked, levels, pool, count, every, person)
            row = asked.belief(images, levels[images]).row
            predicted = asked.plain.utility[judged] + asked.plain.slope[judged] @ row
            found[rule].append(np.corrcoef(rankdata(predicted), rankdata(world.truth[person, judged]))[0, 1])
    return {rule: np.array(values) for rule, values in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, metavar="DIR")
    world = parser.add_mutually_exclusive_group(required=True)
    world.add_argument("--world", type=Path, metavar="DIR", help="ratings folder of a simulated world")
    world.add_argument("--data", type=Path, metavar="DIR", help="ratings folder of real people; its train split")
    parser.add_argument("--blank", action="store_true", help="a blank base in place of the model")
    parser.add_argument("--people", type=int, default=60)
    parser.add_argument("--answers", type=int, default=30, help="questions to each person")
    parser.add_argument("--every", type=int, default=4, help="answers between two fits")
    parser.add_argument("--rules", default=",".join(RULES), help="which of them, with commas")
    args = parser.parse_args()
    scorer = PamelaScorer.from_pretrained(args.model)
    people = simulated_world(args.world, args.people) if args.world else rated_world(args.data, args.people, scorer)
    if args.blank:
        scorer = PamelaScorer(PamelaRewardModel.blank(people.embeddings))
    rules = list(dict.fromkeys(["random", *args.rules.split(",")]))
    found = compare(people, prepared(scorer, people.embeddings), rules, args.answers, args.every)
    kind = "simulated people" if args.world else "people"
    print(f"SROCC after {args.answers} answers, {len(people.levels)} {kind}; difference to asking by chance")
    for rule, values in found.items():
        gain = values - found["random"]
        draws = np.random.default_rng(0).choice(gain, (10_000, len(gain))).mean(1)
        low, high = np.quantile(draws, [0.025, 0.975])
        print(f"{rule:12s} {values.mean():.3f}  {gain.mean():+.4f} [{low:+.4f}, {high:+.4f}]")
    print(f"{time.process_time():.0f} s of CPU")


if __name__ == "__main__":
    main()
