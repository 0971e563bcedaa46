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
from .match_heads import NUM_BATCHES, set_match_heads
from .optimiser import MasterOptimiser, trapezoid
from .questions import TYPES
from .tokenizer import special_ids

EMA_DECAY = 0.995
REPORT_EVERY = 50
SAVE_SECONDS = 120
# Share of answer tokens right, of each type, over a report's steps, at which the next phase begins.
ADVANCE_AT = 0.96
ALIGNMENT = 0.3
HINT = 0.5


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
    # Set match heads (match_heads.py) as the phase begins.
    match_heads: bool = False


class Batches:
    """Random training batches of one phase; `views` draws pictures of given concepts and collects their tensors."""

    def __init__(self, views, tokenizer: Tokenizer, names: list[str], seed: int):
        self.views, self.tokenizer, self.names = views, tokenizer, names
        self.special = special_ids(tokenizer)
        self.rng = random.Random(seed)
        self.writers: dict[int, Writer] = {}
        # Token ids of each concept's name as it stands within a sentence.
        self.name_ids = [tokenizer.encode(f" {name}").ids for name in names]

    def sample(self, phase: Phase):
        """Padded ids, answer types and hints; pictures of all conversations in order and their concepts; tokens kept per image."""
        rng = self.rng
        num_images = rng.choice(phase.images)
        tokens = rng.choice(phase.tokens_per_image)
        writer = self.writers.setdefault(tokens, Writer(self.tokenizer, tokens))
        # One number of images per batch keeps lengths alike; short contexts get larger batches.
        batch = max(4, round(phase.batch * min(2.0, 4 / num_images)))
        conversations, drawn, shown = [], [], []
        for _ in range(batch):
            concepts = rng.sample(range(len(self.names)), num_images)
            views = [self.views.draw(concept, rng) for concept in concepts]
            colours = [COLOUR_NAMES[colour] for _, colour in views]
            later = rng.randint(1, min(2, num_images - 1)) if num_images > 1 and rng.random() < 0.25 else 0
            conversations.append(sample_conversation(
                writer, [self.names[c] for c in concepts], colours, self.names, later, phase.questions, rng, phase.types))
            drawn += [view for view, _ in views]
            shown += concepts
        text = [torch.from_numpy(a) for a in pad(conversations, self.special["pad"])]
        return text, self.views.collect(drawn), torch.tensor(shown), tokens


def keep_some(features: torch.Tensor, tokens: int) -> torch.Tensor:
    """A random subset of each image's tokens, in their order — [images, 64, D] to [images, tokens, D]."""
    if tokens == TOKENS_PER_IMAGE:
        return features
    kept = torch.rand(len(features), TOKENS_PER_IMAGE).topk(tokens).indices.sort(-1).values
    return features.gather(1, kept[..., None].expand(-1, -1, features.shape[-1]))


def alignment_loss(model: LlavaForConditionalGeneration, projected: torch.Tensor, concepts: torch.Tensor, name_ids: list[list[int]]):
    """Cross-entropy of each image's mean projected token [images, tokens, hidden] against the embeddings of all names.

    "which image shows a violin?" needs the word to match the picture inside attention; without this loss that circuit
    was still at chance when "what is in image 3?" was long learned.
    """
    rows = model.get_input_embeddings().weight
    words = torch.stack([rows[ids].mean(0) for ids in name_ids])
    cosine = F.normalize(projected.mean(1).float(), dim=-1) @ F.normalize(words.float(), dim=-1).T
    return F.cross_entropy(cosine * 16, concepts)


def answer_loss(model: LlavaForConditionalGeneration, text: list[torch.Tensor], projected: torch.Tensor):
    """Mean cross-entropies over answer tokens and over hints, and which answer tokens are right: (loss, hint loss, right, types).

    A hint asks the question's concept token itself for the image's number, though the user never sees what is predicted
    there: it makes one attention step out of two, and retrieval by content is learned where it was stuck.
    """
    # projected — [images, tokens, hidden]; ids, answer_of, hints — [B, S]
    ids, answer_of, hints = text
    embedded = model.get_input_embeddings()(ids)
    image = (ids == model.config.image_token_index)[..., None]
    embedded = embedded.masked_scatter(image, projected.flatten(0, 1).to(embedded.dtype))
    hidden = decode(model, embedded)
    supervised = answer_of[:, 1:] > 0
    logits = model.lm_head(hidden[:, :-1][supervised]).float()
    targets = ids[:, 1:][supervised]
    hinted = hints >= 0
    hint_loss = F.cross_entropy(model.lm_head(hidden[hinted]).float(), hints[hinted]) if hinted.any() else torch.zeros(())
    return F.cross_entropy(logits, targets), hint_loss, logits.argmax(-1) == targets, answer_of[:, 1:][supervised]


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

    def enter(phase: Phase) -> None:
        if not phase.match_heads:
            return
        fitted = []
        for _ in range(NUM_BATCHES):
            (ids, _, hints), pictures, concepts, tokens = sampler.sample(phase)
            with torch.no_grad():
                projected = model.model.multi_modal_projector(keep_some(to_features(pictures), tokens))
            fitted.append((ids, hints, projected, concepts))
        for parameter, value in set_match_heads(model, fitted, sampler.name_ids).items():
            index = [n for n, _ in trained].index(parameter)
            average[index].copy_(value)
            optimiser.assign(index, value)

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
            enter(curriculum[number])
        phase = curriculum[number]
        text, pictures, concepts, tokens = sampler.sample(phase)
        projected = model.model.multi_modal_projector(keep_some(to_features(pictures), tokens))
        loss, hint_loss, right, types = answer_loss(model, text, projected)
        aligned = alignment_loss(model, projected, concepts, sampler.name_ids)
        (loss + HINT * hint_loss + ALIGNMENT * aligned).backward()
        optimiser.step(trapezoid(progress))
        step += 1
        asked += len(text[0]) * phase.questions
        torch._foreach_lerp_(average, optimiser.masters, 1 - min(EMA_DECAY, step / (step + 10)))
        right_by_type.index_add_(0, types, right.float())
        tokens_by_type.index_add_(0, types, torch.ones(len(types)))
        loss_sum, num_tokens = loss_sum + loss.item(), num_tokens + text[0].numel()
        if step % REPORT_EVERY == 0:
            rates = {t: r for t, r in zip(TYPES, (right_by_type / tokens_by_type)[1:].tolist()) if t in phase.types}
            shown = " ".join(f"{t} {r:.2f}" for t, r in rates.items())
            print(f"{name} step {step} phase {number} loss {loss_sum / REPORT_EVERY:.3f} align {aligned:.2f} hint {hint_loss:.2f} tokens right: {shown} "
                  f"{num_tokens / (time.time() - reported):.0f} tok/s left {(budget - seconds) / 60:.1f} min", flush=True)
            right_by_type.zero_(), tokens_by_type.zero_()
            loss_sum, num_tokens, reported = 0.0, 0, time.time()
            if min(rates.values()) >= ADVANCE_AT and number + 1 < len(curriculum):
                number += 1
                enter(curriculum[number])
        if time.time() - last_saved > SAVE_SECONDS:
            save()
            last_saved = time.time()
    save()
    (scratch() / f"{name}.json").write_text(json.dumps({"steps": step, "minutes": round(seconds / 60, 1), "questions": asked}))
