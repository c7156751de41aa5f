"""Heads against faults and hostile input (PROMISES 4, 6, 7, 8, 20): a sample by default, the whole under `faults`."""

import hashlib
import io
import json
import os
import pickle
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file, save_file

from pamela_hf import PamelaConfig, PamelaRewardModel
from pamela_hf.embeddings import load_embeddings
from pamela_hf.files import writing
from pamela_hf.heads import folder as head_files
from pamela_hf.heads.csv import read_choices_csv, read_ratings_csv
from pamela_hf.heads.folder import ABOUT, CONFIG, FILES, WEIGHTS, HeadError, check_name
from pamela_hf.heads.head import UserHead
from pamela_hf.heads.summary import in_words
from pamela_hf.model.encoder_pamela import load_preprocessors
from pamela_hf.model.processing_pamela import PamelaProcessor
from pamela_hf.scoring import PamelaScorer


@pytest.fixture(scope="module")
def scorer(trained_folder):
    return PamelaScorer.from_pretrained(trained_folder, device="cpu")


@pytest.fixture(scope="module")
def features(ratings_folder):
    return load_embeddings(ratings_folder / "embeddings.safetensors")


@pytest.fixture(scope="module")
def head(scorer, features):
    return UserHead.fit(scorer, [(f"img{i:03d}", 1 + i % 5) for i in range(8)], name="ann", embeddings=features)


# -- images as people have them ------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def seeing(siglip_encoder, trained_folder):
    """A trained toy reward that sees: its features are those of a real SigLIP at toy size."""
    torch.manual_seed(0)
    people = [f"p{i}" for i in range(6)]
    config = PamelaConfig(image_embed_dim=32, text_embed_dim=32, users=people, hidden_size=8, num_fusion_members=2)
    model = PamelaRewardModel(config).eval()
    from transformers import AutoModel

    model.set_backbone(AutoModel.from_pretrained(siglip_encoder))
    with torch.no_grad():
        model.user_embedding.weight[1:] = 0.3 * torch.randn(6, config.row_size)
    return PamelaScorer(model, PamelaProcessor(config, *load_preprocessors(str(siglip_encoder))))


def test_paths_and_pil_images_fit_the_same_head_which_scores_them(seeing, tmp_path):
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 255, (24, 20, 3), np.uint8)) for _ in range(6)]
    paths = []
    for i, picture in enumerate(pictures):
        paths.append(tmp_path / f"{i}.png")
        picture.save(paths[-1])
    scores = [1, 5, 2, 4, 1, 5]
    prompts = {path: f"a photo of a cat {i}" for i, path in enumerate(paths)}
    by_path = UserHead.fit(seeing, list(zip(paths, scores)), name="ann", prompts=prompts)
    images = [Image.open(path) for path in paths]
    by_image = UserHead.fit(
        seeing, list(zip(images, scores)), name="ann", prompts=dict(zip(map(_key, images), prompts.values()))
    )
    np.testing.assert_allclose(by_path.row, by_image.row, atol=1e-6)
    assert np.any(by_path.row)
    mine = seeing.score(paths, list(prompts.values()), user=by_path).scores
    grid = seeing.score(paths, list(prompts.values()), users=[by_path, "p0", None]).scores
    np.testing.assert_allclose(grid[:, 0], mine, atol=1e-5)
    np.testing.assert_allclose(grid[:, 2], seeing.score(paths, list(prompts.values())).scores, atol=1e-5)
    assert np.abs(mine - grid[:, 2]).max() > 1e-3


def _key(image):
    from pamela_hf.heads.answers import key_of

    return key_of(image)


def test_an_unreadable_image_is_named(seeing, tmp_path):
    good, cut, text = tmp_path / "good.png", tmp_path / "cut.png", tmp_path / "notes.png"
    Image.effect_noise((32, 32), 60).convert("RGB").save(good)
    cut.write_bytes(good.read_bytes()[:200])
    text.write_text("no image")
    for bad in (cut, text, tmp_path / "missing.png"):
        with pytest.raises((ValueError, OSError), match=bad.name):
            UserHead.fit(seeing, [(good, 5), (bad, 1)], name="ann")


# -- saving --------------------------------------------------------------------------------------------------------
class FailingFile(io.FileIO):
    """A file whose writes count as calls that may fail."""

    count = None

    def write(self, data):
        FailingFile.count()
        return super().write(data)


