"""The cards of models and pipelines: their figures and facts, for the templates of [`pamela_hf.hub.cards`]."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from ..hub.cards import license_fields, render_card
from ..metrics import METRICS
from ..model.configuration_pamela import LOCAL_ENCODER, PamelaConfig

LIBRARY = "transformers"
HEADINGS = {name: metric.card for name, metric in METRICS.items() if metric.card}
REPORTED = ("test_seen", "test_unseen", "val_seen", "val_unseen")


def model_card(
    config: PamelaConfig,
    repo_id: str,
    *,
    license: str,
    report: Mapping[str, Any] | None = None,
    datasets: Sequence[str] = (),
    groups: Mapping[str, Any] | None = None,
) -> str:
    """README.md of a model repository.

    Args:
        config: of the model, with the names it is published under.
        repo_id: where it will lie.
        license: as the Hub writes it.
        report: what `pamela evaluate` wrote as report.json.
        datasets: ids of the ratings on the Hub.
        groups: `{"split", "least", "rows": [{"field", "value", "people", "srocc", "bias"}]}`.
    """
    splits = [split for split in REPORTED if report and "pamela" in report["splits"].get(split, {})]
    tested = [split for split in splits if split.startswith("test")] or splits
    simulated = config.simulated or bool(report and report["meta"].get("simulated"))
    releases = config.releases or {}
    only = next(iter(releases.values())) if len(releases) == 1 else None
    data = ModelCardData(
        library_name=LIBRARY,
        **license_fields(license, f"https://huggingface.co/{repo_id}", only),
        **_base_model(config),
        datasets=list(datasets) or None,
        metrics=sorted({"spearmanr", "pearsonr", "accuracy"}) if tested else None,
        tags=["pamela", "personalization", "reward-model", "image-preference", *(["simulated"] if simulated else [])],
        model_name=repo_id.rpartition("/")[2],
        eval_results=_eval_results(report, tested, datasets) or None,
    )
    coverage = next(
        (
            {"split": split, "value": cell["value"]}
            for split in tested
            if _is_number((cell := report["splits"][split]["pamela"].get("coverage_80") or {}).get("value"))
        ),
        None,
    )
    return render_card(
        "model_card/template.md",
        data,
        **_about(config, repo_id),
        simulated=simulated,
        scales=config.rating_scales,
        default_scale=config.default_scale,
        image_embed_dim=config.image_embed_dim,
        text_embed_dim=config.text_embed_dim,
        demographics=config.demographics,
        metadata=config.metadata,
        releases=releases,
        datasets=list(datasets),
        coverage=coverage,
        tables=[_table(report, split) for split in tested],
        license=license,
        groups=groups,
    )


def pipeline_card(config: PamelaConfig, repo_id: str, *, license: str, renderer: str, index: Mapping[str, Any]) -> str:
    """README.md of a pipeline repository.

    Args:
        config: of the reward, with the names it is published under.
        repo_id: where it will lie.
        license: as the Hub writes it.
        renderer: class of the text-to-image pipeline.
        index: what model_index.json says.
    """
    data = ModelCardData(
        library_name="diffusers",
        pipeline_tag="text-to-image",
        **license_fields(license, f"https://huggingface.co/{repo_id}"),
        **_base_model(config),
        tags=["pamela", "personalization", "prompt-optimization", *(["simulated"] if config.simulated else [])],
    )
    parts = {k: v[1] for k, v in sorted(index.items()) if k[0] != "_" and isinstance(v, list) and v[1]}
    return render_card(
        "model_card/pipeline.md",
        data,
        **_about(config, repo_id),
        simulated=config.simulated,
        renderer=renderer,
        parts=parts,
        license=license,
    )


def _base_model(config: PamelaConfig) -> dict[str, str]:
    """The encoder as the Hub links to it; nothing where it lies in the model's own folder."""
    if config.backbone in (None, LOCAL_ENCODER):
        return {}
    return {"base_model": config.backbone, "base_model_relation": "adapter"}


def _about(config: PamelaConfig, repo_id: str) -> dict[str, Any]:
    """What both cards say of a model."""
    return {
        "name": repo_id.rpartition("/")[2],
        "repo_id": repo_id,
        "n_people": len(config.users),
        "example_user": repr(config.users[0]) if config.users else None,
        "encoder": config.backbone,
        "encoder_revision": config.backbone_revision,
    }


def _eval_results(report: Mapping[str, Any] | None, splits: Sequence[str], datasets: Sequence[str]) -> list[EvalResult]:
    results = []
    for split in splits:
        for metric, name in HEADINGS.items():
            cell = report["splits"][split]["pamela"].get(metric) or {}
            if _is_number(cell.get("value")):
                results.append(
                    EvalResult(
                        task_type="image-preference",
                        task_name="Prediction of a person's rating of an image",
                        dataset_type=datasets[0] if datasets else "ratings",
                        dataset_name=str(report["meta"].get("data", "ratings")),
                        dataset_split=split,
                        metric_type=metric,
                        metric_name=f"{name}, mean over {cell['n_users']} people",
                        metric_value=round(cell["value"], 4),
                    )
                )
    return results


def _table(report: Mapping[str, Any], split: str) -> dict[str, Any]:
    scorers = report["splits"][split]
    counts = report["meta"]["counts"][split]
    rows = [
        {"scorer": f"`{scorer}`", "cells": [_shown(values.get(metric)) for metric in HEADINGS]}
        for scorer, values in scorers.items()
    ]
    names = list(HEADINGS.values())
    return {"split": split, "metrics": names, "rows": rows, **{k: counts[k] for k in ("ratings", "participants")}}


def _shown(cell: Mapping[str, Any] | None) -> str:
    """A figure with its interval, "–" where there is none."""
    if not cell or not _is_number(cell.get("value")):
        return "–"
    if not (_is_number(cell.get("ci_low")) and _is_number(cell.get("ci_high"))):
        return f"{cell['value']:.3f}"
    return f"{cell['value']:.3f} [{cell['ci_low']:.3f}, {cell['ci_high']:.3f}]"


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)
