"""The report's cards and table on groups: does everybody fare alike, and every kind of image?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from ..reports.charts import rows_chart, shortened
from ..reports.numbers import number, signed
from ..reports.page import Card

_FIELDS = {"age_binned": "age"}
_TITLES = {"people": "Does everybody fare alike? By {}", "images": "Are all images predicted alike? By {}"}


def group_cards(groups: Mapping[str, Any], name: str) -> list[Card]:
    """A card for each field with two groups or more.

    Args:
        groups: of [`group_tables`].
        name: the scorer that is shown.
    """
    cards = []
    for kind, title in _TITLES.items():
        for field, rows in groups[kind].items():
            if len(rows) < 2:
                continue
            if kind == "images":
                rows = sorted(rows, key=lambda row: -row["ratings"])
            elif field != "age_binned":  # ages keep their order
                rows = sorted(rows, key=lambda row: -(row["people"] or 0))
            shown = _Groups(groups, kind, field, rows, name)
            cards.append(Card(title.format(_FIELDS.get(field, field)), shown.reading(), shown.charts()))
    return cards


def group_rows(groups: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The table: `{"field", "value", "people", "ratings", "images", "few", "cells"}`, cells by scorer and metric."""
    listed = [("", groups["everyone"])]
    for kind in _TITLES:
        listed += [(field, row) for field, rows in groups[kind].items() for row in rows]
    return [
        {
            "field": _FIELDS.get(field, field),
            **{key: row[key] for key in ("value", "people", "ratings", "images", "few")},
            "cells": [row["scorers"][name].get(m) for name in row["scorers"] for m in ("user_srocc", "bias")],
        }
        for field, row in listed
    ]


@dataclass(frozen=True)
class _Groups:
    """The groups of one field, as the scorer called `name` predicts them."""

    tables: Mapping[str, Any]
    kind: str
    field: str
    rows: Sequence[Mapping[str, Any]]
    name: str

    def overall(self, metric: str) -> float | None:
        return self.tables["everyone"]["scorers"][self.name].get(metric, {"value": None})["value"]

    def cells(self, metric: str) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
        """(group, its cell) of the groups that have a value."""
        found = [(row, row["scorers"][self.name].get(metric)) for row in self.rows]
        return [(row, cell) for row, cell in found if cell and cell["value"] is not None]

    def charts(self) -> Markup:
        """user_srocc against that over all, and bias against 0."""
        charts = []
        for metric, at, kind, digits in (
            ("user_srocc", self.overall("user_srocc"), "dot", 3),
            ("bias", 0.0, "difference", 2),
        ):
            if at is None or not (cells := self.cells(metric)):
                continue
            rows = []
            for row, cell in cells:
                few = cell["n_users"] < self.tables["few"]
                label = f"{shortened(_words(row), 30)} ({cell['n_users']}){'*' if few else ''}"
                rows.append((label, cell, "s1" if few else "s0"))
            charts.append(rows_chart(f"{metric} by {self.field}", rows, at, kind, (at - 0.02, at + 0.02), digits))
        return Markup("").join(charts)

    def reading(self) -> str:
        """A sentence on ranks, one on bias, and one on groups too small to show."""
        sentences = []
        if (mean := self.overall("user_srocc")) is not None:
            clear = self._clear_of("user_srocc", mean)
            sentences.append(f"Upper chart: user_srocc, {number(mean)} over all; clear of that: {clear}.")
            if self.kind == "images":
                sentences.append("Within one kind, ranks are harder to predict.")
        if (bias := self.overall("bias")) is not None:
            clear = self._clear_of("bias", 0.0)
            sentences.append(
                f"Lower chart: predicted minus given rating ({signed(bias, 2)} over all); clear of 0: {clear}."
            )
        few, least = self.tables["few"], self.tables["least"]
        sentences.append(f"In brackets: people, * fewer than {few}. One interval in twenty is clear by chance.")
        if small := [_words(row) for row in self.rows if row["people"] is None]:
            sentences.append(f"Fewer than {least} people, so that figures would be about persons: {', '.join(small)}.")
        return " ".join(sentences)

    def _clear_of(self, metric: str, value: float) -> str:
        """The groups whose interval leaves value out, with their own value."""
        clear = []
        for row, cell in self.cells(metric):
            if cell["ci_low"] is not None and not cell["ci_low"] <= value <= cell["ci_high"]:
                shown = number(cell["value"]) if metric == "user_srocc" else signed(cell["value"], 2)
                clear.append(f"{_words(row)} ({shown})")
        return ", ".join(clear) or "no group"


def _words(row: Mapping[str, Any]) -> str:
    return row["value"].replace("_", " ")
