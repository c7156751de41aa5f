"""User studies: Elo with ties, intervals over few people, agreement, power, the CSV and the command."""

import json
import sys
import time
from itertools import combinations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import t as student_t

from pamela_hf.cli import main
from pamela_hf.study.agreement import agreement, retest
from pamela_hf.study.analysis import ELO_PER_LOGIT, Choices, StudyError, analyse, fit
from pamela_hf.study.csv import read_choices
from pamela_hf.study.page import study_report, study_table, write_study
from pamela_hf.study.power import PAPER_ELO, PAPER_SIZE, Design, coverage, power, simulate_choices

PAPER = list(PAPER_ELO.values())


def choices(rows: str, **columns) -> Choices:
    """From lines of `participant left right choice`, choice being l, r or t."""
    cells = [line.split() for line in rows.strip().splitlines()]
    participant, left, right, chosen = zip(*cells)
    return Choices(participant, left, right, [{"l": 1, "r": 0, "t": 0.5}[c] for c in chosen], **columns)


def paper_study(seed: int = 0, **spread) -> Choices:
    return simulate_choices(Design(PAPER, **PAPER_SIZE, **spread).calibrated(), list(PAPER_ELO), seed)


@pytest.mark.parametrize("seed", range(10))
def test_the_fit_is_the_maximum_of_the_likelihood_written_out(seed):
    rng = np.random.default_rng(seed)
    c = int(rng.integers(2, 6))
    wins = rng.poisson(8, (c, c)) * ~np.eye(c, dtype=bool)
    ties = np.triu(rng.poisson(3, (c, c)), 1) * (seed % 3 > 0)

    def loss(x):
        strength, nu = np.exp(np.append(x[: c - 1], 0)), np.exp(x[-1]) * (seed % 3 > 0)
        total = 0.0
        for i in range(c):
            for j in range(c):
                root = np.sqrt(strength[i] * strength[j])
                norm = strength[i] + strength[j] + nu * root
                total -= wins[i, j] * np.log(strength[i] / norm)
                total -= ties[i, j] * np.log(nu * root / norm) if ties[i, j] else 0.0
        return total

    best = minimize(loss, np.zeros(c), method="BFGS", options={"gtol": 1e-9}).x
    wanted = ELO_PER_LOGIT * (np.append(best[:-1], 0) - np.append(best[:-1], 0).mean()) + 1000
    elo, log_nu = fit(wins, ties + ties.T, prior_sd=1e7)
    np.testing.assert_allclose(elo, wanted, atol=1e-3)
    assert log_nu == -np.inf if not ties.any() else abs(log_nu - best[-1]) < 1e-5


def test_two_conditions_have_the_elo_of_their_odds():
    ten_to_one = choices("ann self none l\n" * 20 + "ann self none r\n" * 2)
    cell = analyse(ten_to_one)["contrasts"]["self - none"]
    assert cell["elo"]["value"] == pytest.approx(400, rel=0.08)  # the prior's eighth of a comparison counts with 22
    assert cell["win_rate"]["value"] == pytest.approx(20 / 22)
    assert cell["elo"]["ci_low"] is None  # one person tells nothing about others


def test_nothing_but_ties_makes_all_equal():
    for n in (1, 54, 990, 12345):
        ties = n * (1.0 - np.eye(5))
        elo, log_nu = fit(np.zeros((2, 5, 5)), np.stack([ties, 7 * ties]))
        np.testing.assert_allclose(elo, 1000, atol=1e-6)
        assert np.isfinite(log_nu).all()
    tied = "".join(f"ann {pair} t\n" for pair in ("a b", "a c", "b c"))
    study = choices(
        tied * 30 + "".join(f"{p} {a} {b} {c}\n" for p in ("bob", "eve") for a, b in ("ab", "bc", "ca") for c in "lrt")
    )
    assert analyse(study, 500)["conditions"]["a"]["elo"]["ci_low"] is not None  # some draws are of ann alone
    alone = study_report(choices(tied), 50, simulations=0)
    assert [row["elo"]["value"] for row in alone["conditions"].values()] == [1000, 1000, 1000] and study_table(alone)


