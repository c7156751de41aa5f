import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from processes import peak_of
from safetensors.torch import load_file, save_file
from toys import OLD_TRANSFORMERS, tiny_config, with_encoder
from transformers import AutoConfig, AutoModel, AutoProcessor, PreTrainedModel

from pamela_hf import PamelaProcessor, PamelaRewardModel
from pamela_hf.model.factors_pamela import Ratings
from pamela_hf.model.fusion_pamela import feature_dropout
from pamela_hf.scoring import PamelaScorer


def all_rate_all(values: torch.Tensor) -> Ratings:
    """`(U, N)` as ratings."""
    people, images = values.shape
    person, image = torch.arange(people).repeat_interleave(images), torch.arange(images).repeat(people)
    return Ratings(person, image, values.flatten(), people)


@pytest.fixture
def model() -> PamelaRewardModel:
    torch.manual_seed(1)
    model = PamelaRewardModel(tiny_config()).eval()
    torch.nn.init.normal_(model.user_embedding.weight[1:])
    image, text = torch.randn(30, 12), torch.randn(30, 6)
    kinds = torch.arange(30).remainder(3).unsqueeze(-1)
    model.features.fit(image, text, all_rate_all(torch.randn(4, 12) @ image.T), kinds)
    model.match_linear(image, text)
    return model


@pytest.fixture
def features():
    return {"image_embeds": torch.randn(5, 12), "text_embeds": torch.randn(5, 6)}


def test_output_is_a_distribution_on_the_asked_scale(model, features):
    # scales count in the order of their names: slider, stars
    out = model(**features, user_ids=torch.tensor([0, 1, 2, 3, 1]), scale_ids=torch.tensor([1, 1, 0, 0, 1]))
    torch.testing.assert_close(out.probs.sum(-1), torch.ones(5))
    assert out.probs.shape == (5, 5) and (out.probs[2:4, 3:] == 0).all()
    assert out.level_values[2, :3].tolist() == [0, 0.5, 1] and out.level_values[2, 3:].isnan().all()
    assert ((out.scores[[0, 1, 4]] > 1) & (out.scores[[0, 1, 4]] < 5)).all()
    assert ((out.scores[2:4] > 0) & (out.scores[2:4] < 1)).all()
    assert (out.std > 0).all()


def test_every_input_but_the_image_is_optional(model, features):
    alone = model(image_embeds=features["image_embeds"])
    unknown = model(
        image_embeds=features["image_embeds"],
        text_embeds=torch.zeros(5, 6),
        user_ids=torch.zeros(5, dtype=torch.long),
        demographic_ids=torch.zeros(5, 2, dtype=torch.long),
        metadata_ids=torch.zeros(5, 1, dtype=torch.long),
    )
    torch.testing.assert_close(alone.scores, unknown.scores)
    masked = model(**features, prompt_mask=torch.zeros(5, dtype=torch.bool))
    torch.testing.assert_close(alone.scores, masked.scores)
    assert not torch.allclose(alone.scores, model(**features).scores)


def test_the_user_matters_through_each_of_its_ways(model, features):
    """Each of the ways from the row to the score carries the person when the others are cut."""
    ids = torch.tensor([1, 1, 1, 1, 1])

    def differs() -> bool:
        return not torch.allclose(model(**features).scores, model(**features, user_ids=ids).scores, atol=1e-6)

    ways = {
        "attention": [m.user_proj.weight for m in model.members],
        "multiplication": [m.interaction_user.weight for m in model.members],
        "linear taste": [model.features.image_readings, model.features.text_readings],
        "style": [model.style.weight],
    }
    kept = {name: [w.detach().clone() for w in weights] for name, weights in ways.items()}
    for name in ways:
        with torch.no_grad():
            for other, weights in ways.items():
                for weight, value in zip(weights, kept[other]):
                    weight.copy_(value if other == name else torch.zeros_like(value))
        assert differs(), name


def test_a_person_is_a_row_whatever_way_it_comes(model, features):
    ids = torch.tensor([2, 1, 0, 3, 2])
    by_id = model(**features, user_ids=ids)
    by_row = model(**features, user_embeds=model.user_embedding.weight[ids])
    torch.testing.assert_close(by_id.scores, by_row.scores)
    with pytest.raises(ValueError, match=r"has 13\s+numbers"):
        model(**features, user_embeds=torch.zeros(5, 8))
    with pytest.raises(ValueError, match=r"0\.\.3"):
        model(**features, user_ids=torch.tensor([4, 0, 0, 0, 0]))


