"""Stage 1: the tower learns to classify concepts and background colours, from its mean feature and from every patch."""

import json
import time

import torch
from torch import nn
import torch.nn.functional as F
from transformers import SiglipVisionModel

from .compose import COLOURS, Composer, normalise
from .config import HELD_OUT_STYLE, Config, load_config, scratch
from .model import vision_config
from .optimiser import MasterOptimiser, cosine


class TowerClassifier(nn.Module):
    """The tower with linear heads on the features the projector will see (last layer, before post_layernorm)."""

    def __init__(self, config: Config, num_concepts: int):
        super().__init__()
        # Eager attention: on CPU its backward in bf16 is twice as fast as the fused kernel's at 64 tokens.
        self.tower = SiglipVisionModel._from_config(vision_config(config), attn_implementation="eager")
        self.tower.post_layernorm.requires_grad_(False)
        self.concept_classifier = nn.Linear(config.tower_hidden, num_concepts)
        self.colour_classifier = nn.Linear(config.tower_hidden, len(COLOURS))

    def features(self, pixels: torch.Tensor) -> torch.Tensor:
        """[B, 3, 64, 64] in −1…1 to [B, 64, hidden]."""
        return tower_features(self.tower, pixels)

    def forward(self, pixels: torch.Tensor):
        patches = self.features(pixels)
        mean = patches.mean(1)
        return self.concept_classifier(mean), self.colour_classifier(mean), self.concept_classifier(patches)


def tower_features(tower: SiglipVisionModel, pixels: torch.Tensor) -> torch.Tensor:
    """The output of the last encoder layer — [B, 64, hidden]."""
    return tower.encoder(inputs_embeds=tower.embeddings(pixels)).last_hidden_state


def train(config: Config) -> None:
    folder = scratch()
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    composer = Composer(folder)
    classifier = TowerClassifier(config, len(composer.names)).bfloat16()
    optimiser = MasterOptimiser(classifier.named_parameters(), config.tower_lr, config.tower_muon_lr)
    saved = folder / "tower.pt"
    step, spent = 0, 0.0
    if saved.exists():
        state = torch.load(saved)
        optimiser.load_state_dict(state["optimiser"])
        step, spent = state["step"], state["seconds"]
    generator = torch.Generator().manual_seed(config.seed * 1000 + step)

    budget = config.tower_minutes * 60
    last_saved = started = time.time()
    while (seconds := spent + time.time() - started) < budget:
        progress = seconds / budget
        concepts, styles, colours = composer.sample_labels(config.tower_batch, generator)
        pixels = normalise(composer.compose(concepts, styles, colours, generator)).bfloat16()
        concept, colour, patches = classifier(pixels)
        concept_loss = F.cross_entropy(concept.float(), concepts, label_smoothing=0.05)
        # Every patch should know what the picture shows: the decoder's curriculum keeps only some of them.
        picked = torch.randint(patches.shape[1], (8,), generator=generator)
        patch_loss = F.cross_entropy(patches[:, picked].float().flatten(0, 1), concepts.repeat_interleave(len(picked)))
        colour_loss = F.cross_entropy(colour.float(), colours)
        (concept_loss + 0.4 * patch_loss + 0.3 * colour_loss).backward()
        optimiser.step(cosine(progress))
        step += 1
        if step % 50 == 0:
            right = (concept.argmax(-1) == concepts).float().mean().item()
            right_colour = (colour.argmax(-1) == colours).float().mean().item()
            print(f"tower step {step} loss {concept_loss:.3f} patch {patch_loss:.3f} right {right:.2f} colour {right_colour:.2f} "
                  f"{config.tower_batch * step / seconds:.0f} img/s left {(budget - seconds) / 60:.1f} min", flush=True)
        if time.time() - last_saved > 150:
            last_saved = time.time()
            torch.save({"optimiser": optimiser.state_dict(), "step": step, "seconds": seconds}, saved)
            print(json.dumps(evaluate(classifier, composer)), flush=True)
    torch.save({"optimiser": optimiser.state_dict(), "step": step, "seconds": seconds}, saved)
    figures = {"steps": step, "minutes": round(seconds / 60, 1), "samples": step * config.tower_batch, **evaluate(classifier, composer, 4096)}
    (folder / "tower.json").write_text(json.dumps(figures))
    print(json.dumps(figures), flush=True)


def load_tower(config: Config, num_concepts: int) -> TowerClassifier:
    """The trained classifier in f32."""
    classifier = TowerClassifier(config, num_concepts)
    masters = torch.load(scratch() / "tower.pt")["optimiser"]["masters"]
    classifier.load_state_dict(masters, strict=False)
    return classifier


@torch.no_grad()
def evaluate(classifier: TowerClassifier, composer: Composer, count: int = 1024) -> dict[str, float]:
    """Accuracy on compositions of another seed, in the training styles and in the held-out one."""
    figures = {}
    for label, styles in (("training styles", None), ("held-out style", (HELD_OUT_STYLE,))):
        generator = torch.Generator().manual_seed(999)
        right = right_colour = right_patch = 0.0
        for _ in range(count // 256):
            concepts, style, colours = composer.sample_labels(256, generator, *([styles] if styles else []))
            pixels = normalise(composer.compose(concepts, style, colours, generator)).to(next(classifier.parameters()).dtype)
            concept, colour, patches = classifier(pixels)
            right += (concept.argmax(-1) == concepts).float().mean().item()
            right_colour += (colour.argmax(-1) == colours).float().mean().item()
            right_patch += (patches.argmax(-1) == concepts[:, None]).float().mean().item()
        figures[label] = {"concept": right / (count // 256), "colour": right_colour / (count // 256), "patch": right_patch / (count // 256)}
    return figures


if __name__ == "__main__":
    train(load_config())
