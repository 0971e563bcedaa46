"""Stage 1: the tower learns what each patch belongs to, and from the mean feature what one thing is shown, how many there are and on which colour."""

import json
import queue
import threading
import time

import torch
from torch import nn
import torch.nn.functional as F

from .budget import Budget
from .config import Config, load_config, make_config
from .layouts import build, tower_features, tower_of, untrained
from .optimiser import MasterOptimiser, cosine
from .views import NONE, ViewBatch, ViewStream, normalise, vocabulary

# Pictures by kind. Of text and single things there is most to learn.
MIX = "single=4,places=2,count=1.5,text=4"
# Groups of sizes, each drawn by a process of its own: (sizes, share of steps). One step has the same number of patches at any size.
SIZES = {
    "pack-mha": (("64x64", 1.0),),
    "pack-gqa": (("64x64", 0.55), ("96x64,64x96,96x96", 0.25), ("128x128,128x96,96x128,160x64", 0.2)),
}
MAX_COUNT = 9
# Patches of a picture whose thing is asked for in a step; most of the work is in the tower, so a quarter of them says enough.
ASKED_PATCHES = 16
# Of a patch that shows nothing, less is to be learned.
NONE_WEIGHT = 0.3
# The colour behind is asked of one patch in so many; a number without common factor with a row's length meets all columns.
BEHIND_EVERY = 5
# Rotary towers do not know where a patch stands unless they are told to find out; learned positions say it anyway.
PLACE_WEIGHT = {"pack-mha": 0.3, "pack-gqa": 1.0}
SAVE_SECONDS = 120
TRAIN_SEED, EVALUATION_SEED = 1_000, 999