def test_a_grid_larger_than_memory_is_scored_in_parts():
    """Two million pairs, whose whole result would be 24 MB: the child's peak hardly grows when only the best are kept,
    and the parts are the whole's."""
    code = """
import torch
from pamela_hf import PamelaConfig, PamelaRewardModel
torch.set_num_threads(1)
torch.manual_seed(0)
small = dict(hidden_size=8, num_attention_heads=2, num_fusion_members=1, intermediate_size=8, interaction_rank=2)
config = PamelaConfig(image_embed_dim=8, users=["ann"], rating_scales={"r": [1, 2, 3]}, **small)
model = PamelaRewardModel(config).eval()
images, people = torch.randn(2000, 8), torch.randn(1000, model.config.row_size)
with torch.inference_mode():
    model.score_matrix(images[:50], user_embeds=people)
    start, best = peak(), torch.full((1000,), -1.0)
    for low in range(0, len(images), 50):
        best = torch.maximum(best, model.score_matrix(images[low : low + 50], user_embeds=people).scores.amax(0))
    in_parts = peak() - start
    whole = model.score_matrix(images, user_embeds=people).scores.amax(0)
print(in_parts, peak() - start, float((whole - best).abs().max()))
"""
    in_parts, whole, difference = peak_of(code)
    assert in_parts < 8 < 20 < whole and difference < 1e-5, (in_parts, whole, difference)


def test_score_matrix_equals_pairs(model, features):
    ages = torch.tensor([[1, 0], [2, 1], [0, 2], [1, 1]])
    groups = torch.tensor([[0], [1], [2], [1], [0]])
    users = torch.tensor([0, 1, 2, 3])
    grid = model.score_matrix(
        **features, user_ids=users, demographic_ids=ages, metadata_ids=groups, scale=1, max_pairs=7
    )
    assert grid.scores.shape == grid.std.shape == grid.utility.shape == (5, 4)
    for j in range(4):
        pairs = model(
            **features,
            user_ids=users[j].expand(5),
            demographic_ids=ages[j].expand(5, -1),
            metadata_ids=groups,
            scale_ids=torch.ones(5, dtype=torch.long),
        )
        torch.testing.assert_close(grid.scores[:, j], pairs.scores)
        torch.testing.assert_close(grid.std[:, j], pairs.std)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_fusion_layers": 1},
        {"num_fusion_layers": 1, "interaction_rank": 0, "taste_factors": 0},
        {"num_fusion_layers": 1, "linear_share": 0.0},
        {"num_fusion_layers": 1, "text_embed_dim": 0},
        {"num_fusion_layers": 1, "metadata_share": 0.4},
    ],
)
def test_a_grid_of_any_shape_equals_pairs(changes, monkeypatch):
    monkeypatch.setattr("pamela_hf.model.matrix_pamela.IMAGES_AT_ONCE", 3)
    torch.manual_seed(3)
    model = PamelaRewardModel(tiny_config(**changes)).eval()
    for tensor in (*model.parameters(), *model.features.buffers()):
        tensor.data.add_(0.2 * torch.randn(tensor.shape))
    image, text = torch.randn(7, 12), torch.randn(7, 6)
    text[2] = 0  # no prompt
    mask = torch.tensor([True, False, True, True, True, False, True])
    kinds = torch.tensor([[0], [1], [2], [1], [0], [2], [1]])
    rows, ages = torch.randn(5, model.config.row_size), torch.randint(0, 2, (5, 2))
    pair = torch.cartesian_prod(torch.arange(7), torch.arange(5))
    asked = {"user_embeds": rows, "demographic_ids": ages}
    known = {"metadata_ids": kinds, "prompt_mask": mask}
    if not model.config.text_embed_dim:
        text, known = None, {"metadata_ids": kinds}
    index = pair[:, 0]
    pairs = model(
        image,
        text,
        image_index=index,
        **{name: value[index] for name, value in known.items()},
        **{name: value[pair[:, 1]] for name, value in asked.items()},
    )
    for max_pairs in (1, 3, 11, None):
        grid = model.score_matrix(image, text, **known, **asked, max_pairs=max_pairs)
        for name in ("utility", "scores", "std"):
            torch.testing.assert_close(grid[name].flatten(), pairs[name], atol=1e-5, rtol=1e-5)
    assert model.score_matrix(image[:0], user_embeds=rows).scores.shape == (0, 5)
    assert model.score_matrix(image, user_embeds=rows[:0]).scores.shape == (7, 0)


