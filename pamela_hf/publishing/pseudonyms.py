"""`user_0001`, `user_0002`, …: names under which one's own raters are published; who is who stays at home."""

import json
import os
import secrets
from collections.abc import Iterable
from pathlib import Path

from ..files.writing import locked, pamela_home, write_json

PATTERN = "user_{:04d}"


def default_mapping_file() -> Path:
    """Where the mapping lies unless another file is named: `$PAMELA_HOME` or `~/.local/share/pamela_hf`, in
    `pseudonyms.json`. One mapping serves all repositories, so that a model and the ratings it was trained on agree."""
    return pamela_home() / "pseudonyms.json"


class Pseudonyms:
    """Gives each rater a pseudonym and keeps it: the same person has the same one in every push.

    A pseudonym is not anonymity: ratings can still point to the person who made them, and whoever holds the mapping
    file knows who is who. The file is readable by its owner alone.

    Args:
        file: JSON file of name → pseudonym, made when the first one is given; by default, [`default_mapping_file`].
        taken: names that may not be given out because they are published ids of somebody else.

    Raises:
        ValueError: `file` is not such a mapping.
    """

    def __init__(self, file: str | os.PathLike | None = None, *, taken: Iterable[str] = ()):
        self.file = Path(file) if file is not None else default_mapping_file()
        self._taken = set(taken)
        self.mapping: dict[str, str] = {}
        self._read()

    def assign(self, names: Iterable[str], *, save: bool = True) -> dict[str, str]:
        """name → pseudonym of each of `names`; new ones get the next numbers, in random order.

        The order is random since numbers in the order of names or of first ratings would tell something. With
        `save=False` (a dry run) nothing is written, and new names may get other numbers next time.
        """
        names = list(dict.fromkeys(names))
        self._read()
        if save and not self.mapping.keys() >= set(names):
            with locked(self.file):  # another push may give some out just now
                self._read()
                mapping = self.mapping | self._given(names)
                write_json(self.file, dict(sorted(mapping.items())), mode=0o600)
                self.mapping = mapping
        return self._given(names)

    def _read(self) -> None:
        if not self.file.exists():
            return
        try:
            mapping = json.loads(self.file.read_text(encoding="utf-8"))
            right = isinstance(mapping, dict) and all(isinstance(v, str) for v in mapping.values())
        except ValueError:
            right = False
        if not right or len(set(mapping.values())) < len(mapping):
            raise ValueError(
                f"{self.file} is not a mapping of names to pseudonyms. Restore it from a backup; without it "
                "published pseudonyms can no longer be matched to your raters."
            )
        self.mapping = mapping

    def _given(self, names: list[str]) -> dict[str, str]:
        given = dict(self.mapping)
        new = [name for name in names if name not in given]
        secrets.SystemRandom().shuffle(new)
        used = {*given.values(), *self._taken}
        number = 1
        for name in new:
            while PATTERN.format(number) in used:
                number += 1
            given[name] = PATTERN.format(number)
            used.add(given[name])
        return {name: given[name] for name in names}
