"""What a billion images for ten million people take and cost: the figures of model_card/SCALE.md.

    python scripts/bench_scale.py                 # prints the tables
    python scripts/bench_scale.py --write         # puts them between the marks of model_card/SCALE.md

Everything follows from the three lists below: what is planned, what a unit of work costs (each with the command that
measures it, or how it is derived), and prices. Change one and run it again; a test compares the document with it.
"""

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pamela_hf.files.writing import write_text

DOCUMENT = Path(__file__).parent.parent / "model_card" / "SCALE.md"
DAYS = 30.4  # of a month
HOUR = 3600


@dataclass(frozen=True)
class Figure:
    """A number of the plan.

    Attributes:
        value: the number.
        unit: its unit.
        source: the command that measures it, how it is derived, or where a price stands.
        kind: measured (alone on the machine), soft (measured while others used it), derived or assumed.
    """

    value: float
    unit: str
    source: str
    kind: str


PLAN = {
    "images": Figure(1e9, "images", "the task", "assumed"),
    "people": Figure(1e7, "people", "the task", "assumed"),
    "new images": Figure(0.01, "of the images a month, new", "a growing catalogue", "assumed"),
    "active": Figure(0.1, "of the people, each day", "a service in daily use", "assumed"),
    "pages": Figure(10, "pages of 100 images a day and active person", "a service in daily use", "assumed"),
    "refits": Figure(0.2, "head fits a day and active person", "one for every 20 ratings or so", "assumed"),
    "searches": Figure(0.5, "searches by text a day and active person", "a service in daily use", "assumed"),
    "peak": Figure(3, "× the mean load at the peak of a day", "a service in daily use", "assumed"),
    "candidates": Figure(1000, "candidates a person, kept from day to day", "retrieval/search.py, SCORED", "assumed"),
    "base raters": Figure(1e5, "people whose ratings train the base", "taste factors are few", "assumed"),
    "ratings each": Figure(300, "ratings of each of these", "PAMELA has 320", "assumed"),
    "image size": Figure(300e3, "bytes of an image, at the size shown", "a JPEG of a megapixel", "assumed"),
}
UNIT = {
    "width": Figure(1152, "numbers of an image's features", "SigLIP2 so400m's width", "derived"),
    "row": Figure(144, "numbers of a person's row", "PamelaConfig().row_size", "derived"),
    "encoder flop": Figure(
        0.67e12, "FLOP to encode an image", "so400m at 384 pixels: 2 × 428M weights × 729 patches + attention",
        "derived",
    ),
    "pair flop": Figure(
        170e3, "FLOP to score a pair by the whole model", "python scripts/bench_speed.py (score_matrix_flop_per_pair)",
        "measured",
    ),
    "gpu flops": Figure(
        400e12, "FLOP/s of an H100 in bfloat16", "40 % of the data sheet's 989 TFLOP/s; not measured here", "assumed"
    ),
    "pairs": Figure(
        157e3, "pairs/s and CPU core", "python scripts/bench_speed.py (189,000 pairs in 0.6 s on 2 cores)", "measured"
    ),
    "fit": Figure(
        0.26, "s of a core for a head of 100 ratings", "python scripts/bench_heads.py --only fit", "measured"
    ),
    "training": Figure(
        1.47e-3 / 4, "s of 2 cores for a rating in an epoch", "python scripts/bench_training.py (74 s, 50,222 × 4)",
        "measured",
    ),
    "search": Figure(
        0.114, "s of a core for a search of 1e6 images of 96 features", "python scripts/bench_retrieval.py "
        "(again_cpu_ms_median)", "soft",
    ),
    "index size": Figure(1.10, "× the features' own size in float32", "python scripts/bench_retrieval.py", "measured"),
    "build": Figure(
        51e-6, "s of a core to index an image", "python scripts/bench_retrieval.py (build_cpu_seconds)", "soft"
    ),
    "recall": Figure(0.983, "recall@100 at 1e6 images, 10 people", "python scripts/bench_retrieval.py", "soft"),
    "decode": Figure(
        0.012, "s of a core to decode a megapixel and resize it",
        "twelve-megapixel JPEGs take .15 to .2 s: python scripts/bench_embedding.py (decoding_full)", "soft",
    ),
}  # fmt: skip
PRICE = {
    "object store": Figure(0.023, "$ a GB and month", "AWS S3 Standard, us-east-1, as quoted in 2025", "assumed"),
    "core": Figure(
        0.0408, "$ a core (4 GB) and hour", "AWS m7g.large, us-east-1, $0.0816 for two, as quoted in June 2026",
        "assumed",
    ),
    "gpu": Figure(
        4.92, "$ an H100 and hour", "AWS EC2 Capacity Blocks, p5.48xlarge ÷ 8, list of December 2024", "assumed"
    ),
}  # fmt: skip
MEMORY_PER_CORE = 4e9