def test_an_images_score_does_not_depend_on_its_batch(model):
    image, text = torch.randn(64, 12), torch.randn(64, 6)
    ids = torch.randint(0, 4, (64,))
    whole = model(image_embeds=image, text_embeds=text, user_ids=ids).scores
    for seed in range(20):
        some = torch.randperm(64, generator=torch.Generator().manual_seed(seed))[: 1 + seed]
        part = model(image_embeds=image[some], text_embeds=text[some], user_ids=ids[some]).scores
        torch.testing.assert_close(part, whole[some], atol=1e-5, rtol=0)


def test_image_index_shares_an_image_among_pairs(model, features):
    index = torch.tensor([0, 0, 3, 4, 3, 0])
    ids = torch.tensor([1, 2, 3, 0, 1, 0])
    shared = model(**features, image_index=index, user_ids=ids)
    repeated = model(**{name: value[index] for name, value in features.items()}, user_ids=ids)
    torch.testing.assert_close(shared.scores, repeated.scores)


def test_loss_reaches_every_parameter_and_never_row_0(features):
    model = PamelaRewardModel(tiny_config()).train()
    model.features.fit(**features)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    for _ in range(3):
        out = model(
            **features,
            prompt_mask=torch.tensor([True, True, False, True, True]),
            user_ids=torch.tensor([1, 1, 2, 3, 3]),
            demographic_ids=torch.tensor([[0, 1], [1, 2], [2, 0], [1, 1], [2, 2]]),
            metadata_ids=torch.tensor([[0], [1], [2], [1], [2]]),
            scale_ids=torch.tensor([1, 1, 0, 1, 1]),
            labels=torch.tensor([4, 0, 2, 1, 3]),
            pairwise_weight=0.2,
        )
        optimizer.zero_grad()
        out.loss.backward()
        optimizer.step()
    still = [name for name, p in model.named_parameters() if torch.equal(p, before[name])]
    assert still == []
    assert (model.user_embedding.weight[0] == 0).all()


def test_loss_of_shares_adds_up_to_the_loss_of_the_whole(model, features):
    labels, ids = torch.tensor([4, 0, 2, 1, 3]), torch.tensor([1, 1, 2, 2, 2])
    whole = model(**features, user_ids=ids, labels=labels, pairwise_weight=0.3).loss
    normalizers = (torch.tensor(5.0), torch.tensor(4.0))  # five ratings; 1 + 3 pairs rated differently
    shares = [
        model(
            image_embeds=features["image_embeds"][part],
            text_embeds=features["text_embeds"][part],
            user_ids=ids[part],
            labels=labels[part],
            pairwise_weight=0.3,
            loss_normalizers=normalizers,
        ).loss
        for part in (slice(0, 2), slice(2, 5))
    ]
    torch.testing.assert_close(shares[0] + shares[1], whole)


TAKEN = ["train", "eval", "type", "half", "values", "training", "keys", "_parameters", "a.b", ""]


def test_a_scale_may_bear_any_name(features, tmp_path):
    scales = {name: [1, 2, 3 + i] for i, name in enumerate(TAKEN)}
    model = PamelaRewardModel(tiny_config(rating_scales=scales, default_scale="train")).eval()
    model.fit_cutpoints("eval", torch.tensor([0, 1, 2, 2]))
    model.add_rating_scale("data", [1, 2])
    model.add_rating_scale("state_dict", [1, 2])
    model.train().eval().save_pretrained(tmp_path)
    again = PamelaRewardModel.from_pretrained(tmp_path)
    assert torch.equal(again.scale_cutpoints(), model.scale_cutpoints()) and len(again.scale_cutpoints()) == 12
    assert again(**features).scores.isfinite().all()
    saved = load_file(tmp_path / "model.safetensors")
    assert "cutpoints.data" in saved and "cutpoints.a·b" in saved  # names that always worked are written as ever
    with pytest.raises(ValueError, match="differ in more than"):
        model.add_rating_scale("a·b", [1, 2])
    with pytest.raises(ValueError, match="differ in more than"):
        PamelaRewardModel(tiny_config(rating_scales={"a.b": [1, 2], "a·b": [1, 2]}, default_scale="a.b"))


