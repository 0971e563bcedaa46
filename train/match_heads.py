"""Starts a few heads as matchers, fitted by ridge regression: what gradient descent did not find in 1500 steps (LOG.md).

Fitted once the first losses have settled: before, the steps are so large that they would undo them.

Layer 0: image tokens look at the number that stands before them. Layers 1 and 2: a word of a question looks at the image tokens
that show it, and a number of a question at the tokens of the image that carries it. Each thing and number gets a code; queries are fitted to
give the code of what is asked for, keys the code of what is shown, and zero elsewhere. From here, training refines them.
"""

import torch

from .config import Config
from .decoder_forward import DecoderForward, norm
from .tokenizer import MAX_IMAGES
from .writer import NOTHING, Batch

NUM_BATCHES = 48
# Rotary pairs, each a (low, high) dimension of 64. Slow ones agree over the whole context; near ones tell the number just before an
# image from those before. Qwen2-VL's first eight pairs turn with time, of which a still picture is one step.
SLOW_PAIRS = range(22, 32)
NEAR_PAIRS = {"pack-mha": range(9, 15), "pack-gqa": range(3, 8)}
# Heads: (query head, key head) of things and of numbers. pack-gqa has two key heads, pack-mha one for each query head.
HEADS = {"pack-mha": ((0, 0), (1, 1)), "pack-gqa": ((0, 0), (3, 1))}
MATCH_LAYERS = (1, 2)
QUERY_GAIN, KEY_GAIN = 15.0, 28.0
# Size of what the reader adds, as a share of what layer 0 gives.
READER_SHARE = 0.5


@torch.no_grad()
def set_number_reader(config: Config, model, batches: list, forward: DecoderForward) -> dict[str, torch.Tensor]:
    """New weights, by name, with which layer 0 brings an image's number to its tokens. `batches` — (Batch, embedded [B, S, hidden])."""
    head, key_head = HEADS[config.model][1]
    pairs = torch.tensor(list(NEAR_PAIRS[config.model]))
    layer, prefix = model.model.language_model.layers[0], "model.language_model.layers.0.self_attn"
    x, queries, keys = [], [], []
    for batch, embedded in batches:
        x.append(norm(embedded, layer.input_layernorm.weight).flatten(0, 1).float().cpu())
        image = torch.from_numpy(batch.shown_number != NOTHING)
        queries.append(image.flatten().float())
        # The number itself, not what stands between it and the image.
        keys.append(torch.from_numpy(number_tokens(batch)).flatten().float())
    x, queries, keys = torch.cat(x), torch.cat(queries), torch.cat(keys)
    ones = torch.ones(1, len(pairs)) / len(pairs) ** 0.5
    everywhere = torch.ones(len(x))
    changed = {}
    for part, at, gain, target, penalty in (("q_proj", head, QUERY_GAIN, queries, 3.0), ("k_proj", key_head, KEY_GAIN, keys, 30.0)):
        rows = torch.zeros(config.head_dim, config.hidden)
        rows[pairs] = gain * ridge(x, target[:, None] * ones, everywhere, penalty)
        changed[f"{prefix}.{part}.weight"] = replaced(model, f"{prefix}.{part}.weight", at, rows)
    # What it reads must be heard beside the rest. A value is the normed number token seen from head_dim of hidden directions.
    given = torch.cat([forward.states(embedded, torch.from_numpy(batch.positions).to(embedded.device))[1].float().flatten(0, 1).cpu() for batch, embedded in batches[:2]])
    gain = READER_SHARE * given.norm(dim=-1).mean() / config.head_dim**0.5
    generator = torch.Generator().manual_seed(1)
    frame = torch.linalg.qr(torch.randn(config.hidden, 2 * config.head_dim, generator=generator)).Q.T
    changed[f"{prefix}.v_proj.weight"] = replaced(model, f"{prefix}.v_proj.weight", key_head, frame[: config.head_dim])
    output = model.get_parameter(f"{prefix}.o_proj.weight").float().cpu().clone()
    output[:, head * config.head_dim : (head + 1) * config.head_dim] = gain * frame[config.head_dim :].T
    changed[f"{prefix}.o_proj.weight"] = output
    return changed


