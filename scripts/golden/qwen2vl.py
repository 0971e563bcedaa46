"""Makes tiny random Qwen2-VL checkpoints and what PyTorch transformers computes with them, for test/convert-qwen2vl.test.ts.

    python scripts/golden/qwen2vl.py            # writes test/fixtures/qwen2vl, under 2 MB
    pip install torch transformers safetensors  # made with torch 2.13 and transformers 5.23

Weights are drawn as in convert.py. Positions are PyTorch's own get_rope_index, except behind a clip of more frames than its grid is wide: there transformers
5.23 lets text begin among the clip's positions, while the original Qwen2-VL and transformers.js go on behind the largest position of any axis, as we do.
"""

import json
import shutil
from pathlib import Path

import torch
from convert import ROPE_LINEAR, randomise
from safetensors.torch import load_file, save_file
from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

OUT = Path(__file__).parents[2] / "test" / "fixtures" / "qwen2vl"
VOCAB = 72
IMAGE, START, END, VIDEO = 3, 4, 5, 6
TOKENS = {"image_token_id": IMAGE, "video_token_id": VIDEO, "vision_start_token_id": START, "vision_end_token_id": END}
MERGE = 2

VISION = {"depth": 2, "embed_dim": 32, "num_heads": 2, "mlp_ratio": 2, "patch_size": 4, "spatial_merge_size": MERGE, "temporal_patch_size": 2}
TEXT = {"intermediate_size": 80, "num_hidden_layers": 2, "vocab_size": VOCAB, "max_position_embeddings": 256, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}

