"""The plan on paper: its figures are those of the script, and follow from its unit costs."""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture
def plan(monkeypatch):
    spec = importlib.util.spec_from_file_location("bench_scale", ROOT / "scripts" / "bench_scale.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "bench_scale", module)
    spec.loader.exec_module(module)
    return module


def test_the_documents_figures_are_those_of_the_script(plan):
    text = plan.DOCUMENT.read_text(encoding="utf-8")
    assert plan.filled(text) == text, "run: python scripts/bench_scale.py --write"


def test_the_figures_follow_from_the_unit_costs(plan, monkeypatch):
    before = dict(plan.costs())
    name = "core hours for searches by text, as they are today"
    monkeypatch.setitem(plan.UNIT, "search", replace(plan.UNIT["search"], value=2 * plan.UNIT["search"].value))
    after = dict(plan.costs())
    assert after[name] == pytest.approx(2 * before[name])
    assert {k: v for k, v in after.items() if k != name} == {k: v for k, v in before.items() if k != name}
    monkeypatch.setitem(plan.PRICE, "gpu", replace(plan.PRICE["gpu"], value=0.0))
    assert dict(plan.costs())["GPU hours"] == 0 < before["GPU hours"]


def test_what_can_be_derived_here_is_right(plan):
    from pamela_hf import PamelaConfig
    from pamela_hf.retrieval.search import SCORED

    config = PamelaConfig(image_embed_dim=int(plan.UNIT["width"].value), text_embed_dim=int(plan.UNIT["width"].value))
    assert config.row_size == plan.UNIT["row"].value and plan.PLAN["candidates"].value == SCORED
    assert all(figure.kind in ("measured", "soft", "derived", "assumed") for table in (plan.PLAN, plan.UNIT, plan.PRICE)
               for figure in table.values())  # fmt: skip
