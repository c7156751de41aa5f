"""A run over many images on a Ray cluster: one actor a GPU or group of cores, results there whole or not at all.

Ray restarts an actor whose process or machine is gone and gives its batches to it again; a block of results that was
lost with a machine is made again from its images. So every image has one row in the end.

Where the results go:

- a file (`.csv`, `.parquet` of scores, `.safetensors` of features): gathered by the process that runs this, which
  writes what one machine would have written, in its memory's bounds;
- a folder or URL (no suffix): tasks write Parquet files of their own, named after what is in them, so that a task that
  is repeated writes the same file again, and last `_manifest.json`, which lists the files that count, with their rows,
  and what made them. A local folder is there whole or not at all; at a URL, a folder without the list is a run that did
  not finish. Rows have no order.

Pictures that could not be read are in `….skipped.csv` beside the output.

Ray's address is taken from `RAY_ADDRESS`; without it, a cluster that runs on this machine, else one of its own cores.
"""

import hashlib
import json
import math
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from ...embeddings import Embeddings
from ...files.writing import replacing_folder, scratch_folder
from ...folder_cache import EncoderSource
from ...scoring import (
    Head,
    PamelaScorer,
    best_first,
    image_facts,
    skipped_path,
    staged_scores,
    write_scores,
    write_skipped,
)
from .batches import EmbedImages, ScoreImages
from .sources import READING, is_local, open_images

MANIFEST = "_manifest.json"  # readers of Parquet folders leave names with an underscore alone
ROWS_PER_FILE = 65_536
TRIES = 10  # of a batch whose actor died: a picture that kills its process must not do so for ever
CORES = 4  # of a worker, where there is no GPU: beyond, its matrix products gain little