def test_add_rating_scale(model, features, tmp_path):
    before = model(**features).scores
    model.add_rating_scale("out.of.ten", range(1, 11))
    torch.testing.assert_close(model(**features).scores, before)
    index = PamelaProcessor(model.config).scale_id("out.of.ten")
    out = model(**features, scale_ids=torch.full((5,), index))
    assert out.probs.shape == (5, 10)
    assert ((out.scores > 1) & (out.scores < 10)).all()
    with pytest.raises(ValueError, match="exists already"):
        model.add_rating_scale("out.of.ten", [1, 2])
    with pytest.raises(ValueError, match="ascending"):
        model.add_rating_scale("odd", [3, 1])
    model.save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(again(**features, scale_ids=torch.full((5,), index)).scores, out.scores)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 9}, "multiple of num_attention_heads"),
        ({"rating_scales": {"stars": [1]}}, "at least two"),
        ({"rating_scales": {"stars": [1, float("nan")]}}, "finite"),
        ({"default_scale": "moons"}, "is not among rating_scales"),
        ({"users": ["a", "a"]}, "more than once"),
        ({"image_dropout": 1.0}, r"\[0, 1\)"),
        ({"backbone": "../../etc"}, "Hub id"),
        ({"backbone": "/somewhere/model"}, "Hub id"),
        ({"interaction_rank": -1}, "a whole number from 0 to"),
    ],
)
def test_config_refuses(changes, message):
    with pytest.raises(ValueError, match=message):
        tiny_config(**changes)


def test_pieces_can_be_left_out(features):
    model = PamelaRewardModel(
        tiny_config(
            text_embed_dim=0,
            users=[],
            demographics={},
            metadata={},
            interaction_rank=0,
            linear_share=0.0,
            taste_factors=0,
        )
    ).eval()
    assert model(image_embeds=features["image_embeds"]).scores.shape == (5,)