def test_every_fit_of_a_batch_is_its_own():
    rng = np.random.default_rng(1)
    wins = rng.poisson(2, (50, 4, 4)) * ~np.eye(4, dtype=bool)
    ties = np.triu(rng.poisson(1, (50, 4, 4)), 1) * (np.arange(50) % 2)[:, None, None]
    ties = ties + ties.swapaxes(1, 2)
    wins[0, 0], wins[1] = 0, 0  # somebody never wins; nobody ever does
    together = fit(wins, ties)
    for k in range(50):
        for one, all_ in zip(fit(wins[k], ties[k]), together):
            np.testing.assert_allclose(one, all_[k], atol=1e-6)
    assert np.isfinite(together[0]).all()


def test_the_papers_elo_is_recovered_within_the_intervals():
    started = time.perf_counter()
    report = analyse(paper_study(), bootstrap=1000)
    assert time.perf_counter() - started < 5
    counts = {"people": 6, "prompts": 18, "comparisons": 7650, "ties": 672, "within": 0, "per_person": [1275, 1275]}
    assert report["counts"] == counts
    for name, wanted in PAPER_ELO.items():
        cell = report["conditions"][name]["elo"]
        assert cell["ci_low"] <= wanted <= cell["ci_high"], name
    for pair, cells in report["contrasts"].items():
        a, b = pair.split(" - ")
        assert cells["elo"]["ci_low"] <= PAPER_ELO[a] - PAPER_ELO[b] <= cells["elo"]["ci_high"], pair
    assert report["contrasts"]["self - q-align"]["elo"]["ci_low"] > 0


def test_without_differences_between_people_the_papers_elo_comes_back_closely():
    report = analyse(paper_study(person_sd=0, image_sd=0), bootstrap=0)
    found = [report["conditions"][name]["elo"]["value"] for name in PAPER_ELO]
    np.testing.assert_allclose(found, PAPER, atol=15)  # one standard error is about 5
    assert report["tie_share"] == pytest.approx(0.1, abs=0.02)
    assert np.mean(found) == pytest.approx(1000)


def test_an_interval_of_equally_busy_people_is_students():
    wins = [1, 3, 4, 4, 6, 8, 9]  # of 10 for each person
    rows = "".join(f"p{k} a b l\n" * n + f"p{k} a b r\n" * (10 - n) for k, n in enumerate(wins))
    cell = analyse(choices(rows), bootstrap=50_000)["contrasts"]["a - b"]["win_rate"]
    shares = np.array(wins) / 10
    low, high = student_t.interval(0.95, 6, shares.mean(), shares.std(ddof=1) / np.sqrt(7))
    assert (cell["ci_low"], cell["ci_high"]) == pytest.approx((low, high), abs=0.003)


def test_intervals_hold_the_truth_where_percentiles_do_not():
    found = coverage(Design(PAPER, **PAPER_SIZE), studies=60, bootstrap=300, seed=1)
    assert 0.92 <= found["interval"]["coverage"] <= 0.98
    assert found["percentile"]["coverage"] < 0.9 and found["percentile"]["width"] < found["interval"]["width"]


@pytest.mark.slow
@pytest.mark.parametrize("people", [4, 6, 12, 30])
@pytest.mark.parametrize("spread", [(0, 0), (40, 80), (100, 150)])
def test_coverage_by_people_and_spread(people, spread):
    design = Design(PAPER, people, 18, 3, person_sd=spread[0], image_sd=spread[1])
    assert 0.93 <= coverage(design, studies=400, seed=2)["interval"]["coverage"] <= 0.97


