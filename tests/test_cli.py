"""The command line: commands are found by their files, and end as a shell's user expects."""

import ast
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch.distributed as distributed
from releases import write_image

from pamela_hf import commands
from pamela_hf.cli import main
from pamela_hf.commands import command_names, load_command

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "pamela_hf"
LIGHT = sys.stdlib_module_names | {"_arguments"}
CHATTER = """
HELP = "Many lines."

def add_arguments(parser):
    parser.add_argument("--lines", type=int, default=100_000)

def run(args):
    for number in range(args.lines):
        print("line", number)
"""


def written_error(arguments: list[str], capsys) -> str:
    """What `pamela` with bad arguments prints: one line, and exit code 1."""
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    line = stopped.value.code  # a text: Python prints it to stderr and ends with 1
    assert isinstance(line, str) and line.startswith("error: ") and "\n" not in line
    assert capsys.readouterr().err == ""
    return line


def process(code: str, *arguments: str, **options) -> subprocess.Popen:
    """A process that runs `code`, which calls `main`."""
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, **options)


@pytest.mark.parametrize("name", command_names())
def test_every_command_explains_itself(name, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([name, "--help"])
    text = capsys.readouterr().out
    assert stopped.value.code == 0 and f"pamela {name}" in text and load_command(name).HELP.splitlines()[0] in text


@pytest.mark.parametrize("name", command_names())
def test_a_script_of_its_name_is_the_same(name):
    assert f'main(command="{name}")' in (ROOT / "scripts" / f"{name.replace('-', '_')}.py").read_text()


@pytest.mark.parametrize("name", command_names())
def test_a_commands_module_loads_nothing_before_it_runs(name):
    module = load_command(name)
    for node in ast.parse(Path(module.__file__).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            assert {alias.name.split(".")[0] for alias in node.names} <= LIGHT
        elif isinstance(node, ast.ImportFrom):
            assert node.module.split(".")[0] in LIGHT
    assert module.HELP.splitlines()[0].strip() and callable(module.add_arguments) and callable(module.run)


def test_help_lists_every_command_and_loads_no_more_than_the_package():
    # older releases of transformers import scikit-learn where it is installed
    run = "import sys, pamela_hf; package = set(sys.modules)\nfrom pamela_hf.cli import main\ntry: main(['--help'])\n"
    done = process(run + "finally: print(*set(sys.modules) - package, file=sys.stderr)")
    out, loaded = done.communicate(timeout=120)
    assert all(re.search(rf"^ +{name}\b", out, re.MULTILINE) for name in command_names())
    heavy = {"pandas", "datasets", "diffusers", "sklearn", "peft", "gradio", "pyarrow"}
    assert not heavy & set(loaded.split()) and "pamela_hf.commands.score" in loaded


def test_a_new_file_is_a_new_command(tmp_path, monkeypatch, capsys):
    (tmp_path / "two_words.py").write_text(CHATTER)
    monkeypatch.setattr(commands, "__path__", [*commands.__path__, str(tmp_path)])
    assert "two-words" in command_names()
    main(["two-words", "--lines", "2"])
    assert capsys.readouterr().out == "line 0\nline 1\n"


def test_a_command_takes_leave_of_the_processes_started_with_it(tmp_path, monkeypatch):
    (tmp_path / "two_words.py").write_text(CHATTER)
    monkeypatch.setattr(commands, "__path__", [*commands.__path__, str(tmp_path)])
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/met", rank=0, world_size=1)
    main(["two-words", "--lines", "2"])
    assert not distributed.is_initialized()


def test_an_unknown_command_lists_those_there_are(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["scores"])
    assert stopped.value.code == 2 and "score" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"command 'scores' does not exist; there are ablate, .*score"):
        load_command("scores")


def test_bad_input_is_one_clear_line(tmp_path, ratings_folder, capsys):
    data = ["--data", str(ratings_folder)]
    for arguments, message in [
        (["train", *data, "--output", str(tmp_path / "m"), "epoch=1"], "did you mean 'epochs'"),
        (["train", "--data", str(tmp_path / "none"), "--output", str(tmp_path / "m")], "none"),
        (["embed", *data], "no images"),
        (["score", "--model", "x", "--images", "y", "--output", "z.txt"], r"\.csv or \.parquet"),
        (["study", str(tmp_path / "none.csv"), "--output", str(tmp_path / "s")], "none.csv"),
    ]:
        line = written_error(arguments, capsys)
        assert re.search(message, line) and not re.search(r"\w(Error|Exception)\b|Errno", line)
    assert not (tmp_path / "m").exists()


def test_the_device_is_checked_before_anything_is_read(tmp_path, capsys):
    nowhere = str(tmp_path / "nowhere")
    score = ["score", "--model", nowhere, "--images", nowhere, "--output", "x.csv", "--device", "cuda:99"]
    assert "cuda:99" in written_error(score, capsys)


def test_an_option_must_be_a_key_and_a_value(capsys):
    with pytest.raises(SystemExit):
        main(["prepare-ratings", "a", "b", "--option", "question"])
    assert "'question' must be KEY=VALUE" in capsys.readouterr().err


def test_an_error_shows_no_password(tmp_path, capsys):
    base = ["optimize-prompt", "--prompt", "a", "--output", str(tmp_path / "o"), "--pipeline", "procedural"]
    base += ["--reward", str(tmp_path), "--refiner", "endpoint", "--refiner-url"]
    for url in ("ftp://ann:SECRET@host", "ftp://host/v1?api_key=SECRET"):
        line = written_error([*base, url], capsys)
        assert "host" in line and "SECRET" not in line


def test_a_reader_that_leaves_ends_it_quietly(tmp_path):
    (tmp_path / "chatter.py").write_text(CHATTER)
    code = (
        f"import pamela_hf.commands as c; c.__path__.append({str(tmp_path)!r})\nfrom pamela_hf.cli import main; main()"
    )
    done = process(code, "chatter")
    assert done.stdout.readline() == "line 0\n"
    done.stdout.close()
    assert done.stderr.read() == "" and done.wait(60) == 141


def test_ctrl_c_ends_with_one_line_and_leaves_nothing_half_written(tmp_path):
    folder, out = tmp_path / "mine", tmp_path / "out"
    write_image(folder / "0.png")
    for number in range(1, 3000):  # some hundred milliseconds of work
        os.link(folder / "0.png", folder / f"{number}.png")
    (folder / "mine.csv").write_text("image,score\n" + "".join(f"{n}.png,{1 + n % 5}\n" for n in range(3000)))
    prepare = ["prepare-ratings", str(folder / "mine.csv"), str(out), "--split-by", "none"]
    # tests that run in a shell's background inherit that SIGINT is ignored
    listening = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.default_int_handler)}
    done = process("from pamela_hf.cli import main; main()", *prepare, **listening)
    while not any(name.startswith(".out") for name in os.listdir(tmp_path)) and done.poll() is None:
        time.sleep(0.001)
    done.send_signal(signal.SIGINT)
    _, errors = done.communicate(timeout=60)
    assert done.returncode == 130, errors
    assert errors.splitlines()[-1] == "Interrupted." and "Traceback" not in errors
    assert {path.name for path in tmp_path.iterdir()} == {"mine"}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_message_names_an_exceptions_class(path):
    assert not re.search(r"type\((error|e|exc|exception)\)\.__name__", path.read_text(encoding="utf-8"))