# name: decoder, tower, whole model, saved type, names and config of which transformers version
KINDS = {
    "tied-v5": (
        # a multiple of 32, as quantised embeddings need
        {**TEXT, "hidden_size": 96, "num_attention_heads": 3, "num_key_value_heads": 1, "rope_parameters": {"rope_type": "default", "rope_theta": 1000.0, "mrope_section": [4, 6, 6]}},
        {**VISION, "hidden_size": 96},
        {"tie_word_embeddings": True},
        torch.float16,
        5,
    ),
    "untied-v4": (
        {**TEXT, "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0, "mrope_section": [2, 3, 3]}},
        {**VISION, "hidden_size": 64, "depth": 1, "embed_dim": 48, "num_heads": 1, "hidden_act": "gelu"},
        {"tie_word_embeddings": False},
        torch.bfloat16,
        4,
    ),
    "linear-rope": (
        {**TEXT, "hidden_size": 64, "num_attention_heads": 2, "num_key_value_heads": 2, "rope_parameters": {**ROPE_LINEAR, "mrope_section": [4, 8, 4]}},
        {**VISION, "hidden_size": 64, "depth": 1},
        {"tie_word_embeddings": False},
        torch.float32,
        5,
    ),
}

# name: what a row shows and says; a grid (time, height, width) is an image or a clip
CASES = {
    "one image": [[1, 7, (1, 4, 4), 8, 9, 10]],
    "two images of different sizes": [[1, (1, 4, 6), 20, (1, 8, 4), 21, 22, 23]],
    "a clip and an image": [[1, 12, (3, 6, 4), 30, 31, (1, 4, 4), 32]],
    "a clip longer than it is wide": [[1, (7, 4, 4), 40, 41, 42]],
    "text only": [[1, 50, 51, 52, 53, 54]],
    "left-padded": [[1, 60, (1, 4, 8), 61, 62, (1, 4, 4), 63], [1, 64, 65, 66]],
}
NUM_GREEDY = 6


def tokens_of(row: list) -> list[int]:
    return [token for part in row for token in ([START, *[IMAGE] * (part[0] * part[1] * part[2] // MERGE**2), END] if isinstance(part, tuple) else [part])]


def write_case(model: Qwen2VLForConditionalGeneration, rows: list, golden: dict, name: str) -> dict:
    grids = [part for row in rows for part in row if isinstance(part, tuple)]
    lists = [tokens_of(row) for row in rows]
    longest = max(map(len, lists))
    ids = torch.tensor([[0] * (longest - len(row)) + row for row in lists])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in lists])
    vision = model.config.vision_config
    width = 3 * vision.temporal_patch_size * vision.patch_size**2
    inputs = {"input_ids": ids, "attention_mask": mask}
    facts = {"input_ids": ids.tolist(), "attention_mask": mask.tolist(), "grids": grids}
    if grids:
        grid_thw = torch.tensor(grids)
        kinds = (ids == IMAGE).int()
        pixels = torch.randn(int(grid_thw.prod(-1).sum()), width)
        golden[f"{name}/pixel_values"] = pixels
        golden[f"{name}/image_features"] = torch.cat(list(model.get_image_features(pixel_values=pixels, image_grid_thw=grid_thw).pooler_output))
        inputs |= {"pixel_values": pixels, "image_grid_thw": grid_thw, "mm_token_type_ids": kinds}
        positions, _ = model.model.get_rope_index(ids, kinds, image_grid_thw=grid_thw, attention_mask=mask)
    else:
        positions = (mask.cumsum(-1) - 1).clamp(min=0).expand(3, -1, -1)
    is_long = any(t > max(h, w) // MERGE for t, h, w in grids)
    if is_long:  # one row, one clip: what stands behind it goes on behind its last frame
        at = int((ids[0] == IMAGE).nonzero().max()) + 1
        positions[:, 0, at:] = positions[:, 0, :at].max() + 1 + torch.arange(longest - at)
    else:
        model.model.rope_deltas = None
        generated = model.generate(**inputs, max_new_tokens=NUM_GREEDY, do_sample=False)
        facts["greedy"] = generated[:, longest:].tolist()
    facts["position_ids"] = positions.tolist()
    golden[f"{name}/logits"] = model(**inputs, position_ids=positions).logits
    return facts


def rename(folder: Path, version: int) -> None:
    """Checkpoints in the wild have the names of the transformers version that saved them."""
    file = folder / "model.safetensors"
    tensors = load_file(file)
    for name in list(tensors):
        bare = name.removeprefix("model.").removeprefix("language_model.")
        if version == 5:
            wanted = bare if bare.startswith("lm_head.") else f"model.{bare}" if bare.startswith("visual.") else f"model.language_model.{bare}"
        else:
            wanted = bare if bare.startswith(("lm_head.", "visual.")) else f"model.{bare}"
        tensors[wanted] = tensors.pop(name)
    save_file(tensors, file, metadata={"format": "pt"})
    if version == 5:
        return
    config = json.loads((folder / "config.json").read_text())
    text, vision = config.pop("text_config"), config["vision_config"]
    rope = text.pop("rope_parameters")
    for key in ("model_type", "layer_types"):
        text.pop(key, None)
    # as on the hub: flat, 'mrope', a tower whose config does not name its type
    config |= {**text, "rope_theta": rope["rope_theta"], "rope_scaling": {"type": "mrope", "mrope_section": rope["mrope_section"]}}
    config["vision_config"] = {key: value for key, value in vision.items() if key not in ("model_type", "rope_parameters", "in_channels")}
    config["model_type"] = "qwen2_vl"
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def write_kind(name: str) -> None:
    text, vision, settings, dtype, version = KINDS[name]
    folder = OUT / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    torch.manual_seed(sum(map(ord, name)))
    model = Qwen2VLForConditionalGeneration(Qwen2VLConfig(text_config=text, vision_config=vision, **TOKENS, **settings)).eval().float()
    randomise(model, dtype)
    golden: dict[str, torch.Tensor] = {}
    with torch.no_grad():
        cases = {case: write_case(model, rows, golden, case) for case, rows in CASES.items()}
    largest = max(value.abs().max() for key, value in golden.items() if key.endswith("logits"))
    model.to(dtype).save_pretrained(folder)
    rename(folder, version)
    (folder / "generation_config.json").unlink(missing_ok=True)
    save_file({key: value.float().contiguous() for key, value in golden.items()}, folder / "golden.safetensors")
    (folder / "golden.json").write_text(json.dumps(cases) + "\n")
    print(f"{name}: logits within ±{largest:.2f}, {sum(f.stat().st_size for f in folder.iterdir()) / 1e3:.0f} kB")


if __name__ == "__main__":
    for kind in KINDS:
        write_kind(kind)
