"""`pamela train-lora`: a LoRA of a generator that leans towards one person."""

import argparse
from pathlib import Path

from ._arguments import DEVICE_HELP

HELP = """\
Train a LoRA of a text-to-image pipeline by the reward's own gradient: a generator that leans towards one person.

  pamela train-lora --config scripts/configs/lora_sdxl_turbo.yaml --reward DIR --user p0001 --output runs/lora
  pamela train-lora --pipeline FOLDER --reward DIR --head runs/me --prompts prompts.txt --output runs/lora steps=200

The same command with --resume goes on where it stopped. pipeline.load_lora_weights("runs/lora") takes the result.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--config", metavar="YAML", help="pipeline, prompts and any field of LoraTraining; scripts/configs has some")
    add("--pipeline", metavar="P", help="Hub id or folder of a text-to-image pipeline of diffusers")
    add("--reward", required=True, metavar="DIR", help="folder or Hub id of a trained reward")
    person = parser.add_mutually_exclusive_group()
    person.add_argument("--user", metavar="NAME", help="a participant it was trained on; default: everyone's taste")
    person.add_argument("--head", metavar="HEAD", help="folder or Hub id of a head")
    add("--prompts", metavar="FILE", type=Path, help="a prompt a line")
    add("--output", required=True, metavar="DIR", help="folder for the LoRA")
    add("--resume", action="store_true", help="go on from the state in --output")
    add("--adherence-floor", type=float, metavar="X", help="images less like their prompt lose (default: off)")
    add("--dtype", default="float32", choices=("float32", "bfloat16", "float16"), help="of the pipeline (float32)")
    add("--device", help=DEVICE_HELP)
    add("overrides", nargs="*", metavar="key=value", help="on top of --config: steps=200 rank=16 …")


def run(args: argparse.Namespace) -> None:
    import torch
    import yaml
    from diffusers import DiffusionPipeline

    from ..experiments.lora import LoraTraining, train_lora
    from ..files.config import NumberLoader
    from ..rewards import load_reward

    values = yaml.load(Path(args.config).read_text(encoding="utf-8"), NumberLoader) if args.config else {}
    for text in args.overrides:
        key, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"{text!r} is not of the form key=value, such as steps=200.")
        values[key] = yaml.load(value, NumberLoader)
    name = args.pipeline or values.pop("pipeline", None)
    values.pop("pipeline", None)
    prompts = values.pop("prompts", [])
    if args.prompts:
        prompts = [line.strip() for line in args.prompts.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not name:
        raise ValueError("--pipeline is missing: name it on the command line or in --config.")
    if unknown := sorted(set(values) - set(LoraTraining.__dataclass_fields__)):
        raise ValueError(f"{unknown[0]!r} is not a setting; there are {', '.join(LoraTraining.__dataclass_fields__)}.")
    config = LoraTraining(**values)
    options = {"adherence_floor": args.adherence_floor, "device": args.device}
    reward = load_reward("imscore", args.reward, args.user, head=args.head, **options)
    pipeline = DiffusionPipeline.from_pretrained(name, dtype=getattr(torch, args.dtype), use_safetensors=True)
    file = train_lora(
        pipeline, reward, prompts, args.output, config, resume=args.resume,
        on_step=lambda step, value: print(f"step {step}: reward {value:.4f}", flush=True),
    )  # fmt: skip
    print(f"LoRA of {file.stat().st_size:,} bytes in {file}")
