import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from safetensors.torch import save_file as save_torch_file

from pamela_hf import PamelaConfig
from pamela_hf.cli import main
from pamela_hf.embeddings import EmbeddingError, Embeddings, check_encoder, join_embeddings, load_embeddings
from pamela_hf.encoder import FrozenEncoder, check_encoder_folder, compute_embeddings
from pamela_hf.files.images import open_image_checked
from pamela_hf.files.writing import InUseError
from pamela_hf.scoring import PamelaScorer


@pytest.fixture
def folder(tmp_path, images):
    for i, image in enumerate(images):
        image.save(tmp_path / f"{i}.png")
    return tmp_path


IDS = ["0", "1", "2", "3"]
PROMPTS = ["a cat", None, "a dog", "a cat"]


def embed(encoder, folder, output, prompts=PROMPTS, **kwargs) -> Embeddings:
    return compute_embeddings(
        encoder, IDS, lambda i: folder / f"{i}.png", prompts, output, batch_size=2, progress=False, **kwargs
    )


def test_features_are_the_encoders_own(any_encoder, folder, images, tmp_path):
    encoder = FrozenEncoder(str(any_encoder), device="cpu")
    result = embed(encoder, folder, tmp_path / "e.safetensors")
    inputs = encoder.image_processor([im.convert("RGB") for im in images], return_tensors="pt")
    with torch.no_grad():
        expected = encoder.model.get_image_features(**inputs).pooler_output
    np.testing.assert_allclose(result.image_embeds, expected, atol=1e-5)
    assert result.no_prompt_ids == ["1"] and not result.text_embeds[1].any()
    np.testing.assert_array_equal(result.text_embeds[0], result.text_embeds[3])
    again = load_embeddings(tmp_path / "e.safetensors")
    np.testing.assert_array_equal(again.image_embeds, result.image_embeds)
    assert (again.backbone, again.preprocessing) == (encoder.name, encoder.preprocessing)
    assert not list(tmp_path.glob("*.partial"))


def test_a_run_that_was_cut_off_goes_on_and_embeds_each_image_once(siglip_encoder, folder, tmp_path, monkeypatch):
    encoder = FrozenEncoder(str(siglip_encoder), device="cpu")
    whole = embed(encoder, folder, tmp_path / "whole.safetensors")
    seen = []
    forward = encoder.encode_batch

    def counting(batch):
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.extend(batch["pixel_values"])
        return forward(batch)

    monkeypatch.setattr(encoder, "encode_batch", counting)
    with pytest.raises(KeyboardInterrupt):
        embed(encoder, folder, tmp_path / "cut.safetensors")
    assert not (tmp_path / "cut.safetensors").exists()
    partial = tmp_path / "cut.safetensors.partial"
    (partial / "000009.safetensors").write_bytes(b"torn")  # as a kill in the middle of a write leaves it
    seen.clear()
    result = embed(encoder, folder, tmp_path / "cut.safetensors")
    assert len(seen) == 2
    np.testing.assert_allclose(result.image_embeds, whole.image_embeds, atol=1e-6)
    np.testing.assert_allclose(result.text_embeds, whole.text_embeds, atol=1e-6)


def test_a_second_process_is_refused_and_the_first_one_ends_well(siglip_encoder, folder, tmp_path, monkeypatch):
    encoder = FrozenEncoder(str(siglip_encoder), device="cpu")
    forward, refused = encoder.encode_batch, []

    def meanwhile(batch):
        with pytest.raises(InUseError, match="another process is at work there") as error:
            embed(FrozenEncoder(str(siglip_encoder), device="cpu"), folder, tmp_path / "e.safetensors")
        refused.append(error)
        return forward(batch)

    monkeypatch.setattr(encoder, "encode_batch", meanwhile)
    embed(encoder, folder, tmp_path / "e.safetensors")
    assert len(refused) == 2 and [path.name for path in tmp_path.glob("e.*")] == ["e.safetensors"]


