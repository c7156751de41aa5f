"""Train a LoRA for one person by the reward: `python scripts/train_lora.py --help`. The same as `pamela train-lora`."""

from pamela_hf.cli import main

if __name__ == "__main__":
    main(command="train-lora")
