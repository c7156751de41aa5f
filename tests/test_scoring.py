import logging

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from processes import peak_of
from toys import with_encoder
from transformers.utils import logging as transformers_logging

from pamela_hf.scoring import PamelaScorer, encode_ratings, score_folder
from pamela_hf.training.train import load_sources


@pytest.fixture
def scorer(siglip_encoder, tmp_path) -> PamelaScorer:
    scorer = PamelaScorer.from_pretrained(with_encoder(siglip_encoder, tmp_path), device="cpu")
    torch.nn.init.normal_(scorer.model.user_embedding.weight[1:])
    return scorer


def test_paths_images_and_arrays_score_alike(scorer, images, tmp_path):
    paths = []
    for i, image in enumerate(images):
        image.save(tmp_path / f"{i}.png")
        paths.append(tmp_path / f"{i}.png")
    by_path = scorer.score(paths, user="ann", prompts="a cat")
    for other in (images, [np.asarray(image) for image in images], [str(p) for p in paths]):
        np.testing.assert_allclose(scorer.score(other, user="ann", prompts="a cat").scores, by_path.scores, atol=1e-5)
    one = scorer.score(paths[2], user="ann", prompts="a cat")
    np.testing.assert_allclose(one.scores, by_path.scores[2:3], atol=1e-5)
    scores, std = by_path
    assert scores.shape == std.shape == (4,) and (std > 0).all()


def test_batches_and_order_change_nothing(scorer, images):
    whole = scorer.score(images, user=["ann", None, "bob", "cem"], prompts=["a cat", None, "a dog", ""])
    small = scorer.score(images, user=["ann", None, "bob", "cem"], prompts=["a cat", None, "a dog", ""], batch_size=1)
    np.testing.assert_allclose(whole.scores, small.scores, atol=1e-5)
    back = scorer.score(images[::-1], user=["cem", "bob", None, "ann"], prompts=["", "a dog", None, "a cat"])
    np.testing.assert_allclose(back.scores[::-1], whole.scores, atol=1e-5)


def test_a_generator_scores_as_a_list_does(scorer, images):
    people, prompts = ["ann", None, "bob", "cem"], ["a cat", None, "a dog", ""]
    expected = scorer.score(images, prompts, people, metadata=[{"type": "animal"}, {}, {}, None])
    got = scorer.score(
        (image for image in images), iter(prompts), iter(people), metadata=iter([{"type": "animal"}, {}, {}, None]),
        batch_size=3,
    )  # fmt: skip
    np.testing.assert_allclose(got.scores, expected.scores, atol=1e-5)
    np.testing.assert_allclose(got.std, expected.std, atol=1e-5)
    np.testing.assert_allclose(
        scorer.score(iter(images), "a cat", users=people[:2]).scores,
        scorer.score(images, "a cat", users=people[:2]).scores,
        atol=1e-5,
    )
    for wrong in (prompts[:3], [*prompts, "a dog"]):
        with pytest.raises(ValueError, match="prompts= has"):
            scorer.score(iter(images), wrong)
    with pytest.raises(ValueError, match="images is empty"):
        scorer.score(iter([]))


def test_a_generator_of_many_paths_takes_no_memory(siglip_encoder, tmp_path):
    """20,000 decoded images would take 320 MB."""
    model = with_encoder(siglip_encoder, tmp_path)
    Image.new("RGB", (64, 64), (90, 120, 30)).save(tmp_path / "a.png")
    code = """
import sys, itertools, torch
from pamela_hf.scoring import PamelaScorer
torch.set_num_threads(1)
scorer = PamelaScorer.from_pretrained(sys.argv[1], device="cpu")
few = scorer.score(itertools.repeat(sys.argv[2], 500), user="ann", batch_size=100)
before = peak()
many = scorer.score(itertools.repeat(sys.argv[2], 20_000), user="ann", batch_size=100)
assert abs(many.scores - few.scores[0]).max() < 1e-5
print(len(many.scores), peak() - before)
"""
    count, grown = peak_of(code, model, tmp_path / "a.png")
    assert count == 20_000 and grown < 20


