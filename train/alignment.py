"""Before the decoder sees anything: projected pictures are brought near the embeddings of what they show, or of the colour behind.

A decoder that starts so finds the name of a picture by copying and a picture by comparing; 560 names were not learned through answers alone
in 600 steps (LOG.md).
"""

import numpy as np
import torch
import torch.nn.functional as F

from .config import Config
from .features import Pool
from .layouts import is_projector, project
from .views import vocabulary

STEPS, TOKENS = 800, 2048
SCALE = 16.0


class NameVectors:
    """Mean embeddings of the tokens of each thing's and colour's name, as it stands within a sentence or at the start of an answer."""

    def __init__(self, tokenizer, device: str):
        self.forms = []
        for prefix in (" ", ""):
            names = [tokenizer.encode(prefix + name).ids for name in (*vocabulary()["things"], *vocabulary()["colours"])]
            ids = torch.tensor([id for name in names for id in name], device=device)
            self.forms.append((ids, torch.tensor(np.cumsum([0, *(len(name) for name in names[:-1])]), device=device)))

    def __call__(self, embeddings: torch.Tensor) -> list[torch.Tensor]:
        """[things + colours, hidden] for each of the two forms."""
        return [F.embedding_bag(ids, embeddings.float(), starts, mode="mean") for ids, starts in self.forms]


def alignment_loss(projected: torch.Tensor, names: torch.Tensor, vectors: list[torch.Tensor]) -> torch.Tensor:
    """Cross-entropy of projected tokens [N, hidden] of these names [N] against all names."""
    unit = F.normalize(projected.float(), dim=-1)
    return sum(F.cross_entropy(unit @ F.normalize(words, dim=-1).T * SCALE, names) for words in vectors) / len(vectors)


def align_words(config: Config, model, tokenizer, pool: Pool) -> None:
    """Trains the projector and the word embeddings of `model`, in place and in f32."""
    vectors = NameVectors(tokenizer, config.device)
    words = model.get_input_embeddings().weight
    projector = [p for name, p in model.named_parameters() if is_projector(name)]
    size = words.detach().norm(dim=-1).mean()
    optimiser = torch.optim.AdamW([{"params": projector, "lr": 2e-3}, {"params": [words], "lr": 2e-2}], betas=(0.9, 0.98), weight_decay=0.0)
    peaks = [group["lr"] for group in optimiser.param_groups]
    random = np.random.default_rng(config.seed)
    for step in range(STEPS):
        for group, peak in zip(optimiser.param_groups, peaks):
            group["lr"] = peak * min(1.0, (step + 1) / 50, (STEPS - step) / (0.5 * STEPS))
        tokens = random.choice(len(pool.named), TOKENS)
        names = torch.from_numpy(pool.named[tokens]).to(config.device)
        with torch.autocast(config.device, torch.bfloat16):
            projected = project(model, pool.collect(tokens).to(words))
            loss = alignment_loss(projected, names, vectors(words))
        # As large as words, or layers would hear one of the two only.
        sizes = (projected.float().norm(dim=-1) / size).log().square().mean()
        (loss + 0.3 * sizes).backward()
        optimiser.step()
        optimiser.zero_grad()
        if step % 100 == 99:
            print(f"alignment step {step + 1} loss {loss.item():.3f} sizes {sizes.item():.3f}", flush=True)
