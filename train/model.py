"""The model: a SigLIP tower, LLaVA's projector and a Llama decoder with full multi-head attention (W = 512)."""

from transformers import LlamaConfig, LlavaConfig, SiglipVisionConfig

from .config import IMAGE_SIZE, PATCH_SIZE, TOKENS_PER_IMAGE, Config


def vision_config(config: Config) -> SiglipVisionConfig:
    return SiglipVisionConfig(
        image_size=IMAGE_SIZE,
        patch_size=PATCH_SIZE,
        hidden_size=config.tower_hidden,
        intermediate_size=4 * config.tower_hidden,
        num_hidden_layers=config.tower_layers,
        num_attention_heads=config.tower_heads,
        # The exact GELU: on CPU its kernel is 1.5 times as fast end to end as the tanh form.
        hidden_act="gelu",
        vision_use_head=False,
    )


def llava_config(config: Config, special: dict[str, int], vocab_size: int) -> LlavaConfig:
    """`special` maps pad, bos, eos and image to token ids."""
    text = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=config.hidden,
        intermediate_size=config.intermediate,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.heads,
        head_dim=config.head_dim,
        max_position_embeddings=4096,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        tie_word_embeddings=True,
        pad_token_id=special["pad"],
        bos_token_id=special["bos"],
        eos_token_id=special["eos"],
    )
    return LlavaConfig(
        vision_config=vision_config(config),
        text_config=text,
        image_token_index=special["image"],
        image_seq_length=TOKENS_PER_IMAGE,
        # The last layer's output before SigLIP's post_layernorm, which is what index −1 selects.
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        tie_word_embeddings=True,
        pad_token_id=special["pad"],
        bos_token_id=special["bos"],
        eos_token_id=special["eos"],
    )