def test_spread_of_people_and_images_is_found_again():
    design = Design(PAPER, 40, 12, 2, person_sd=70, image_sd=110)
    found = analyse(simulate_choices(design, list(PAPER_ELO), 3), bootstrap=0)["spread"]
    assert found["person_sd"] == pytest.approx(70, rel=0.2) and found["image_sd"] == pytest.approx(110, rel=0.1)
    alike = analyse(paper_study(person_sd=0, image_sd=0), bootstrap=0)["spread"]
    assert alike["person_sd"] < 10 and alike["image_sd"] < 20
    assert analyse(choices("ann a b l\nbob a b r"), bootstrap=0)["spread"] == {"person_sd": None, "image_sd": None}


def test_a_difference_that_power_promises_is_seen_as_often_as_it_says():
    design = Design([1000.0] * 3, 6, 8, 2)
    found = power(design, studies=400)
    assert 0.02 <= found["false_alarms"] <= 0.08
    elo = found["elo"] / 2 * np.array([1, -1, 0]) + 1000
    at = Design(elo, 6, 8, 2).calibrated()
    reports = [analyse(simulate_choices(at, ["a", "b", "c"], seed), bootstrap=200) for seed in range(100)]
    seen = np.mean([report["contrasts"]["a - b"]["elo"]["ci_low"] > 0 for report in reports])
    assert 0.72 <= seen <= 0.88
    assert power(Design([1000.0] * 3, 24, 8, 2), studies=400)["elo"] < 0.6 * found["elo"]
    assert power(Design([1000.0] * 3, 6, 8, 2, image_sd=0, person_sd=0), studies=400)["elo"] < found["elo"]


def test_more_people_narrow_the_intervals_and_the_seed_fixes_them():
    few, many = (simulate_choices(Design(PAPER, n, 6, 2), list(PAPER_ELO), 0) for n in (6, 60))
    width = [
        np.ptp([analyse(s)["contrasts"]["self - none"]["elo"][k] for k in ("ci_low", "ci_high")]) for s in (few, many)
    ]
    assert width[1] < 0.4 * width[0]
    assert analyse(few, seed=3) == analyse(few, seed=3) != analyse(few, seed=4)


def test_swapping_left_and_right_changes_nothing():
    study = simulate_choices(Design(PAPER, 4, 3, 2), list(PAPER_ELO), 0)
    turned = Choices(
        study.participant, study.right, study.left, 1 - study.choice, study.prompt, study.right_image, study.left_image
    )
    assert study_report(turned, 100, simulations=0) == study_report(study, 100, simulations=0)


def test_what_cannot_have_an_elo_is_refused_by_name():
    with pytest.raises(StudyError, match=r"each other: a, b \| c, d\."):
        analyse(choices("ann a b l\nann b a l\nann c d t"))
    with pytest.raises(StudyError, match="self never lost or tied a single one of 3 comparisons"):
        analyse(choices("ann self a l\nann self a l\nbob self b l\nbob a b l\nbob b a l"))
    with pytest.raises(StudyError, match="b never won or tied a single one of 2"):
        analyse(choices("ann b a r\nbob b self r\nbob a self l\nbob self a l"))
    # with ν free, twelve wins, four ties and no loss are ever likelier the farther apart the two are
    with pytest.raises(StudyError, match=r"never (won|lost) a single one of 16 .* ties alone are not enough"):
        analyse(choices("ann a b l\n" * 12 + "ann a b t\n" * 4))
    with pytest.raises(StudyError, match="b never won a single one of 2"):
        analyse(choices("ann a b l\nann b c t\nann a c t"))
    ordered = analyse(choices("ann a b l\nann b c l\nann a c t"))  # more wins than ties in the circle bound ν
    assert list(ordered["conditions"]) == ["a", "b", "c"]
    with pytest.raises(StudyError, match="one condition, 'a'"):
        analyse(choices("ann a a l"))
    with pytest.raises(StudyError, match="'c'; there are a, b"):
        choices("ann a b l").only(["a", "c"])
    with pytest.raises(StudyError, match="bootstrap is -1"):
        analyse(choices("ann a b l"), bootstrap=-1)
    with pytest.raises(StudyError, match="choice\\[0\\] is 2"):
        Choices(["ann"], ["a"], ["b"], [2])


