"""The loop that the decoder stage and the joint stage share: sample conversations, step, average, report, save."""

import json
import random
import time
from dataclasses import dataclass
from typing import Callable, Sequence

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from transformers import LlavaForConditionalGeneration

from .compose import COLOUR_NAMES
from .config import TOKENS_PER_IMAGE, scratch
from .conversations import Writer, pad, sample_conversation
from .fast import decode
from .optimiser import MasterOptimiser, trapezoid
from .questions import TYPES
from .tokenizer import special_ids

EMA_DECAY = 0.995
REPORT_EVERY = 100
SAVE_SECONDS = 150
# Share of answer tokens right, of each type, over a report's steps, at which the next phase begins.
ADVANCE_AT = 0.93


@dataclass(frozen=True)
class Phase:
    """A part of the curriculum, in force until every type is answered well, at the latest until `until` (fraction of time)."""

    until: float
    images: tuple[int, ...]
    # Each image keeps a random subset of its 64 tokens: steps cost in proportion, retrieval is learned all the same.
    tokens_per_image: tuple[int, ...]
    batch: int
    questions: int
    types: tuple[str, ...] = TYPES


class Batches:
    """Random training batches of one phase; `views` draws pictures of given concepts and collects their tensors."""

    def __init__(self, views, tokenizer: Tokenizer, names: list[str], seed: int):
        self.views, self.tokenizer, self.names = views, tokenizer, names
        self.special = special_ids(tokenizer)
        self.rng = random.Random(seed)
        self.writers: dict[int, Writer] = {}

    def sample(self, phase: Phase):
        """Ids and answer types, both [B, S], the pictures of all conversations in order, and tokens kept per image."""
        rng = self.rng
        num_images = rng.choice(phase.images)
        tokens = rng.choice(phase.tokens_per_image)
        writer = self.writers.setdefault(tokens, Writer(self.tokenizer, tokens))
        # One number of images per batch keeps lengths alike; short contexts get larger batches.
        batch = max(4, round(phase.batch * min(2.0, 4 / num_images)))
        conversations, drawn = [], []
        for _ in range(batch):
            concepts = rng.sample(range(len(self.names)), num_images)
            views = [self.views.draw(concept, rng) for concept in concepts]
            colours = [COLOUR_NAMES[colour] for _, colour in views]
            later = rng.randint(1, min(2, num_images - 1)) if num_images > 1 and rng.random() < 0.25 else 0
            conversations.append(sample_conversation(
                writer, [self.names[c] for c in concepts], colours, self.names, later, phase.questions, rng, phase.types))
            drawn += [view for view, _ in views]
        ids, answer_of = pad(conversations, self.special["pad"])
        return torch.from_numpy(ids), torch.from_numpy(answer_of), self.views.collect(drawn), tokens


def keep_some(features: torch.Tensor, tokens: int) -> torch.Tensor:
    """A random subset of each image's tokens, in their order — [images, 64, D] to [images, tokens, D]."""
    if tokens == TOKENS_PER_IMAGE:
        return features
    kept = torch.rand(len(features), TOKENS_PER_IMAGE).topk(tokens).indices.sort(-1).values
    return features.gather(1, kept[..., None].expand(-1, -1, features.shape[-1]))


def answer_loss(model: LlavaForConditionalGeneration, ids: torch.Tensor, answer_of: torch.Tensor, features: torch.Tensor):
    """Mean cross-entropy over answer tokens, and which of them are right: (loss, right [N], answer types [N])."""
    # features — [images, tokens, tower hidden]; ids, answer_of — [B, S]
    projected = model.model.multi_modal_projector(features).flatten(0, 1)
    embedded = model.get_input_embeddings()(ids)
    embedded = embedded.masked_scatter((ids == model.config.image_token_index)[..., None], projected.to(embedded.dtype))
    hidden = decode(model, embedded)
    supervised = answer_of[:, 1:] > 0
    logits = model.lm_head(hidden[:, :-1][supervised]).float()
    targets = ids[:, 1:][supervised]
    return F.cross_entropy(logits, targets), logits.argmax(-1) == targets, answer_of[:, 1:][supervised]


def run_stage(
    name: str,
    model: LlavaForConditionalGeneration,
    batches: Callable[[int], Batches],
    to_features: Callable[[torch.Tensor], torch.Tensor],
    curriculum: Sequence[Phase],
    minutes: float,
    lr: float,
    muon_lr: float,
) -> None:
    """Trains what requires gradients; resumable from scratch/<name>.pt, which also holds the averaged weights.

    `batches(step)` makes the sampler, seeded by the step it starts at; `to_features` turns collected pictures into
    tower features. The budget is wall time, so the learning rate's schedule fits a machine of any speed.
    """
    trained = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    optimiser = MasterOptimiser(trained, lr, muon_lr)
    average = [master.clone() for master in optimiser.masters]
    saved = scratch() / f"{name}.pt"
    step, spent, asked, number = 0, 0.0, 0, 0
    if saved.exists():
        state = torch.load(saved)
        optimiser.load_state_dict(state["optimiser"])
        average, step, spent = state["average"], state["step"], state["seconds"]
        asked, number = state["questions"], state["phase"]
    sampler = batches(step)

    def save() -> None:
        state = {"optimiser": optimiser.state_dict(), "average": average, "step": step, "seconds": seconds,
                 "questions": asked, "phase": number}
        torch.save(state, saved.with_suffix(".writing"))
        saved.with_suffix(".writing").rename(saved)

    budget = minutes * 60
    last_saved = reported = started = time.time()
    right_by_type, tokens_by_type, loss_sum, num_tokens = torch.zeros(len(TYPES) + 1), torch.zeros(len(TYPES) + 1), 0.0, 0
    while (seconds := spent + time.time() - started) < budget:
        progress = seconds / budget
        while progress > curriculum[number].until:
            number += 1
        phase = curriculum[number]
        ids, answer_of, pictures, tokens = sampler.sample(phase)
        features = keep_some(to_features(pictures), tokens)
        loss, right, types = answer_loss(model, ids, answer_of, features)
        loss.backward()
        optimiser.step(trapezoid(progress))
        step += 1
        asked += len(ids) * phase.questions
        torch._foreach_lerp_(average, optimiser.masters, 1 - min(EMA_DECAY, step / (step + 10)))
        right_by_type.index_add_(0, types, right.float())
        tokens_by_type.index_add_(0, types, torch.ones(len(types)))
        loss_sum, num_tokens = loss_sum + loss.item(), num_tokens + ids.numel()
        if step % REPORT_EVERY == 0:
            rates = {t: r for t, r in zip(TYPES, (right_by_type / tokens_by_type)[1:].tolist()) if t in phase.types}
            shown = " ".join(f"{t} {r:.2f}" for t, r in rates.items())
            print(f"{name} step {step} phase {number} loss {loss_sum / REPORT_EVERY:.3f} tokens right: {shown} "
                  f"{num_tokens / (time.time() - reported):.0f} tok/s left {(budget - seconds) / 60:.1f} min", flush=True)
            right_by_type.zero_(), tokens_by_type.zero_()
            loss_sum, num_tokens, reported = 0.0, 0, time.time()
            if min(rates.values()) >= ADVANCE_AT and number + 1 < len(curriculum):
                number += 1
        if time.time() - last_saved > SAVE_SECONDS:
            save()
            last_saved = time.time()
    save()
    (scratch() / f"{name}.json").write_text(json.dumps({"steps": step, "minutes": round(seconds / 60, 1), "questions": asked}))
