"""`pamela study`: a user study analysed."""

import argparse
from pathlib import Path

from ._arguments import names, numbers

HELP = """\
Analyse a user study: people chose between two images, made in different ways.

  pamela study choices.csv --output runs/study                    # Elo, differences, agreement, power
  pamela study choices.csv --output runs/study --conditions self,other,none --ignore time,session
  pamela study --power --people 6,12,24 --prompts 18 --repeats 7   # before a study: what could it see?
  pamela study --simulate-paper --output runs/paper_study          # are the paper's Elo values recovered?

choices.csv has a row for each comparison: participant,left,right,choice, where left and right say how the two images
were made (self: optimized for the one who chooses; other: for somebody else; none; consensus; any method's name) and
choice is left, right or tie. Or participant,winner,loser[,tie]. Optional: prompt; left_image,right_image (ids); pair
(an id: a second row of the same person and pair is a retest).

Prints a table and writes OUT/report.json and OUT/report.html. Elo: 400 more is being chosen ten times as often. Where
the interval of a difference contains 0, the study leaves open which is better. Intervals resample people and suit as
few as four of them; they say nothing about other prompts. How much people and images differ (--person-sd, --image-sd)
decides what a study can see: they are assumptions until a study of yours has estimated them, which its report does.
Agreement needs pip install 'pamela_hf[study]'.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("choices", nargs="?", metavar="CSV", help="a row for each comparison; or a prepared folder of choices")
    condition_help = "of a table of choices: which of the images' columns is the condition (type); id: each image"
    add("--condition", default="type", metavar="NAME", help=condition_help)
    add("--output", metavar="OUT", type=Path, help="folder for report.json and report.html")
    add("--conditions", type=names, metavar="A,B", help="only comparisons between these (default: all)")
    add("--ignore", type=names, default=[], metavar="A,B", help="columns of the CSV to skip")
    add("--bootstrap", type=int, default=1000, metavar="N", help="draws of people for intervals (1000); 0: none")
    add("--seed", type=int, default=0, help="of the draws and simulations (0)")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--power", action="store_true", help="no CSV: what could a study see?")
    paper_help = "no CSV: simulate a study of the paper's size with its Elo values, and analyse it"
    instead.add_argument("--simulate-paper", action="store_true", help=paper_help)
    add("--people", type=numbers, default=[6], metavar="P,P", help="--power: how many people, one or more sizes (6)")
    add("--prompts", type=int, default=18, metavar="Q", help="--power: prompts each of them judges (18)")
    add("--repeats", type=int, default=7, metavar="R", help="--power: judgements of each pair of conditions (7)")
    add("--num-conditions", type=int, default=5, metavar="C", help="--power: conditions, all compared (5)")
    person_help = "how much people differ in what a condition is worth, Elo (40, assumed)"
    add("--person-sd", type=float, metavar="SD", help=person_help)
    image_help = "how much the images of one condition differ for a person, Elo (80, assumed)"
    add("--image-sd", type=float, metavar="SD", help=image_help)
    add("--tie-share", type=float, default=0.1, metavar="X", help="share of ties between equal images (0.1, assumed)")
    add("--studies", type=int, metavar="N", help="simulated studies (1000; --simulate-paper: 200); 0: none")


def run(args: argparse.Namespace) -> None:
    from ..study.csv import read_choices
    from ..study.page import ASSUMED_SD, planned_power, simulated_paper, study_report, study_table, write_study

    if (args.choices is None) != (args.power or args.simulate_paper):
        raise ValueError("Give either a CSV of choices, --power or --simulate-paper.")
    given = {name: getattr(args, name) for name in ("person_sd", "image_sd", "tie_share")}
    spread = ASSUMED_SD | {name: value for name, value in given.items() if value is not None}
    studies = args.studies if args.studies is not None else 200 if args.simulate_paper else 1000
    if args.power:
        for people in args.people:
            design = (args.num_conditions, people, args.prompts, args.repeats)
            print(planned_power(*design, **spread, studies=studies, seed=args.seed)["sentence"] + ".")
        assumed = f"{spread['person_sd']:g} Elo from person to person and {spread['image_sd']:g} from image to image"
        print(f"Assumed: liking of a condition differs by {assumed} (sd), {100 * args.tie_share:g} % ties of equals.")
        return
    if args.output is None and not args.simulate_paper:
        raise ValueError("Say where report.json and report.html go: --output FOLDER.")
    if args.simulate_paper:
        report = simulated_paper(**spread, studies=studies, bootstrap=args.bootstrap, seed=args.seed)
    else:
        choices = read_choices(args.choices, args.ignore, args.condition)
        choices = choices.only(args.conditions) if args.conditions else choices
        report = study_report(choices, args.bootstrap, args.seed, studies)
    print(study_table(report))
    if args.output:
        write_study(report, args.output, "a simulated study" if args.simulate_paper else Path(args.choices).name)
        print(f"\nWrote {args.output / 'report.json'} and {args.output / 'report.html'}.")