@pytest.mark.parametrize("exchange", [True, False], ids=["exchange", "two renames"])
@pytest.mark.parametrize("call", ["write", "fsync", "rename", "mkdir"])
def test_whichever_call_fails_the_old_or_the_new_head_is_there_whole(head, tmp_path, monkeypatch, call, exchange):
    head.save(tmp_path / "head")
    new, nth, failed = head.with_strength(0.5), 0, True
    while failed:
        nth, seen, failed = nth + 1, 0, False

        def count(nth=nth):
            nonlocal seen, failed
            seen += 1
            if seen == nth:
                failed = True
                raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            if not exchange:
                patch.setattr(writing, "_exchange", lambda a, b: False)
            if call == "write":
                patch.setattr(FailingFile, "count", count)
                patch.setattr(head_files, "open", lambda path, mode: FailingFile(path, "w"), raising=False)
            else:
                real = getattr(os, call)
                patch.setattr(os, call, lambda *a, real=real, **k: (count(), real(*a, **k))[1])
            try:
                new.save(tmp_path / "head")
            except OSError:
                pass
        row = UserHead.load(tmp_path / "head").row
        assert np.array_equal(row, head.row) or np.array_equal(row, new.row)
        assert os.listdir(tmp_path) == ["head"]
        head.save(tmp_path / "head")
    made = int(sys.version_info >= (3, 11))  # pathlib of 3.10 keeps the os.mkdir that it found
    expected = {"write": len(FILES), "fsync": len(FILES) + 1, "rename": 0 if exchange else 2, "mkdir": made}[call]
    assert nth - 1 >= expected  # each of them did fail once


def kill_while_saving(head, folder, kills):
    """SIGKILLs a process that saves two heads in turn, at random points; returns how often it was mid-save."""
    heads, rng, part_way = [head, head.with_strength(0.5)], np.random.default_rng(0), 0
    heads[0].save(folder)
    for _ in range(kills):
        started, begins = os.pipe()
        child = os.fork()
        if not child:
            try:
                for i in range(10_000):
                    heads[(i + 1) % 2].save(folder)
                    os.write(begins, b".")
            finally:
                os._exit(0)
        os.read(started, 1)  # a busy machine takes its time to start a process
        time.sleep(float(rng.uniform(0.001, 0.03)))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(started), os.close(begins)
        part_way += len(os.listdir(folder.parent)) > 1
        row = UserHead.load(folder).row
        assert any(np.array_equal(row, one.row) for one in heads)
        if rng.random() < 0.3:  # the next start clears up
            heads[0].save(folder)
            assert os.listdir(folder.parent) == [folder.name]
    heads[0].save(folder)
    assert os.listdir(folder.parent) == [folder.name]
    print(f"{kills} kills, {part_way} in mid-write: the head was whole each time")
    return part_way


@pytest.mark.parametrize(
    "kills", [pytest.param(15), pytest.param(200, marks=pytest.mark.faults)], ids=["sample", "whole"]
)
def test_killed_while_saving(head, tmp_path, kills):
    assert kill_while_saving(head, tmp_path / "mine" / "head", kills) > kills / 10


def test_several_save_and_read_one_head_at_a_time(head, tmp_path):
    folder, other = tmp_path / "mine" / "head", head.with_strength(0.5)
    done = []

    def write(one):
        for _ in range(60):
            one.save(folder)
        done.append(one)

    def read():
        found = 0
        while len(done) < 2:
            try:
                row = UserHead.load(folder).row
            except HeadError as error:  # not there yet
                assert not found and "is not a folder" in str(error)
                continue
            assert np.array_equal(row, head.row) or np.array_equal(row, other.row)
            found += 1
        return found

    with ThreadPoolExecutor(4) as pool:
        writers, readers = [pool.submit(write, one) for one in (head, other)], [pool.submit(read) for _ in range(2)]
        for writer in writers:
            writer.result()
        assert all(reader.result() > 10 for reader in readers)
    assert os.listdir(folder.parent) == ["head"]


def test_saving_through_a_link_keeps_it_and_the_current_directory_is_refused(head, tmp_path, monkeypatch):
    head.save(tmp_path / "real")
    (tmp_path / "link").symlink_to("real")
    head.with_strength(0.5).save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and sorted(os.listdir(tmp_path)) == ["link", "real"]
    np.testing.assert_array_equal(UserHead.load(tmp_path / "real").row, head.row / 2)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(HeadError, match="current directory"):
        head.save(".")


