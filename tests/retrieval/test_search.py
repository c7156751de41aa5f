"""Search for one person: what the whole model would put first, found without scoring all."""

import numpy as np
import pandas as pd
import pytest
import torch
from toys import tiny_config, with_encoder

from pamela_hf import PamelaRewardModel
from pamela_hf.cli import main
from pamela_hf.embeddings import Embeddings
from pamela_hf.scoring import PamelaScorer

pytest.importorskip("lance")

from pamela_hf.retrieval import ImageIndex, PersonalSearch, search


@pytest.fixture(scope="module")
def scorer() -> PamelaScorer:
    torch.manual_seed(4)
    model = PamelaRewardModel(tiny_config(num_fusion_layers=1, text_embed_dim=0)).eval()
    with torch.no_grad():
        model.user_embedding.weight[1:].normal_()
        model.features.image_readings.normal_(std=0.3)
    return PamelaScorer(model)


def world(n: int = 3000) -> tuple[Embeddings, pd.DataFrame]:
    rng = np.random.default_rng(0)
    images = Embeddings([f"i{k}" for k in range(n)], rng.normal(size=(n, 12)).astype(np.float32))
    return images, pd.DataFrame({"type": np.array(["animal", "food"])[np.arange(n) % 2], "year": np.arange(n)})


def by_the_model(scorer: PamelaScorer, images: Embeddings, metadata: pd.DataFrame, user: str | None) -> pd.Series:
    known = metadata[["type"]].to_dict("records")
    scores = scorer.score(image_embeds=torch.from_numpy(images.image_embeds), user=user, metadata=known).scores
    return pd.Series(scores, images.image_ids).sort_values(ascending=False)


@pytest.fixture
def few_scored(monkeypatch):
    monkeypatch.setattr(search, "SCORED", 200)


def test_the_best_are_the_models_own_first(scorer, tmp_path, few_scored):
    images, metadata = world()
    index = ImageIndex.create(tmp_path / "index", images, metadata)
    found = PersonalSearch(index, scorer, sample=500).best_for(["ann", "bob", None], 20)
    for user, table in zip(("ann", "bob", None), found):
        whole = by_the_model(scorer, images, metadata, user)
        assert len(set(table["image"]) & set(whole.index[:20])) >= 19, user
        np.testing.assert_allclose(table["score"], whole[table["image"]], atol=1e-5)
        assert table["score"].is_monotonic_decreasing and (table["std"] > 0).all()
        assert table["type"].tolist() == ["food" if int(name[1:]) % 2 else "animal" for name in table["image"]]
    assert found[0]["image"].tolist() != found[1]["image"].tolist()


def test_a_person_is_learned_once_and_alike_alone_or_among_others(scorer, tmp_path, few_scored, monkeypatch):
    images, metadata = world(1000)
    index = ImageIndex.create(tmp_path / "index", images, metadata)
    alone = PersonalSearch(index, scorer, sample=300).best("bob", 10)
    together = PersonalSearch(index, scorer, sample=300)
    pd.testing.assert_frame_equal(together.best_for(["ann", "bob"], 10)[1], alone, atol=1e-5)
    asked = []
    monkeypatch.setattr(
        together, "_score", lambda *args: asked.append(len(args[0])) or PersonalSearch._score(together, *args)
    )
    together.best("bob", 10)
    assert asked == [200]  # the candidates, and no sample any more


def test_a_blank_base_is_linear_and_its_search_exact(tmp_path):
    from pamela_hf.heads import UserHead

    images, _ = world(2000)
    blank = PamelaScorer.blank(images)
    row = np.random.default_rng(1).normal(size=blank.config.row_size).astype(np.float32)
    row[:2] = 0
    head = type("Head", (), {"name": "me", "row": row, "base_identity": blank.identity})
    scores = blank.score(image_embeds=torch.from_numpy(images.image_embeds), user=head).scores
    found = PersonalSearch(ImageIndex.create(tmp_path / "index", images), blank, sample=300).best(head, 50)
    assert found["image"].tolist() == [images.image_ids[row] for row in np.argsort(-scores, kind="stable")[:50]]
    assert UserHead  # the protocol that `head` keeps