def test_a_study_that_rests_on_one_person_says_so():
    rows = "ann a b l\nann b a l\n" + "bob a b l\nbob b a l\n" * 9
    report = study_report(choices(rows), 50, simulations=0)
    assert report["counts"]["per_person"] == [2, 18] and "2 to 18 comparisons" in study_table(report)
    assert "unequally" not in study_table(study_report(choices(rows.replace("bob", "ann") + rows), 50, simulations=0))


def test_comparisons_of_one_condition_are_counted_and_left_out():
    rows = "ann a b l\nann a b r\nbob a b l\nbob a b r\n"
    plain, more = analyse(choices(rows), 50), analyse(choices(rows + "bob a a l\n" * 9), 50)
    assert more["counts"]["within"] == 9 and more["contrasts"] == plain["contrasts"]
    strangers = "".join(f"stranger{k} a a l\n" for k in range(20))  # they are not drawn in place of who judged
    among = analyse(choices(strangers + rows), 50)
    assert among["contrasts"] == plain["contrasts"] and among["spread"] == plain["spread"]
    assert among["counts"]["people"] == 2


def test_a_conditions_name_may_hold_what_stands_between_two(tmp_path):
    rows = [("ann", a, b, c) for a, b in (("flux - dev", "none"), ("none", "sd"), ("sd", "flux - dev")) for c in (1, 0)]
    report = study_report(Choices(*zip(*rows)), 20, simulations=0)
    assert "none - flux - dev" in study_table(report)
    write_study(report, tmp_path, "names")
    assert "none over flux - dev" in (tmp_path / "report.html").read_text()


def kendall_agreement(votes: np.ndarray) -> float:
    """2 × the share of agreeing pairs of raters − 1, votes (raters, pairs) of ±1 (Kendall & Babington Smith 1940)."""
    pairs = list(combinations(range(len(votes)), 2))
    return 2 * np.mean([(votes[a] == votes[b]).mean() for a, b in pairs]) - 1


def test_alpha_is_kendalls_agreement_whichever_image_comes_first():
    rng = np.random.default_rng(0)
    votes = np.where(rng.random((8, 400)) < rng.choice([0.2, 0.5, 0.9], 400), 1, -1)
    person, pair = (axis.ravel() for axis in np.indices(votes.shape))
    turned = rng.random(votes.size) < 0.5
    names = np.array(["x", "y"])
    chosen = (votes.ravel() * np.where(turned, -1, 1) + 1) / 2
    study = Choices(person, names[turned.astype(int)], names[1 - turned.astype(int)], chosen, pair=pair)
    found = agreement(study)
    assert found["pairs"] == 400 and found["pairs_by"] == "pair"
    assert found["alpha"] == pytest.approx(kendall_agreement(votes), abs=1e-3)
    coins = Choices(person, ["x"] * votes.size, ["y"] * votes.size, rng.integers(0, 2, votes.size), pair=pair)
    assert abs(agreement(coins)["alpha"]) < 0.05


def test_retest_counts_equal_answers_by_person():
    study = choices(
        """ann a b l
           ann b a r
           ann a b l
           bob a b l
           bob a b r
           bob a c t
           bob a c t
           eve a b l""",
        prompt=["p"] * 8,
    )
    found = retest(study, 500)
    assert found["same"]["value"] == pytest.approx((1 + 0.5) / 2) and found["pairs"] == 3 and found["people"] == 2
    assert agreement(study)["pairs"] == 1
    assert retest(choices("ann a b l\nann a b l"))["pairs_by"] is None


def test_people_who_judged_nothing_twice_are_not_drawn_for_the_retest():
    twice = [f"p{k} a b l\np{k} a b {'l' if k % 3 else 'r'}" for k in range(9)]
    once = [f"q{k} a b l" for k in range(30)]
    cells = [
        retest(choices("\n".join(lines), prompt=["p"] * sum(line.count("a b") for line in lines)), 500)["same"]
        for lines in (twice, twice + once)
    ]
    assert cells[0] == cells[1] and cells[0]["ci_low"] < cells[0]["value"]


