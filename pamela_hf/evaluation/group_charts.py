"""The report's cards and table on groups: does everybody fare alike, and every kind of image?"""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from ..reports.charts import number, rows_chart, signed

_FIELDS = {"age_binned": "age"}


def group_cards(groups: Mapping[str, Any], name: str) -> list[tuple[str, str, Markup]]:
    """(title, reading, charts) of each field with two groups or more, for the scorer called name."""
    cards = []
    for kind, title in (
        ("people", "Does everybody fare alike? By {}"),
        ("images", "Are all images predicted alike? By {}"),
    ):
        for field, rows in groups[kind].items():
            if len(rows) < 2:
                continue
            rows = rows if field == "age_binned" else sorted(rows, key=lambda row: -(row["people"] or 0))
            if kind == "images":
                rows = sorted(rows, key=lambda row: -row["ratings"])
            everyone = groups["everyone"]["scorers"][name]
            text, charts = _reading(rows, everyone, name, kind, groups), []
            for metric, mark, digits in (("user_srocc", everyone["user_srocc"]["value"], 3), ("bias", 0.0, 2)):
                cells = [_labelled(row, row["scorers"][name][metric], groups) for row in _told(rows, name, metric)]
                if cells and mark is not None:
                    kind_of_chart = "dot" if metric == "user_srocc" else "difference"
                    room = (mark - 0.02, mark + 0.02)
                    charts.append(rows_chart(f"{metric} by {field}", cells, mark, kind_of_chart, room, digits))
            cards.append((title.format(_FIELDS.get(field, field)), text, Markup("").join(charts)))
    return cards


def group_rows(groups: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The table: `{"field", "value", "people", "ratings", "images", "few", "cells"}`, cells by scorer and metric."""
    listed = [("", groups["everyone"])]
    for kind in ("people", "images"):
        listed += [(field, row) for field, rows in groups[kind].items() for row in rows]
    return [
        {
            "field": _FIELDS.get(field, field),
            **{key: row[key] for key in ("value", "people", "ratings", "images", "few")},
            "cells": [row["scorers"][name].get(m) for name in row["scorers"] for m in ("user_srocc", "bias")],
        }
        for field, row in listed
    ]


def _told(rows: Sequence[Mapping[str, Any]], name: str, metric: str) -> list[Mapping[str, Any]]:
    return [row for row in rows if row["scorers"][name].get(metric, {"value": None})["value"] is not None]


def _labelled(row: Mapping[str, Any], cell: Mapping[str, Any], groups: Mapping[str, Any]) -> tuple:
    few, value = cell["n_users"] < groups["few"], _words(row)
    label = value if len(value) < 17 else value[:15] + "…"
    return f"{label} ({cell['n_users']}){'*' if few else ''}", cell, "s3" if few else "s0"


def _words(row: Mapping[str, Any]) -> str:
    return row["value"].replace("_", " ")


def _reading(rows: Sequence[Mapping[str, Any]], everyone: Mapping[str, Any], name: str, kind: str, groups) -> str:
    """A sentence on ranks, one on bias, and one on groups too small to show."""
    mean = everyone["user_srocc"]["value"]
    told = []
    if mean is not None:
        away = _clear(rows, name, "user_srocc", mean)
        told.append(f"Upper chart: user_srocc, {number(mean)} over all; clear of that: {away}.")
        if kind == "images":
            told.append("Within one kind, ranks are harder to tell.")
    bias = everyone.get("bias")
    if bias and bias["value"] is not None:
        away = _clear(rows, name, "bias", 0.0)
        told.append(
            f"Lower chart: predicted minus given rating ({signed(bias['value'], 2)} over all); clear of 0: {away}."
        )
    told.append(f"In brackets: people, * fewer than {groups['few']}. One interval in twenty is clear by chance.")
    if small := [_words(row) for row in rows if row["people"] is None]:
        told.append(f"Fewer than {groups['least']} people, so that figures would be about persons: {', '.join(small)}.")
    return " ".join(told)


def _clear(rows: Sequence[Mapping[str, Any]], name: str, metric: str, value: float) -> str:
    """The groups whose interval leaves value out, with their figure."""
    clear = []
    for row in rows:
        cell = row["scorers"][name].get(metric)
        if cell and cell["ci_low"] is not None and not cell["ci_low"] <= value <= cell["ci_high"]:
            shown = number(cell["value"]) if metric == "user_srocc" else signed(cell["value"], 2)
            clear.append(f"{_words(row)} ({shown})")
    return ", ".join(clear) or "no group"