def of(table: dict[str, Figure]) -> dict[str, float]:
    return {name: figure.value for name, figure in table.items()}


def storage() -> list[tuple[str, float, str]]:
    """What is stored: name, bytes, where."""
    plan, unit = of(PLAN), of(UNIT)
    return [
        ("images, at the size shown", plan["images"] * plan["image size"], "object store, WebDataset tars"),
        ("features, float16", plan["images"] * unit["width"] * 2, "object store, Parquet of `embed --engine ray`"),
        ("vector index, float32 with codes", plan["images"] * unit["width"] * 4 * unit["index size"],
         "object store and local disks, Lance, sharded"),
        ("codes alone (a byte for 4 numbers)", plan["images"] * unit["width"] / 4, "memory of the search machines"),
        ("people's rows, float32", plan["people"] * unit["row"] * 4, "memory of every scoring machine; database"),
        ("candidates: id and score", plan["people"] * plan["candidates"] * 10, "key–value store"),
        ("ratings of the base's people", plan["base raters"] * plan["ratings each"] * 40, "Parquet"),
    ]  # fmt: skip


def work() -> list[tuple[str, str, float, float]]:
    """What is computed: name, when, GPU hours and core hours, of once or of a month."""
    plan, unit = of(PLAN), of(UNIT)
    images, people = plan["images"], plan["people"]
    new, active = images * plan["new images"], people * plan["active"] * DAYS
    encode = unit["encoder flop"] / unit["gpu flops"] / HOUR
    # a person's vector times all features, in bfloat16; choosing the best of each block costs about as much again
    sweep = 2 * 2 * unit["width"] * people / unit["gpu flops"] / HOUR
    rerank = plan["candidates"] / unit["pairs"] / HOUR
    shards = images / 1e6
    ratings = plan["base raters"] * plan["ratings each"]
    return [
        ("encode every image", "once", images * encode, images * unit["decode"] / HOUR),
        ("index every image", "once", 0, images * unit["build"] / HOUR),
        ("train the base, 4 epochs", "once", 0, 2 * 4 * ratings * unit["training"] / HOUR),
        ("candidates of everybody among everything", "once", images * sweep, people * rerank),
        ("encode new images", "month", new * encode, new * unit["decode"] / HOUR),
        ("candidates of everybody among new images, each day", "month", new * sweep, DAYS * people * rerank * 0.1),
        ("refit heads", "month", 0, active * plan["refits"] * unit["fit"] / HOUR),
        ("candidates anew after a refit", "month", active * plan["refits"] * images * sweep / people,
         active * plan["refits"] * rerank),
        ("pages: the kept candidates, scored when read", "month", 0, active * plan["pages"] * rerank),
        ("searches by text, every shard asked as it is today", "month", 0,
         active * plan["searches"] * shards * unit["search"] / HOUR),
    ]  # fmt: skip


def everything() -> list[tuple[str, float, float]]:
    """Every pair by the whole model, once: name, FLOP and GPU hours, beside what the plan does instead."""
    plan, unit = of(PLAN), of(UNIT)
    pairs = plan["images"] * plan["people"]
    ways = [
        ("every pair by the whole model", pairs * unit["pair flop"]),
        ("every pair by a linear product", pairs * 2 * unit["width"]),
        ("the candidates by the whole model", plan["people"] * plan["candidates"] * unit["pair flop"]),
    ]
    return [(name, flop, flop / unit["gpu flops"] / HOUR) for name, flop in ways]


