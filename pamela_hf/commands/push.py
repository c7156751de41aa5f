"""`pamela push`: a model, ratings, a head, a pipeline or a Space to the Hub."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ._arguments import names

HELP = """\
Push to the Hub: one commit, scanned before, verified after, private unless you say otherwise.

  pamela push model runs/demo/model me/pamela --dry-run      # what would go?
  pamela push model runs/demo/model me/pamela --trained-on me/pamela-ratings
  pamela push ratings runs/pamela me/pamela-ratings --public
  pamela push pipeline DIR me/pamela-pipeline                # DIR: PamelaPromptPipeline.save_pretrained(DIR)
  pamela push space PICTURES me/rate --model me/pamela --ratings me/rate-answers   # the app, for visitors who sign in

Only the files a model, ratings, head, pipeline or Space consists of are sent, never what else lies in the folder; of
pictures their pixels and colour profile alone. Participants of the public dataset on the Hub that the ratings were read
from keep their ids; all others appear as user_0001, …, and who is who stays in
~/.local/share/pamela_hf/pseudonyms.json.
The access token is that of `hf auth login` or HF_TOKEN.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("kind", choices=["model", "ratings", "head", "pipeline", "space"], help="what the folder holds")
    folder_help = "what train, prepare-ratings, fit-user or save_pretrained wrote; of a Space: pictures, or a dataset"
    add("folder", metavar="DIR", type=Path, help=folder_help)
    add("repo", metavar="REPO", help="owner/name on the Hub; made if it does not exist")
    add("--public", action="store_true", help="everybody may see it (default: private)")
    add("--dry-run", action="store_true", help="scan and list what would go; send nothing")
    add("--report", metavar="FILE", help="of a model: report.json of evaluate (default: the one beside it)")
    add("--data", metavar="FOLDER", help="of a model: ratings it is tested on; adds figures by demographic group")
    add("--trained-on", type=names, default=[], metavar="A,B", help="of a model: its ratings on the Hub")
    add("--license", metavar="ID", help="such as cc-by-4.0 (default: that of the release, if it is one)")
    add("--model", metavar="ID", help="of a Space: Hub id of a trained model (default: a blank base)")
    add("--ratings", metavar="REPO", help="of a Space: private dataset that answers are kept in (default: none)")
    add("--title", metavar="TEXT", help="of a Space: what its page is called")
    add("--keep-ids", action="store_true", help="your own raters agreed to be published under the names they have")
    add("--with-demographics", action="store_true", help="of ratings: … and with age, gender and nationality")


def run(args: argparse.Namespace) -> None:
    options = {"private": not args.public, "dry_run": args.dry_run}
    push, more = _PUSHES[args.kind](args)
    result = push(args.folder, args.repo, **options, **more)
    for name in result.files:
        print(f"{result.sizes[name]:>13,} bytes  {name}")
    print(f"{sum(result.sizes.values()):>13,} bytes in {len(result.files)} files")
    if result.left_out:
        print(f"Left out: {', '.join(result.left_out)}")
    if people := result.participants:
        print(
            f"{sum(people.values())} participants: {people['released']} released, {people['pseudonyms']} under "
            f"pseudonyms, {people['own names']} under their own names"
        )
    if args.dry_run:
        print(f"Nothing was sent. Without --dry-run, {args.repo} would become exactly this.")
    else:
        print(f"{'Private' if result.private else 'Public'}: {result.url} at {result.commit}")


def _model(args: argparse.Namespace) -> tuple[Callable[..., Any], dict[str, Any]]:
    from ..publishing.repositories import push_model

    return push_model, {"report": args.report, "trained_on": args.trained_on, "data": args.data, **_ids(args)}


def _ratings(args: argparse.Namespace) -> tuple[Callable[..., Any], dict[str, Any]]:
    from ..publishing.repositories import push_ratings

    return push_ratings, {"with_demographics": args.with_demographics, **_ids(args)}


def _head(args: argparse.Namespace) -> tuple[Callable[..., Any], dict[str, Any]]:
    from ..publishing.repositories import push_head

    return push_head, {}


def _pipeline(args: argparse.Namespace) -> tuple[Callable[..., Any], dict[str, Any]]:
    from ..publishing.pipeline import push_pipeline  # needs diffusers, which the others don't

    return push_pipeline, _ids(args)


def _space(args: argparse.Namespace) -> tuple[Callable[..., Any], dict[str, Any]]:
    from ..publishing.space import SpaceOptions, push_space

    given = {"title": args.title, "model": args.model, "ratings": args.ratings, "license": args.license}
    return push_space, {"options": SpaceOptions(**{name: value for name, value in given.items() if value is not None})}


def _ids(args: argparse.Namespace) -> dict[str, Any]:
    return {"license": args.license, "keep_ids": args.keep_ids}


_PUSHES = {"model": _model, "ratings": _ratings, "head": _head, "pipeline": _pipeline, "space": _space}
