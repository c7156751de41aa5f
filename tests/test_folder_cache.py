"""Features of a folder's images: encoded once per content, whatever happens to the files."""

import os
import shutil
import weakref

import numpy as np
import pytest
from photo_tools import make_library, save_photo

from pamela_hf.embeddings import EmbeddingError, load_embeddings
from pamela_hf.encoder import FrozenEncoder
from pamela_hf.folder_cache import WORKERS, EncoderSource, embed_files, embed_folder


@pytest.fixture
def library(tmp_path):
    return make_library(tmp_path / "library", photos=9, rated=0)


def files_of(folder):
    return {p.relative_to(folder).as_posix(): p for p in sorted(folder.rglob("*.jpg"))}


def embed(library, output, encoder, **options):
    source = EncoderSource(str(encoder), device="cpu")
    return embed_files(files_of(library), output, source, progress=False, **{"batch_size": 4, **options}), source


def is_loaded(source):
    return "encoder" in vars(source)


def test_features_are_the_encoders(library, tmp_path, siglip_encoder):
    from PIL import Image

    found, _ = embed(library, tmp_path / "e.safetensors", siglip_encoder)
    pictures = [Image.open(path) for path in files_of(library).values()]
    expected = FrozenEncoder(str(siglip_encoder), device="cpu").embed_images(pictures)
    assert found.embeddings.image_ids == list(files_of(library)) and found.encoded == 9
    np.testing.assert_allclose(found.embeddings.image_embeds, expected, atol=1e-5)
    assert load_embeddings(tmp_path / "e.safetensors").image_ids == found.embeddings.image_ids


def test_a_second_run_reads_nothing_and_loads_nothing(library, tmp_path, siglip_encoder, monkeypatch):
    first, _ = embed(library, tmp_path / "e.safetensors", siglip_encoder)
    times = {p: p.stat().st_mtime_ns for p in tmp_path.glob("e.*")}
    monkeypatch.setattr("pamela_hf.folder_cache._Reader.read", lambda *_: pytest.fail("a file was read again"))
    second, source = embed(library, tmp_path / "e.safetensors", siglip_encoder)
    assert second.encoded == 0 and not is_loaded(source) and second.hashes == first.hashes
    assert {p: p.stat().st_mtime_ns for p in tmp_path.glob("e.*")} == times


def test_moved_copied_touched_changed_new_and_removed(library, tmp_path, siglip_encoder):
    output = tmp_path / "e.safetensors"
    first, _ = embed(library, output, siglip_encoder)
    names = list(files_of(library))
    (library / names[0]).rename(library / "moved.jpg")
    shutil.copy(library / names[1], library / "copy.jpg")
    os.utime(library / names[2], ns=(1, 1))
    save_photo(library / names[3], 99)
    save_photo(library / "new.jpg", 100)
    (library / names[4]).unlink()
    second, _ = embed(library, output, siglip_encoder)
    assert second.encoded == 2
    old = dict(zip(first.embeddings.image_ids, first.embeddings.image_embeds))
    new = dict(zip(second.embeddings.image_ids, second.embeddings.image_embeds))
    assert set(new) == set(files_of(library))
    np.testing.assert_array_equal(new["moved.jpg"], old[names[0]])
    np.testing.assert_array_equal(new["copy.jpg"], old[names[1]])
    np.testing.assert_array_equal(new[names[2]], old[names[2]])
    assert not np.allclose(new[names[3]], old[names[3]])


def test_a_run_that_was_cut_off_goes_on(library, tmp_path, siglip_encoder):
    output, source = tmp_path / "e.safetensors", EncoderSource(str(siglip_encoder), device="cpu")
    encode_prepared, calls = source.encoder.encode_prepared, []

    def interrupted(pictures):
        calls.append(len(pictures))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return encode_prepared(pictures)

    source.encoder.encode_prepared = interrupted
    with pytest.raises(KeyboardInterrupt):
        embed_files(files_of(library), output, source, batch_size=4, progress=False)
    assert not output.exists()
    damaged = output.with_name(output.name + ".partial") / "000001.safetensors"
    damaged.write_bytes(b"cut off")
    found, _ = embed(library, output, siglip_encoder)
    assert found.encoded == 5 and len(found.embeddings) == 9
    assert not output.with_name(output.name + ".partial").exists()


def test_unreadable_and_vanished_files_are_skipped(library, tmp_path, siglip_encoder):
    files = files_of(library)
    (library / "2000" / "x.jpg").write_bytes(b"no picture")
    everything = {**files_of(library), "gone.jpg": library / "gone.jpg"}
    source = EncoderSource(str(siglip_encoder), device="cpu")
    found = embed_files(everything, tmp_path / "e.safetensors", source, progress=False)
    assert set(found.skipped) == {"2000/x.jpg", "gone.jpg"} and set(found.embeddings.image_ids) == set(files)
    with pytest.raises(ValueError, match="None of the 1 images"):
        embed_files({"x": library / "2000" / "x.jpg"}, tmp_path / "f.safetensors", source, progress=False)