@dataclass
class Workers:
    """How a cluster is shared out.

    Attributes:
        number: actors; default: one a GPU, or one for `cores` cores. More than there are GPUs share these, so that
            some decode pictures while others encode.
        cores: CPU cores of each where there is no GPU; default: 4, or what there is for `number`.
        batch_size: images a forward pass.
        progress: show Ray's progress bars.
    """

    number: int | None = None
    cores: int | None = None
    batch_size: int = 32
    progress: bool = True

    def share(self, cpus: Sequence[float], gpus: float) -> tuple[int, dict[str, float], int]:
        """Shares a cluster out.

        Args:
            cpus: of each of its machines.
            gpus: of all of them.

        Returns:
            Actors, what Ray reserves for each, and CPU threads of each.

        Raises:
            ValueError: more workers than there are cores for.
        """
        if gpus:
            number = self.number or int(gpus)
            return number, {"num_gpus": 1 / math.ceil(number / gpus), "num_cpus": 1}, 1
        each = CORES if self.number is None else sum(cpus) // self.number
        cores = self.cores or int(max(1, min(CORES, each, max(cpus))))
        places = sum(int(there // cores) for there in cpus)
        number = self.number or places
        if not 0 < number <= places:
            raise ValueError(
                f"workers: there is room for {places} workers of {cores} cores on machines of "
                f"{', '.join(f'{there:g}' for there in cpus)} cores, not for {number}. Ask for fewer."
            )
        return number, {"num_cpus": cores}, cores


def score_on_cluster(
    model: str | Path,
    images: str,
    output: str | Path,
    *,
    prompts: str | Path | pd.DataFrame | None = None,
    user: str | Head | None = None,
    scale: str | None = None,
    device: str | None = None,
    workers: Workers | None = None,
) -> dict[str, Any]:
    """Scores images for one person, as [`pamela_hf.scoring.score_folder`] does, on a Ray cluster.

    Args:
        model: folder (that every machine sees) or Hub id of the reward.
        images: path or fsspec URL, see [`pamela_hf.rewards.cluster.sources`].
        output: a `.csv` or `.parquet` file, or a folder or URL for many files, see this module's description.
        prompts: one text for all images; of a local folder, also a table as in `score_folder`.
        user: a trained participant or a head; `None` = everyone's taste.
        scale: rating scale of the scores; default: the model's.
        device: where each actor's model runs; default: CUDA, MPS or CPU.
        workers: how the cluster is shared out; default: [`Workers`]'s own.

    Returns:
        `{"rows", "skipped", "files"}`: images scored, images left out, files written.

    Raises:
        FileNotFoundError: nothing at `images`. ValueError: no image there, or none that can be read; an unknown user or
            scale; an output that exists or is of another format. ImportError: Ray is not installed.
    """
    import_ray()
    scorer = PamelaScorer.from_pretrained(model, device="cpu")  # what can be checked is checked before the first score
    scorer.encode_people(1, user)
    scorer.processor.scale_id(scale)
    text = prompts if isinstance(prompts, str) else None
    facts = None if prompts is None or text is not None else image_facts(prompts, Path(images), scorer.config)
    arguments = {"model": _for_actors(model), "user": user, "scale": scale, "prompt": text, "device": device}
    fields = list(scorer.config.metadata)
    made_by = {"base": scorer.identity, "user": getattr(user, "name", user), "scale": scale}
    run = ImageRun(ScoreImages, arguments, workers or Workers(), partial(open_images, images, fields, facts))
    suffix = posixpath.splitext(str(output))[1]
    if suffix not in (".csv", ".parquet", ""):
        raise ValueError(f"output {output} must end in .csv or .parquet, or be a folder or URL for many files.")
    if not suffix:
        return run.into_folder(str(output), made_by)
    with staged_scores(Path(output)) as part:
        table, skipped = run.gathered()
        scores = best_first(table.to_pandas())
        write_scores(scores, skipped, Path(output), part)
    return {"rows": len(scores), "skipped": len(skipped), "files": 1}


def embed_on_cluster(
    encoder: EncoderSource, images: str, output: str | Path, *, workers: Workers | None = None
) -> dict[str, Any]:
    """Features of images, as [`pamela_hf.folder_cache.embed_folder`] makes them, on a Ray cluster.

    Args:
        encoder: by its name; a folder must be seen by every machine.
        images: path or fsspec URL, see [`pamela_hf.rewards.cluster.sources`].
        output: a `.safetensors` file, or a folder or URL for many Parquet files (`image`, `image_embeds`, `key`), which
            `pamela index --images` reads.
        workers: how the cluster is shared out; default: [`Workers`]'s own.

    Returns:
        As [`score_on_cluster`].

    Raises:
        As [`score_on_cluster`]; OSError: no such encoder.
    """
    import_ray()
    arguments = {
        "encoder": _for_actors(encoder.backbone), "revision": encoder.revision, "device": encoder.device,
        "dtype": encoder.dtype,
    }  # fmt: skip
    run = ImageRun(EmbedImages, arguments, workers or Workers(), partial(open_images, images))
    suffix = posixpath.splitext(str(output))[1]
    if suffix not in (".safetensors", ""):
        raise ValueError(f"output {output} must end in .safetensors, or be a folder or URL for many files.")
    if not suffix:
        return run.into_folder(str(output), dict(encoder.made_by))
    table, skipped = run.gathered()
    names = table["image"].to_pylist()
    features = np.asarray(table["image_embeds"].combine_chunks().flatten()).reshape(len(names), -1)
    keys = table["key"].to_pylist()
    Embeddings(names, features, None, names, **encoder.made_by, source_keys=keys).save(output)
    write_skipped(skipped_path(output), skipped)
    return {"rows": len(names), "skipped": len(skipped), "files": 1}


def _for_actors(name: str | Path) -> str:
    """A folder by its whole path, since an actor's own working folder is another; a Hub id as it is."""
    return str(Path(name).absolute()) if Path(name).is_dir() else str(name)


def import_ray() -> Any:
    """The package `ray`. Raises ImportError naming the extra to install."""
    try:
        import ray
        import ray.data
    except ImportError:
        raise ImportError("--engine ray needs Ray, which is not installed: pip install 'pamela_hf[ray]'") from None
    return ray


@dataclass
class ImageRun:
    """What is done to the images of one run.

    Attributes:
        actor: class of what is done to a batch.
        arguments: what it is made with.
        workers: how the cluster is shared out.
        images: gives the images as a dataset, with `rows_at_once`.
    """

    actor: type
    arguments: dict[str, Any]
    workers: Workers
    images: Any

    def results(self) -> Any:
        """The dataset of results, which Ray makes as they are asked for."""
        ray = import_ray()
        if not ray.is_initialized():
            ray.init(include_dashboard=False, log_to_driver=False, logging_level="error")
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = context.enable_operator_progress_bars = self.workers.progress
        cpus = [node["Resources"].get("CPU", 0.0) for node in ray.nodes() if node["Alive"]]
        number, resources, threads = self.workers.share(cpus, ray.cluster_resources().get("GPU", 0))
        return self.images(rows_at_once=4 * self.workers.batch_size).map_batches(
            self.actor,
            fn_constructor_kwargs={**self.arguments, "threads": threads},
            batch_size=self.workers.batch_size,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=number),
            ray_remote_args_fn=partial(dict, max_restarts=-1, max_task_retries=TRIES),
            **resources,
        )

    def gathered(self) -> tuple[pa.Table, list[tuple[str, str]]]:
        """All results, sorted by the images' names, and (image, reason) of those that were left out."""
        parts = list(self.results().iter_batches(batch_size=None, batch_format="pyarrow"))
        table = pa.concat_tables(part.select(self.actor.schema.names) for part in parts).sort_by("image")
        good, skipped = _split(table)
        if not len(good):
            raise ValueError(f"none of {len(table)} images can be read: {skipped[0][0]}: {skipped[0][1]}")
        return good, skipped

    def into_folder(self, url: str, made_by: Mapping[str, Any]) -> dict[str, Any]:
        """Writes Parquet files, then the list of them."""
        with _output_folder(url, made_by) as folder:
            written = self.results().map_batches(
                partial(_Folder.write, folder), batch_size=ROWS_PER_FILE, batch_format="pyarrow", **READING
            )
            parts = list(written.iter_rows())
            skipped = [(one["image"], one["reason"]) for part in parts for one in json.loads(part["skipped"])]
            files = {part["file"]: part["rows"] for part in parts if part["rows"]}
            if not files:
                first = f": {skipped[0][0]}: {skipped[0][1]}" if skipped else ""
                raise ValueError(f"none of {len(skipped)} images can be read{first}")
            folder.finish(files)
        _write_skipped_at(url, sorted(skipped))
        return {"rows": sum(files.values()), "skipped": len(skipped), "files": len(files)}


@dataclass
class _Folder:
    """A folder that a run's files are written to.

    Attributes:
        fs: the fsspec file system.
        root: the place in it.
        made_by: who made them, as each file's own metadata say.
    """

    fs: Any
    root: str
    made_by: Mapping[str, Any]

    def write(self, table: pa.Table) -> pa.Table:
        """Writes one file of results; returns a row with its name, how many images it has and which were left out."""
        good, skipped = _split(table)
        digest = hashlib.sha256("\0".join(table["image"].to_pylist()).encode()).hexdigest()
        name = f"part-{digest[:24]}.parquet"
        if len(good):
            good = good.drop_columns([name for name in ("key",) if name in good.column_names])
            good = good.replace_schema_metadata({"pamela": json.dumps(self.made_by)})
            with self.fs.open(posixpath.join(self.root, name), "wb") as file:
                pyarrow.parquet.write_table(good, file)
        left_out = json.dumps([{"image": image, "reason": reason} for image, reason in skipped])
        return pa.table({"file": [name], "rows": [len(good)], "skipped": [left_out]})

    def finish(self, files: Mapping[str, int]) -> None:
        """Removes files that do not count, and writes the list of those that do, last."""
        for path in self.fs.find(self.root):
            if posixpath.basename(path) not in files:
                self.fs.rm_file(path)
        manifest = {"files": dict(sorted(files.items())), "rows": sum(files.values()), "made_by": dict(self.made_by)}
        with self.fs.open(posixpath.join(self.root, MANIFEST), "wb") as file:
            file.write((json.dumps(manifest, indent=1) + "\n").encode())


@contextmanager
def _output_folder(url: str, made_by: Mapping[str, Any]) -> Iterator[_Folder]:
    """Where a run's files go: of a local folder, one that takes its place at the end; else the place itself, where what
    a run that did not finish has left is removed first. Raises FileExistsError where something else is there."""
    from fsspec.core import url_to_fs

    fs, root = url_to_fs(url)
    if is_local(fs):
        with replacing_folder(root) as staged:
            yield _Folder(fs, str(staged), made_by)
        return
    there = fs.find(root) if fs.exists(root) else []
    if not all(Path(path).match("part-*.parquet") for path in there):
        raise FileExistsError(f"output {url} exists and is not empty. Choose another folder.")
    if there:
        fs.rm(there)
    yield _Folder(fs, root, made_by)


def _write_skipped_at(url: str, skipped: list[tuple[str, str]]) -> None:
    """[`write_skipped`] beside a folder at any URL."""
    from fsspec.core import url_to_fs

    fs, root = url_to_fs(url.rstrip("/") + ".skipped.csv")
    if is_local(fs):
        write_skipped(root, skipped)
    elif skipped:
        with scratch_folder("pamela-skipped") as folder:
            write_skipped(folder / "skipped.csv", skipped)
            fs.put_file(str(folder / "skipped.csv"), root)
    elif fs.exists(root):
        fs.rm_file(root)


def _split(table: pa.Table) -> tuple[pa.Table, list[tuple[str, str]]]:
    """Results, and (image, reason) of images that were left out."""
    bad = table.filter(table["problem"].is_valid())
    good = table.filter(table["problem"].is_null()).drop_columns(["problem"])
    return good, list(zip(bad["image"].to_pylist(), bad["problem"].to_pylist()))