# -- hostile heads -------------------------------------------------------------------------------------------------
HOSTILE_CONFIG = [
    {"auto_mapping": {"base_model_class": "Evil", "parent_library": "evil_canary"}},
    {"auto_map": {"AutoModel": "evil_canary.Model"}},
    {"custom_modules": ["evil_canary"]},
    {"peft_type": "evil_canary"},
    {"peft_type": "PROMPT_TUNING", "tokenizer_name_or_path": "evil/canary"},
    {"task_type": "CAUSAL_LM"},
    {"base_model_name_or_path": "http://127.0.0.1:9/evil"},
    {"base_model_name_or_path": "/etc"},
    {"base_model_name_or_path": "../../evil"},
    {"base_model_name_or_path": "evil/canary/.."},
    {"base_model_name_or_path": ["evil/canary"]},
    {"revision": "refs/pr/1"},
    {"target_modules": "all-linear"},
    {"target_modules": ".*"},
    {"target_modules": ["members.0.head"]},
    {"modules_to_save": ["head"]},
    {"trainable_token_indices": {"user_embedding": [0, 1]}},
    {"trainable_token_indices": {"style": [0]}},
    {"layer_replication": [[0, 4]]},
    {"init_lora_weights": "pissa"},
    {"corda_config": {"cache_file": "/etc/passwd"}},
    {"loftq_config": {"loftq_bits": 4}},
    {"megatron_config": {}, "megatron_core": "evil_canary"},
    {"eva_config": {}},
    {"runtime_config": {"ephemeral_gpu_offload": True}},
    {"r": 4096},
    {"lora_alpha": 1e30},
    {"bias": "all"},
    {"__class__": "evil_canary.Config"},
    {"inference_mode": False},
]
HOSTILE_ABOUT = [
    {"base": "http://127.0.0.1:9/x"},
    {"base": "../x"},
    {"name": "/etc/passwd"},
    {"about": "evil_canary"},
    {"about": {"name": "somebody else"}},
    {"about": {"raw_ratings": [1, 5]}},
    {"about": {"strength": "x"}},
    {"about": {"ratings": 10**400}},
    {"about": {"ratings": -1}},
    {"about": {"held_out": [1]}},
    {"about": {"likes_more": {"group": 1}}},
    {"about": {"notes": ["x" * 2000]}},
    {"row_std": [10**400]},
    {"row_std": [-1.0]},
    {"row_std": [1e3] * 16},
    {"about": {"strength": 1000}},
    {"about": {"notes": ["x"] * 1000}},
    {"about": {"likes_more": {"group": {"x" * 2000: 0.1}}}},
    {"about": {"likes_more": {f"f{i}": {} for i in range(1000)}}},
    {"more": "things"},
]