def test_another_encoder_and_a_damaged_file_are_refused(library, tmp_path, siglip_encoder):
    from toys import save_tiny_encoder

    output = tmp_path / "e.safetensors"
    embed(library, output, siglip_encoder)
    other = save_tiny_encoder(tmp_path / "other", "siglip2")
    with pytest.raises(EmbeddingError, match="was made with"):
        embed(library, output, other)
    output.write_bytes(output.read_bytes()[:-7])
    with pytest.raises(EmbeddingError, match=r"damaged|sha256|would lie at bytes"):
        embed(library, output, siglip_encoder)


def test_a_lost_or_damaged_index_costs_reading_but_no_encoding(library, tmp_path, siglip_encoder):
    output = tmp_path / "e.safetensors"
    first, _ = embed(library, output, siglip_encoder)
    for text in (None, "{", '{"format": 1, "encoder": null, "files": [], "hashes": {}}'):
        index = output.with_name(output.name + ".index.json")
        index.unlink() if text is None else index.write_text(text)
        again, _ = embed(library, output, siglip_encoder)
        assert again.encoded == 0 and again.hashes == first.hashes


def test_commands_that_see_different_parts_of_a_folder_leave_each_others_rows(library, tmp_path, siglip_encoder):
    output, source = tmp_path / "e.safetensors", EncoderSource(str(siglip_encoder), device="cpu")
    every = embed_folder(library, output, source, progress=False)
    some = dict(list(files_of(library).items())[:3])
    part = embed_files(some, output, source, folder=library, progress=False)
    assert part.embeddings.image_ids == list(some) == list(part.hashes) and part.encoded == 0
    assert len(part.embeddings.source_keys) == 3
    rows = every.embeddings.rows(list(some))
    np.testing.assert_array_equal(part.embeddings.image_embeds, every.embeddings.image_embeds[rows])
    assert set(load_embeddings(output).image_ids) == set(every.embeddings.image_ids)
    (library / every.embeddings.image_ids[-1]).unlink()  # gone, so its row goes, too
    embed_files(some, output, source, folder=library, progress=False)
    assert set(load_embeddings(output).image_ids) == set(every.embeddings.image_ids[:-1])


def test_photographs_are_decoded_small_and_broken_files_load_no_encoder(tmp_path, siglip_encoder, monkeypatch):
    from pamela_hf import folder_cache

    sizes = []
    open_image = folder_cache.open_image_checked

    def noting(*arguments, **options):
        picture = open_image(*arguments, **options)
        sizes.append(picture.size)
        return picture

    monkeypatch.setattr(folder_cache, "open_image_checked", noting)
    folder, source = tmp_path / "photos", EncoderSource(str(siglip_encoder), device="cpu")
    save_photo(folder / "large.jpg", size=(640, 480))
    (folder / "broken.jpg").write_bytes((folder / "large.jpg").read_bytes()[:900])
    with pytest.raises(ValueError, match="None of the 1 images"):
        embed_files({"broken.jpg": folder / "broken.jpg"}, tmp_path / "b", source, progress=False)
    assert not is_loaded(source) and not sizes
    found = embed_folder(folder, tmp_path / "e", source, progress=False)
    assert set(found.skipped) == {"broken.jpg"} and source.encoder.reduced_side() == 32
    assert sizes[-1] == (80, 60)  # an eighth, and still more than 32
    whole = source.encoder.embed_images([open_image(folder / "large.jpg")])
    np.testing.assert_allclose(found.embeddings.image_embeds, whole, atol=0.02 * np.abs(whole).max())


def test_few_pictures_are_open_at_a_time(library, tmp_path, siglip_encoder, monkeypatch):
    from pamela_hf import folder_cache

    alive, most = set(), [0]
    open_image = folder_cache.open_image_checked

    def counting(*arguments, **options):
        picture = open_image(*arguments, **options)
        alive.add(id(picture))
        weakref.finalize(picture, alive.discard, id(picture))
        most[0] = max(most[0], len(alive))
        return picture

    for number in range(60):
        save_photo(library / f"more{number}.jpg", 200 + number)
    monkeypatch.setattr(folder_cache, "open_image_checked", counting)
    source = EncoderSource(str(siglip_encoder), device="cpu")
    found = embed_folder(library, tmp_path / "e.safetensors", source, batch_size=64, progress=False)
    assert found.encoded == 69
    assert 1 <= most[0] <= WORKERS