class TowerClassifier(nn.Module):
    """The tower with linear heads on the features the projector will see."""

    def __init__(self, config: Config):
        super().__init__()
        names = vocabulary()
        self.place_weight = PLACE_WEIGHT[config.model]
        special = dict.fromkeys(("pad", "bos", "eos", "image", "video", "vision_start", "vision_end"), 0)
        self.tower = tower_of(build(config, special, 8))
        if hasattr(self.tower, "merger"):
            self.tower.merger.requires_grad_(False)
        for name, parameter in self.tower.named_parameters():
            if untrained(name):
                parameter.requires_grad_(False)
        width, things = config.tower_hidden, len(names["things"])
        self.thing_classifier = nn.Linear(width, things + 1)  # the last is "nothing"
        self.concept_classifier = nn.Linear(width, things)
        self.colour_classifier = nn.Linear(width, len(names["colours"]))
        self.count_classifier = nn.Linear(width, MAX_COUNT + 1)
        self.place_classifier = nn.Linear(width, 2)
        self.letter_classifier = nn.Linear(width, 26)
        self.behind_classifier = nn.Linear(width, len(names["colours"]))

    def features(self, pixels: torch.Tensor) -> torch.Tensor:
        """[B, 3, H, W] in -1…1 to [B, patches, hidden]."""
        return tower_features(self.tower, pixels)

    def loss(self, batch: ViewBatch, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """Weighted parts of the loss, by name."""
        device = self.thing_classifier.weight.device
        patches = self.features(normalise(batch.pixels.to(device)))
        mean = patches.mean(1)
        things = batch.things.flatten(1)
        # 1. Each patch: its thing, or nothing. Patches that show something are asked more often.
        preference = torch.rand(things.shape, generator=generator) + 0.35 * (things != NONE)
        asked = preference.topk(ASKED_PATCHES).indices
        nothing = self.thing_classifier.out_features - 1
        targets = things.gather(1, asked).flatten().to(device)
        logits = self.thing_classifier(patches.gather(1, asked[..., None].expand(-1, -1, patches.shape[-1]).to(device))).float().flatten(0, 1)
        losses = F.cross_entropy(logits, torch.where(targets == NONE, nothing, targets), reduction="none")
        weight = torch.where(targets == NONE, NONE_WEIGHT, 1.0)
        parts = {"thing": (losses * weight).sum() / weight.sum()}
        # 2. The mean: the one thing shown, the background, the count.
        parts["concept"] = masked_loss(self.concept_classifier, mean, batch.concept.to(device), batch.concept != NONE, 0.05)
        parts["colour"] = 0.3 * masked_loss(self.colour_classifier, mean, batch.colour.to(device), batch.colour != NONE)
        parts["count"] = 0.3 * masked_loss(self.count_classifier, mean, batch.count.clamp(0, MAX_COUNT).to(device), batch.count > 0)
        # 3. Each patch: where it stands.
        rows, columns = batch.things.shape[1:]
        place = torch.stack(torch.meshgrid(torch.linspace(-1, 1, rows), torch.linspace(-1, 1, columns), indexing="ij"), -1).flatten(0, 1).to(device)
        parts["place"] = self.place_weight * (self.place_classifier(patches).float() - place).square().mean()
        # 4. Each patch of a word: the letter there. Words alone were still at chance after 600 steps.
        where, letters = letters_of(batch.things)
        if len(letters):
            parts["letter"] = F.cross_entropy(self.letter_classifier(patches[where.flatten(1).to(device)]).float(), letters.to(device))
        # 5. Each patch: the colour behind it, so that a token found by what it shows tells the background too.
        behind = batch.colour.to(device)[:, None].expand(-1, patches.shape[1])[:, ::BEHIND_EVERY]
        known = behind != NONE
        parts["behind"] = 0.5 * F.cross_entropy(self.behind_classifier(patches[:, ::BEHIND_EVERY][known]).float(), behind[known])
        return parts


def letters_of(things: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Which patches lie in a word [B, H/8, W/8], and the letter (0…25) about there, in a word's width shared evenly by its letters."""
    names = vocabulary()["things"]
    first, end = vocabulary()["ranges"]["word"]
    where = (things >= first) & (things < end)
    picture, row, column = where.nonzero().T
    thing = things[where]
    word = picture * len(names) + thing
    _, index = word.unique(return_inverse=True)
    left = torch.full((int(index.max()) + 1 if len(index) else 0,), 1 << 30).scatter_reduce(0, index, column, "amin")[index]
    right = torch.zeros(int(index.max()) + 1 if len(index) else 0, dtype=torch.long).scatter_reduce(0, index, column, "amax")[index]
    lengths = torch.tensor([len(name) for name in names])[thing]
    at = ((column - left + 0.5) / (right - left + 1) * lengths).long()
    return where, torch.tensor([ord(names[t][a]) - ord("a") for t, a in zip(thing.tolist(), at.tolist())], dtype=torch.long)


def masked_loss(classifier: nn.Linear, features: torch.Tensor, targets: torch.Tensor, where: torch.Tensor, smoothing: float = 0.0) -> torch.Tensor:
    where = where.to(features.device)
    # Weighted by the share of pictures asked, so that few pictures do not speak as loudly as many.
    share = where.float().mean()
    if share == 0:
        return torch.zeros((), device=features.device)
    return share.sqrt() * F.cross_entropy(classifier(features[where]).float(), targets[where], label_smoothing=smoothing)


class Pictures:
    """Batches of all sizes, drawn ahead by one."""

    def __init__(self, config: Config, seed: int):
        self.generator = torch.Generator().manual_seed(seed)
        groups = SIZES[config.model]
        self.shares = torch.tensor([share for _, share in groups])
        self.streams = []
        for number, (sizes, _) in enumerate(groups):
            area = max(int(w) * int(h) for w, h in (s.split("x") for s in sizes.split(",")))
            self.streams.append(ViewStream(seed + number, max(8, config.tower_patches * 64 // area), sizes, MIX))
        self.ahead: queue.Queue = queue.Queue(2)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            while True:
                group = torch.multinomial(self.shares, 1, generator=self.generator).item()
                self.ahead.put(next(self.streams[group]))
        except Exception as error:  # shown by the loop that waits for a batch
            self.ahead.put(error)

    def next(self) -> ViewBatch:
        batch = self.ahead.get(timeout=120)
        if isinstance(batch, Exception):
            raise batch
        return batch

    def close(self) -> None:
        for stream in self.streams:
            stream.process.kill()


def train(config: Config) -> None:
    folder = config.folder
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    classifier = TowerClassifier(config)
    if config.model == "pack-gqa" and config.warm_start:
        warm_start(classifier, config)
    classifier = classifier.to(config.device).bfloat16()
    optimiser = MasterOptimiser(classifier.named_parameters(), config.tower_lr, config.tower_muon_lr)
    saved = folder / "tower.pt"
    step, spent, seen = 0, 0.0, 0
    if saved.exists():
        state = torch.load(saved)
        optimiser.load_state_dict(state["optimiser"])
        step, spent, seen = state["step"], state["seconds"], state["pictures"]
    generator = torch.Generator().manual_seed(config.seed * TRAIN_SEED + step)
    pictures = Pictures(config, config.seed * TRAIN_SEED + step)
    examples = evaluation_batches(config, "train", 1024)

    def save() -> None:
        torch.save({"optimiser": optimiser.state_dict(), "step": step, "seconds": budget.spent, "pictures": seen}, saved.with_suffix(".writing"))
        saved.with_suffix(".writing").rename(saved)

    budget = Budget(config.tower_minutes, spent)
    last_saved = time.time()
    sums: dict[str, float] = {}
    while (progress := budget.tick()) < 1:
        batch = pictures.next()
        parts = classifier.loss(batch, generator)
        sum(parts.values()).backward()
        optimiser.step(cosine(progress))
        step, seen = step + 1, seen + len(batch)
        for name, part in parts.items():
            sums[name] = sums.get(name, 0.0) + part.item() / 50
        if step % 50 == 0:
            shown = " ".join(f"{name} {value:.3f}" for name, value in sums.items())
            print(f"tower step {step} {shown} {seen / budget.spent:.0f} img/s left {budget.minutes_left:.1f} min", flush=True)
            sums = {}
        if time.time() - last_saved > SAVE_SECONDS:
            last_saved = time.time()
            save()
            print(json.dumps(evaluate(classifier, examples)), flush=True)
    pictures.close()
    save()
    figures = {
        "steps": step, "minutes": round(budget.spent / 60, 1), "pictures": seen,
        "training styles": evaluate(classifier, evaluation_batches(config, "train", 4096)),
        "held-out style": evaluate(classifier, evaluation_batches(config, "held-out", 2048)),
    }
    (folder / "tower.json").write_text(json.dumps(figures))
    print(json.dumps(figures), flush=True)


def warm_start(classifier: TowerClassifier, config: Config) -> None:
    """Weights of pack-mha's tower in Qwen2-VL's layout; what has no counterpart there (positions, a patch bias) is learned anew."""
    source = make_config("pack-mha", config.size).folder / "tower.pt"
    if not source.exists():
        raise FileNotFoundError(f"{source} is missing: train pack-mha's tower first, or set warm_start to False in config.py")
    theirs = torch.load(source)["optimiser"]["masters"]
    ours = classifier.state_dict()
    for name in list(ours):
        if "classifier" in name:
            ours[name] = theirs[name]
    embedding = theirs["tower.embeddings.patch_embedding.weight"]
    ours["tower.patch_embed.proj.weight"] = torch.stack([embedding, embedding], 2) / 2
    parts = {"norm1": "layer_norm1", "norm2": "layer_norm2", "attn.proj": "self_attn.out_proj", "mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}
    for layer in range(config.tower_layers):
        for kind in ("weight", "bias"):
            for ours_part, theirs_part in parts.items():
                ours[f"tower.blocks.{layer}.{ours_part}.{kind}"] = theirs[f"tower.encoder.layers.{layer}.{theirs_part}.{kind}"]
            ours[f"tower.blocks.{layer}.attn.qkv.{kind}"] = torch.cat(
                [theirs[f"tower.encoder.layers.{layer}.self_attn.{part}_proj.{kind}"] for part in "qkv"])
    classifier.load_state_dict(ours)


def load_tower(config: Config) -> TowerClassifier:
    """The trained classifier in f32."""
    classifier = TowerClassifier(config)
    classifier.load_state_dict(torch.load(config.folder / "tower.pt")["optimiser"]["masters"], strict=False)
    return classifier


def evaluation_batches(config: Config, styles: str, count: int) -> list[ViewBatch]:
    sizes = ",".join(sizes for sizes, _ in SIZES[config.model])
    return list(ViewStream(EVALUATION_SEED, 64, sizes, MIX, limit=count // 64, styles=styles))


@torch.no_grad()
def evaluate(classifier: TowerClassifier, batches: list[ViewBatch]) -> dict[str, float]:
    """Shares right: patches by what they show, the one thing of a single, colours, counts; and the mean error of places."""
    right: dict[str, float] = {}
    asked: dict[str, int] = {}

    def judge(name: str, guesses: torch.Tensor, truth: torch.Tensor, where: torch.Tensor) -> None:
        right[name] = right.get(name, 0.0) + (guesses.cpu() == truth)[where].sum().item()
        asked[name] = asked.get(name, 0) + where.sum().item()

    names = vocabulary()
    device = classifier.thing_classifier.weight.device
    nothing = classifier.thing_classifier.out_features - 1
    for batch in batches:
        patches = classifier.features(normalise(batch.pixels.to(device)).to(classifier.thing_classifier.weight.dtype))
        mean = patches.mean(1)
        guessed, things = classifier.thing_classifier(patches).argmax(-1).cpu(), batch.things.flatten(1)
        for kind, (first, end) in names["ranges"].items():
            judge(f"{kind} patches", guessed, things, (things >= first) & (things < end))
        judge("empty patches", guessed, torch.full_like(things, nothing), things == NONE)
        judge("single", classifier.concept_classifier(mean).argmax(-1), batch.concept, batch.concept != NONE)
        judge("colour", classifier.colour_classifier(mean).argmax(-1), batch.colour, batch.colour != NONE)
        where, letters = letters_of(batch.things)
        judge("letters", classifier.letter_classifier(patches[where.flatten(1).to(device)]).argmax(-1), letters, torch.ones_like(letters, dtype=torch.bool))
        behind = batch.colour[:, None].expand(-1, things.shape[1])
        judge("colour behind patches", classifier.behind_classifier(patches).argmax(-1).cpu(), behind, behind != NONE)
        judge("count", classifier.count_classifier(mean).argmax(-1), batch.count, batch.count > 0)
    return {name: round(right[name] / max(1, asked[name]), 3) for name in right}


if __name__ == "__main__":
    train(load_config())
