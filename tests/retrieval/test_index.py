"""An index of images: stored once, filtered, added to, deleted from."""

import numpy as np
import pandas as pd
import pytest

from pamela_hf.embeddings import EmbeddingError, Embeddings

lance = pytest.importorskip("lance")

from pamela_hf.retrieval import ImageIndex, index  # noqa: E402


def some_images(n: int = 60, width: int = 12, seed: int = 0, **changes) -> Embeddings:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, width)).astype(np.float32)
    return Embeddings([f"i{k}'s" for k in range(n)], features, **changes)


def fields(n: int = 60) -> pd.DataFrame:
    return pd.DataFrame({"type": np.array(["animal", "food", None], object)[np.arange(n) % 3], "year": np.arange(n)})


def test_what_is_indexed_comes_back_as_it_was(tmp_path):
    images = some_images()
    images.text_embeds = np.random.default_rng(1).normal(size=(60, 6)).astype(np.float32)
    images.text_embeds[3] = 0
    made = ImageIndex.create(tmp_path / "index", images, fields())
    found = ImageIndex(tmp_path / "index").sample(60)
    image, text = found.features(12)
    order = [images.image_ids.index(name) for name in found.names]
    assert len(made) == 60 and sorted(order) == list(range(60)) and made.fields == ["type", "year"]
    np.testing.assert_allclose(image, images.image_embeds[order], rtol=1e-6)
    np.testing.assert_allclose(text, images.text_embeds[order], rtol=1e-6)
    assert found.metadata["year"].tolist() == order
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def test_the_nearest_are_those_with_the_largest_product_among_the_asked(tmp_path):
    images = some_images()
    made = ImageIndex.create(tmp_path / "index", images, fields())
    unit = images.image_embeds / np.linalg.norm(images.image_embeds, axis=1, keepdims=True)
    query = np.random.default_rng(2).normal(size=12)
    order = np.argsort(-(unit @ query))
    assert made.nearest(query, 5).names == [images.image_ids[row] for row in order[:5]]
    food = [row for row in order if row % 3 == 1 and row > 20]
    for where in ("type = 'food' AND year > 20", "`type` = 'food' AND `year` > 20"):
        assert made.nearest(query, 5, where).names == [images.image_ids[row] for row in food[:5]]
    either = made.nearest(query, 60, {"type": ["food", "animal"], "year": [0, 1, 2]})
    assert sorted(either.metadata["year"]) == [0, 1]
    assert len(made.nearest(query, 5, "type = 'nothing'")) == 0
    with pytest.raises(ValueError, match=r"where='colour = 1' cannot be used .*fields are .*type"):
        made.nearest(query, 5, "colour = 1")


def test_images_are_added_replaced_and_deleted(tmp_path):
    made = ImageIndex.create(tmp_path / "index", some_images(), fields())
    new = some_images(62, seed=5)
    last = Embeddings(new.image_ids[59:], new.image_embeds[59:])
    made.add(last, pd.DataFrame({"type": ["food"] * 3}))
    assert len(made) == 62
    query = new.image_embeds[61]
    assert made.nearest(query, 1).names == ["i61's"]
    made.optimize()
    kept = ImageIndex(tmp_path / "index").sample(100)
    np.testing.assert_allclose(kept.features(12)[0][kept.names.index("i59's")], new.image_embeds[59], rtol=1e-6)
    assert made.delete(["i61's", "i0's", "nobody"]) == 2
    assert len(ImageIndex(tmp_path / "index")) == 60 and "i61's" not in made.nearest(query, 60).names
    with pytest.raises(EmbeddingError, match="12"):
        made.add(some_images(width=11))
    with pytest.raises(ValueError, match="colour"):
        made.add(last, pd.DataFrame({"colour": [1, 2, 3]}))


def test_approximate_search_finds_what_exact_search_finds(tmp_path, monkeypatch):
    monkeypatch.setattr(index, "INDEXED_FROM", 1000)
    images = some_images(3000, 16)
    made = ImageIndex.create(tmp_path / "index", images)
    assert lance.dataset(str(tmp_path / "index")).has_index
    unit = images.image_embeds / np.linalg.norm(images.image_embeds, axis=1, keepdims=True)
    shares = []
    for query in np.random.default_rng(3).normal(size=(10, 16)):
        best = {images.image_ids[row] for row in np.argsort(-(unit @ query))[:50]}
        shares.append(len(best & set(made.nearest(query, 200).names)) / 50)
    assert np.mean(shares) > 0.9


def test_other_folders_and_other_encoders_are_refused(tmp_path, scorer_config):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").write_bytes(b"x")
    with pytest.raises(FileNotFoundError, match="pamela index"):
        ImageIndex(tmp_path / "nothing")
    with pytest.raises(ValueError, match="is not an index of images"):
        ImageIndex(tmp_path / "pictures")
    with pytest.raises(ValueError, match="is not an index of images"):
        ImageIndex.create(tmp_path / "pictures", some_images(), overwrite=True)
    made = ImageIndex.create(tmp_path / "index", some_images(backbone="owner/other"))
    with pytest.raises(FileExistsError):
        ImageIndex.create(tmp_path / "index", some_images())
    with pytest.raises(EmbeddingError, match="owner/other"):
        made.check_model(scorer_config)
    with pytest.raises(ValueError, match="61 rows for 60"):
        ImageIndex.create(tmp_path / "more", some_images(), fields(61))
    with pytest.raises(ValueError, match="vector"):
        ImageIndex.create(tmp_path / "more", some_images(), fields().assign(vector=1))


@pytest.fixture
def scorer_config():
    from toys import tiny_config

    return tiny_config(backbone="owner/encoder")
