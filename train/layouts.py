"""The two layouts the recipe trains, LLaVA and Qwen2-VL: their configs, and towers as functions of a batch of pictures.

Training never calls the checkpoints' own forward passes: towers run on whole batches of one size, and decoders on
tokens at chosen positions (decoder_forward.py). `check.py` compares both with transformers' own.
"""

import torch
import torch.nn.functional as F
from transformers import (
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    SiglipVisionConfig,
)

from .config import IMAGE_SIZE, PATCH_SIZE, Config

MAX_POSITIONS = 16384
MROPE_SECTION = (8, 12, 12)


def build(config: Config, special: dict[str, int], vocab_size: int):
    """A model with fresh weights of this config's layout. `special` maps names of special tokens to ids."""
    ends = {"pad_token_id": special["pad"], "bos_token_id": special["bos"], "eos_token_id": special["eos"]}
    text = dict(
        vocab_size=vocab_size,
        hidden_size=config.hidden,
        intermediate_size=config.intermediate,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.key_heads,
        max_position_embeddings=MAX_POSITIONS,
        rms_norm_eps=1e-6,
        tie_word_embeddings=True,
        **ends,
    )
    rope = {"rope_type": "default", "rope_theta": config.rope_theta}
    if config.model == "pack-mha":
        model = LlavaForConditionalGeneration(LlavaConfig(
            vision_config=SiglipVisionConfig(
                image_size=IMAGE_SIZE,
                patch_size=PATCH_SIZE,
                hidden_size=config.tower_hidden,
                intermediate_size=4 * config.tower_hidden,
                num_hidden_layers=config.tower_layers,
                num_attention_heads=config.tower_heads,
                # The exact GELU: on CPU its kernel is 1.5 times as fast end to end as the tanh form.
                hidden_act="gelu",
                vision_use_head=False,
            ),
            text_config=LlamaConfig(**text, head_dim=config.head_dim, rope_parameters=rope),
            image_token_index=special["image"],
            image_seq_length=(IMAGE_SIZE // PATCH_SIZE) ** 2,
            # The last layer's output before SigLIP's post_layernorm, which is what index -1 selects.
            vision_feature_layer=-1,
            vision_feature_select_strategy="full",
            tie_word_embeddings=True,
            **ends,
        ))
        model.model.vision_tower.set_attn_implementation("eager")
        return model
    return Qwen2VLForConditionalGeneration(Qwen2VLConfig(
        vision_config=dict(
            depth=config.tower_layers,
            embed_dim=config.tower_hidden,
            hidden_size=config.hidden,
            num_heads=config.tower_heads,
            mlp_ratio=4,
            patch_size=PATCH_SIZE,
            spatial_merge_size=2,
            temporal_patch_size=2,
            hidden_act="quick_gelu",
        ),
        text_config=dict(**text, rope_parameters={**rope, "mrope_section": list(MROPE_SECTION)}),
        image_token_id=special["image"],
        video_token_id=special["video"],
        vision_start_token_id=special["vision_start"],
        vision_end_token_id=special["vision_end"],
        tie_word_embeddings=True,
        **ends,
    ))


def tower_of(model):
    return model.model.vision_tower if isinstance(model, LlavaForConditionalGeneration) else model.model.visual


def untrained(name: str) -> bool:
    """Parameters no stage trains: SigLIP's last norm, which this feature layer leaves out."""
    return "post_layernorm" in name


def tower_features(tower, pixels: torch.Tensor) -> torch.Tensor:
    """Patches after the last layer, row by row — [B, 3, H, W] in -1…1 to [B, H/8 · W/8, tower hidden]."""
    if hasattr(tower, "embeddings"):
        return tower.encoder(inputs_embeds=tower.embeddings(pixels)).last_hidden_state
    return qwen_features(tower, pixels)


def qwen_features(tower, pixels: torch.Tensor) -> torch.Tensor:
    """Qwen2-VL's tower on still pictures of one size: both temporal halves of a patch see the same picture."""
    batch, _, height, width = pixels.shape
    rows, columns = height // PATCH_SIZE, width // PATCH_SIZE
    patches = F.unfold(pixels, PATCH_SIZE, stride=PATCH_SIZE).transpose(1, 2)
    x = patches @ tower.patch_embed.proj.weight.sum(2).flatten(1).T
    cos, sin = qwen_rotary(tower, rows, columns, x)
    for block in tower.blocks:
        attention = block.attn
        q, k, v = attention.qkv(block.norm1(x)).view(batch, rows * columns, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4)
        scores = (rotate(q, cos, sin) * attention.scaling) @ rotate(k, cos, sin).transpose(2, 3)
        mixed = (torch.softmax(scores, -1) @ v).transpose(1, 2).flatten(2)
        x = x + attention.proj(mixed)
        x = x + block.mlp(block.norm2(x))
    return x


def qwen_rotary(tower, rows: int, columns: int, like: torch.Tensor):
    """Cosines and sines of each patch's row and column — [rows · columns, head dim] each."""
    attention = tower.blocks[0].attn
    quarter = attention.head_dim // 4
    frequencies = 10000.0 ** -(torch.arange(quarter, device=like.device) / quarter)
    row, column = torch.meshgrid(torch.arange(rows, device=like.device), torch.arange(columns, device=like.device), indexing="ij")
    angles = torch.cat([row.reshape(-1, 1) * frequencies, column.reshape(-1, 1) * frequencies], 1).repeat(1, 2)
    return angles.cos().to(like.dtype), angles.sin().to(like.dtype)


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    low, high = x.chunk(2, -1)
    return x * cos + torch.cat([-high, low], -1) * sin


def merged_grid(config: Config, height: int, width: int) -> tuple[int, int]:
    """Rows and columns of the tokens the decoder sees of a picture of these pixels."""
    side = PATCH_SIZE * (1 if config.model == "pack-mha" else 2)
    return height // side, width // side


def merge_order(features: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """Patches row by row [B, rows · columns, D] to those of each token side by side [B, rows/2 · columns/2, 4 D]."""
    batch, _, width = features.shape
    blocks = features.view(batch, rows // 2, 2, columns // 2, 2, width).transpose(2, 3)
    return blocks.reshape(batch, rows // 2 * (columns // 2), 4 * width)


def project(model, features: torch.Tensor) -> torch.Tensor:
    """Features of tokens to the decoder's width: [N, tower hidden] for LLaVA, [N, 4, tower hidden] for Qwen2-VL."""
    if isinstance(model, LlavaForConditionalGeneration):
        return model.model.multi_modal_projector(features)
    merger = model.model.visual.merger
    return merger.mlp(merger.ln_q(features).flatten(-2))


def is_projector(name: str) -> bool:
    return "multi_modal_projector" in name or "merger" in name
