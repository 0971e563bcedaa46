"""Starts one head in two middle layers as a matcher of words and pictures, fitted by ridge regression.

Each concept gets a random code. Queries are fitted so that a question's concept token gives its code, keys so that image
tokens give the code of what they show and all other tokens give zero. Left to gradient descent, this match was not found
in 1500 steps (LOG.md); from here, it is refined and its value is learned in about 150.
"""

import torch
from transformers import LlavaForConditionalGeneration

LAYERS = (1, 2)
HEAD = 0
NUM_BATCHES = 12
# Rotary pairs that turn slowly enough to agree over hundreds of positions: 20…31 of 32, each a (low, high) dimension.
SLOW_PAIRS = range(20, 32)
QUERY_GAIN, KEY_GAIN = 15.0, 28.0


@torch.no_grad()
def set_match_heads(model: LlavaForConditionalGeneration, batches: list, name_ids: list[list[int]]) -> dict[str, torch.Tensor]:
    """New values of the four weights changed, by parameter name, in f32.

    `batches` — (ids [B, S], hints [B, S], projected [images, tokens, hidden], concepts [images]) each.
    """
    head_dim = model.config.text_config.head_dim
    half = head_dim // 2
    slow = torch.tensor([*SLOW_PAIRS, *(pair + half for pair in SLOW_PAIRS)])
    generator = torch.Generator().manual_seed(0)
    codes = torch.nn.functional.normalize(torch.randn(len(name_ids), len(slow), generator=generator), dim=-1)

    states = {layer: [] for layer in LAYERS}
    query_codes, key_codes = [], []
    for ids, hints, projected, concepts in batches:
        image = ids == model.config.image_token_index
        embedded = model.get_input_embeddings()(ids).masked_scatter(image[..., None], projected.flatten(0, 1))
        hidden = model.model.language_model(inputs_embeds=embedded, output_hidden_states=True, use_cache=False).hidden_states
        for layer in LAYERS:
            normed = model.model.language_model.layers[layer].input_layernorm(hidden[layer])
            states[layer].append(normed.flatten(0, 1).float())
        key_code = torch.zeros(*ids.shape, len(slow))
        key_code[image] = codes[concepts].repeat_interleave(projected.shape[1], 0)
        query_code = torch.zeros_like(key_code)
        for row, position in (hints >= 0).nonzero().tolist():
            query_code[row, position] = codes[concept_before(ids[row, : position + 1].tolist(), name_ids)]
        key_codes.append(key_code.flatten(0, 1))
        query_codes.append(query_code.flatten(0, 1))

    changed = {}
    for layer in LAYERS:
        x = torch.cat(states[layer])  # [N, hidden]
        words, images = torch.cat(query_codes), torch.cat(key_codes)
        # What other tokens ask is nearly free; what they offer must be zero, or words would match themselves.
        weight = torch.where(words.norm(dim=1) > 0, 1.0, 0.02)
        fits = {
            "q_proj": QUERY_GAIN * ridge(x, words, weight, 3.0),
            "k_proj": KEY_GAIN * ridge(x, images, torch.ones(len(x)), 30.0),
        }
        for part, fit in fits.items():
            name = f"model.language_model.layers.{layer}.self_attn.{part}.weight"
            value = model.get_parameter(name).float().clone()
            rows = torch.zeros(head_dim, value.shape[1])
            rows[slow] = fit
            value[HEAD * head_dim : (HEAD + 1) * head_dim] = rows
            changed[name] = value
    return changed


def ridge(x: torch.Tensor, targets: torch.Tensor, weight: torch.Tensor, penalty: float) -> torch.Tensor:
    """Weighted least squares from x [N, D] to targets [N, C], as a weight matrix [C, D]."""
    weighted = x * weight[:, None]
    gram = weighted.T @ x + penalty * torch.eye(x.shape[1])
    return torch.linalg.solve(gram, weighted.T @ targets).T


def concept_before(ids: list[int], name_ids: list[list[int]]) -> int:
    """The concept whose name ends these ids; the longest where one name ends another."""
    ending = [c for c, name in enumerate(name_ids) if ids[-len(name) :] == name]
    return max(ending, key=lambda c: len(name_ids[c]))