def test_agreement_without_its_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "krippendorff", None)
    with pytest.raises(RuntimeError, match=r"pip install 'pamela_hf\[study\]'"):
        agreement(choices("ann a b l\nbob a b l", pair=["1", "1"]))
    assert agreement(choices("ann a b l\nbob a b l", pair=["1", "2"]))["alpha"] is None


GOOD = "participant,left,right,choice,prompt\nann,self,none,left,p\nann,none,self,tie,q\nbob,self,none,right,p\n"


def test_both_forms_of_the_csv_say_the_same(tmp_path):
    (tmp_path / "a.csv").write_text("\ufeff" + GOOD, encoding="utf-8")
    (tmp_path / "b.csv").write_text(
        "tie,loser,winner,participant,prompt,time\n,none,self,ann,p,1\nYes,none,self,ann,q,2\nno,self,none,bob,p,3\n"
    )
    a, b = read_choices(tmp_path / "a.csv"), read_choices(tmp_path / "b.csv", ignore=["time"])
    assert analyse(a, 20) == analyse(b, 20)
    assert a.choice.tolist() == [1, 0.5, 0] and b.choice.tolist() == [1, 0.5, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "row 1: column 'participant' is missing"),
        ("participant,left,right,choice\n", "holds no choices"),
        ("participant,left,right,chioce\nann,a,b,left\n", "row 1: unknown column 'chioce'; did you mean 'choice'"),
        ("participant,left,right,choice,time\nann,a,b,left,3\n", "unknown column 'time'.*--ignore time"),
        ("participant,winner,right,choice\nann,a,b,left\n", "unknown column 'right'"),
        ("participant,winner\nann,a\n", "column 'loser' is missing"),
        ("participant,left,left,right,choice\nann,a,a,b,left\n", "has left twice"),
        ("participant,left,right,choice,left_image\nann,a,b,left,1\n", "'right_image' is missing"),
        (GOOD + "bob,self,none,both,p\n", "row 5: choice is 'both'; it is left, right or tie"),
        (GOOD + "bob,self,none,left\n", "row 5: 4 fields; the header has 5"),
        (GOOD + "bob,self,none,left,p,x\n", "row 5: 6 fields"),
        (GOOD + ",self,none,left,p\n", "row 5: participant is empty"),
        ("participant,winner,loser,tie\nann,a,b,maybe\n", "row 2: tie is 'maybe'"),
        ("participant,left,right,choice,pair\nann,a,b,left,1\nbob,a,c,left,1\n", "row 3: pair '1' shows a and c, but"),
        ("participant,left,right,choice,left_image,right_image\nann,a,b,left,i,i\n", "row 2 compares image 'i' with"),
        (b"participant,left,right,choice\nann,a,b,\xff\n", "is not UTF-8"),
        ('participant,left,right,choice\nann,a,b,"left\n', "not readable as CSV"),
    ],
)
def test_a_bad_csv_is_refused_with_its_line(tmp_path, text, message):
    path = tmp_path / "choices.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(StudyError, match=message) as refused:
        read_choices(path)
    assert str(path) in str(refused.value)


def test_the_command_analyses_a_csv(tmp_path, capsys):
    study = simulate_choices(Design([1080, 1000, 920], 5, 3, 3), ["self", "other", "<none>"], 0)
    words = {1.0: "left", 0.0: "right", 0.5: "tie"}
    lines = [
        ",".join([*row, words[choice]])
        for *row, choice in zip(study.participant, study.prompt, study.left, study.right, study.choice)
    ]
    path = tmp_path / "choices.csv"
    path.write_text("participant,prompt,left,right,choice\n" + "\n".join(lines) + "\n")
    main(["study", str(path), "--output", str(tmp_path / "out"), "--studies", "50", "--bootstrap", "200"])
    printed = capsys.readouterr().out
    assert "5 people, 3 prompts, 135 comparisons" in printed and "you can see" in printed and "Test–retest" in printed
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert set(report["contrasts"]) == {"self - other", "self - <none>", "other - <none>"}
    assert report["power"]["people"] == 5 and report["retest"]["pairs"] == 45 and report["agreement"]["pairs"] == 9
    page = (tmp_path / "out" / "report.html").read_text()
    assert "&lt;none&gt;" in page and "<none>" not in page and "simulated" not in page

    main(["study", str(path), "--output", str(tmp_path / "two"), "--conditions", "self,other", "--studies", "0"])
    assert list(json.loads((tmp_path / "two" / "report.json").read_text())["contrasts"]) == ["self - other"]


