"""Many images on a local Ray cluster of several processes: the same scores as one machine's, whoever dies."""

import io
import json
import tarfile
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.parquet
import pytest
from PIL import Image
from toys import PROMPTS

from pamela_hf.embeddings import load_embeddings
from pamela_hf.folder_cache import EncoderSource, embed_folder
from pamela_hf.rewards.cluster import Workers, embed_on_cluster, score_on_cluster
from pamela_hf.scoring import PamelaScorer, score_folder, skipped_path

pytestmark = pytest.mark.ray
KINDS = ("animal", "food")


@pytest.fixture(scope="module")
def cluster():
    """Three cores, whatever the machine has, so that two workers and what reads for them have theirs."""
    ray = pytest.importorskip("ray", reason="the extra ray is not installed")
    pytest.importorskip("ray.data", reason="the extra ray is not installed")
    ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False, logging_level="error",
             object_store_memory=200 << 20)  # fmt: skip
    yield ray
    ray.shutdown()


def picture(number: int, side: int = 40) -> bytes:
    rng, out = np.random.default_rng(number), io.BytesIO()
    Image.fromarray(rng.integers(0, 255, (side, side + number % 7, 3), np.uint8)).save(out, "PNG")
    return out.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Fifty pictures, some in a folder below, and two files that are none."""
    folder = tmp_path_factory.mktemp("many") / "pictures"
    (folder / "below").mkdir(parents=True)
    for number in range(50):
        (folder / ("below" if number % 3 else "") / f"{number:03d}.png").write_bytes(picture(number))
    (folder / "007.jpg").write_bytes(b"not a picture")
    (folder / "backup.tar").write_bytes(b"left alone, as it is not a picture")
    (folder / "below" / "cut.png").write_bytes(picture(99)[:500])
    return folder


@pytest.fixture(scope="module")
def facts() -> pd.DataFrame:
    """Prompt and metadata of the fifty."""
    return pd.DataFrame(
        [
            {"image": f"{'below/' if n % 3 else ''}{n:03d}.png", "prompt": PROMPTS[n % 4], "type": KINDS[n % 2]}
            for n in range(50)
        ]
    )


TWO = Workers(2, cores=1, batch_size=4, progress=False)


def assert_same_scores(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    """Every image once, none lost, the same scores."""
    assert sorted(found.image) == sorted(expected.image) and found.image.is_unique
    both = found.merge(expected, on="image")
    np.testing.assert_allclose(both.score_x, both.score_y, atol=1e-5)
    np.testing.assert_allclose(both.std_x, both.std_y, atol=1e-5)


def test_a_folder_is_scored_as_on_one_machine(cluster, reward_folder, folder, facts, tmp_path):
    scorer = PamelaScorer.from_pretrained(reward_folder, device="cpu")
    local, output = tmp_path / "local.csv", tmp_path / "ray.csv"
    score_folder(scorer, folder, local, prompts=facts, user="bob", progress=False)
    done = score_on_cluster(reward_folder, str(folder), output, prompts=facts, user="bob", device="cpu", workers=TWO)
    assert done == {"rows": 50, "skipped": 2, "files": 1}
    found = pd.read_csv(output)
    assert list(found.columns) == ["image", "score", "std"] and found.score.is_monotonic_decreasing
    assert_same_scores(found, pd.read_csv(local))
    pd.testing.assert_frame_equal(
        pd.read_csv(skipped_path(output)), pd.read_csv(skipped_path(local)), check_like=True
    )


def test_many_files_are_there_whole_and_listed(cluster, reward_folder, folder, tmp_path, monkeypatch):
    monkeypatch.setattr("pamela_hf.rewards.cluster.run.ROWS_PER_FILE", 16)
    output = tmp_path / "scores"
    url = f"file://{output}"
    done = score_on_cluster(reward_folder, f"file://{folder}", url, prompts="a cat", device="cpu", workers=TWO)
    manifest = json.loads((output / "_manifest.json").read_text())
    files = {path.name: pyarrow.parquet.read_metadata(path).num_rows for path in output.glob("*.parquet")}
    assert manifest["files"] == files and done["files"] == len(files) > 1 and sum(files.values()) == 50
    scorer = PamelaScorer.from_pretrained(reward_folder, device="cpu")
    assert_same_scores(pd.read_parquet(output), score_folder(scorer, folder, prompts="a cat", progress=False))
    assert set(pd.read_csv(tmp_path / "scores.skipped.csv").image) == {"007.jpg", "below/cut.png"}
    with pytest.raises(FileExistsError, match="not an empty folder"):
        score_on_cluster(reward_folder, str(folder), output, device="cpu", workers=TWO)


@pytest.mark.parametrize("kind", ["bytes", "struct", "path"])
def test_parquet_of_bytes_and_of_paths(cluster, reward_folder, folder, facts, tmp_path, kind):
    paths = [folder / name for name in facts.image]
    image = {
        "bytes": [path.read_bytes() for path in paths],
        "struct": [{"bytes": path.read_bytes(), "path": None} for path in paths],
        "path": [str(path) if number % 2 else f"pictures/{name}"
                 for number, (path, name) in enumerate(zip(paths, facts.image))],
    }[kind]  # fmt: skip
    table = facts.rename(columns={"image": "image_id"}).assign(image=image)
    (tmp_path / "pictures").symlink_to(folder)
    for part in range(3):
        table.iloc[part::3].to_parquet(tmp_path / f"part{part}.parquet")
    output = tmp_path / "out.parquet"
    source = tmp_path / "*.parquet" if kind == "bytes" else tmp_path
    score_on_cluster(reward_folder, str(source), output, user="ann", device="cpu", workers=TWO)
    scorer = PamelaScorer.from_pretrained(reward_folder, device="cpu")
    expected = score_folder(scorer, folder, prompts=facts, user="ann", progress=False)
    assert_same_scores(pd.read_parquet(output), expected)


def add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def test_webdataset_tars(cluster, reward_folder, folder, facts, tmp_path):
    names = {}
    for shard in range(3):
        path = tmp_path / f"train-{shard}.tar"
        with tarfile.open(path, "w") as archive:
            for number, row in enumerate(facts.itertuples()):
                if number % 3 == shard:
                    add(archive, f"{number:03d}.png", (folder / row.image).read_bytes())
                    add(archive, f"{number:03d}.json", json.dumps({"type": row.type}).encode())
                    add(archive, f"{number:03d}.txt", row.prompt.encode())
                    names[f"train-{shard}.tar/{number:03d}.png"] = row.image
    whole = (tmp_path / "train-2.tar").read_bytes()
    (tmp_path / "train-3.tar").write_bytes(whole[:2000])  # cut off within its first picture
    output = tmp_path / "out.csv"
    pattern = str(tmp_path / "train-*.tar")
    done = score_on_cluster(reward_folder, pattern, output, user="cem", device="cpu", workers=TWO)
    assert done["rows"] == 50 and done["skipped"] == 1
    assert pd.read_csv(skipped_path(output)).image.tolist() == ["train-3.tar"]
    scorer = PamelaScorer.from_pretrained(reward_folder, device="cpu")
    expected = score_folder(scorer, folder, prompts=facts, user="cem", progress=False)
    found = pd.read_csv(output)
    assert_same_scores(found.assign(image=found.image.map(names)), expected)


def test_features_are_the_ones_of_one_machine(cluster, siglip_encoder, folder, tmp_path):
    source = EncoderSource(str(siglip_encoder), device="cpu")
    local = embed_folder(folder, tmp_path / "local.safetensors", source, progress=False).embeddings
    embed_on_cluster(source, str(folder), tmp_path / "ray.safetensors", workers=TWO)
    found = load_embeddings(tmp_path / "ray.safetensors")
    assert sorted(found.image_ids) == sorted(local.image_ids) and len(found) == 50
    rows = found.rows(local.image_ids)
    np.testing.assert_allclose(found.image_embeds[rows], local.image_embeds, atol=1e-5)
    assert [found.source_keys[row] for row in rows] == local.source_keys
    assert (found.backbone, found.revision, found.preprocessing) == (
        local.backbone, local.revision, local.preprocessing,
    )  # fmt: skip
    again = embed_folder(folder, tmp_path / "ray.safetensors", source, progress=False)
    assert again.encoded == 0  # one machine goes on with the cluster's file
    embed_on_cluster(source, str(folder), tmp_path / "features", workers=TWO)
    parts = pd.read_parquet(tmp_path / "features").set_index("image")
    assert len(parts) == 50
    np.testing.assert_allclose(np.stack(parts.image_embeds.loc[local.image_ids]), local.image_embeds, atol=1e-5)
    pytest.importorskip("lance")
    from pamela_hf.retrieval.sources import open_source

    features = open_source(tmp_path / "features").features
    assert features.revision == local.revision and len(features) == 50


class Killer(threading.Thread):
    """Kills one worker while it is at work on a batch."""

    def __init__(self):
        super().__init__(daemon=True)
        self.killed: int | None = None
        self.finished = threading.Event()

    def run(self) -> None:
        seen: dict[int, int] = {}
        while not self.finished.is_set() and self.killed is None:
            for process in psutil.Process().children(recursive=True):
                try:
                    # Ray names a worker's process after the method that it runs just now
                    at_work = "MapWorker(MapBatches(ScoreImages)).submit" in " ".join(process.cmdline())
                    seen[process.pid] = seen.get(process.pid, 0) + at_work
                    if seen[process.pid] >= 20 and at_work and self.killed is None:
                        process.kill()
                        self.killed = process.pid
                except psutil.Error:
                    continue
            time.sleep(0.01)


def test_a_worker_killed_in_the_middle_loses_and_repeats_nothing(cluster, reward_folder, tmp_path):
    folder = tmp_path / "large"
    folder.mkdir()
    for number in range(120):
        (folder / f"{number:03d}.png").write_bytes(picture(number, 500))
    (folder / "none.png").write_bytes(b"")
    killer = Killer()
    killer.start()
    output = tmp_path / "scores.parquet"
    done = score_on_cluster(reward_folder, str(folder), output, user="bob", device="cpu", workers=TWO)
    killer.finished.set()
    killer.join()
    assert killer.killed is not None, "no worker was killed while it was at work"
    assert done == {"rows": 120, "skipped": 1, "files": 1}
    scorer = PamelaScorer.from_pretrained(reward_folder, device="cpu")
    assert_same_scores(pd.read_parquet(output), score_folder(scorer, folder, user="bob", progress=False))


def test_what_is_wrong_is_said_before_anything_is_scored(cluster, reward_folder, folder, facts, tmp_path):
    def score(**changes):
        values = {"images": str(folder), "output": tmp_path / "out.csv", "device": "cpu", "workers": TWO, **changes}
        return score_on_cluster(reward_folder, values.pop("images"), values.pop("output"), **values)

    with pytest.raises(FileNotFoundError, match="does not exist"):
        score(images=str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="nobody"):
        score(user="nobody")
    with pytest.raises(ValueError, match=r"must end in \.csv"):
        score(output=tmp_path / "out.xlsx")
    with pytest.raises(ValueError, match="room for 3 workers of 1 cores"):
        score(workers=Workers(9, cores=1, progress=False))
    with pytest.raises(ValueError, match=r"names 'other\.png', which is not an image"):
        score(prompts=facts.replace("000.png", "other.png"))
    pyarrow.parquet.write_table(pa.table({"image": [b"x"]}), tmp_path / "bytes.parquet")
    with pytest.raises(Exception, match="add a column image_id"):
        score(images=str(tmp_path / "bytes.parquet"))
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "a.png").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"none of 1 images can be read: a\.png"):
        score(images=str(tmp_path / "none"))
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize(
    ("asked", "cpus", "gpus", "expected"),
    [
        (Workers(), [64], 8, (8, {"num_gpus": 1.0, "num_cpus": 1}, 1)),
        (Workers(12), [64], 8, (12, {"num_gpus": 0.5, "num_cpus": 1}, 1)),
        (Workers(3), [64], 8, (3, {"num_gpus": 1.0, "num_cpus": 1}, 1)),
        (Workers(), [32, 32], 0, (16, {"num_cpus": 4}, 4)),
        (Workers(), [2, 2, 2], 0, (3, {"num_cpus": 2}, 2)),  # no machine has four
        (Workers(), [7, 0], 0, (1, {"num_cpus": 4}, 4)),
        (Workers(2), [2], 0, (2, {"num_cpus": 1}, 1)),
        (Workers(3, cores=5), [64], 0, (3, {"num_cpus": 5}, 5)),
    ],
)
def test_one_worker_a_gpu_or_group_of_cores(asked, cpus, gpus, expected):
    assert asked.share(cpus, gpus) == expected


def test_more_workers_than_there_is_room_for_are_refused():
    with pytest.raises(ValueError, match="room for 2 workers of 3 cores"):
        Workers(4, cores=3).share([4, 4], 0)


def test_without_ray_the_extra_is_named(reward_folder, folder, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(ImportError, match=r"pip install 'pamela_hf\[ray\]'"):
        score_on_cluster(reward_folder, str(folder), tmp_path / "out.csv")