def test_a_grid_of_people_encodes_each_image_once(scorer, images, monkeypatch):
    backbone = scorer.model.load_backbone()
    seen = []
    forward = backbone.get_image_features
    monkeypatch.setattr(
        backbone, "get_image_features", lambda pixel_values: seen.append(len(pixel_values)) or forward(pixel_values)
    )
    grid = scorer.score(images, users=["ann", None, "bob"], scale="slider")
    assert grid.scores.shape == (4, 3) and sum(seen) == 4
    for j, user in enumerate(["ann", None, "bob"]):
        np.testing.assert_allclose(grid.scores[:, j], scorer.score(images, user=user, scale="slider").scores, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"images": []}, "images is empty"),
        ({"images": [np.full((8, 8, 3), 7.5)]}, "dtype float64 has values from 7.5 to 7.5"),
        ({"images": [np.zeros((8, 8, 3), int)]}, "dtype int64; expected uint8"),
        ({"images": [np.zeros((3, 8, 3), np.uint8)]}, r"shape \(3, 8, 3\) can be read as channels first and as"),
        ({"images": [np.zeros((0, 8, 3), np.uint8)]}, r"shape \(0, 8, 3\)"),
        ({"images": [torch.full((8, 8, 3), 2, dtype=torch.bfloat16)]}, "dtype torch.bfloat16 has values from 2 to 2"),
        ({"images": Image.new("RGB", (0, 5))}, "0 × 5 pixels"),
        ({"user": "dan"}, "'dan' is not among"),
        ({"user": ["ann"]}, "1 entries for 4 images"),
        ({"user": "ann", "users": ["bob"]}, "one of the two"),
        ({"scale": "moons"}, "'moons'"),
        ({"images": ["missing.png"]}, r"missing\.png"),
    ],
)
def test_bad_input_is_named(scorer, images, arguments, message):
    with pytest.raises(ValueError, match=message):
        scorer.score(**{"images": images, **arguments})


def test_predict_from_features_follows_the_table(trained_folder, ratings_folder):
    data, embeddings = load_sources([ratings_folder])
    scorer = PamelaScorer.from_pretrained(trained_folder, device="cpu")
    table = data.splits["val_seen"]
    predicted = scorer.predict(table, embeddings)
    assert predicted.scores.shape == (len(table),) and predicted.probs.shape == (len(table), 5)
    shuffled = table.sample(frac=1, random_state=0)
    again = scorer.predict(shuffled, embeddings, batch_size=7)
    back = pd.Series(again.scores, shuffled.index).loc[table.index]
    np.testing.assert_allclose(back, predicted.scores, atol=1e-5)
    row = table.iloc[3]
    at = embeddings.rows([row["image_id"]])
    direct = scorer.model(
        **scorer.processor(
            image_embeds=embeddings.image_embeds[at],
            text_embeds=embeddings.text_embeds[at],
            user=row["participant_id"],
            demographics={"age_binned": row["age_binned"], "gender": row["gender"]},
            metadata={"group": row["group"], "type": row["type"]},
        )
    )
    assert direct.scores.item() == pytest.approx(predicted.scores[3], abs=1e-5)


def test_a_rating_that_is_no_level_has_no_label(trained_folder, ratings_folder):
    data, embeddings = load_sources([ratings_folder])
    config = PamelaScorer.from_pretrained(trained_folder, device="cpu").config
    table = data.splits["val_seen"].head(3).assign(score=np.array([1.0, 2.5, 5.0], np.float32))
    assert encode_ratings(table, config, embeddings).labels.tolist() == [0, -1, 4]
    with pytest.raises(ValueError, match="rating_scale='other'"):
        encode_ratings(table.assign(rating_scale="other"), config, embeddings)


def test_a_file_and_what_pillow_opens_of_it_score_alike(scorer, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (24, 16, 4), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels[..., :3]).save(tmp_path / "turned.jpg", exif=exif)
    Image.fromarray(pixels).save(tmp_path / "transparent.png")
    Image.fromarray(pixels[..., 0].astype(np.uint16) * 257).save(tmp_path / "deep.png")
    paths = sorted(tmp_path.glob("*.[jp]*g"))
    assert len(paths) == 3
    by_path = scorer.score(paths).scores
    np.testing.assert_allclose(scorer.score([Image.open(p) for p in paths]).scores, by_path, atol=1e-5)
    deep, transparent, _ = by_path
    grey = pixels[..., :1]
    arrays = [grey, grey[..., 0], torch.from_numpy(grey), pixels]
    np.testing.assert_allclose(scorer.score(arrays).scores, [deep, deep, deep, transparent], atol=1e-5)


def test_features_of_any_precision_and_with_gradients_are_scored(scorer):
    features = torch.randn(3, scorer.config.image_embed_dim)
    expected = scorer.score(image_embeds=features).scores
    np.testing.assert_allclose(scorer.score(image_embeds=features.requires_grad_()).scores, expected)
    np.testing.assert_allclose(scorer.score(image_embeds=features.bfloat16()).scores, expected, atol=0.05)
    np.testing.assert_allclose(scorer.score(image_embeds=features.double(), users=[None]).scores[:, 0], expected, 1e-5)