def test_the_command_plans_a_study_and_repeats_the_papers(tmp_path, capsys):
    main("study --power --people 6,24 --prompts 4 --repeats 2 --studies 60".split())
    printed = capsys.readouterr().out
    assert "With 6 people, 4 prompts" in printed and "With 24 people" in printed
    assert "40 Elo from person to person and 80 from image to image" in printed
    main(["study", "--simulate-paper", "--studies", "5", "--bootstrap", "200", "--output", str(tmp_path)])
    printed = capsys.readouterr().out
    assert (
        printed.startswith("Simulated: 6 people")
        and printed.count("is inside") == 15
        and "OUTSIDE" not in printed
        and "In 5 simulated studies" in printed
    )
    assert '<span class="badge">simulated</span>' in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("study", "Give either"),
        ("study x.csv --power", "Give either"),
        ("study x.csv", "--output FOLDER"),
        ("study none.csv --output out", "none.csv"),
        ("study --power --people 1", "people is 1; it must be a number of at least 2"),
        ("study --power --tie-share 1", "tie_share is 1.0; .* below 1"),
        ("study --power --num-conditions 1", "at least 2"),
        ("study --power --person-sd nan", "person_sd is nan"),
        ("study --power --studies 0", "studies is 0"),
    ],
)
def test_a_bad_command_is_one_clear_line(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=message):
        main(arguments.split())
    assert not list(tmp_path.iterdir())


def test_a_study_reads_the_table_of_choices_in_all_its_forms(tmp_path):
    from choice_world import choice_world

    from pamela_hf.ratings.preparation import write_answers

    data = choice_world(people=8, images=40, per_person=20).choices
    for side in ("preferred", "other"):
        for table in data.choices.values():
            kind = table[f"{side}_id"].astype(str).str[-1].isin(list("02468"))
            table[f"{side}_type"] = kind.map({True: "Art", False: "Photo"}).astype("category")
    (tmp_path / "folder").mkdir()
    write_answers(data, tmp_path / "folder")
    frame = data.choices["train"]
    frame.to_csv(tmp_path / "choices.csv", index=False)
    train = read_choices(tmp_path / "choices.csv")
    assert len(train) == len(frame) and train.conditions == ["Art", "Photo"]
    assert (train.choice == 0.5).tolist() == frame.tie.tolist()
    assert train.left_image.tolist() == frame.preferred_id.tolist() and train.prompt is None
    file = tmp_path / "folder/choices/train-00000-of-00001.parquet"
    stored = read_choices(file)
    assert stored.choice.tolist() == train.choice.tolist() and stored.left.tolist() == train.left.tolist()
    assert len(read_choices(tmp_path / "folder")) == sum(map(len, data.choices.values()))
    assert set(analyse(train, bootstrap=0)["conditions"]) == {"Art", "Photo"}
    assert len(read_choices(file, condition="id").conditions) > 10
    with pytest.raises(StudyError, match=r"row 2: preferred_group is empty.*--condition"):
        read_choices(tmp_path / "choices.csv", condition="group")
    with pytest.raises(StudyError, match=r"no column preferred_model.*--condition id"):
        read_choices(file, condition="model")
    with pytest.raises(StudyError, match=r"holds no choices/\*\.parquet"):
        read_choices(tmp_path)
