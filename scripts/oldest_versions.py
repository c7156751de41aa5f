"""The lower bounds of setup.cfg as pip constraints: `name==bound` of each dependency, for `make test-oldest`.

    python scripts/oldest_versions.py > oldest.txt

torch stays as it is in constraints.txt, unless `TORCH=2.10.0` names another: the index has CPU builds of few releases,
and a build with CUDA's libraries is gigabytes.
"""

import configparser
import os
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
BOUND = re.compile(r"^([A-Za-z0-9_.-]+)\s*>=\s*([0-9][\w.]*)")


def oldest(text: str) -> dict[str, str]:
    """Name → lower bound of the requirements in a block of setup.cfg."""
    found = (BOUND.match(line.strip()) for line in text.splitlines())
    return {match[1]: match[2] for match in found if match}


def pinned(name: str) -> str:
    """A package's version in constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return next(line.partition("==")[2] for line in lines if line.lower().startswith(f"{name.lower()}=="))


def main() -> None:
    """Prints the constraints."""
    config = configparser.ConfigParser()  # extras name each other as %(name)s
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    bounds = oldest(config["options"]["install_requires"]) | oldest(config["options.extras_require"]["dev"])
    bounds["torch"] = os.environ.get("TORCH") or pinned("torch")
    for name, version in sorted(bounds.items()):
        print(f"{name}=={version}")


if __name__ == "__main__":
    main()
