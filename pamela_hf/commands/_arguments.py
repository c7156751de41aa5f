"""Types and texts of arguments that several commands share."""

import argparse

PROMPTS_HELP = "columns image and prompt, group, …: what each image was made from, and its metadata"
FOLDER_CACHE_HELP = "file that keeps the folder's features from run to run; score, embed and taste share it"
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
