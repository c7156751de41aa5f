"""Real classes at toy size with random weights: a chat model, its tokenizer, a FLUX.2 Klein pipeline; and a prompt
pipeline around any."""

import torch

from pamela_hf.prompts.pipeline_pamela import PamelaPromptPipeline
from pamela_hf.scoring import PamelaScorer
from pamela_hf.simulation.pipeline import SimulatedPipeline

PROMPT = "a cottage by the sea"
SMALL = {"num_iterations": 2, "num_candidates": 3, "adherence_floor": 0.0}
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tiny_chat_tokenizer():
    """A byte-level tokenizer: any text is some tokens, any tokens are some text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import Qwen2TokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(letters)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    made = Qwen2TokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>", unk_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>"],
    )  # fmt: skip
    made.chat_template = CHAT_TEMPLATE
    return made


def tiny_chat_model(tokenizer, layers: int = 1, positions: int = 8192):
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=layers,
            num_attention_heads=2, num_key_value_heads=2, head_dim=8, max_position_embeddings=positions,
            bos_token_id=None, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        )
    ).eval()  # fmt: skip


def tiny_klein():
    """FLUX.2 Klein reads its text from layers 9, 18 and 27, so that many there have to be."""
    from diffusers import (
        AutoencoderKLFlux2,
        FlowMatchEulerDiscreteScheduler,
        Flux2KleinPipeline,
        Flux2Transformer2DModel,
    )

    tokenizer = tiny_chat_tokenizer()
    text_encoder = tiny_chat_model(tokenizer, layers=28, positions=1024)
    torch.manual_seed(0)
    transformer = Flux2Transformer2DModel(
        patch_size=1, in_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=48, timestep_guidance_channels=16, axes_dims_rope=(4, 4, 4, 4), guidance_embeds=False,
    )  # fmt: skip
    vae = AutoencoderKLFlux2(
        sample_size=32, down_block_types=("DownEncoderBlock2D",), up_block_types=("UpDecoderBlock2D",),
        block_out_channels=(4,), layers_per_block=1, latent_channels=1, norm_num_groups=1, use_quant_conv=False,
        use_post_quant_conv=False,
    )  # fmt: skip
    return Flux2KleinPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(), vae=vae, text_encoder=text_encoder, tokenizer=tokenizer,
        transformer=transformer, is_distilled=True,
    )  # fmt: skip


def around(nested, folder, **components) -> PamelaPromptPipeline:
    scorer = PamelaScorer.from_pretrained(folder, device="cpu")
    made = PamelaPromptPipeline(nested, scorer.model, scorer.processor, **components)
    made.set_progress_bar_config(disable=True)
    return made


class Odd(SimulatedPipeline):
    """The procedural pipeline with something done to what it returns."""

    def __init__(self, change, size: int = 32):
        super().__init__(size)
        self.change, self.calls = change, 0

    def __call__(self, prompt, **kwargs):
        self.calls += 1
        return self.change(self, super().__call__(prompt, **kwargs))
