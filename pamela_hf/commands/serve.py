"""`pamela serve`: the reward over HTTP and MCP."""

import argparse
from collections import ChainMap

from ._arguments import DEVICE_HELP, positive

HELP = """\
Serve the reward over HTTP and MCP: scores of images for people, many requests in one forward.

  pamela serve --model runs/demo/model
  pamela serve --model DIR --head runs/me runs/you --port 8000
  pamela serve --model DIR --heads runs/heads --user p0001 --host 0.0.0.0
  pamela serve --model DIR --store FILE.db                    # people who rate in `pamela app`, as they do

  curl -s localhost:8000/v1/score -H 'Content-Type: application/json' \\
    -d '{"images": ["data:image/png;base64,…"], "prompts": ["a cat"], "users": ["p0001", "me", null]}'

POST /v1/score answers {"scores": [[…]], "std": [[…]], "users": […], "errors": {}}, a row for each image and a column
for each user (null: everyone's taste). POST /compute and GET /health speak to Flow-Factory's remote reward; its
server_url http://HOST:PORT/users/NAME scores for that person. GET /metrics is for Prometheus, /mcp for
assistants. Images are base64 or data URLs; nothing is fetched, no path is opened. Heads in --heads are read again when
they change.

Only this machine is served, without a token, unless --host says otherwise: then clients send the token in PAMELA_TOKEN,
or the one that is printed (Authorization: Bearer TOKEN, or http://pamela:TOKEN@HOST:PORT).
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--model", required=True, metavar="DIR", help="folder or Hub id of a trained model")
    add(
        "--head", nargs="+", default=[], metavar="HEAD", help="folders or Hub ids of heads to score for, by their names"
    )
    add("--heads", metavar="FOLDER", help="folder that holds heads' folders; they may come and go")
    add("--store", metavar="FILE.db", help="answers of `pamela app`, whose people are known by name and may rate on")
    user_help = "whom to score for where a request names nobody (default: the one --head, else everyone's taste)"
    add("--user", metavar="NAME", help=user_help)
    add("--host", default="127.0.0.1", help="address to listen at (127.0.0.1: this machine only)")
    add("--port", type=int, default=8000, help="(8000); 0: any that is free")
    add("--scale", metavar="NAME", help="rating scale of the scores (default: the model's)")
    add("--max-batch", type=positive, default=32, metavar="N", help="images of one forward (32)")
    add(
        "--max-waiting", type=positive, default=1024, metavar="N", help="images that may wait; more are refused (1024)"
    )
    add("--max-megabytes", type=positive, default=64, metavar="N", help="size of one request (64)")
    add("--device", help=DEVICE_HELP)
    reward = parser.add_argument_group("what /compute rewards")
    reward.add_argument("--personal-only", action="store_true", help="less everyone's score")
    penalty = "standard deviations that a score is lowered by (0)"
    reward.add_argument("--uncertainty-penalty", type=float, default=0.0, metavar="X", help=penalty)
    floor = "images less like their prompt than this get the lowest rating (default: off)"
    reward.add_argument("--adherence-floor", type=float, metavar="X", help=floor)


def run(args: argparse.Namespace) -> None:
    from ..heads.head import UserHead
    from ..rewards import HeadFolder, PersonalReward, RewardOptions
    from ..rewards.serving import ScoringService, ServiceLimits, serve
    from ..scoring import PamelaScorer

    scorer = PamelaScorer.from_pretrained(args.model, device=args.device)
    named = {head.name: head for head in (UserHead.from_pretrained(place, scorer) for place in args.head)}
    heads = ChainMap(named)
    if args.heads:
        heads.maps.append(HeadFolder(args.heads, scorer))
    if args.store:
        from ..app.heads import StoreHeads

        heads.maps.append(StoreHeads.open(args.store, scorer))
    options = RewardOptions(
        scale=args.scale,
        personal_only=args.personal_only,
        uncertainty_penalty=args.uncertainty_penalty,
        adherence_floor=args.adherence_floor,
    )
    user = args.user if args.user is not None or len(named) != 1 else next(iter(named))
    limits = ServiceLimits(
        max_batch=args.max_batch,
        max_waiting=args.max_waiting,
        max_images=min(256, args.max_waiting),
        max_body_bytes=args.max_megabytes << 20,
    )
    serve(
        ScoringService(PersonalReward(scorer, user, options, heads), limits),
        args.host,
        args.port,
        announce=lambda line: print(line, flush=True),
    )