def test_a_pillow_image_of_a_cut_file_is_named(scorer, images, tmp_path):
    images[0].resize((200, 200)).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:-500])
    with pytest.raises(ValueError, match=r"cut\.png: damaged image"):
        scorer.score(Image.open(tmp_path / "cut.png"))


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_folder_best_first(scorer, images, tmp_path, suffix):
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    for i, image in enumerate(images):
        image.save(folder / ("deep" if i % 2 else ".") / f"{i}.png")
    (folder / "notes.txt").write_text("no image")
    prompts = tmp_path / "prompts.csv"
    prompts.write_text("Image; Prompt\n0.png;a cat\ndeep/1.png;\n;\n")
    output = tmp_path / "new folder" / f"scores{suffix}"
    table = score_folder(scorer, folder, output, prompts=prompts, user="bob", progress=False)
    assert list(table.columns) == ["image", "score", "std"]
    assert sorted(table["image"]) == ["0.png", "2.png", "deep/1.png", "deep/3.png"]
    assert table["score"].is_monotonic_decreasing
    written = pd.read_csv(output) if suffix == ".csv" else pd.read_parquet(output)
    np.testing.assert_allclose(written["score"], table["score"])
    expected = scorer.score(folder / "0.png", "a cat", "bob").scores[0]
    assert table.set_index("image")["score"]["0.png"] == pytest.approx(expected, abs=1e-5)
    field, values = next(iter(scorer.config.metadata.items()))
    prompts.write_text(f"image,{field}\n0.png,{values[0]}\n")
    expected = scorer.score(folder / "0.png", None, "bob", metadata={field: values[0]}).scores[0]
    assert expected != scorer.score(folder / "0.png", None, "bob").scores[0]
    table = score_folder(scorer, folder, prompts=prompts, user="bob", progress=False)
    assert table.set_index("image")["score"]["0.png"] == pytest.approx(expected, abs=1e-5)
    prompts.write_text("image,weather\n0.png,fair\n")
    with pytest.raises(ValueError, match=rf"lacks prompt\. Needed: image, prompt or .*{field}"):
        score_folder(scorer, folder, prompts=prompts, progress=False)
    prompts.write_text("image,prompt\nnone.png,a cat\n")
    with pytest.raises(ValueError, match=r"none\.png"):
        score_folder(scorer, folder, prompts=prompts, progress=False)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no images"):
        score_folder(scorer, tmp_path / "empty", progress=False)


def test_features_kept_in_a_file_score_alike_and_are_made_once(scorer, images, tmp_path, monkeypatch):
    from pamela_hf.folder_cache import EncoderSource, embed_folder

    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    for i, image in enumerate(images):
        image.save(folder / ("deep" if i % 2 else ".") / f"{i}.png")
    (folder / "=broken.png").write_bytes(b"no picture")
    prompts = pd.DataFrame({"image": ["0.png", "deep/1.png"], "prompt": ["a cat", None]})
    cache, output = tmp_path / "photos.safetensors", tmp_path / "scores.csv"
    arguments = {"prompts": prompts, "user": "bob", "progress": False}
    plain = score_folder(scorer, folder, **arguments)
    first = score_folder(scorer, folder, output, embeddings=cache, **arguments)
    monkeypatch.setattr(scorer.encoder, "encode_prepared", lambda *_: pytest.fail("an image was encoded again"))
    second = score_folder(scorer, folder, embeddings=cache, **arguments)
    for table in (first, second):
        assert table["image"].tolist() == plain["image"].tolist() and table.attrs["skipped"] == plain.attrs["skipped"]
        np.testing.assert_allclose(table[["score", "std"]], plain[["score", "std"]], atol=1e-5)
    assert pd.read_csv(tmp_path / "scores.skipped.csv")["image"].tolist() == ["'=broken.png"]
    local = EncoderSource(str(scorer.model.name_or_path) + "/encoder", device="cpu")  # as `taste` and `embed` name it
    assert embed_folder(folder, cache, local, progress=False).encoded == 0