def test_thirty_hostile_configs_import_nothing_and_ask_nobody(head, tmp_path, fresh_process):
    assert len(HOSTILE_CONFIG) == 30
    for i, change in enumerate(HOSTILE_CONFIG + HOSTILE_ABOUT):
        folder = tmp_path / "hostile" / str(i)
        head.save(folder)
        file = folder / (CONFIG if i < len(HOSTILE_CONFIG) else ABOUT)
        file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    canary = tmp_path / "canary"
    canary.mkdir()
    (canary / "evil_canary.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    code = """
import sys
from pathlib import Path
from pamela_hf.heads.head import HeadError, UserHead
sys.path.insert(0, sys.argv[2])
before, asked = set(sys.modules), []
def watch(event, arguments):
    if event.split(".")[0] in ("socket", "subprocess", "urllib") or event in ("os.system", "exec", "compile"):
        asked.append(event)
sys.addaudithook(watch)
refused = 0
for folder in sorted(Path(sys.argv[1]).iterdir()):
    try:
        UserHead.load(folder)
    except HeadError:
        refused += 1
print(refused, asked, sorted(set(sys.modules) - before))
"""
    assert fresh_process(code, tmp_path / "hostile", canary).strip() == f"{30 + len(HOSTILE_ABOUT)} [] []"
    print(f"{30 + len(HOSTILE_ABOUT)} hostile heads: refused, nothing imported, nobody asked")
    assert not (tmp_path / "ran").exists()


def test_a_key_twice_deep_or_endless_files_are_refused(head, tmp_path):
    bad = {
        "twice": lambda text: text.replace('"name"', '"name": "other", "name"', 1),
        "twice inside": lambda text: text.replace('"about": {', '"about": {"strength": 9, "strength": 1,', 1),
        "deep": lambda text: text.replace('"about": {', '"about": {"notes": ' + "[" * 5000 + "]" * 5000 + ",", 1),
        "digits": lambda text: text.replace('"format": 1', '"format": ' + "1" * 5000, 1),
        "infinite": lambda text: text.replace('"row_std": [', '"row_std": [1e999, ', 1),
        "long": lambda text: text + " " * 70_000,
    }
    for file in (ABOUT, CONFIG):
        for what, change in bad.items():
            head.save(tmp_path / "head")
            path = tmp_path / "head" / file
            text = path.read_text()
            changed = change(text) if change(text) != text else text.replace("{", '{"r": 1, "r": 1, ', 1)
            path.write_text(changed)
            with pytest.raises(HeadError, match=rf"{file}.*(damaged|bytes)") as caught:
                UserHead.load(tmp_path / "head")
            assert len(str(caught.value)) < 500 and str(caught.value).isprintable(), what


def test_what_a_head_says_is_cleaned_before_it_is_shown(head, tmp_path):
    """Terminal escapes, changed text direction, line ends and markup, in every text of a stranger's head."""
    hostile = "\x1b[2Jevil\u202e\n<img src=x onerror=alert(1)>\x07"
    head.save(tmp_path / "head")
    file = tmp_path / "head" / ABOUT
    values = json.loads(file.read_text())
    values["about"] |= {"notes": [hostile], "likes_more": {hostile: {hostile: 0.5}}, "unsure": {"g": {hostile: 0.5}}}
    file.write_text(json.dumps(values))
    read = UserHead.load(tmp_path / "head")
    shown = [json.dumps(read.about, ensure_ascii=False), *in_words(read.about)]
    assert any("evil" in text for text in shown)
    for text in shown:
        assert text.isprintable() and "<" not in text and ">" not in text, text
    read.save(tmp_path / "kept")
    assert "<img" not in "".join((tmp_path / "kept" / name).read_text() for name in (ABOUT, "README.md"))


class Canary:
    """Unpickling it leaves a file behind."""

    def __init__(self, path, call=open):
        self.path, self.call = str(path), call

    def __reduce__(self):
        return self.call, (self.path, "w") if self.call is open else (self.path,)


def payloads(ran):
    """Twelve files that run code when they are unpickled, as torch and pickle write them."""
    out = [pickle.dumps(Canary(ran, call), protocol) for call in (open, os.mkdir) for protocol in range(5)]
    for new_format in (True, False):
        file = io.BytesIO()
        torch.save({"row": Canary(ran)}, file, _use_new_zipfile_serialization=new_format)
        out.append(file.getvalue())
    return out


def test_no_pickle_is_opened_whatever_it_is_called(head, tmp_path):
    ran, tried = tmp_path / "ran", 0
    for payload in payloads(ran):
        for name in ("adapter_model.bin", "adapter_model.pt", "adapter_model.pth", ".hidden.pkl", WEIGHTS):
            head.save(tmp_path / "head")
            (tmp_path / "head" / name).write_bytes(payload)
            with pytest.raises(HeadError):
                UserHead.load(tmp_path / "head")
            (tmp_path / "head" / name).unlink()
            tried += 1
    assert tried == 60 and not ran.exists()


def test_a_link_to_weights_elsewhere_is_refused(head, tmp_path):
    head.save(tmp_path / "head")
    (tmp_path / "head" / WEIGHTS).rename(tmp_path / WEIGHTS)
    (tmp_path / "head" / WEIGHTS).symlink_to(tmp_path / WEIGHTS)
    with pytest.raises(HeadError, match="is a link"):
        UserHead.load(tmp_path / "head")


def test_a_row_of_another_size_than_the_base_s_is_refused(head, scorer, features, tmp_path):
    short = replace(head, row=head.row[:-2], row_std=head.row_std[:-2], covariance=None)
    narrow = replace(head, hidden_size=head.hidden_size - 1)
    for bad in (short, narrow):
        bad.save(tmp_path / "head")
        assert UserHead.load(tmp_path / "head").name == "ann"  # as plain as any, without its base
        with pytest.raises(HeadError, match="its base has"):
            UserHead.load(tmp_path / "head", scorer)
        with pytest.raises(HeadError, match="its base has"):
            bad.suggest(scorer, ["img000"], embeddings=features)
    with pytest.raises(HeadError, match="another length"):
        UserHead.mix([head, short], name="both")


def test_numbers_that_are_none_or_huge_are_refused(head, tmp_path):
    for change in (np.nan, np.inf, 1e30):
        head.save(tmp_path / "head")
        tensors = load_file(tmp_path / "head" / WEIGHTS)
        for name in tensors:
            save_file({**tensors, name: tensors[name] + np.float32(change)}, tmp_path / "head" / WEIGHTS)
            with pytest.raises(HeadError, match=r"not finite|sha256|longer than|a head has 1|changes the base"):
                UserHead.load(tmp_path / "head")


# -- names ---------------------------------------------------------------------------------------------------------
PIECES = ["..", ".", "a", "b.png", "", "~", "etc", "passwd", "c:", "\\..\\", "%2e%2e", "\u2025", "\u202e", " ", "a\0b",
          "//", "/", "\n", "file:", "\uff0e\uff0e", "con", "a" * 70, "é", "-rf", "$HOME", "`id`", "*"]  # fmt: skip


def generated_names(n):
    rng = np.random.default_rng(0)
    for _ in range(n):
        parts = [PIECES[i] for i in rng.integers(len(PIECES), size=rng.integers(1, 6))]
        yield rng.choice(["/", "", "\\"]).join(parts)


@pytest.mark.parametrize(
    "count", [pytest.param(300), pytest.param(10_000, marks=pytest.mark.faults)], ids=["sample", "whole"]
)
def test_no_generated_name_leaves_its_folder(tmp_path, count):
    folder = tmp_path / "mine"
    folder.mkdir()
    opened, watching = [], True

    def watch(event, arguments):
        if watching and event == "open" and isinstance(arguments[0], (str, bytes)):
            opened.append(os.fsdecode(arguments[0]))

    sys.addaudithook(watch)
    accepted = heads = 0
    try:
        for name in generated_names(count):
            csv = folder / "mine.csv"
            quoted = '"' + name.replace('"', '""') + '"'
            csv.write_text(f"image,score\n{quoted},3\n", newline="")
            try:
                (image, _), *_ = read_ratings_csv(csv)[0]
                accepted += 1
                assert (os.path.realpath(image) + os.sep).startswith(os.path.realpath(folder) + os.sep)
            except HeadError:
                pass
            csv.write_text(f"preferred,other\nb.png,{quoted}\n", newline="")
            try:
                for image in read_choices_csv(csv)[0]:
                    assert (os.path.realpath(image) + os.sep).startswith(os.path.realpath(folder) + os.sep)
            except HeadError:
                pass
            try:
                assert os.path.basename(check_name(name)) == name
                heads += 1
            except HeadError:
                pass
    finally:
        watching = False
    outside = [path for path in opened if not os.path.abspath(path).startswith(str(folder))]
    assert not [path for path in outside if not path.startswith((sys.prefix, sys.base_prefix))]
    assert 0 < accepted < count and 0 < heads < count
    print(f"{count} generated names, {accepted} of them taken for an image: nothing outside is opened")


# -- demographics --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "count", [pytest.param(4), pytest.param(100, marks=pytest.mark.faults)], ids=["sample", "whole"]
)
def test_demographics_alone_never_change_a_head(scorer, features, tmp_path, count):
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"image": [f"img{i:03d}" for i in range(8)], "score": [1 + i % 5 for i in range(8)]})

    def digest(**fields):
        head = UserHead.fit(scorer, table.assign(**fields), name="ann", embeddings=features)
        head.save(tmp_path / "head")
        return hashlib.sha256(b"".join((tmp_path / "head" / file).read_bytes() for file in FILES)).hexdigest()

    plain = digest()
    for _ in range(count):
        age, gender = int(rng.integers(19, 61)), str(rng.choice(["female", "male"]))
        assert digest(age=age, age_binned=f"{age}-{age + 9}", gender=gender, nationality="Belgium") == plain
    print(f"{count} heads from other demographics: the same bytes")
    asked = UserHead.fit(scorer, table, name="ann", embeddings=features, demographics={"gender": "female"})
    assert asked.about["uses_demographics"]
