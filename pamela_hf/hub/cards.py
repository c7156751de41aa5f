"""README.md of whatever may be published: one builder, over the templates in `model_card/` and `dataset_card/`.

Each room gives its own facts; what all cards share (the paper they cite, how a licence is written) stands here.
"""

import importlib.metadata
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import DatasetCard, DatasetCardData, ModelCard, ModelCardData, SpaceCard, SpaceCardData

PAPER_URL = "https://arxiv.org/abs/2604.07427"  # the Hub links a repository to the paper whose address its card names
PAPER_TITLE = "Personalizing Text-to-Image Generation to Individual Taste"
CITATION = f"""\
```bibtex
@article{{maerten2026pamela,
  title   = {{{PAPER_TITLE}}},
  author  = {{Maerten and Verwiebe and Karthik and Prabhu and Wagemans and Bethge}},
  journal = {{arXiv:2604.07427}},
  url     = {{{PAPER_URL}}},
  year    = {{2026}},
}}
```"""
SPACE_TEMPLATE = "model_card/space.md"
MODEL_TEMPLATES = ("model_card/template.md", "model_card/head.md", "model_card/pipeline.md", SPACE_TEMPLATE)
DATASET_TEMPLATE = "dataset_card/template.md"


def card_template(name: str) -> str:
    """The text of a template, wherever the package lies: a checkout, an installed wheel, a pushed pipeline's copy.

    Args:
        name: such as "model_card/template.md".

    Raises:
        FileNotFoundError: the template is in none of these places.
    """
    for path in _places(name):
        if path.is_file():
            return path.read_text(encoding="utf-8")
    raise FileNotFoundError(
        f"{name}, a part of pamela_hf, is missing. Install the package again: pip install --force-reinstall pamela_hf."
    )


def _places(name: str) -> Iterator[Path]:
    package = Path(__file__).parents[1]
    yield package / name  # a pushed pipeline's copy of the package
    yield package.parent / name  # a checkout, installed with `pip install -e` or not at all
    try:
        installed = importlib.metadata.files("pamela_hf") or []
    except importlib.metadata.PackageNotFoundError:
        installed = []
    for file in installed:  # as pip wrote them down, whatever its --prefix or --user
        if file.as_posix().endswith(f"share/pamela_hf/{name}"):
            yield Path(file.locate())
    yield Path(sys.prefix) / "share" / "pamela_hf" / name


def render_card(template: str, data: ModelCardData | DatasetCardData | SpaceCardData, **context: Any) -> str:
    """The card: YAML for the Hub and a page for people.

    Args:
        template: its name, such as "model_card/template.md".
        data: the YAML.
        context: what else the template names; `citation`, `paper_url` and `paper_title` are given.

    Raises:
        FileNotFoundError: see [`card_template`].
    """
    kinds = {DatasetCardData: DatasetCard, SpaceCardData: SpaceCard}
    kind = kinds.get(type(data), ModelCard)
    shared = {"citation": CITATION, "paper_url": PAPER_URL, "paper_title": PAPER_TITLE}
    return str(kind.from_template(data, template_str=card_template(template), **shared, **context))


def license_fields(license: str, page: str, release: Mapping[str, str] | None = None) -> dict[str, str]:
    """The YAML of a licence: `license`, and where it is "other" also `license_name` and `license_link`.

    Source: https://huggingface.co/docs/hub/repositories-licenses.

    Args:
        license: as the Hub writes it, such as "cc-by-4.0".
        page: address of the repository; the card's section "License" states terms that have no page of their own.
        release: `citation` and `url` of published ratings whose terms hold, if there are any.
    """
    if license != "other":
        return {"license": license}
    if release is None:
        return {"license": license, "license_name": "see-license-section", "license_link": f"{page}#license"}
    name = re.sub(r"[^a-z0-9]+", "-", release["citation"].lower())[:40].strip("-")
    return {"license": license, "license_name": f"terms-of-{name}", "license_link": release["url"]}