def test_orientations_of_one_picture_score_alike(scorer, tmp_path):
    upright = Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 16, 3), np.uint8))
    turn = {
        1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    for value, operation in turn.items():
        exif = Image.Exif()
        exif[0x0112] = value
        stored = upright if operation is None else upright.transpose(operation)
        stored.save(tmp_path / f"{value}.png", exif=exif)
    scores = scorer.score([tmp_path / f"{v}.png" for v in turn]).scores
    np.testing.assert_allclose(scores, scores[0], atol=1e-5)


def test_a_scale_added_to_the_model_moves_no_other_s_scores(trained_folder):
    scorer = PamelaScorer.from_pretrained(trained_folder, device="cpu")
    features = torch.randn(3, scorer.config.image_embed_dim, generator=torch.Generator().manual_seed(0))
    before = scorer.score(image_embeds=features).scores
    scorer.model.add_rating_scale("aaa", [0.0, 1.0, 2.0])
    np.testing.assert_array_equal(scorer.score(image_embeds=features).scores, before)
    assert scorer.score(image_embeds=features, scale="aaa").scores.max() <= 2


def test_features_of_prompts_stand_for_prompts(siglip_encoder, tmp_path):
    scorer = PamelaScorer.from_pretrained(with_encoder(siglip_encoder, tmp_path), device="cpu")
    model, processor, texts = scorer.model, scorer.processor, ["a photo of a cat", "the sea at night"]
    features = torch.randn(2, model.config.image_embed_dim, generator=torch.Generator().manual_seed(0))
    tokens = processor(image_embeds=features, prompts=texts)["input_ids"]
    with torch.no_grad():
        text_embeds = model.load_backbone().get_text_features(input_ids=tokens).pooler_output
    told = scorer.score(image_embeds=features, prompts=texts).scores
    np.testing.assert_allclose(scorer.score(image_embeds=features, text_embeds=text_embeds).scores, told, atol=1e-5)
    with pytest.raises(ValueError, match="at most one of the two"):
        scorer.score(image_embeds=features, prompts=texts, text_embeds=text_embeds)
    with pytest.raises(ValueError, match="text_embeds= has 1 rows for 2 images"):
        scorer.score(image_embeds=features, text_embeds=text_embeds[:1])


MISSING = [None, float("nan"), np.float32("nan"), pd.NA, pd.NaT, np.datetime64("NaT"), "", "  "]


@pytest.mark.parametrize("missing", MISSING, ids=repr)
def test_missing_values_of_any_spelling_mean_not_known(scorer, images, missing):
    images = images[:2]
    known = {"prompts": "a cat", "user": "ann"}
    facts = {"demographics": {"gender": "female", "age": 31}, "metadata": {"type": "food"}}
    expected = scorer.score(images, ["a cat", None], ["ann", None]).scores
    np.testing.assert_array_equal(scorer.score(images, ["a cat", missing], ["ann", missing]).scores, expected)
    nothing = scorer.score(images, **known).scores
    assert not np.array_equal(scorer.score(images, **known, **facts).scores, nothing)
    unknown = {"demographics": {"gender": missing, "age": missing}, "metadata": [{"type": missing}, missing]}
    np.testing.assert_array_equal(scorer.score(images, **known, **unknown).scores, nothing)
    np.testing.assert_array_equal(scorer.score(images, scale=missing).scores, scorer.score(images).scores)
    grid = scorer.score(images, users=["ann", missing]).scores
    np.testing.assert_allclose(grid[:, 1], scorer.score(images).scores, atol=1e-6)


def test_a_table_with_missing_values_is_scored_as_it_is(scorer, images):
    table = pd.DataFrame({"prompt": ["a cat", None], "who": ["ann", None], "type": ["food", None]}).convert_dtypes()
    metadata = table[["type"]].to_dict("records")
    got = scorer.score(images[:2], table["prompt"], table["who"], metadata=metadata).scores
    expected = scorer.score(images[:2], ["a cat", None], ["ann", None], metadata=[{"type": "food"}, None]).scores
    np.testing.assert_array_equal(got, expected)


def test_arguments_of_plain_meaning_are_taken(scorer, images, tmp_path):
    from types import SimpleNamespace

    row = scorer.model.user_embedding.weight[2].detach().numpy()
    head = SimpleNamespace(name="bob's", row=row, base_identity=scorer.identity)
    expected = scorer.score(images, user="bob").scores
    for user in (head, [head] * 4, (name for name in ["bob"] * 4), np.array(["bob"] * 4), pd.Series(["bob"] * 4)):
        np.testing.assert_allclose(scorer.score(images, user=user).scores, expected, atol=1e-6)
    for users in ("bob", head, ["bob"], (name for name in ["bob"])):
        grid = scorer.score((image for image in images), users=users).scores
        assert grid.shape == (4, 1)
        np.testing.assert_allclose(grid[:, 0], expected, atol=1e-6)
    expected = scorer.score(images, demographics={"age_binned": "30-39"}).scores
    for age in (34, np.int64(34), np.float32(34), "34", "30-39"):
        np.testing.assert_array_equal(scorer.score(images, demographics={"age": age}).scores, expected)
    scorer.config.users[0] = "7"
    numbered = PamelaScorer(scorer.model)
    features = torch.randn(2, scorer.config.image_embed_dim)
    expected = numbered.score(image_embeds=features, user="7").scores
    np.testing.assert_array_equal(numbered.score(image_embeds=features, user=7).scores, expected)
    np.testing.assert_array_equal(numbered.score(image_embeds=features, user=np.int32(7)).scores, expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"user": 1}, "user=1 is not among"),
        ({"user": 1.5}, "user=1.5 is not among"),
        ({"user": True}, "user=True is not among"),
        ({"user": []}, "user= has 0 entries for 4 images"),
        ({"users": []}, "users is empty"),
        ({"users": {"ann": 1}}, "users=.*give a list"),
        ({"users": 1.5}, r"users=1\.5: give a list"),
        ({"prompts": 3}, "prompts=3: a prompt is a text"),
        ({"prompts": []}, "prompts= has 0 entries"),
        ({"images": [], "prompts": []}, "images is empty"),
        ({"images": 3}, "images=3: give a path"),
        ({"demographics": "female"}, "demographics='female': give a mapping"),
        ({"demographics": {"age": "old"}}, r"age='old': give years such as 34, or one of \['20-29'"),
        ({"metadata": 3}, "metadata=3: give a mapping"),
        ({"batch_size": 0}, "batch_size=0"),
    ],
)
def test_arguments_without_a_meaning_are_named(scorer, images, arguments, message):
    with pytest.raises(ValueError, match=message):
        scorer.score(**{"images": images, **arguments})