def number_tokens(batch: Batch):
    """Where the number before a picture stands: the first image token of a picture sees it a fixed few tokens back — [B, S]."""
    import numpy as np

    shown = batch.shown_number != NOTHING
    first = shown & ~np.pad(shown, ((0, 0), (1, 0)))[:, :-1]
    back = 2 if batch.positions.ndim == 2 else 3  # ":" and, for Qwen2-VL, the vision start
    return np.pad(first, ((0, 0), (0, back)))[:, back:]


@torch.no_grad()
def set_match_heads(
    config: Config, model, batches: list, forward: DecoderForward, names: torch.Tensor, kinds: tuple[str, ...]
) -> dict[str, torch.Tensor]:
    """New query and key weights, by name, of the heads that match things and numbers.

    `names` — embeddings of things [things, hidden]; `kinds` — which of "thing" and "number".
    """
    slow = torch.tensor([*SLOW_PAIRS, *(pair + config.head_dim // 2 for pair in SLOW_PAIRS)])
    generator = torch.Generator().manual_seed(0)
    zero = torch.zeros(1, len(slow))  # NOTHING picks the last
    # Numbers are few enough for random codes. Things outnumber the dimensions that could tell such codes apart, so theirs are their names'
    # embeddings seen from a few random directions: a linear map of what words bring along and what aligned pictures show.
    directions = torch.randn(names.shape[1], len(slow), generator=generator)
    codes = {
        "thing": torch.cat([torch.nn.functional.normalize(names.float().cpu() @ directions, dim=-1), zero]),
        "number": torch.cat([torch.nn.functional.normalize(torch.randn(MAX_IMAGES + 1, len(slow), generator=generator), dim=-1), zero]),
    }

    states: dict[int, list] = {layer: [] for layer in MATCH_LAYERS}
    for batch, embedded in batches:
        entering = forward.states(embedded, torch.from_numpy(batch.positions).to(embedded.device))
        for layer in MATCH_LAYERS:
            weight = model.model.language_model.layers[layer].input_layernorm.weight
            states[layer].append(norm(entering[layer], weight).flatten(0, 1).float().cpu())
    marks = lambda name: torch.cat([torch.from_numpy(getattr(batch, name)).flatten() for batch, _ in batches])

    changed: dict[str, torch.Tensor] = {}
    for layer in MATCH_LAYERS:
        x = torch.cat(states[layer])  # [N, hidden]
        values: dict[str, torch.Tensor] = {}
        for kind, (head, key_head) in zip(("thing", "number"), HEADS[config.model]):
            if kind not in kinds:
                continue
            asked, shown = codes[kind][marks(f"asked_{kind}")], codes[kind][marks(f"shown_{kind}")]
            # What other tokens ask is nearly free; what they offer must be zero, or words would match themselves.
            weight = torch.where(asked.norm(dim=1) > 0, 1.0, 0.02)
            for part, at, fit in (
                ("q_proj", head, QUERY_GAIN * ridge(x, asked, weight, 3.0)),
                ("k_proj", key_head, KEY_GAIN * ridge(x, shown, torch.ones(len(x)), 30.0)),
            ):
                rows = torch.zeros(config.head_dim, config.hidden)
                rows[slow] = fit
                name = f"model.language_model.layers.{layer}.self_attn.{part}.weight"
                values[name] = replaced(model, name, at, rows, values.get(name))
        changed |= values
    return changed


def replaced(model, name: str, head: int, rows: torch.Tensor, value: torch.Tensor | None = None) -> torch.Tensor:
    """A projection's weight with the rows of one head set."""
    value = model.get_parameter(name).float().cpu().clone() if value is None else value
    value[head * len(rows) : (head + 1) * len(rows)] = rows
    return value


def ridge(x: torch.Tensor, targets: torch.Tensor, weight: torch.Tensor, penalty: float) -> torch.Tensor:
    """Weighted least squares from x [N, D] to targets [N, C], as a weight matrix [C, D]."""
    weighted = x * weight[:, None]
    gram = weighted.T @ x + penalty * torch.eye(x.shape[1])
    return torch.linalg.solve(gram, weighted.T @ targets).T
