"""`pamela <command>`: the commands of `scripts/`, for whoever installed the package with pip.

Each command is a module of [`pamela_hf.commands`], found by its file name. Bad input ends with one line on stderr and
exit code 1.
"""

import argparse
import logging
import os
import sys
import warnings
from collections.abc import Sequence

from .commands import command_names, load_command
from .files.escaping import printable
from .hub.scan import mask_secrets

INTERRUPTED = 130  # as shells report a process that Ctrl-C ended
READER_LEFT = 141  # ... and one whose output nobody reads any more


def main(argv: Sequence[str] | None = None, command: str | None = None) -> None:
    """Runs one command.

    Args:
        argv: the arguments; default: those of the process.
        command: name of the command, such as "fit-user"; default: the first of the arguments.

    Raises:
        SystemExit: with code 1 after bad input, 2 where the arguments cannot be parsed, 130 after Ctrl-C.
    """
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    # a picture that is too large is named by our own limit, one that is decoded smaller needs no warning of Pillow's
    warnings.filterwarnings("ignore", message="Image size .* could be decompression bomb")
    # Threads of a matrix product that wait for one another (GNU's OpenMP) spin a little, then sleep: those that answer
    # requests and decode pictures need the processor (of `serve`, the slowest hundredth took 4.4 forwards, and 1.9 so).
    # Heeded before torch is imported.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    try:
        run, args = _parse(list(sys.argv[1:] if argv is None else argv), command)
        if getattr(args, "device", None):  # before anything is read: ratings may take minutes
            from .encoder import usable_device

            usable_device(args.device)
        run(args)
        sys.stdout.flush()
        _leave_other_processes()
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # `pamela score … | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at its end
        sys.exit(READER_LEFT)
    except (ValueError, OSError, ArithmeticError, RuntimeError, ImportError) as error:
        sys.exit(f"error: {printable(mask_secrets(_message(error)))}")


def _parse(argv: list[str], command: str | None):
    """The chosen command's `run` and its arguments; a command that was not chosen is asked for its help line only."""
    raw = argparse.RawDescriptionHelpFormatter
    if command is not None:
        module = load_command(command)
        parser = argparse.ArgumentParser(description=module.HELP, formatter_class=raw)
        module.add_arguments(parser)
        return module.run, parser.parse_args(argv)
    parser = argparse.ArgumentParser(prog="pamela", description="Personal taste in images.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in command_names():
        module = load_command(name)
        sub = commands.add_parser(name, help=module.HELP.splitlines()[0], description=module.HELP, formatter_class=raw)
        if argv[:1] == [name]:
            module.add_arguments(sub)
    args = parser.parse_args(argv)
    return load_command(args.command).run, args


def _leave_other_processes() -> None:
    """Takes leave of the processes that `torchrun` or `accelerate launch` started with this one, as PyTorch wants of a
    program before it ends."""
    if distributed := sys.modules.get("torch.distributed"):
        if distributed.is_available() and distributed.is_initialized():
            distributed.destroy_process_group()


def _message(error: Exception) -> str:
    """An error in words: what the system says of a file without its number, and never nothing at all."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None and len(error.args) > 1:
        return f"{os.fspath(error.filename)}: {error.strerror}"
    return str(error) or "the run failed without saying why; run it in Python to see where."


if __name__ == "__main__":
    main()
