"""Makes tiny random LLaVA checkpoints of each kind and what PyTorch transformers computes with them, for test/convert.test.ts.

    python scripts/golden/convert.py            # writes test/fixtures/convert, under 2 MB
    pip install torch transformers safetensors  # made with torch 2.13 and transformers 5.23

Weights are drawn wide enough that logits are of order one: at the default deviation of 0.02 any graph would pass a tolerance of 1e-4.
Weights are rounded to the type they are saved in before the logits are computed, so that nothing is lost between the two.
"""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    Qwen2Config,
    SiglipVisionConfig,
)

OUT = Path(__file__).parents[2] / "test" / "fixtures" / "convert"
IMAGE_TOKEN = 3
VOCAB = 72

TEXT = {
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "vocab_size": VOCAB,
    "max_position_embeddings": 128,
}
VISION = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": 24,
    "patch_size": 8,
}
ROPE_LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
ROPE_LINEAR = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0}


def mha(**more):
    return LlamaConfig(**TEXT, num_attention_heads=3, num_key_value_heads=3, head_dim=16, **more)


def gqa(**more):
    # head_dim is not hidden_size / heads, as in the embedded model; a multiple of 32, as quantised embeddings need
    return LlamaConfig(**{**TEXT, "hidden_size": 96}, num_attention_heads=4, num_key_value_heads=2, head_dim=16, **more)


def qwen(**more):
    return Qwen2Config(**TEXT, num_attention_heads=3, num_key_value_heads=1, **more)


# name: text config, vision config, LLaVA settings, saved type, largest shard, names
KINDS = {
    "clip-llama-mha": (mha(), CLIPVisionConfig(**VISION), {}, torch.float32, None, "old"),
    "siglip-llama-gqa-tied": (
        gqa(rope_parameters=ROPE_LLAMA3, tie_word_embeddings=True),
        SiglipVisionConfig(**VISION, vision_use_head=False),
        {"vision_feature_layer": -1, "vision_feature_select_strategy": "full", "tie_word_embeddings": True},
        torch.float16,
        None,
        "new",
    ),
    "clip-qwen2-gqa-sharded": (qwen(), CLIPVisionConfig(**VISION), {"vision_feature_layer": [-2, -1]}, torch.bfloat16, "60KB", "old"),
    "clip-llama-full": (
        mha(rope_parameters=ROPE_LINEAR, attention_bias=True, mlp_bias=True),
        CLIPVisionConfig(**{**VISION, "hidden_act": "gelu"}),
        {"vision_feature_select_strategy": "full", "projector_hidden_act": "relu", "multimodal_projector_bias": False},
        torch.bfloat16,
        None,
        "older",
    ),
}


def randomise(model: torch.nn.Module, dtype: torch.dtype) -> None:
    for name, parameter in model.named_parameters():
        with torch.no_grad():
            if "norm" in name or "layrnorm" in name:
                centre = 1.0 if name.endswith("weight") else 0.0
                parameter.normal_(centre, 0.2)
            elif parameter.dim() < 2:
                parameter.normal_(0, 0.2)
            else:
                parameter.normal_(0, 1.5 / parameter[0].numel() ** 0.5)
            parameter.copy_(parameter.to(dtype).float())


def rename(folder: Path, names: str) -> None:
    """Checkpoints in the wild have the names of the transformers version that saved them."""
    if names == "old":
        return
    file = folder / "model.safetensors"
    tensors = load_file(file)
    for name in list(tensors):
        bare = name.removeprefix("model.").replace("language_model.model.", "language_model.").replace("vision_tower.vision_model.", "vision_tower.")
        bare = bare.replace("language_model.lm_head.", "lm_head.")
        if names == "new":  # transformers 5: one model prefix
            wanted = bare if bare.startswith("lm_head.") else f"model.{bare}"
        else:  # transformers 4: a language model with a head of its own, a tower inside a vision model
            wanted = bare.replace("language_model.", "language_model.model.").replace("vision_tower.", "vision_tower.vision_model.")
            wanted = wanted.replace("lm_head.", "language_model.lm_head.")
        tensors[wanted] = tensors.pop(name)
    save_file(tensors, file, metadata={"format": "pt"})


def write_kind(name: str) -> None:
    text, vision, settings, dtype, shard, names = KINDS[name]
    folder = OUT / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    config = LlavaConfig(text_config=text, vision_config=vision, image_token_index=IMAGE_TOKEN, **settings)
    torch.manual_seed(sum(map(ord, name)))
    model = LlavaForConditionalGeneration(config).eval().float()
    randomise(model, dtype)

    pixels = torch.randn(2, 3, vision.image_size, vision.image_size)
    with torch.no_grad():
        features = torch.stack(list(model.get_image_features(pixel_values=pixels).pooler_output))
        tokens = [1, 5, *[IMAGE_TOKEN] * features.shape[1], 17, 40, *[IMAGE_TOKEN] * features.shape[1], 9, 30, 71, 2]
        ids = torch.tensor([tokens])
        logits = model(input_ids=ids, pixel_values=pixels, attention_mask=torch.ones_like(ids)).logits[0]
        padded = torch.tensor([[0, 0, 0, 1, 6, 7, 8], [1, 9, 10, 11, 12, 13, 14]])
        mask = (padded != 0).long()
        # transformers numbers positions by slot too when none are given
        padded_logits = model(input_ids=padded, attention_mask=mask).logits

    model.to(dtype).save_pretrained(folder, **({"max_shard_size": shard} if shard else {}))
    rename(folder, names)
    (folder / "generation_config.json").unlink(missing_ok=True)
    golden = {"pixel_values": pixels, "image_features": features, "logits": logits, "padded_logits": padded_logits}
    save_file({key: value.float().contiguous() for key, value in golden.items()}, folder / "golden.safetensors")
    (folder / "golden.json").write_text(json.dumps({"input_ids": tokens, "padded_ids": padded.tolist()}) + "\n")
    print(f"{name}: logits within ±{logits.abs().max():.2f}, {sum(f.stat().st_size for f in folder.iterdir()) / 1e3:.0f} kB")


if __name__ == "__main__":
    for kind in KINDS:
        write_kind(kind)
