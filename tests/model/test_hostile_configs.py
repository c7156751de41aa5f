"""A config.json of a stranger: our own error, quickly and without memory, and nothing is built (PROMISES 7, 22)."""

import copy
import json
import time

import pytest
from processes import peak_of
from toys import tiny_config
from transformers import AutoConfig, AutoModel

from pamela_hf import PamelaConfig, PamelaProcessor, PamelaRewardModel

CHANGES = [
    {"num_fusion_members": 10_000_000}, {"num_fusion_members": "8"}, {"num_fusion_members": 8.5},
    {"num_fusion_members": True}, {"num_fusion_members": -1}, {"num_fusion_members": None},
    {"num_fusion_members": [8]}, {"hidden_size": 1 << 40}, {"hidden_size": {}}, {"image_embed_dim": 10**12},
    {"text_embed_dim": "wide"}, {"num_fusion_layers": 10**6}, {"intermediate_size": 10**9},
    {"interaction_rank": 10**9}, {"taste_factors": 10**9}, {"linear_axes": "x"}, {"num_attention_heads": 0},
    {"num_fusion_members": 256, "num_fusion_layers": 64, "hidden_size": 8192},
    {"linear_share": "half"}, {"linear_share": [0.5]}, {"linear_penalty": -1}, {"factor_penalty": 1e30},
    {"unknown_width": float("nan")}, {"image_dropout": None}, {"normalize_embeds": "yes"}, {"blank": 1},
    {"users": "ann"}, {"users": 3}, {"users": {"ann": 1}}, {"users": [["ann"]]}, {"users": [1, 2]}, {"users": [{}]},
    {"users": ["ann", "ann"]}, {"users": ["a" * 5000]}, {"users": ["\x1b[31mann"]}, {"users": ["\u202eann"]},
    {"demographics": ["age"]}, {"demographics": {"age": "20"}}, {"demographics": {"age": [[1]]}},
    {"metadata": {"type": {"a": 1}}}, {"metadata": 5}, {"rating_scales": {"stars": "12345"}},
    {"rating_scales": {"stars": [[1], [2]]}}, {"rating_scales": {"stars": [1, None]}}, {"rating_scales": {"s": [2, 1]}},
    {"rating_scales": [1, 2]}, {"default_scale": ["stars"]}, {"default_scale": "none"}, {"backbone": ["x/y"]},
    {"backbone": 5}, {"backbone_config": "clip"}, {"backbone_config": ["clip"]}, {"backbone_config": {}},
    {"backbone_config": {"model_type": ["clip"]}}, {"backbone_config": {"model_type": "detr"}},
    {"backbone_config": {"model_type": "siglip", "vision_config": {"num_hidden_layers": 10**7}}},
    {"backbone_config": {"model_type": "siglip", "text_config": {"vocab_size": 10**12}}},
    {"backbone_config": {"model_type": "siglip", "vision_config": {"attn_implementation": "evil/kernel"}}},
    {"attn_implementation": "evil/kernel"}, {"_attn_implementation": "evil/kernel"},
    {"releases": "pamela"}, {"releases": {"": "cc-by"}}, {"releases": {"": {"license": ["x"]}}},
    {"taste_axes": 10**9}, {"taste_axes": "many"}, {"taste_share": 9}, {"taste_share": None}, {"chosen": "auto"},
    {"taste_share": -1}, {"taste_share": 0, "blank": True},
    {"chosen": {"text_share": 0.3}}, {"chosen": {"text_share": {"value": "high"}}},
    {"taste_axes": 4096, "image_embed_dim": 1152, "metadata": {"type": [f"kind {i}" for i in range(9000)]}},
    {"cast_identities": "abc"}, {"cast_identities": [1]}, {"preprocessing": {}}, {"base_identity": 7},
]  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    model = PamelaRewardModel(tiny_config()).eval()
    model.save_pretrained(tmp_path)
    PamelaProcessor(model.config).save_pretrained(tmp_path)
    return tmp_path


def test_wrong_types_and_sizes_are_named_by_every_door(folder):
    plain, refused = json.loads((folder / "config.json").read_text()), 0
    for change in CHANGES:
        (folder / "config.json").write_text(json.dumps({**copy.deepcopy(plain), **change}))
        for load in (AutoConfig, AutoModel, PamelaRewardModel, PamelaProcessor):
            start = time.monotonic()
            with pytest.raises(ValueError, match="|".join([*change, "encoder"])) as caught:
                load.from_pretrained(folder)
            assert time.monotonic() - start < 20 and len(str(caught.value)) < 600
            assert str(caught.value).replace("\n", "").isprintable(), change
            refused += 1
    print(f"{refused} refusals of {len(CHANGES)} configurations")
    assert refused == 4 * len(CHANGES) >= 200
    (folder / "config.json").write_text(json.dumps(plain))
    assert AutoModel.from_pretrained(folder).config.users == plain["users"]


def test_names_as_people_have_them_stay():
    names = ["Zoë", "👩‍🔬 ann", "n\u00adb", "a b", "日本", "O'Neil"]
    assert PamelaConfig(users=names).users == names


def test_a_hostile_config_costs_no_memory(folder):
    code = """
import json, sys
from pathlib import Path
from pamela_hf import PamelaConfig
plain = json.loads(Path(sys.argv[1], "config.json").read_text())
changes, before, refused = json.loads(sys.argv[2]), peak(), 0
for change in changes:
    try:
        PamelaConfig(**{**plain, **change})
    except ValueError:
        refused += 1
print(refused, peak() - before)
"""
    refused, megabytes = peak_of(code, folder, json.dumps(CHANGES))
    print(f"{refused:.0f} refusals cost {megabytes:.1f} MB")
    assert refused == len(CHANGES) and megabytes < 50
