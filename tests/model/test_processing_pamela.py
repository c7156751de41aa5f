import numpy as np
import pytest
import torch
from transformers import AutoProcessor

from pamela_hf import PamelaConfig, PamelaProcessor
from pamela_hf.model.encoder_pamela import load_preprocessors, preprocessing_fingerprint, tokenize_prompts


@pytest.fixture
def processor() -> PamelaProcessor:
    return PamelaProcessor(
        PamelaConfig(
            image_embed_dim=4,
            users=["ann", "bob"],
            demographics={"age_binned": ["20-29", "30-39", "60+"], "gender": ["female"]},
            metadata={"group": ["animal"]},
            rating_scales={"stars": [1, 2, 3], "slider": [0, 1]},
        )
    )


def test_one_value_for_all_or_one_each(processor):
    one = processor(image_embeds=np.zeros((3, 4)), user="bob", demographics={"gender": "female"})
    each = processor(
        image_embeds=np.zeros((3, 4)), user=["bob"] * 3, demographics=[{"gender": "female"}] * 3, scale=[None] * 3
    )
    for name in one:
        assert torch.equal(one[name], each[name]), name
    assert one["user_ids"].tolist() == [2, 2, 2]
    with pytest.raises(ValueError, match="2 entries for 3 images"):
        processor(image_embeds=np.zeros((3, 4)), user=["ann", "bob"])


@pytest.mark.parametrize(("age", "bin_"), [(20, 1), (29, 1), (30, 2), (45, 0), (60, 3), (99, 3), (None, 0)])
def test_age_in_years_finds_its_bin(processor, age, bin_):
    ids = processor(image_embeds=np.zeros(4), demographics={"age": age})["demographic_ids"]
    assert ids.tolist() == [[bin_, 0]]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"user": "cem"}, "'cem' is not among the 2 people"),
        ({"scale": "moons"}, r"'moons' is not a rating scale of this model; it has \['slider', 'stars'\]"),
        ({"demographics": {"height": 180}}, "'height' is not a field"),
        ({"metadata": {"colour": "red"}}, "'colour' is not a field"),
        ({"return_tensors": "np"}, "only 'pt'"),
        ({"prompts": "a cat"}, "image_embeds="),
    ],
)
def test_refuses_what_it_does_not_know(processor, inputs, message):
    with pytest.raises(ValueError, match=message):
        processor(image_embeds=np.zeros(4), **inputs)


def test_unknown_values_of_known_fields_are_unknown_people(processor):
    assert processor(image_embeds=np.zeros(4), demographics={"gender": "other"})["demographic_ids"].tolist() == [[0, 0]]


def test_neither_or_both_of_images_and_features_is_refused(processor, images):
    for inputs in ({}, {"images": images, "image_embeds": np.zeros((4, 4))}):
        with pytest.raises(ValueError, match="either images="):
            processor(**inputs)


def test_prompts_are_lower_cased_padded_right_and_unmasked_for_the_siglip_family(any_encoder):
    _, tokenizer = load_preprocessors(str(any_encoder))
    config = PamelaConfig(backbone_config={"model_type": any_encoder.name.rstrip("0123456789")}).backbone_config
    upper = tokenize_prompts(tokenizer, ["A CAT"], config)
    lower = tokenize_prompts(tokenizer, ["a cat"], config)
    assert set(upper) == {"input_ids"} and torch.equal(upper["input_ids"], lower["input_ids"])
    assert upper["input_ids"][0, 0] != tokenizer.pad_token_id and upper["input_ids"][0, -1] == tokenizer.pad_token_id


def test_fingerprint_follows_settings_and_vocabulary(any_encoder, siglip_encoder):
    image_processor, tokenizer = load_preprocessors(str(any_encoder))
    same = preprocessing_fingerprint(*load_preprocessors(str(any_encoder)))
    assert preprocessing_fingerprint(image_processor, tokenizer) == same
    image_processor.image_mean = [0.4, 0.5, 0.5]
    assert preprocessing_fingerprint(image_processor, tokenizer) != same


def test_vocabularies_come_back_from_the_models_own_config(processor, tmp_path):
    processor.save_pretrained(tmp_path)
    again = AutoProcessor.from_pretrained(tmp_path)
    assert type(again) is PamelaProcessor
    assert again.config.users == ["ann", "bob"] and again.user_id("bob") == 2
