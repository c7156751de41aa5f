import pytest

from pamela_hf.training.config import TrainingConfig


def test_yaml_with_overrides(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("epochs: 2\nmodel:\n  hidden_size: 32\n")
    config = TrainingConfig.read(path, ["seed=3", "model.num_fusion_members=2", "without=[user,prompt]"])
    assert (config.epochs, config.seed, config.without) == (2, 3, ["user", "prompt"])
    assert config.model == {"hidden_size": 32, "num_fusion_members": 2}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["learning_rat=1"], "'learning_rat' does not exist; did you mean 'learning_rate'"),
        (["model.hiden_size=1"], "model.hiden_size is not a field.*did you mean 'hidden_size'"),
        (["epochs=0"], "epochs=0 must be a whole number of at least 1"),
        (["epochs=2.5"], "whole number"),
        (["epochs=many"], "epochs='many'"),
        (["learning_rate=.nan"], "learning_rate=nan"),
        (["user_dropout=1.5"], "from 0 to 1"),
        (["without=[taste]"], "'taste' is not a piece of the model; choose from user"),
        (["mixed_precision=fp8"], "'no' or 'bf16'"),
        (["epochs"], "key=value"),
        (["source_weights={b: 0}"], r"source_weights\['b'\]=0 must be a number above 0"),
        (["source_weights={b: much}"], "source_weights"),
    ],
)
def test_refuses(overrides, message):
    with pytest.raises(ValueError, match=message):
        TrainingConfig.read(None, overrides)


def test_numbers_with_an_exponent_are_numbers(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("learning_rate: 1e-3\nmodel:\n  factor_penalty: 2E1\n")
    config = TrainingConfig.read(path, ["user_learning_rate=3e-2", "source_weights={a: .5e0}", "log_with=e1"])
    assert (config.learning_rate, config.user_learning_rate, config.model["factor_penalty"]) == (0.001, 0.03, 20.0)
    assert config.source_weights == {"a": 0.5} and config.log_with == "e1"


def test_a_file_that_is_no_mapping_is_refused(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("- 1\n")
    with pytest.raises(ValueError, match="key: value"):
        TrainingConfig.read(path)


def test_the_configs_that_ship_are_valid():
    from pathlib import Path

    folder = Path(__file__).parents[2] / "scripts" / "configs"
    # the others are of prompt runs and of a generator's LoRA, read by tests of their own
    found = [path for path in folder.glob("*.yaml") if not path.name.startswith(("flux2_", "lora_"))]
    assert found
    for path in found:
        TrainingConfig.read(path)