def test_a_changed_image_or_prompt_is_embedded_anew_and_the_rest_kept(siglip_encoder, folder, tmp_path, monkeypatch):
    encoder = FrozenEncoder(str(siglip_encoder), device="cpu")
    before = embed(encoder, folder, tmp_path / "e.safetensors")
    Image.new("RGB", (20, 20), "red").save(folder / "2.png")
    counts = []
    forward = encoder.encode_batch

    def counting(inputs):
        counts.append(len(inputs["pixel_values"]))
        return forward(inputs)

    monkeypatch.setattr(encoder, "encode_batch", counting)
    after = embed(encoder, folder, tmp_path / "e.safetensors", ["a cat", "an old red car", "a dog", "a cat"])
    assert sum(counts) == 2
    assert not np.array_equal(before.image_embeds[2], after.image_embeds[2])
    np.testing.assert_array_equal(before.image_embeds[[0, 1, 3]], after.image_embeds[[0, 1, 3]])
    assert after.text_embeds[1].any()


def test_out_of_memory_halves_the_batch_and_loses_nothing(siglip_encoder, folder, tmp_path, monkeypatch):
    encoder = FrozenEncoder(str(siglip_encoder), device="cpu")
    whole = embed(encoder, folder, tmp_path / "whole.safetensors")
    forward = encoder.encode_batch

    def tight(batch):
        if len(batch["pixel_values"]) > 1:
            raise torch.OutOfMemoryError("no room")
        return forward(batch)

    monkeypatch.setattr(encoder, "encode_batch", tight)
    result = embed(encoder, folder, tmp_path / "tight.safetensors")
    np.testing.assert_allclose(result.image_embeds, whole.image_embeds, atol=1e-5)


def test_an_unreadable_image_is_named(siglip_encoder, folder, tmp_path):
    (folder / "3.png").write_bytes((folder / "3.png").read_bytes()[:100])
    with pytest.raises(ValueError, match="3"):
        embed(FrozenEncoder(str(siglip_encoder), device="cpu"), folder, tmp_path / "e.safetensors")
    assert not (tmp_path / "e.safetensors").exists()


def test_orientation_and_modes_give_the_same_features(siglip_encoder, tmp_path):
    encoder = FrozenEncoder(str(siglip_encoder), device="cpu")
    upright = Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 16, 3), np.uint8))
    files = {}
    exif = Image.Exif()
    exif[0x0112] = 6
    for name, image, extra in [
        ("upright", upright, {}),
        ("turned", upright.transpose(Image.Transpose.ROTATE_90), {"exif": exif}),
        ("alpha", upright.convert("RGBA"), {}),
    ]:
        buffer = io.BytesIO()
        image.save(buffer, "PNG", **extra)
        files[name] = buffer.getvalue()
    result = compute_embeddings(
        encoder, list(files), lambda i: io.BytesIO(files[i]), [None] * 3, tmp_path / "e.safetensors", progress=False
    )
    np.testing.assert_allclose(result.image_embeds[1:], result.image_embeds[:1].repeat(2, 0), atol=1e-5)