def test_filters_and_queries_choose_first_and_the_person_among_them(scorer, tmp_path, few_scored, monkeypatch):
    monkeypatch.setattr(search, "ABOUT", 0.1)
    images, metadata = world()
    index = ImageIndex.create(tmp_path / "index", images, metadata)
    whole = by_the_model(scorer, images, metadata, "cem")
    looking = PersonalSearch(index, scorer, sample=500)
    food = looking.best("cem", 5, where={"type": "food"})
    assert food["image"].tolist() == [name for name in whole.index if int(name[1:]) % 2][:5]
    query = np.random.default_rng(6).normal(size=12)
    unit = images.image_embeds / np.linalg.norm(images.image_embeds, axis=1, keepdims=True)
    about = {images.image_ids[row] for row in np.argsort(-(unit @ query))[:300]}
    best = looking.best("cem", 5, query=query)
    assert best["image"].tolist() == [name for name in whole.index if name in about][:5]
    rows = [images.image_ids.index(name) for name in best["image"]]
    np.testing.assert_allclose(best["similarity"], unit[rows] @ query / np.linalg.norm(query), atol=1e-5)
    for wrong, message in (({"query": np.ones(5)}, "5 features"), ({"query": " "}, "empty"), ({"k": 0}, "at least 1")):
        with pytest.raises(ValueError, match=message):
            looking.best("cem", **wrong)
    with pytest.raises(ValueError, match="zoe"):
        looking.best("zoe")
    assert len(looking.best("cem", 5, where="year < 3")) == 3
    assert looking.best("cem", 5, where="year < 0").empty


def test_the_commands_index_a_folder_and_search_it(siglip_encoder, images, tmp_path, capsys):
    model = with_encoder(siglip_encoder, tmp_path)
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for number, image in enumerate(images):
        image.save(folder / "sub" / f"{number}.png")
    (folder / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n torn")
    table = tmp_path / "facts.csv"
    table.write_text("image,type,year\nsub/0.png,food,1999\nsub/1.png,animal,2005\nsub/2.png,food,2010\n")
    index, output = tmp_path / "photos.index", tmp_path / "best.csv"
    source = ["--images", str(folder), "--model", model]
    main([*source, "--output", str(index), "--metadata", str(table)], command="index")
    assert "4 images" in capsys.readouterr().out
    skipped = pd.read_csv(tmp_path / "photos.index.skipped.csv")
    assert skipped["image"].tolist() == ["torn.png"] and not list(tmp_path.glob("*.embeddings.safetensors*"))
    main([str(index), "--model", model, "--user", "bob", "-k", "3", "--output", str(output)], command="search")
    best, scorer = pd.read_csv(output), PamelaScorer.from_pretrained(model, device="cpu")
    assert list(best) == ["image", "score", "std", "type", "year"] and len(best) == 3
    known = {"sub/0.png": {"type": "food"}, "sub/1.png": {"type": "animal"}, "sub/2.png": {"type": "food"}}
    one = scorer.score(folder / best["image"][0], user="bob", metadata=known.get(best["image"][0]))
    assert abs(float(one.scores) - best["score"][0]) < 1e-4
    only = ["--only", "type=food", "--where", "year > 2000", "--query", "a dog"]
    main([str(index), "--model", model, *only, "--output", str(output)], command="search")
    best = pd.read_csv(output)
    assert best["image"].tolist() == ["sub/2.png"] and "similarity" in best
    with pytest.raises(SystemExit, match=r"--add or --overwrite"):
        main([*source, "--output", str(index)], command="index")
    images[0].save(folder / "new.png")
    main([*source, "--output", str(index), "--add"], command="index")
    assert len(ImageIndex(index)) == 5


def test_parquet_with_pictures_or_features_is_indexed(siglip_encoder, images, tmp_path):
    import io

    from pamela_hf.retrieval.sources import open_source

    model = with_encoder(siglip_encoder, tmp_path)
    encoder = PamelaScorer.from_pretrained(model, device="cpu").encoder
    features = encoder.embed_images(images)
    rows = []
    for number, image in enumerate(images):
        stream = io.BytesIO()
        image.save(stream, "PNG")
        picture = {"bytes": stream.getvalue(), "path": None}
        rows.append({"image_id": f"i{number}", "image": picture, "prompt": "a cat", "type": "food"})
    pd.DataFrame(rows).to_parquet(tmp_path / "pictures.parquet")
    frame = pd.DataFrame(rows).drop(columns=["image"]).assign(image_embeds=list(features))
    frame.to_parquet(tmp_path / "features.parquet")
    for name in ("pictures", "features"):
        source = open_source(tmp_path / f"{name}.parquet")
        made, metadata, skipped = source.embed(lambda: encoder, tmp_path / "index")
        assert made.image_ids == ["i0", "i1", "i2", "i3"] and not skipped and metadata["type"].tolist() == ["food"] * 4
        np.testing.assert_allclose(made.image_embeds, features, atol=1e-4)
    with pytest.raises(ValueError, match="image_embeds"):
        frame[["type"]].to_parquet(tmp_path / "neither.parquet")
        open_source(tmp_path / "neither.parquet")
    with pytest.raises(FileNotFoundError, match="Parquet"):
        open_source(tmp_path / "nothing")
