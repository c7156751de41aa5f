"""What the app learns and shows, without a server: the order of pictures, rankings, what is said of a person."""

import json

import numpy as np
import pytest

from pamela_hf import PamelaRewardModel, PamelaScorer
from pamela_hf.app.answers import Answers
from pamela_hf.app.base import Base
from pamela_hf.app.figures import finite
from pamela_hf.app.kinds import kinds_of, likes_more
from pamela_hf.app.learner import Learned, Person
from pamela_hf.app.order import PLEASING, TELLING, first_order, own_half, suggested_order
from pamela_hf.app.ranking import STRENGTHS, WEIGHTS, diverse_best, near_duplicates, score_grid
from pamela_hf.app.security import Access
from pamela_hf.app.store import Answer, StudyAnswer
from pamela_hf.app.study import CHECK, study_csv, summary
from pamela_hf.app.taste import contradictions, held_out_predictions, self_agreement
from pamela_hf.embeddings import Embeddings
from pamela_hf.folder_cache import EncoderSource
from pamela_hf.heads.pool import QuestionPool


@pytest.fixture(scope="module")
def base() -> Base:
    """A blank base of 120 pictures in four groups; nothing of it needs an encoder."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(4, 12)) * 3
    features = (centres[np.arange(120) % 4] + rng.normal(size=(120, 12))).astype(np.float32)
    embeddings = Embeddings([f"{i:03d}.png" for i in range(120)], features)
    return Base(PamelaScorer(PamelaRewardModel.blank(embeddings)), embeddings, EncoderSource("none"), True)


def rated(base: Base, count: int, liked: int = 0) -> Answers:
    """Ratings of somebody who likes one of the groups."""
    return Answers([(f"{i:03d}.png", 5 if i % 4 == liked else 1 + i % 2) for i in range(count)], [], [])


@pytest.fixture(scope="module")
def pool(base) -> QuestionPool:
    return QuestionPool(base.scorer, base.embeddings.image_ids, embeddings=base.embeddings)


def test_suggestions_teach_and_now_and_then_please(base, pool):
    head = rated(base, 20).fit(base, "ann")
    ids = base.embeddings.image_ids
    scores, _ = base.scores(base.embeddings.image_embeds, [head])
    favourites = [ids[row] for row in sorted(range(20, 120), key=lambda row: -scores[row, 0])]
    order, enough, message = suggested_order(pool, ids, "ann", head, set(ids[:20]), favourites)
    assert len(order) == len(set(order)) == TELLING and isinstance(enough, bool) and message
    assert not set(order) & set(ids[:20])
    half = own_half("ann", len(ids))
    telling = [ids[i] for i in pool.suggest(head, TELLING, range(20), half).images]
    places = [place for place, id in enumerate(order) if id not in telling]
    assert [20 + place for place in places] == [4 * PLEASING - 1], "one of eight, but not before the 24th"
    assert order[places[0]] == next(id for id in favourites if id not in telling)
    assert [id for id in order if id in telling] == telling[:-1]
    few, *_ = suggested_order(pool, ids, "ann", head, set(ids[:4]), favourites)
    assert few == [ids[i] for i in pool.suggest(head, TELLING, range(4), half).images], "first what tells something"
    assert suggested_order(pool, ids, "ann", head, set(ids), [])[:2] == ([], True)


def test_people_are_asked_about_different_pictures(base, pool):
    ids = base.embeddings.image_ids
    halves = [set(own_half(name, len(ids))) for name in ("ann", "bob")]
    assert all(len(half) == 60 for half in halves) and 10 < len(halves[0] & halves[1]) < 50
    head = rated(base, 4).fit(base, "ann")
    asked = [suggested_order(pool, ids, name, head, set(ids[:4]), [])[0] for name in ("ann", "bob")]
    for order, half in zip(asked, halves):
        assert len(order) == TELLING and {ids.index(id) for id in order} <= half
    # once all of their half are answered, the others follow
    seen = {ids[i] for i in halves[0]} | set(ids[:4])
    order, *_ = suggested_order(pool, ids, "ann", head, seen, [])
    assert len(order) == TELLING and not set(order) & seen


def test_the_first_questions_tell_people_apart(base, pool):
    """Answers to them leave less doubt about somebody new than answers to as many pictures by chance."""
    ids = base.embeddings.image_ids
    order = first_order(pool, ids)
    assert sorted(order) == sorted(ids) and order[:12] != ids[:12]

    def doubt_after(asked: list[str]) -> float:
        head = Answers([(id, 5 if int(id[:3]) % 4 == 1 else 2) for id in asked], [], []).fit(base, "new")
        return score_grid(base, base.embeddings.image_embeds, head).doubt.mean()

    by_chance = [doubt_after(list(np.random.default_rng(seed).permutation(ids)[:12])) for seed in range(5)]
    assert doubt_after(order[:12]) < np.mean(by_chance)


def test_a_pool_asks_what_a_head_would_ask(base, pool):
    head = rated(base, 20).fit(base, "ann")
    ids = base.embeddings.image_ids
    of_head = head.suggest(base.scorer, ids, 6, embeddings=base.embeddings)
    of_pool = pool.suggest(head, 6, range(20))
    assert (of_pool.images, of_pool.enough) == (of_head.images, of_head.enough)
    assert of_pool.expected_gain == pytest.approx(of_head.expected_gain, rel=1e-6)
    with pytest.raises(ValueError, match="twice"):
        QuestionPool(base.scorer, ["000.png", "000.png"], embeddings=base.embeddings)
    with pytest.raises(ValueError, match="empty"):
        QuestionPool(base.scorer, [], embeddings=base.embeddings)


def test_the_grid_holds_everyone_oneself_and_the_other(base):
    ann, bob = rated(base, 24, 0).fit(base, "ann"), rated(base, 24, 1).fit(base, "bob")
    features = base.embeddings.image_embeds[:30]
    grid = score_grid(base, features, ann, bob)
    assert grid.scores.shape == (30, len(WEIGHTS), len(STRENGTHS))
    both, _ = base.scores(features, [ann, bob, None])
    one = STRENGTHS.index(1.0)
    for column, (weight, strength) in enumerate([(0, one), (len(WEIGHTS) - 1, one), (0, STRENGTHS.index(0.0))]):
        np.testing.assert_allclose(grid.scores[:, weight, strength], both[:, column], atol=1e-5)
    assert (grid.doubt > 0).all() and score_grid(base, features, None).doubt.max() == 0
    few = score_grid(base, features, rated(base, 6).fit(base, "new"))
    assert few.doubt.mean() > grid.doubt.mean(), "fewer answers, more doubt"


def test_the_best_that_differ_are_of_several_groups(base):
    features = base.embeddings.image_embeds
    scores = np.where(np.arange(120) % 4 == 0, 5.0, 4.0)
    assert len({row % 4 for row in diverse_best(features, scores, 6)}) >= 3
    assert diverse_best(features[:0], scores[:0]) == []


def test_near_duplicates_share_a_group():
    features = np.random.default_rng(0).normal(size=(4, 8)).astype(np.float32)
    groups = near_duplicates(np.concatenate([features, features[:1] * 1.01]))
    assert groups[0] == groups[4] and len(set(groups)) == 4
    assert near_duplicates(features, [0, 1, 2**63, 2**40 - 1])[:2] == [0, 0], "by hash, one bit apart"


def test_predictions_do_not_know_the_rating_they_are_held_against(base):
    answers = rated(base, 40)
    predicted = held_out_predictions(base, answers)
    given, expected = np.array([predicted[f"{i:03d}.png"] for i in range(40)]).T
    assert np.corrcoef(given, expected)[0, 1] > 0.6
    slipped = Answers([("000.png", 1), *answers.ratings[1:]], [], [])
    assert contradictions(held_out_predictions(base, slipped), base.levels)[0] == "000.png", "of a group that is liked"
    assert held_out_predictions(base, rated(base, 4)) == {}


def test_agreement_with_oneself_counts_pictures_shown_again():
    answers = [Answer(str(i), "rating", f"{i}", score=1 + i % 5) for i in range(8)]
    assert self_agreement(answers) is None
    again = [Answer(f"again {i}", "rating", f"{i}", score=1 + (i + i // 6) % 5, again=True) for i in range(8)]
    found = self_agreement([*answers, *again])
    assert (found["pairs"], found["same"]) == (8, 6) and 0 < found["mean_difference"] < 2 and -1 <= found["srocc"] <= 1


def test_an_answer_in_place_of_another_is_learned_from():
    answers = [Answer(str(i), "rating", f"{i}.png", score=3) for i in range(4)]
    person = Person("ann", answers, False)
    person.learned = Learned(4, changes=person.changes)
    assert not person.is_behind
    person.forget(answers[3])
    person.note(Answer("new", "rating", "5.png", score=1))
    assert person.count == 4 and person.is_behind and "3.png" not in person.seen
    person.read(answers)
    assert person.count == 4 and set(person.seen) == {f"{i}.png" for i in range(4)}


def test_answers_about_pictures_that_are_gone_are_left_out(base):
    kept = Answer("a", "rating", "001.png", score=4.0)
    tie = Answer("c", "choice", "001.png", "002.png", 0.5)
    gone = [Answer("b", "rating", "gone.png", score=1), Answer("d", "choice", "001.png", "gone.png")]
    answers = Answers.of([kept, *gone, tie, Answer("e", "skip", "003.png")], base.positions)
    assert answers.ratings == [("001.png", 4.0)] and len(answers) == 1, "a tie says which is liked more of neither"


def test_json_has_no_nan():
    value = finite({"a": float("nan"), "b": [np.float32(1.5), (np.inf, np.int64(3))], 4: None})
    assert value == {"a": None, "b": [1.5, [None, 3]], "4": None}


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("127.0.0.1:7860", True), ("localhost", True), ("[::1]:80", True), ("evil.example", False), ("", False),
        ("127.0.0.1.evil.example", False), ("192.168.1.4", False), ("localhost.evil.example:7860", False),
    ],
)  # fmt: skip
def test_hosts_on_loopback(host, known):
    assert Access.for_host("127.0.0.1", ("/",)).knows_host(host) is known


def test_paths_are_an_allow_list():
    access = Access(("/", "/pages/main.js", "/api/"))
    assert access.has_path("/") and access.has_path("/api/next") and access.has_path("/pages/main.js")
    for path in ("/pages/", "/pages/main.js/..", "/gradio_api/file=/etc/passwd", "/gradio_api/upload", "/x", "//"):
        assert not access.has_path(path), path
    other = Access.for_host("0.0.0.0", ("/",))
    assert len(other.token) >= 20 and other.knows_host("192.168.1.4:7860") and not other.knows_host("evil.example")


def test_a_study_leaves_out_who_does_not_look():
    def answer(person: str, number: int, left: str, choice: str) -> tuple[str, StudyAnswer]:
        shown = {"left": {"condition": left, "image": "a"}, "right": {"condition": "none", "image": "b"}}
        trial = {"id": f"{number}", "pair": f"{number}", "prompt": "=a cat", **shown}
        return person, StudyAnswer(f"{number}", json.dumps(trial), choice)

    answers = [answer("looks", 0, "self", "left"), answer("looks", 1, CHECK, "right")]
    answers += [answer("clicks", 0, "self", "left"), answer("clicks", 1, CHECK, "left")]
    passed = [(row["person"], row["passed"], row["checks"]) for row in summary(answers)]
    assert passed == [("looks", 1, 1), ("clicks", 0, 1)]
    lines = study_csv(answers).splitlines()
    assert len(lines) == 2 and lines[1].startswith("looks,self,none,left,'=a cat,")


def test_kinds_are_looks_where_nothing_else_tells_them_apart(base, tmp_path):
    kinds = kinds_of(tmp_path, base)
    assert {kind.field for kind in kinds} == {"look"} and len(kinds) > 1
    assert all(len({row % 4 for row in kind.rows}) == 1 for kind in kinds), "pictures of a kind look alike"
    liked = likes_more(base, rated(base, 40, liked=2).fit(base, "ann"), kinds)
    assert [one.more for one in liked] == sorted((one.more for one in liked), reverse=True)
    assert {row % 4 for row in liked[0].kind.rows} == {2} and liked[0].more > liked[0].doubt > 0
    assert set(liked[0].examples) <= set(liked[0].kind.rows)
    few = likes_more(base, rated(base, 6, liked=2).fit(base, "new"), kinds)
    assert np.mean([one.doubt for one in few]) > np.mean([one.doubt for one in liked]), "fewer answers, more doubt"


def test_kinds_are_subfolders_or_the_metadata_beside(base, tmp_path):
    ids = [f"{'sea' if i % 4 else 'city'}/{i:03d}.png" for i in range(120)]
    within = Base(base.scorer, Embeddings(ids, base.embeddings.image_embeds), base.encoder_source, True)
    assert {(kind.field, kind.name, len(kind.rows)) for kind in kinds_of(tmp_path, within)} == {
        ("folder", "sea", 90), ("folder", "city", 30)
    }  # fmt: skip
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "000.png").touch()
    (tmp_path / "annotations").mkdir()
    rows = [
        {"participant_id": "a", "image_id": str(i), "image_path": f"images/{i:03d}.png", "original_score": 3,
         "image_metadata": {"group": "animal" if i < 60 else "food", "style": None, "type": "rare" if i < 3 else None}}
        for i in range(120)
    ]  # fmt: skip
    (tmp_path / "annotations" / "x_train.json").write_text(json.dumps(rows))
    found = kinds_of(tmp_path / "images", base)
    assert {(kind.field, kind.name) for kind in found} == {("group", "animal"), ("group", "food")}, "three are too few"
    (tmp_path / "annotations" / "x_train.json").write_text("[1, 2")
    assert {kind.field for kind in kinds_of(tmp_path / "images", base)} == {"look"}, "damaged annotations end nothing"
