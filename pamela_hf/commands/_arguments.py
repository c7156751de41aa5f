"""Types and texts of arguments that several commands share."""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..heads.head import UserHead
    from ..scoring import PamelaScorer

PROMPTS_HELP = "columns image and prompt, group, …: what each image was made from, and its metadata"
FOLDER_CACHE_HELP = "file that keeps the folder's features from run to run; score, embed and taste share it"
STORE_HELP = "answers of `pamela app` that know --user: the file, or the folder of pictures it was started on"
DEVICE_HELP = "cuda, mps, cpu (default: the first of these there is)"


def names(text: str) -> list[str]:
    """`A,B` as a list of names."""
    return [name.strip() for name in text.split(",") if name.strip()]


def numbers(text: str) -> list[int]:
    """`1,2` as a list of integers."""
    return [int(number) for number in names(text)]


def positive(text: str) -> int:
    """An integer of at least 1."""
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{number} is too small; at least 1 is needed.")
    return number


def key_value(text: str) -> tuple[str, str]:
    """`KEY=VALUE` as a pair."""
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise argparse.ArgumentTypeError(f"{text!r} must be KEY=VALUE.")
    return key, value


def add_person_arguments(parser: argparse.ArgumentParser, needs_model: bool = True) -> None:
    """`--model`, and whom to score for: `--user`, `--head`, `--store`; read them with [`scorer_of`] and [`person_of`].

    Args:
        parser: gets the arguments.
        needs_model: a model has to be given; else `--store` alone will do.
    """
    add = parser.add_argument
    blank = "" if needs_model else " (default, with --store: the app's blank base)"
    add("--model", required=needs_model, metavar="DIR", help="folder or Hub id of a trained model" + blank)
    person = parser.add_mutually_exclusive_group()
    user_help = "a participant it was trained on, or with --store a person of the app; default: everyone's taste"
    person.add_argument("--user", metavar="NAME", help=user_help)
    person.add_argument("--head", metavar="HEAD", help="folder or Hub id of a head: somebody it was fitted for")
    add("--store", metavar="FILE.db", help=STORE_HELP)


def scorer_of(args: argparse.Namespace) -> "PamelaScorer":
    """The model of the arguments, or the blank base of the store."""
    from ..scoring import PamelaScorer

    if args.store and not args.user:
        raise ValueError("--store names people of the app; say which one: --user NAME.")
    if args.model:
        return PamelaScorer.from_pretrained(args.model, device=args.device)
    if not args.store:
        raise ValueError("Give a trained model (--model), or a person of the app (--store FILE.db --user NAME).")
    from ..app.heads import blank_scorer

    return blank_scorer(args.store, args.device)


def person_of(args: argparse.Namespace, scorer: "PamelaScorer") -> "str | UserHead | None":
    """Whom the arguments name: a participant, somebody's head, or `None`, everyone's taste."""
    if args.store:
        from ..app.heads import store_head

        return store_head(args.store, args.user, scorer)
    if args.head:
        from ..heads.head import UserHead

        return UserHead.from_pretrained(args.head, scorer)
    return args.user


def add_engine_arguments(parser: argparse.ArgumentParser) -> None:
    """Where many images are worked on."""
    help_text = "local: this process (default); ray: a Ray cluster, images and output at any URL (extra: ray)"
    parser.add_argument("--engine", choices=("local", "ray"), default="local", help=help_text)


def add_library_arguments(parser: argparse.ArgumentParser) -> None:
    """What `taste` and `suggest` say of a photo library."""
    add = parser.add_argument
    add("folder", metavar="FOLDER", help="the photo library, read recursively; or a .photoslibrary of Apple Photos")
    add("--name", required=True, help="what to call the person")
    add("--output", required=True, metavar="DIR", help="folder for the results; one person's library each")
    add("--model", metavar="DIR", help="folder or Hub id of a trained model (default: a blank base of these photos)")
    add("--encoder", metavar="ID", help="Hub id or folder of the image encoder (default: the model's, else SigLIP2)")
    add("--embeddings", metavar="FILE", help=FOLDER_CACHE_HELP + " (default: in DIR)")
    add("--picks", action="store_true", help="pick flags count as likes, rejecting ones as dislikes, without stars")
    label_help = "stars that a colour label stands for, repeatable: --label Green=4"
    add("--label", action="append", default=[], type=label_stars, metavar="NAME=STARS", help=label_help)
    add("--batch-size", type=positive, default=32, help="images a forward pass (32)")
    add("--device", help=DEVICE_HELP)
    add("--quiet", action="store_true", help="no progress bars")


def label_stars(text: str) -> tuple[str, float]:
    """`NAME=STARS` as a pair."""
    name, _, stars = text.rpartition("=")
    try:
        return name, float(stars)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} must be NAME=STARS, such as Green=4.") from None
