"""Pipelines of diffusers from tiny configs: the real classes, random weights, tokenizers of the alphabet; nothing is downloaded."""

import string

import torch
from diffusers import (
    AutoencoderKL,
    DDIMPipeline,
    DDIMScheduler,
    DiTPipeline,
    DiTTransformer2DModel,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
    UNet2DModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

TOKENS = 16
SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
BLOCKS = {
    "block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4, "cross_attention_dim": 16, "attention_head_dim": 8,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"), "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "sample_size": 8,
}  # fmt: skip


def seeded(module, scale=1.5):
    """Weights that are all somewhat larger than where training begins, so that nothing is zero and a condition is seen."""
    generator = torch.Generator().manual_seed(1)
    for name, p in module.named_parameters():
        width = p[0].numel() if p.ndim > 1 else 16
        p.data = torch.randn(p.shape, generator=generator) * scale / width**0.5 + (
            p.ndim == 1 and name.endswith("weight")
        )
    return module.eval()


def clip_tokenizer():
    letters = [
        *string.ascii_lowercase,
        *(c + "</w>" for c in string.ascii_lowercase),
        "<|startoftext|>",
        "<|endoftext|>",
    ]
    return CLIPTokenizer(vocab={c: i for i, c in enumerate(letters)}, merges=[], model_max_length=TOKENS)


def clip(projected=False):
    config = CLIPTextConfig(
        vocab_size=54, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, projection_dim=16,
        max_position_embeddings=TOKENS, bos_token_id=52, eos_token_id=53, pad_token_id=53,
    )  # fmt: skip
    return seeded((CLIPTextModelWithProjection if projected else CLIPTextModel)(config))


def t5_tokenizer():
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *((c, -3.0) for c in string.ascii_lowercase)]
    return T5Tokenizer(vocab=pieces, extra_ids=0)


def t5(width=16):
    config = T5Config(vocab_size=32, d_model=width, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    return seeded(T5EncoderModel(config), 0.5)


def vae(**more):
    down, up = ("DownEncoderBlock2D",) * 2, ("UpDecoderBlock2D",) * 2
    return seeded(AutoencoderKL(
        block_out_channels=(4, 8), norm_num_groups=2, latent_channels=4, down_block_types=down, up_block_types=up, **more
    ), 1.0)  # fmt: skip


def unet2d(classes=None, **more):
    network = UNet2DModel(
        sample_size=16, in_channels=3, out_channels=3, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4,
        attention_head_dim=8, down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        num_class_embeds=classes, **more,
    )  # fmt: skip
    return seeded(network)


def ddim():
    return DDIMPipeline(unet2d(), DDIMScheduler(beta_schedule="squaredcos_cap_v2"))


def dit(sigma=True):
    network = DiTTransformer2DModel(
        sample_size=8, in_channels=4, out_channels=8 if sigma else 4, num_attention_heads=2, attention_head_dim=8, num_layers=2,
    )  # fmt: skip
    return DiTPipeline(seeded(network), vae(), DDIMScheduler(clip_sample=False))


def sd(scheduler=None, **more):
    network = seeded(UNet2DConditionModel(**BLOCKS, **more))
    own = DPMSolverMultistepScheduler(**SD) if scheduler is None else scheduler
    return StableDiffusionPipeline(
        vae(scaling_factor=0.18215), clip(), clip_tokenizer(), network, own, None, None, requires_safety_checker=False
    )


def sdxl():
    network = UNet2DConditionModel(
        **(BLOCKS | {"cross_attention_dim": 32}), addition_embed_type="text_time", addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=64,
    )  # fmt: skip
    return StableDiffusionXLPipeline(
        vae(scaling_factor=0.13025), clip(), clip(True), clip_tokenizer(), clip_tokenizer(), seeded(network),
        EulerDiscreteScheduler(**SD, timestep_spacing="leading"),
    )  # fmt: skip


def sd3(**more):
    network = SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, out_channels=4, num_layers=2, attention_head_dim=8, num_attention_heads=2,
        joint_attention_dim=32, caption_projection_dim=16, pooled_projection_dim=32, pos_embed_max_size=12, qk_norm="rms_norm",
    )  # fmt: skip
    return StableDiffusion3Pipeline(
        seeded(network), FlowMatchEulerDiscreteScheduler(**({"shift": 3.0} | more)), vae(scaling_factor=1.5305, shift_factor=0.0609),
        clip(True), clip_tokenizer(), clip(True), clip_tokenizer(), t5(32), t5_tokenizer(),
    )  # fmt: skip


def flux(distilled=True):
    network = FluxTransformer2DModel(
        in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=8, num_attention_heads=2, joint_attention_dim=16,
        pooled_projection_dim=16, guidance_embeds=distilled, axes_dims_rope=(2, 2, 4),
    )  # fmt: skip
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)
    return FluxPipeline(
        scheduler, vae(scaling_factor=0.3611, shift_factor=0.1159), clip(), clip_tokenizer(), t5(), t5_tokenizer(), seeded(network)
    )  # fmt: skip