def test_one_image_gives_one_number(scorer, images, tmp_path):
    images[0].save(tmp_path / "0.png")
    listed = scorer.score([tmp_path / "0.png"])
    for image in (tmp_path / "0.png", str(tmp_path / "0.png"), images[0], np.asarray(images[0])):
        one = scorer.score(image)
        assert one.scores.shape == one.std.shape == (1,)
        assert float(one.scores) == one.scores[0] == listed.scores[0] and float(one.std) == listed.std[0]
        assert f"{one.scores:.2f}" == f"{listed.scores[0]:.2f}"


def test_the_older_name_of_dtype_is_the_same_argument(trained_folder):
    for arguments in ({"torch_dtype": torch.bfloat16}, {"dtype": "bfloat16"}, {"torch_dtype": "bfloat16"}):
        assert PamelaScorer.from_pretrained(trained_folder, device="cpu", **arguments).model.dtype == torch.bfloat16
    with pytest.raises(ValueError, match="the same argument"):
        PamelaScorer.from_pretrained(trained_folder, dtype="float32", torch_dtype="bfloat16")


def test_pillow_modes_without_a_fixed_range_score_as_the_picture_they_show(scorer):
    grey = np.random.default_rng(0).integers(0, 255, (24, 20), np.uint8)
    picture = Image.fromarray(grey)
    expected = scorer.score(picture).scores
    shown = [picture.convert("I"), picture.convert("F"), Image.fromarray(grey / np.float32(255))]
    shown += [Image.fromarray(grey.astype(np.int32) * 257), Image.fromarray(grey.astype(np.uint16) * 257)]
    np.testing.assert_allclose(scorer.score(shown).scores, np.repeat(expected, 5), atol=1e-6)
    for pixels in (
        np.full((4, 4), 300, np.float32),
        np.full((4, 4), -1, np.int32),
        np.full((4, 4), np.nan, np.float32),
    ):
        with pytest.raises(ValueError, match=r"mode [IF] with values from .* are allowed"):
            scorer.score(Image.fromarray(pixels))


def test_a_closed_pillow_image_is_said_to_be_closed(scorer, images, tmp_path):
    images[0].save(tmp_path / "0.png")
    image = Image.open(tmp_path / "0.png")
    image.close()
    with pytest.raises(ValueError, match="this PIL image is closed"):
        scorer.score(image)


def test_prompts_are_encoded_without_warnings_but_a_cut_one_is_said_once(scorer, images, caplog, monkeypatch):
    caplog.set_level("WARNING")
    for name in ("transformers", "pamela_hf"):
        monkeypatch.setattr(logging.getLogger(name), "propagate", True)
    transformers_logging.warning_once.cache_clear()  # another test may have met the same cut prompt
    scorer.score(images, "a cat")

    def said() -> list[str]:  # what older releases say about a tiny encoder's configuration is not of prompts
        return [record.message for record in caplog.records if "configuration" not in record.name]

    assert not said()
    for _ in range(2):
        scorer.score(images, "the sea at night " * 20)
    assert said() == ["This encoder reads 16 tokens of a prompt; the rest of a longer prompt is left out."]
