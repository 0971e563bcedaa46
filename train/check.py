"""Compares the recipe's towers and decoders with transformers' own forward passes on random weights: python -m train.check --model pack-gqa."""

import torch

from .config import Config, load_config
from .decoder_forward import DecoderForward
from .layouts import build, merge_order, project, tower_features, tower_of

SPECIAL = {"pad": 0, "bos": 1, "eos": 2, "image": 3, "video": 4, "vision_start": 5, "vision_end": 6}
TOLERANCE = 1e-4


@torch.no_grad()
def main(config: Config) -> None:
    torch.manual_seed(config.seed)
    model = build(config, SPECIAL, 64).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.normal_(0, 0.1)
    pixels = torch.rand(2, 3, 64, 64 if config.model == "pack-mha" else 96) * 2 - 1
    compare("tower and projector", *(towers(model, pixels) if config.model == "pack-mha" else rotary_towers(model, pixels)))
    embedded = torch.randn(2, 40, config.hidden)
    positions = torch.arange(40).expand(2, 40)
    if config.model == "pack-gqa":
        positions = torch.stack([positions + torch.randint(0, 4, (40,)) for _ in range(3)])
    theirs = model.model.language_model(inputs_embeds=embedded, position_ids=positions).last_hidden_state
    compare("decoder", DecoderForward(model)(embedded, positions), theirs)


def towers(model, pixels: torch.Tensor):
    theirs = model.model.get_image_features(pixels, vision_feature_layer=-1, vision_feature_select_strategy="full", return_dict=True).pooler_output
    return project(model, tower_features(tower_of(model), pixels)).flatten(0, 1), torch.cat(list(theirs)).view(-1, model.config.text_config.hidden_size)


def rotary_towers(model, pixels: torch.Tensor):
    batch, _, height, width = pixels.shape
    rows, columns = height // 8, width // 8
    # Patches in the order of merged blocks, each doubled in time: what Qwen2-VL's image processor makes.
    blocks = pixels.view(batch, 3, rows // 2, 2, 8, columns // 2, 2, 8).permute(0, 2, 5, 3, 6, 1, 4, 7)
    patches = blocks.unsqueeze(6).expand(*blocks.shape[:6], 2, 8, 8).reshape(batch * rows * columns, -1)
    theirs = model.model.visual(patches, grid_thw=torch.tensor([[1, rows, columns]] * batch)).pooler_output
    merged = merge_order(tower_features(tower_of(model), pixels), rows, columns)
    return project(model, merged.view(-1, 4, merged.shape[-1] // 4)), theirs


def compare(what: str, ours: torch.Tensor, theirs: torch.Tensor) -> None:
    difference = (ours - theirs).abs().max().item()
    print(f"{what}: largest difference {difference:.1e}, mean size {theirs.abs().mean().item():.3f}")
    if difference > TOLERANCE:
        raise SystemExit(f"{what} differs from transformers' by {difference:.1e}, more than {TOLERANCE:.0e}")


if __name__ == "__main__":
    main(load_config())