def test_everyones_linear_taste_is_ridge_at_the_networks_own_spread():
    torch.manual_seed(3)
    model = PamelaRewardModel(tiny_config(normalize_embeds=False, linear_penalty=1e-6, demographics={}, metadata={}))
    image, text = torch.randn(200, 12), torch.randn(200, 6)
    liked = image @ torch.randn(12) + text @ torch.randn(6)
    assert model.features.fit(image, text, all_rate_all(torch.stack([liked + 1, liked - 1]))).shape == (2, 5)
    model.match_linear(image, text)
    model.match_linear(image, text)  # once more changes nothing
    model.eval()
    networks_alone = PamelaRewardModel(
        tiny_config(normalize_embeds=False, linear_share=0.0, demographics={}, metadata={})
    )
    networks_alone.load_state_dict(model.state_dict())
    networks_alone.eval()
    alone, both = networks_alone(image, text).utility, model(image, text).utility
    linear = 2 * both - alone  # its share is one half
    assert torch.corrcoef(torch.stack([linear, liked]))[0, 1] > 0.999
    torch.testing.assert_close(linear.std(), alone.std(), rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(linear.mean(), alone.mean(), rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(model.score_matrix(image, text).utility[:, 0], both)
    # in training every network answers for itself
    for one in (model, networks_alone):
        one.train()
        for module in one.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        one.config.image_dropout = one.config.text_dropout = 0.0
    torch.testing.assert_close(model(image, text).utility, networks_alone(image, text).utility)


@pytest.mark.parametrize(("directions", "spread"), [(1, (0.0, 0.05)), (12, (0.09, 1.1))])
def test_tastes_of_ones_own_are_wide_only_where_the_factors_do_not_hold_all(directions, spread):
    torch.manual_seed(6)
    image = torch.randn(100, 12)
    differ = torch.randn(60, directions) @ torch.randn(directions, 12) @ image.T / directions**0.5
    model = PamelaRewardModel(tiny_config(normalize_embeds=False, text_embed_dim=0, metadata={}, factor_penalty=1.0))
    model.features.fit(image, ratings=all_rate_all(differ + torch.randn(60, 100)))
    readings = model.features.read(model.features.standardize("image", image))
    own = readings[:, 3:5].var(0).sum()  # after three factors
    assert spread[0] < own < spread[1]


def test_some_people_are_more_typical_than_others():
    """Sixty people who differ in how much of everyone's taste they have; what an image has beyond its features is
    nobody's taste."""
    torch.manual_seed(7)
    image, text = torch.randn(100, 12), torch.randn(100, 6)
    share, everyone = 1 + 0.5 * torch.randn(60), torch.randn(12) @ image.T
    model = PamelaRewardModel(tiny_config(normalize_embeds=False, metadata={}, taste_factors=0))
    said = share[:, None] * everyone + torch.randn(100) + 0.5 * torch.randn(60, 100)
    tastes = model.features.fit(image, text, all_rate_all(said))
    found = model.features.read(*(model.features.standardize(*one) for one in (("image", image), ("text", text))),
                                torch.ones(100, dtype=torch.bool))  # fmt: skip
    assert torch.corrcoef(torch.stack([found[:, 0], found[:, -1]]))[0, 1] > 0.999
    own = (tastes - tastes.mean(0)) @ found[:, :-1].T
    wanted = (share - share.mean())[:, None] * everyone
    assert torch.corrcoef(torch.stack([own.flatten(), wanted.flatten()]))[0, 1] > 0.9
    assert torch.corrcoef(torch.stack([tastes[:, 0], share]))[0, 1] > 0.9


def test_people_like_what_their_ratings_say_along_the_taste_factors():
    """Forty people whose tastes differ along two directions each get their own back."""
    torch.manual_seed(4)
    people = {"users": [f"p{i:02}" for i in range(40)], "demographics": {}, "metadata": {}}
    model = PamelaRewardModel(tiny_config(normalize_embeds=False, factor_penalty=1.0, **people)).eval()
    image, text = torch.randn(200, 12), torch.randn(200, 6)
    differ = torch.randn(40, 2) @ torch.randn(2, 12) @ image.T
    tastes = model.features.fit(image, text, all_rate_all(differ + torch.randn(12) @ image.T))
    with torch.no_grad():
        model.user_embedding.weight[1:] = 0.0
    model.set_tastes(tastes)

    def own() -> torch.Tensor:
        found = model.score_matrix(image, text, user_ids=torch.arange(41)).utility
        return (found[:, 1:] - found[:, :1]).T  # the networks and everyone's taste are the same for all

    before = own()
    differ = differ - differ.mean(0)
    assert torch.corrcoef(torch.stack([before.flatten(), differ.flatten()]))[0, 1] > 0.98
    model.match_linear(image, text)
    gains = own() / before
    torch.testing.assert_close(gains, gains[0, 0].expand_as(gains), rtol=1e-2, atol=0)


def test_what_people_like_may_depend_on_the_kind_of_image():
    """Forty people who like in pictures of food what they dislike in pictures of animals, more or less."""
    torch.manual_seed(6)
    people = {"users": [f"p{i:02}" for i in range(40)], "demographics": {}, "factor_penalty": 1.0}
    image, kinds = torch.randn(200, 12) * torch.linspace(3, 0.5, 12), torch.arange(200).remainder(2)[:, None] + 1
    differ = torch.randn(40, 1) @ torch.randn(1, 4) @ image[:, :4].T * (3 - 2 * kinds.T)

    def own(share: float, said: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(6)
        changes = {"text_embed_dim": 0, "normalize_embeds": False, "metadata_share": share, **people}
        model = PamelaRewardModel(tiny_config(**changes)).eval()
        tastes = model.features.fit(image, None, all_rate_all(differ + torch.randn(12) @ image.T), kinds)
        with torch.no_grad():
            model.user_embedding.weight[1:] = 0.0
        model.set_tastes(tastes)
        found = model.score_matrix(image, metadata_ids=said, user_ids=torch.arange(41)).utility
        pairs = model(image[:40], metadata_ids=said[:40], user_ids=torch.arange(1, 41)).utility
        torch.testing.assert_close(pairs, found[:40, 1:].diagonal())
        return (found[:, 1:] - found[:, :1]).T

    def agree(found: torch.Tensor) -> float:
        return float(torch.corrcoef(torch.stack([found.flatten(), (differ - differ.mean(0)).flatten()]))[0, 1])

    within = own(0.5, kinds)
    assert agree(within) > 0.9 and agree(own(0.0, kinds)) < 0.5
    unknown = own(0.5, torch.zeros_like(kinds))  # on average over kinds they like nothing in particular
    assert unknown.std() < 0.2 * within.std()
    torch.testing.assert_close(unknown, (within + own(0.5, 3 - kinds)) / 2)


def test_people_who_agree_on_nothing_get_no_huge_utilities():
    torch.manual_seed(5)
    model = PamelaRewardModel(tiny_config(users=["a", "b"], factor_penalty=0.01)).eval()
    image, text = torch.randn(60, 12), torch.randn(60, 6)
    one = image @ torch.randn(12)
    model.set_tastes(model.features.fit(image, text, all_rate_all(torch.stack([one, -one]) / one.std())))
    for _ in range(3):
        model.match_linear(image, text)
    utility = model.score_matrix(image, text, user_ids=torch.arange(3)).utility
    assert utility.isfinite().all() and utility.abs().max() < 20
    assert torch.corrcoef(torch.stack([utility[:, 1], one]))[0, 1] > 0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_round_trip_keeps_scores_and_identity(model, features, tmp_path, dtype):
    model.save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path, dtype=dtype).eval()
    assert type(again) is PamelaRewardModel
    assert again.config.base_identity == model.compute_base_identity()
    close = {"atol": 1e-6, "rtol": 1e-5} if dtype == torch.float32 else {"atol": 0.1, "rtol": 0.05}
    torch.testing.assert_close(again(**features).scores, model(**features).scores, **close)
    again.save_pretrained(tmp_path / "cast")
    assert AutoConfig.from_pretrained(tmp_path / "cast").base_identity == model.config.base_identity


def test_saving_changed_weights_renews_the_identity_and_a_cast_keeps_it(model, tmp_path):
    model.save_pretrained(tmp_path / "base")
    base = model.config.base_identity
    for dtype in (torch.bfloat16, torch.float16):
        cast = PamelaRewardModel.from_pretrained(tmp_path / "base").to(dtype)
        cast.save_pretrained(tmp_path / "cast")
        again = PamelaRewardModel.from_pretrained(tmp_path / "cast")
        assert again.base_identity() == PamelaScorer(again).identity == base
    for changed in (PamelaRewardModel.from_pretrained(tmp_path / "base"), model, again):
        with torch.no_grad():
            for parameter in changed.members.parameters():
                parameter.mul_(-1)
        assert changed.base_identity() == PamelaScorer(changed).identity != base
        changed.save_pretrained(tmp_path / "changed")
        saved = PamelaRewardModel.from_pretrained(tmp_path / "changed").config.base_identity
        assert saved == changed.compute_base_identity() != base


def test_identity_ignores_rows_and_scales_and_sees_everything_else(model):
    identity = model.compute_base_identity()
    with torch.no_grad():
        model.user_embedding.weight[1:] += 1
    model.add_rating_scale("ten", range(1, 11))
    assert model.compute_base_identity() == identity
    with torch.no_grad():
        model.members[0].head.bias += 1e-3
    assert model.compute_base_identity() != identity


def test_loads_where_this_package_is_not_installed(model, features, tmp_path):
    model.save_pretrained(tmp_path)
    PamelaProcessor(model.config).save_pretrained(tmp_path)
    code = f"""
import json, sys
sys.modules["pamela_hf"] = None
import torch
from transformers import AutoModel, AutoProcessor
model = AutoModel.from_pretrained({str(tmp_path)!r}, trust_remote_code=True)
processor = AutoProcessor.from_pretrained({str(tmp_path)!r}, trust_remote_code=True)
inputs = processor(image_embeds=torch.ones(2, 12), user="bob", demographics={{"age": 31}}, scale="stars")
print(json.dumps(model(**inputs).scores.tolist()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    there = torch.tensor(json.loads(done.stdout.strip().splitlines()[-1]))
    processor = AutoProcessor.from_pretrained(tmp_path)
    here = model(**processor(image_embeds=torch.ones(2, 12), user="bob", demographics={"age": 31}, scale="stars"))
    torch.testing.assert_close(there, here.scores)


def test_a_model_in_a_subfolder_finds_its_encoder_there(siglip_encoder, images, tmp_path):
    with_encoder(siglip_encoder, tmp_path)
    place = {"subfolder": "model", "cache_dir": str(tmp_path / "cache")}
    model = PamelaRewardModel.from_pretrained(tmp_path, **place)
    inputs = PamelaProcessor.from_pretrained(tmp_path, **place)(images=images, prompts="a cat")
    whole = PamelaScorer.from_pretrained(str(tmp_path / "model"), device="cpu").score(images, "a cat").scores
    with torch.no_grad():
        torch.testing.assert_close(model(**inputs).scores, torch.from_numpy(whole).float())


def test_an_encoder_on_the_hub_is_reached_as_the_model_was_but_without_its_token(model, tmp_path, monkeypatch):
    from pamela_hf.model import encoder_pamela

    model.config.backbone, model.config.backbone_revision = "owner/enc", "abc"
    model.save_pretrained(tmp_path / "model")
    place = {"subfolder": "model", "cache_dir": "cache", "token": "secret"}
    asked = {"cache_dir": "cache", "revision": "abc"}
    again = PamelaRewardModel.from_pretrained(tmp_path, **place)
    processor = PamelaProcessor.from_pretrained(tmp_path, **place)
    calls = []

    def ask(kind):
        def from_pretrained(name, **where):
            calls.append((kind, name, where))
            return "siglip" if kind == "config" else torch.nn.Module()

        return from_pretrained

    monkeypatch.setattr(
        encoder_pamela.PreTrainedConfig, "get_config_dict", lambda *a, **k: ({"model_type": ask("config")(*a, **k)}, {})
    )
    for kind in ("AutoModel", "AutoImageProcessor", "AutoTokenizer"):
        monkeypatch.setattr(getattr(encoder_pamela, kind), "from_pretrained", ask(kind))
    monkeypatch.setattr(again, "set_backbone", lambda backbone: None)
    again.load_backbone()
    assert processor.tokenizer is not None
    assert [kind for kind, *_ in calls] == ["config", "AutoModel", "AutoImageProcessor", "AutoTokenizer"]
    for kind, name, where in calls:
        assert name == "owner/enc" and asked.items() <= where.items()
        assert where["token"] is False and (kind == "config" or where["trust_remote_code"] is False)


def test_encoder_stays_out_of_the_checkpoint_is_loaded_when_needed_and_frozen(any_encoder, images, tmp_path):
    from safetensors import safe_open

    folder = with_encoder(any_encoder, tmp_path)
    with safe_open(f"{folder}/model.safetensors", framework="pt") as file:
        assert not [k for k in file.keys() if k.startswith("backbone")]
    model = AutoModel.from_pretrained(folder)
    processor = AutoProcessor.from_pretrained(folder)
    assert model.backbone is None
    inputs = processor(images=images, prompts=["a Cat", None, "", "a dog"], user=["ann", None, "bob", "cem"])
    assert inputs["prompt_mask"].tolist() == [True, False, False, True]
    model.train()
    out = model(**inputs, labels=torch.tensor([0, 1, 2, 3]))
    assert model.backbone is not None and not model.backbone.training
    out.loss.backward()
    assert all(p.grad is None and not p.requires_grad for p in model.backbone.parameters())
    model.eval()
    features = model.backbone.get_image_features(
        **{k: v for k, v in inputs.items() if k in ("pixel_values", "pixel_attention_mask", "spatial_shapes")}
    ).pooler_output
    pixels = model(**inputs).scores
    tokens = {k: inputs[k] for k in ("input_ids", "prompt_mask", "user_ids")}
    torch.testing.assert_close(pixels, model(image_embeds=features, **tokens).scores)
    grid = model.score_matrix(
        **{k: v for k, v in inputs.items() if k not in ("user_ids", "demographic_ids", "scale_ids")},
        user_ids=torch.tensor([1, 0, 2, 3]),
    )
    torch.testing.assert_close(grid.scores.diagonal(), pixels)
    model.save_pretrained(tmp_path / "again")
    again = AutoModel.from_pretrained(tmp_path / "again").eval()
    processor.save_pretrained(tmp_path / "again")
    torch.testing.assert_close(again(**inputs).scores, pixels)


def test_incomplete_weights_are_refused_by_name(model, tmp_path):
    model.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["features.image_readings"]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"features\.image_readings"):
        AutoModel.from_pretrained(tmp_path)


def test_pixels_without_an_encoder_are_refused_with_the_way_out(model):
    with pytest.raises(ValueError, match="image_embeds="):
        model(pixel_values=torch.zeros(1, 3, 8, 8))
    with pytest.raises(ValueError, match="image_embeds="):
        model(user_ids=torch.tensor([1]))
    with pytest.raises(ValueError, match="one of the two"):
        model(image_embeds=torch.zeros(1, 12), pixel_values=torch.zeros(1, 3, 8, 8))


def test_bf16_forward_is_finite(model, features):
    out = model.to(torch.bfloat16)(**features, labels=torch.tensor([0, 1, 2, 3, 4]), pairwise_weight=0.2)
    assert out.loss.isfinite() and out.scores.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_flipped_bit_anywhere_in_the_weights_is_refused_by_name(model, tmp_path, dtype):
    model.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    whole = file.read_bytes()
    start = 8 + int.from_bytes(whole[:8], "little")  # behind the header
    rng = torch.Generator().manual_seed(0)
    for place in torch.randint(start, len(whole), (30,), generator=rng).tolist():
        damaged = bytearray(whole)
        damaged[place] ^= 1 << (place % 8)
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"weights_sha256 differs\): a file is damaged"):
            PamelaRewardModel.from_pretrained(tmp_path, dtype=dtype)
    file.write_bytes(whole)
    PamelaRewardModel.from_pretrained(tmp_path, dtype=dtype)


def test_weights_in_several_files_are_checked_too(model, tmp_path):
    model.save_pretrained(tmp_path, max_shard_size="4KB")
    files = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(files) > 1
    PamelaRewardModel.from_pretrained(tmp_path)
    damaged = bytearray(files[0].read_bytes())
    damaged[-1] ^= 1
    files[0].write_bytes(damaged)
    with pytest.raises(ValueError, match="weights_sha256 differs"):
        PamelaRewardModel.from_pretrained(tmp_path)


def test_a_cast_of_a_cast_is_still_the_same_base(model, tmp_path):
    model.save_pretrained(tmp_path)
    for dtypes in ([torch.bfloat16, torch.float16], [torch.float16, torch.bfloat16], [torch.bfloat16, torch.float32]):
        cast = PamelaRewardModel.from_pretrained(tmp_path)
        for dtype in dtypes:
            cast = cast.to(dtype)
        assert cast.base_identity() == model.config.base_identity


def test_no_adapter_is_picked_up_from_a_models_folder(siglip_encoder, tmp_path, images, monkeypatch):
    folder = with_encoder(siglip_encoder, tmp_path)
    expected = PamelaScorer.from_pretrained(folder, device="cpu").score(images, "a cat").scores
    for place in ("", "/encoder"):
        with open(f"{folder}{place}/adapter_config.json", "w") as file:
            json.dump({"base_model_name_or_path": "somebody/else", "peft_type": "LORA"}, file)
    monkeypatch.setattr(PreTrainedModel, "load_adapter", lambda *a, **k: pytest.fail("loaded an adapter"))
    if OLD_TRANSFORMERS:  # which looks for adapters whatever it is asked
        with pytest.raises(ValueError, match=r"holds adapter_config\.json.*Remove the file, or install"):
            PamelaScorer.from_pretrained(folder, device="cpu")
        Path(f"{folder}/adapter_config.json").unlink()
    scores = PamelaScorer.from_pretrained(folder, device="cpu").score(images, "a cat").scores
    assert scores.tolist() == expected.tolist()


def test_only_encoders_with_image_and_text_features_are_made(siglip_encoder, tmp_path):
    from pamela_hf.encoder import FrozenEncoder

    with pytest.raises(ValueError, match="backbone_config is of the kind 'detr'"):
        tiny_config(backbone_config={"model_type": "detr", "backbone": "resnet50", "use_timm_backbone": True})
    folder = with_encoder(siglip_encoder, tmp_path)
    with open(f"{folder}/encoder/config.json", "w") as file:
        json.dump({"model_type": "detr", "backbone": "somebody/else", "use_pretrained_backbone": True}, file)
    model = PamelaRewardModel.from_pretrained(folder)
    with pytest.raises(ValueError, match="of the kind 'detr'"):
        model.load_backbone()
    with pytest.raises(ValueError, match="of the kind 'detr'"):
        FrozenEncoder(f"{folder}/encoder", device="cpu")


def test_every_kind_of_encoder_has_both_features_and_no_configuration_of_another_kind():
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_MAPPING

    from pamela_hf.model.configuration_pamela import ENCODER_KINDS

    for kind in ENCODER_KINDS:
        config = CONFIG_MAPPING[kind]
        assert AutoConfig not in config.sub_configs.values(), kind
        for feature in ("get_image_features", "get_text_features"):
            assert hasattr(MODEL_MAPPING[config], feature), kind


def test_no_code_from_an_encoders_folder_runs(siglip_encoder, tmp_path, images):
    folder = with_encoder(siglip_encoder, tmp_path)
    place = f"{folder}/encoder/config.json"
    with open(place) as file:
        values = json.load(file)
    values["auto_map"] = dict.fromkeys(("AutoConfig", "AutoModel", "AutoImageProcessor"), "evil.Evil")
    with open(place, "w") as file:
        json.dump(values, file)
    with open(f"{folder}/encoder/evil.py", "w") as file:
        file.write(f"open({str(tmp_path / 'ran')!r}, 'w')")
    PamelaScorer.from_pretrained(folder, device="cpu").score(images, "a cat")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("p", [0.3, 0.5])
def test_dropout_of_features_drops_its_share_of_every_column_and_keeps_the_mean(p):
    x = torch.ones(4_000, 37, requires_grad=True)
    torch.manual_seed(0)
    dropped = feature_dropout(x, p, training=True)
    share = (dropped == 0).float()
    assert share.mean().item() == pytest.approx(p, abs=0.005) and (share.mean(0) - p).abs().max() < 0.04
    assert dropped.mean().item() == pytest.approx(1, abs=0.01) and len(dropped.unique()) == 2
    dropped.sum().backward()
    assert torch.equal(x.grad, dropped.detach())
    torch.manual_seed(0)
    assert torch.equal(feature_dropout(x, p, training=True), dropped)
    assert feature_dropout(x, p, training=False) is x and torch.equal(feature_dropout(x, 0.0, training=True), x)
