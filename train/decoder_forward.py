"""The decoder's forward for training: the checkpoint's own weights, one function for both layouts, any positions.

Attention is two matrix products up to `FUSED_FROM` tokens: the fused CPU kernel's backward is slow at short lengths. Beyond, the scores would
not fit in memory.
"""

import torch
import torch.nn.functional as F
from torch import nn

from .layouts import MROPE_SECTION, rotate

FUSED_FROM = 1600


def causal_mask(length: int, like: torch.Tensor) -> torch.Tensor:
    """0 where a token sees, -1e4 where it does not — [S, S]; sequences are padded on the right only."""
    return torch.full((length, length), -1e4, dtype=like.dtype, device=like.device).triu(1)


def rotary(config, positions: torch.Tensor, like: torch.Tensor):
    """Cosines and sines [B, 1, S, D] of positions [B, S], or [3, B, S] where three axes share the pairs."""
    head_dim = config.head_dim if getattr(config, "head_dim", None) else config.hidden_size // config.num_attention_heads
    theta = config.rope_parameters["rope_theta"]
    frequencies = theta ** -(torch.arange(0, head_dim, 2, device=like.device) / head_dim)
    angles = positions[..., None].float() * frequencies
    if positions.ndim == 3:
        angles = torch.cat([part[axis] for axis, part in enumerate(angles.split(MROPE_SECTION, -1))], -1)
    angles = torch.cat([angles, angles], -1)[:, None]
    return angles.cos().to(like.dtype), angles.sin().to(like.dtype)


def layer_forward(layer: nn.Module, x: torch.Tensor, cos, sin, mask: torch.Tensor, heads: int, key_heads: int) -> torch.Tensor:
    """One decoder layer — [B, S, hidden] to the same."""
    batch, length, _ = x.shape
    attention = layer.self_attn
    normed = norm(x, layer.input_layernorm.weight)
    q, k, v = (part(normed).view(batch, length, count, -1).transpose(1, 2)
               for part, count in ((attention.q_proj, heads), (attention.k_proj, key_heads), (attention.v_proj, key_heads)))
    q, k = rotate(q, cos, sin), rotate(k, cos, sin)
    head_dim, group = q.shape[-1], heads // key_heads
    if length >= FUSED_FROM or x.is_cuda:
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=group > 1)
    else:
        # Queries of a group one behind the other: [B, key heads, group · S, D] against [B, key heads, S, D].
        scores = torch.matmul((q * head_dim**-0.5).reshape(batch, key_heads, group * length, head_dim), k.transpose(2, 3))
        scores = scores.view(batch, heads, length, length) + mask
        mixed = torch.matmul(torch.softmax(scores, -1).view(batch, key_heads, group * length, length), v).view(batch, heads, length, head_dim)
    x = x + attention.o_proj(mixed.transpose(1, 2).reshape(batch, length, heads * head_dim))
    mlp = layer.mlp
    normed = norm(x, layer.post_attention_layernorm.weight)
    return x + mlp.down_proj(F.silu(mlp.gate_proj(normed)) * mlp.up_proj(normed))


def norm(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    # Only the mean is taken in f32: a whole f32 copy of the activations was a fifth of a step.
    mean = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32).square() / x.shape[-1]
    return x * torch.rsqrt(mean + 1e-6).to(x.dtype) * weight


class DecoderForward:
    """Runs a model's decoder; `states` gives what enters each layer and what leaves the last."""

    def __init__(self, model):
        self.decoder = model.model.language_model
        self.config = model.config.text_config

    def __call__(self, embedded: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Last hidden states, normed — [B, S, hidden]."""
        return norm(self.states(embedded, positions)[-1], self.decoder.norm.weight)

    def states(self, embedded: torch.Tensor, positions: torch.Tensor) -> list[torch.Tensor]:
        cos, sin = rotary(self.config, positions, embedded)
        mask = causal_mask(embedded.shape[1], embedded)
        states = [embedded]
        for layer in self.decoder.layers:
            states.append(layer_forward(layer, states[-1], cos, sin, mask, self.config.num_attention_heads, self.config.num_key_value_heads))
        return states