def test_other_processes_prepare_the_same_features_and_a_copy_is_embedded_once(siglip_encoder, folder, tmp_path):
    encoder = FrozenEncoder(str(siglip_encoder), device="cpu")
    whole = embed(encoder, folder, tmp_path / "whole.safetensors")
    (folder / "3.png").write_bytes((folder / "0.png").read_bytes())  # with the same prompt
    (folder / "1.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"^1: not an image"):
        embed(encoder, folder, tmp_path / "e.safetensors", workers=2)
    sizes, forward = [], encoder.encode_batch
    encoder.encode_batch = lambda inputs: sizes.append(len(inputs["pixel_values"])) or forward(inputs)
    skipped = []
    result = embed(encoder, folder, tmp_path / "e.safetensors", workers=2, skipped=skipped)
    assert [name for name, _ in skipped] == ["1"] and skipped[0][1].startswith("not an image")
    assert result.image_ids == ["0", "2", "3"] and sum(sizes) == 2
    np.testing.assert_allclose(result.image_embeds, whole.image_embeds[[0, 2, 0]], atol=1e-5)
    np.testing.assert_allclose(result.text_embeds, whole.text_embeds[[0, 2, 0]], atol=1e-5)


def test_processes_that_decode_give_way_to_an_encoder_on_the_same_cores(siglip_encoder, folder, tmp_path):
    encoder, before = FrozenEncoder(str(siglip_encoder), device="cpu"), os.nice(0)

    def open_image(name: str) -> Path:
        (tmp_path / name).write_text(str(os.nice(0)))
        return folder / f"{name}.png"

    compute_embeddings(
        encoder, ["0", "2"], open_image, [None] * 2, tmp_path / "e.safetensors", progress=False, workers=1
    )
    assert [(tmp_path / name).read_text() for name in "02"] == ["19"] * 2 and os.nice(0) == before


def test_photographs_are_decoded_small_if_asked_and_look_nearly_the_same(siglip_encoder, tmp_path):
    encoder = FrozenEncoder(str(siglip_encoder), device="cpu")
    blobs = np.random.default_rng(0).integers(0, 255, (3, 4, 3), np.uint8)
    Image.fromarray(blobs).resize((1200, 900), Image.Resampling.BICUBIC).save(tmp_path / "0.jpg", quality=95)
    side = encoder.reduced_side()
    assert min(open_image_checked(tmp_path / "0.jpg").size) == 900
    assert side <= min(open_image_checked(tmp_path / "0.jpg", smallest_side=side).size) < 900
    made = {
        fast: compute_embeddings(
            encoder, ["0"], lambda i: tmp_path / "0.jpg", [None], tmp_path / "e", progress=False, fast_decoding=fast
        ).image_embeds[0]
        for fast in (False, True)
    }
    assert not np.array_equal(made[False], made[True])
    assert made[False] @ made[True] / np.linalg.norm(made[False]) / np.linalg.norm(made[True]) > 0.99


def test_another_encoders_cache_is_refused_and_says_what_differs(any_encoder, folder, tmp_path):
    encoder = FrozenEncoder(str(any_encoder), device="cpu")
    made = embed(encoder, folder, tmp_path / "e.safetensors")
    good = PamelaConfig(backbone="owner/enc", preprocessing=made.preprocessing, image_embed_dim=32, text_embed_dim=32)
    made.backbone = "owner/enc"
    check_encoder(good, made)
    for change, message in [
        ({"backbone": "owner/other"}, "encoder .*owner/other.*owner/enc"),
        ({"preprocessing": "00"}, "preprocessing"),
        ({"image_embed_dim": 31}, "image width"),
        ({"text_embed_dim": 31}, "text width"),
    ]:
        with pytest.raises(EmbeddingError, match=message):
            check_encoder(PamelaConfig(**{**good.to_dict(), **change}), made)
    encoder.preprocessing = "other"
    with pytest.raises(EmbeddingError, match="preprocessing"):
        embed(encoder, folder, tmp_path / "e.safetensors")


def test_an_encoders_folder_is_known_by_its_weights_in_any_precision(any_encoder, folder, tmp_path):
    for dtype in ("float32", "bfloat16", "float16"):
        encoder = FrozenEncoder(str(any_encoder), device="cpu", dtype=dtype)
        check_encoder_folder(any_encoder, embed(encoder, folder, tmp_path / f"{dtype}.safetensors"))
    made = Embeddings(["a"], np.ones((1, 3)), revision=encoder.revision, preprocessing="0" * 16)
    with pytest.raises(EmbeddingError, match="its preprocessing differs"):
        check_encoder_folder(any_encoder, made)
    made.revision = "0" * 16
    with pytest.raises(EmbeddingError, match="its weights differ"):
        check_encoder_folder(any_encoder, made)
    check_encoder_folder(any_encoder, Embeddings(["a"], np.ones((1, 3))))  # it doesn't say what made it
    with pytest.raises(FileNotFoundError, match="encoder='runs/none' is not a folder"):
        check_encoder_folder("runs/none", made)


@pytest.mark.parametrize("more", [{}, {"format": "pt"}])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_files_made_elsewhere_need_image_ids_alone(more, dtype, tmp_path):
    path, value = tmp_path / "embeddings.safetensors", torch.arange(6).view(2, 3).to(dtype)
    save_torch_file({"image_embeds": value}, path, metadata={"image_ids": '["a", "b"]', **more})
    found = load_embeddings(path)
    assert found.image_ids == ["a", "b"]
    np.testing.assert_array_equal(found.image_embeds, np.arange(6).reshape(2, 3))
    assert found.image_embeds.dtype == np.float32
    save_torch_file({"image_embeds": value}, path, metadata={"image_ids": '["a", "b"]', "backbone": "x/y", **more})
    with pytest.raises(EmbeddingError, match="image_ids alone"):
        load_embeddings(path)


def test_our_files_may_be_written_again_with_pytorch_but_not_altered(tmp_path):
    path = tmp_path / "embeddings.safetensors"
    Embeddings(["a", "b"], np.ones((2, 3))).save(path)
    with safe_open(path, framework="pt") as file:
        header, value = file.metadata(), file.get_tensor("image_embeds")
    save_torch_file({"image_embeds": value}, path, metadata={**header, "format": "pt"})
    assert load_embeddings(path).image_ids == ["a", "b"]
    header["sha257"] = header.pop("sha256")
    save_torch_file({"image_embeds": value + 1}, path, metadata=header)
    with pytest.raises(EmbeddingError, match="sha256"):
        load_embeddings(path)


def test_damage_is_noticed(tmp_path):
    path = tmp_path / "embeddings.safetensors"
    Embeddings(["a", "b"], np.ones((2, 3)), np.ones((2, 2))).save(path)
    whole = path.read_bytes()
    for at in range(0, len(whole), 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(EmbeddingError, match=r"embeddings\.safetensors"):
            load_embeddings(path)
    for size in (0, 5, 100, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(EmbeddingError):
            load_embeddings(path)
    path.write_bytes(whole)
    save_file(load_file(path), path)
    with pytest.raises(EmbeddingError, match="image_ids"):
        load_embeddings(tmp_path)
    with pytest.raises(FileNotFoundError, match="pamela embed --data"):
        load_embeddings(tmp_path / "none")


def test_rows_names_what_is_missing_and_values_must_be_finite():
    table = Embeddings(["a", "b"], np.ones((2, 3)))
    assert table.rows(["b", "a", "b"]).tolist() == [1, 0, 1]
    with pytest.raises(EmbeddingError, match="'c'"):
        table.rows(["a", "c"])
    with pytest.raises(EmbeddingError, match="'b' is not finite"):
        Embeddings(["a", "b"], np.array([[1.0], [np.nan]]))
    with pytest.raises(EmbeddingError, match="more than once"):
        Embeddings(["a", "a"], np.ones((2, 3)))


def test_sources_join_under_their_names_if_one_encoder_made_them():
    one, two = Embeddings(["a"], np.ones((1, 3)), backbone="x/y"), Embeddings(["a"], np.zeros((1, 3)), backbone="x/y")
    assert join_embeddings({"p": one, "q": two}).image_ids == ["p/a", "q/a"]
    two.backbone = "x/z"
    with pytest.raises(EmbeddingError, match="backbone"):
        join_embeddings({"p": one, "q": two})


@pytest.mark.parametrize("name", ["./runs/none", "../none", "/none", "~/none", "runs/a/b", "runs\\none", "runs/"])
def test_what_can_be_no_hub_id_is_no_folder_before_anything_is_requested(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # where no demo was made
    monkeypatch.setattr("transformers.utils.hub.cached_files", lambda *a, **k: pytest.fail("asked the Hub"))
    for load in (FrozenEncoder, PamelaScorer.from_pretrained):
        with pytest.raises(FileNotFoundError, match="the folder does not exist") as refused:
            load(name)
        assert repr(name) in str(refused.value)


def test_a_name_that_is_no_folder_and_not_on_the_hub_is_said_to_be_neither(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for load in (FrozenEncoder, PamelaScorer.from_pretrained):
        with pytest.raises(OSError, match="'runs/none' does not exist as a folder, and could not be loaded") as it:
            load("runs/none")
        assert isinstance(it.value.__cause__, OSError)  # what transformers says of it


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is here")
@pytest.mark.parametrize("device", ["cuda", "cuda:7", "gpu"])
def test_a_device_that_is_not_here_is_refused_before_anything_is_read(device, tmp_path):
    for load in (FrozenEncoder, PamelaScorer.from_pretrained):
        with pytest.raises(ValueError, match=f"device='{device}' is not available"):
            load(tmp_path / "none", device=device)
    for command in (
        ["embed", "--data", "none"],
        ["score", "--model", "none", "--images", "none", "--output", "x.csv"],
        ["fit-user", "--model", "none", "--ratings", "none", "--name", "a", "--output", "none"],
    ):
        with pytest.raises(SystemExit, match=f"error: device='{device}' is not available"):
            main([*command, "--device", device])


def test_batches_hold_an_image_at_least(capsys):
    with pytest.raises(SystemExit):
        main(["embed", "--data", "none", "--batch-size", "0"])
    assert "0 is too small; at least 1" in capsys.readouterr().err