def costs() -> list[tuple[str, float]]:
    """Dollars a month: name and figure."""
    price, plan = of(PRICE), of(PLAN)
    stored = {name: size for name, size, _ in storage()}
    in_store = [n for n in stored if n.startswith(("features", "vector index", "ratings"))]
    monthly = [row for row in work() if row[1] == "month"]
    searches = [row for row in monthly if row[0].startswith("searches")]
    others = [row for row in monthly if row not in searches]
    memory = 2 * (stored["codes alone (a byte for 4 numbers)"] + stored["candidates: id and score"])
    hours = 24 * DAYS
    return [
        ("object store: features, index, ratings", sum(stored[n] for n in in_store) / 1e9 * price["object store"]),
        ("object store: the images, if they are kept there",
         stored["images, at the size shown"] / 1e9 * price["object store"]),
        ("memory for codes and candidates, twice", memory / MEMORY_PER_CORE * price["core"] * hours),
        ("GPU hours", sum(gpu for _, _, gpu, _ in others) * price["gpu"]),
        ("core hours for pages, fits, re-ranking, at the peak's load",
         sum(core for _, _, _, core in others) * plan["peak"] * price["core"]),
        ("core hours for searches by text, as they are today",
         sum(core for _, _, _, core in searches) * plan["peak"] * price["core"]),
    ]  # fmt: skip


def once() -> float:
    """Dollars of what is done once."""
    price = of(PRICE)
    return sum(gpu * price["gpu"] + core * price["core"] for _, when, gpu, core in work() if when == "once")


def number(value: float) -> str:
    """Two significant digits, with a unit's prefix beyond a million."""
    for size, name in ((1e18, "e18"), (1e15, "e15"), (1e12, "e12"), (1e9, "e9"), (1e6, "e6")):
        if value >= size:
            return f"{value / size:.2g}{name}" if value < 99.5 * size else f"{value / size:,.0f}{name}"
    return f"{float(f'{value:.2g}'):,.0f}" if value >= 10 else f"{value:.2g}"


def size_of(value: float) -> str:
    """Bytes in decimal units."""
    for unit, name in ((1e15, "PB"), (1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if value >= unit:
            return f"{value / unit:.2g} {name}" if value < 99.5 * unit else f"{value / unit:.0f} {name}"
    return f"{value:.0f} B"


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


def tables() -> dict[str, str]:
    """The document's tables, by the names of their marks."""
    monthly = costs()
    total = sum(dollars for _, dollars in monthly)

    def listed(table: dict[str, Figure]) -> str:
        rows = [(name, f"{number(f.value)} {f.unit}", f.kind, f.source) for name, f in table.items()]
        return markdown(("name", "figure", "kind", "from"), rows)

    return {
        "plan": listed(PLAN),
        "units": listed(UNIT),
        "prices": listed(PRICE),
        "storage": markdown(("what", "size", "where"), [(n, size_of(s), where) for n, s, where in storage()]),
        "work": markdown(
            ("what", "when", "GPU hours", "core hours"),
            [(n, when, number(gpu) if gpu else "–", number(core) if core else "–") for n, when, gpu, core in work()],
        ),
        "everything": markdown(
            ("what", "FLOP", "GPU hours"), [(n, f"{flop:.1e}", number(hours)) for n, flop, hours in everything()]
        ),
        "costs": markdown(
            ("what", "$ a month"),
            [*((n, number(d)) for n, d in monthly), ("**in all, as it is today**", f"**{number(total)}**"),
             ("*done once*", f"*{number(once())}*")],
        ),
    }  # fmt: skip


def filled(text: str) -> str:
    """A document with the tables between their marks. Raises ValueError where a table has no marks."""
    for name, table in tables().items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        if not pattern.search(text):
            raise ValueError(f"the document has no marks <!-- {name} --> … <!-- /{name} -->.")
        text = pattern.sub(lambda match, table=table: f"{match[1]}\n{table}\n\n{match[2]}", text)
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help=f"into {DOCUMENT.name}")
    args = parser.parse_args()
    for name, table in tables().items():
        print(f"\n{name}\n{table}")
    if args.write:
        write_text(DOCUMENT, filled(DOCUMENT.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
