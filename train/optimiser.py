"""bf16 weights for speed with f32 masters for accuracy, stepped by Muon (matrices) and AdamW (the rest)."""

import math

import torch


def cosine(progress: float) -> float:
    """4 % warm-up, then half a cosine down to 2 %."""
    return min(1.0, (progress + 1e-3) / 0.04) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


def trapezoid(progress: float) -> float:
    """2 % warm-up, level, then linearly down over the last 40 %: a level part can be lengthened without replanning."""
    return max(0.01, min(1.0, (progress + 1e-3) / 0.02, (1 - progress) / 0.4))


class MasterOptimiser:
    """Trains a model held in bf16: gradients are copied to f32 masters, stepped there, and rounded back.

    Autocast was slower by a third on CPU: half its time went into casting weights and activations.
    """

    def __init__(self, named_parameters, lr: float, muon_lr: float, weight_decay: float = 0.02):
        self.model = [(name, p) for name, p in named_parameters if p.requires_grad]
        self.masters = [p.detach().float().clone() for _, p in self.model]
        for master in self.masters:
            master.grad = torch.zeros_like(master)
        hidden, words, rest = [], [], []
        for (name, p), master in zip(self.model, self.masters):
            is_matrix = p.ndim == 2 and not any(part in name for part in ("embed", "lm_head", "classifier"))
            (words if "embed_tokens" in name else hidden if is_matrix else rest).append(master)
        adam = {"betas": (0.9, 0.98), "weight_decay": weight_decay, "fused": True}
        self.optimisers = [torch.optim.AdamW(rest, lr=lr, **adam), torch.optim.Muon(hidden, lr=muon_lr, weight_decay=weight_decay, momentum=0.95)]
        if words:
            # Word embeddings are large (see export.py), so their steps are too.
            self.optimisers.append(torch.optim.AdamW(words, lr=10 * lr, **adam))
        self.peaks = [o.param_groups[0]["lr"] for o in self.optimisers]

    def step(self, factor: float, max_norm: float = 1.0) -> None:
        """One step at `factor` times the peak learning rates."""
        for optimiser, peak in zip(self.optimisers, self.peaks):
            optimiser.param_groups[0]["lr"] = peak * factor
        for (_, p), master in zip(self.model, self.masters):
            if p.grad is None:
                master.grad.zero_()
            else:
                master.grad.copy_(p.grad)
                p.grad = None
        torch.nn.utils.clip_grad_norm_(self.masters, max_norm)
        for optimiser in self.optimisers:
            optimiser.step()
        with torch.no_grad():
            for (_, p), master in zip(self.model, self.masters):
                p.copy_(master)

    @torch.no_grad()
    def assign(self, index: int, value: torch.Tensor) -> None:
        """Sets the parameter of this index from outside of training."""
        self.masters[index].copy_(value)
        self.model[index][1].copy_(value)

    def state_dict(self) -> dict:
        return {
            "masters": {name: master for (name, _), master in zip(self.model, self.masters)},
            "optimisers": [o.state_dict() for o in self.optimisers],
        }

    def load_state_dict(self, state: dict) -> None:
        with torch.no_grad():
            for (name, p), master in zip(self.model, self.masters):
                master.copy_(state["masters"][name])
                p.copy_(master)
        for optimiser, saved in zip(self.optimisers, state["optimisers"]):
            optimiser.load_state_dict(saved)
