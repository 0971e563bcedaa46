"""Stage 3: projector and decoder learn to answer on cached features, by the curriculum."""

import json
import queue
import random
import signal
import threading
import time

import numpy as np
import torch
import torch.nn.functional as F

from .alignment import NameVectors, align_words, alignment_loss
from .budget import Budget
from .config import Config, load_config
from .curriculum import TYPES, Mix, Phase, curriculum
from .decoder_forward import DecoderForward
from .export import fresh_model, with_tower
from .features import Pool, load_pool
from .layouts import is_projector, project
from .match_heads import NUM_BATCHES, set_match_heads, set_number_reader
from .optimiser import MasterOptimiser, trapezoid
from .talker import Talker
from .tokenizer import special_ids, model_tokenizer
from .views import vocabulary
from .writer import NOTHING, Batch, Form, Writer, stack

EMA_DECAY = 0.995
REPORT_EVERY = 50
SAVE_SECONDS = 120
# Share of answer tokens right, of each type, over a report's steps, at which the next phase begins.
ADVANCE_AT = 0.97
ALIGNMENT, ALIGNED_TOKENS = 0.3, 256
HINT = 0.5
NUM_THINGS = len(vocabulary()["things"])


class Batches:
    """Random training batches of the phase in force, prepared ahead by a thread of their own."""

    def __init__(self, config: Config, pool: Pool, tokenizer, seed: int):
        self.scale, self.axes = config.batch_scale, 1 if config.model == "pack-mha" else 3
        self.merge = 1 if config.model == "pack-mha" else 4
        self.seed, self.talker = seed, Talker(pool.scenes, seed)
        self.clip_talker: Talker | None = None
        self.clip_views: np.ndarray | None = None
        self.writer = Writer(config.model, tokenizer, pool, vocabulary()["things"], list(TYPES), seed)
        self.pad_id = special_ids(config.model, tokenizer)["pad"]
        self.random = random.Random(seed)
        # The thread of a phase that has ended may still be asking when the next begins; two would take each other's lines.
        self.making = threading.Lock()

    def start(self, phase: Phase) -> None:
        """Forgets what was prepared and prepares this phase's."""
        self.ahead: queue.Queue = queue.Queue(3)
        threading.Thread(target=self._prepare, args=(phase, self.ahead), daemon=True).start()

    def next(self) -> tuple[Batch, Mix]:
        made = self.ahead.get(timeout=300)
        if isinstance(made, Exception):
            raise made
        return made

    def _prepare(self, phase: Phase, ahead: queue.Queue) -> None:
        try:
            while ahead is self.ahead:
                mix = self.random.choices(phase.mixes, [mix.share for mix in phase.mixes])[0]
                with self.making:
                    made = self.make(mix), mix
                while ahead is self.ahead:
                    try:
                        ahead.put(made, timeout=1)
                        break
                    except queue.Full:
                        pass
        except Exception as error:  # raised by the loop that waits for a batch
            ahead.put(error)

    def make(self, mix: Mix) -> Batch:
        # One number of images per batch keeps lengths alike; short contexts get larger batches.
        images = self.random.choice(mix.images)
        keep, spread = self.random.choice(mix.keep), self.random.choice(mix.spread)
        length = images * ((keep or 64 // self.merge) + 5) + 14 * mix.questions
        count = max(1, round(self.scale * mix.tokens / length))
        later = mix.later if images > 1 and not mix.clip else 0.0
        talker = self._clips() if mix.clip else self.talker
        conversations = talker.ask(count, [images], mix.questions, mix.types, mix.kinds, later, mix.clip)
        if mix.clip:
            for turns in conversations:
                turns[0]["views"] = self.clip_views[turns[0]["views"]].tolist()
        return stack([self.writer.write(turns, Form(keep, spread), mix.clip) for turns in conversations], self.pad_id, self.axes)

    def close(self) -> None:
        for talker in (self.talker, self.clip_talker):
            if talker:
                talker.close()

    def _clips(self) -> Talker:
        """A questioner over pictures of one size, since frames of a clip have one."""
        if self.clip_talker is None:
            scenes, self.clip_views = self.writer.pool.alike()
            self.clip_talker = Talker(scenes, self.seed + 1)
        return self.clip_talker


class Losses:
    """The model applied to batches, and what it is told."""

    def __init__(self, config: Config, model, tokenizer, pool: Pool, forward: DecoderForward):
        self.config, self.model, self.pool, self.forward, self.device = config, model, pool, forward, config.device
        self.image_id = special_ids(config.model, tokenizer)["image"]
        self.names = NameVectors(tokenizer, self.device)

    def embed(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Embedded sequences [B, S, hidden] and the projected pictures in them [N, hidden]."""
        projected = project(self.model, self.pool.collect(batch.features).to(self.model.get_input_embeddings().weight))
        ids = torch.from_numpy(batch.ids).to(self.device)
        embedded = self.model.get_input_embeddings()(ids)
        return embedded.masked_scatter((ids == self.image_id)[..., None], projected.to(embedded.dtype)), projected

    def alignment(self, batch: Batch, projected: torch.Tensor) -> torch.Tensor:
        """Alignment (alignment.py) of some projected tokens: it must not be lost."""
        some = torch.randperm(len(projected))[:ALIGNED_TOKENS]
        projected = projected[some.to(self.device)]
        names, behind = (torch.from_numpy(of[batch.features[some.numpy()]]).to(self.device) for of in (self.pool.named, self.pool.behind))
        vectors = self.names(self.model.get_input_embeddings().weight)
        # Among colours alone, a thing's token too is nearest the one behind it: whoever finds the thing is to find its colour.
        colours = [words[NUM_THINGS:] for words in vectors]
        return alignment_loss(projected, names, vectors) + alignment_loss(projected, behind, colours)

    def answers(self, batch: Batch, embedded: torch.Tensor):
        """Mean cross-entropies over answer tokens and over hints, and which answer tokens are right: (loss, hint loss, right, types).

        A hint asks the question's subject itself for the image's number, though the user never sees what is predicted
        there: it makes one attention step out of two, and retrieval by content is learned where it was stuck.
        """
        hidden = self.forward(embedded, torch.from_numpy(batch.positions).to(self.device))
        ids, answer_of, hints = (torch.from_numpy(a).to(self.device) for a in (batch.ids, batch.answer_of, batch.hints))
        supervised = answer_of[:, 1:] > 0
        logits = self.model.lm_head(hidden[:, :-1][supervised]).float()
        targets = ids[:, 1:][supervised]
        hinted = hints != NOTHING
        hint_loss = F.cross_entropy(self.model.lm_head(hidden[hinted]).float(), hints[hinted]) if hinted.any() else torch.zeros((), device=self.device)
        return F.cross_entropy(logits, targets), hint_loss, logits.argmax(-1) == targets, answer_of[:, 1:][supervised]


def train(config: Config) -> None:
    """Resumable from <folder>/decoder.pt, which also holds the averaged weights. The budget is wall time."""
    torch.set_num_threads(config.threads)
    folder = config.folder
    tokenizer = model_tokenizer(config.model, config.folder)
    pool = load_pool(config)
    saved = folder / "decoder.pt"
    model = with_tower(config, fresh_model(config, tokenizer)).to(config.device)
    if not saved.exists():
        align_words(config, model, tokenizer, pool)
    model.bfloat16()
    trained = [(n, p) for n, p in model.named_parameters() if ("language_model" in n or is_projector(n)) and not n.endswith("language_model.norm.weight")]
    optimiser = MasterOptimiser(trained, config.decoder_lr, config.decoder_muon_lr)
    average = [master.clone() for master in optimiser.masters]
    step, spent, asked, number, tokens_seen = 0, 0.0, 0, -1, 0
    if saved.exists():
        state = torch.load(saved)
        optimiser.load_state_dict(state["optimiser"])
        average, step, spent = state["average"], state["step"], state["seconds"]
        asked, number, tokens_seen = state["questions"], state["phase"], state["tokens"]
    torch.manual_seed(config.seed + step)
    batches = Batches(config, pool, tokenizer, config.seed * 1000 + step)
    losses = Losses(config, model, tokenizer, pool, DecoderForward(model))
    phases = curriculum(config.model)

    def assign(values: dict[str, torch.Tensor]) -> None:
        for parameter, value in values.items():
            index = [n for n, _ in trained].index(parameter)
            average[index].copy_(value)
            optimiser.assign(index, value.to(config.device))

    def enter(phase: Phase) -> None:
        batches.start(phase)
        if not phase.match_heads:
            return
        fitted = []
        for _ in range(NUM_BATCHES):
            batch, _ = batches.next()
            with torch.no_grad():
                fitted.append((batch, losses.embed(batch)[0]))
        if "reader" in phase.match_heads:
            assign(set_number_reader(config, model, fitted, losses.forward))
        with torch.no_grad():
            names = losses.names(model.get_input_embeddings().weight)[0]
        assign(set_match_heads(config, model, fitted, losses.forward, names, phase.match_heads))
        print(f"decoder: heads set at step {step}: {', '.join(phase.match_heads)}", flush=True)

    def save() -> None:
        state = {"optimiser": optimiser.state_dict(), "average": average, "step": step, "seconds": budget.spent,
                 "questions": asked, "phase": number, "tokens": tokens_seen}
        torch.save(state, saved.with_suffix(".writing"))
        saved.with_suffix(".writing").rename(saved)

    if number >= 0:
        batches.start(phases[number])
    # Told to stop, it saves first.
    stopping = []
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(True))
    budget = Budget(config.decoder_minutes, spent)
    last_saved = reported = time.time()
    report = Report()
    while (progress := budget.tick()) < 1:
        while number < 0 or progress > phases[number].until:
            number += 1
            enter(phases[number])
        batch, mix = batches.next()
        embedded, projected = losses.embed(batch)
        loss, hint_loss, right, types = losses.answers(batch, embedded)
        aligned = losses.alignment(batch, projected)
        (loss + HINT * hint_loss + ALIGNMENT * aligned).backward()
        optimiser.step(trapezoid(progress))
        step, asked, tokens_seen = step + 1, asked + len(batch.ids) * mix.questions, tokens_seen + batch.ids.size
        torch._foreach_lerp_(average, optimiser.masters, 1 - min(EMA_DECAY, step / (step + 10)))
        report.add(loss.item(), aligned.item(), hint_loss.item(), right.cpu(), types.cpu(), batch)
        if step % REPORT_EVERY == 0:
            speed = report.tokens / (time.time() - reported)
            print(f"decoder step {step} phase {number} {report} {speed:.0f} tok/s left {budget.minutes_left:.1f} min", flush=True)
            well = report.worst() >= ADVANCE_AT
            report, reported = Report(), time.time()
            if well and number + 1 < len(phases):
                number += 1
                enter(phases[number])
        if stopping or time.time() - last_saved > SAVE_SECONDS:
            save()
            last_saved = time.time()
        if stopping:
            batches.close()
            return
    save()
    batches.close()
    (folder / "decoder.json").write_text(json.dumps({"steps": step, "minutes": round(budget.spent / 60, 1), "questions": asked, "tokens": tokens_seen}))


class Report:
    """Losses and shares of answer tokens right since the last report, by type and by number of images (to 4, to 16, more)."""

    BUCKETS = (4, 16, 1000)

    def __init__(self):
        self.losses, self.tokens = [], 0
        self.right, self.all = np.zeros((len(TYPES) + 1, len(self.BUCKETS))), np.zeros((len(TYPES) + 1, len(self.BUCKETS)))

    def add(self, loss: float, aligned: float, hint: float, right: torch.Tensor, types: torch.Tensor, batch: Batch) -> None:
        self.losses.append((loss, aligned, hint))
        self.tokens += batch.ids.size
        images = len(np.unique(batch.shown_number[0]))  # NOTHING stands for other tokens
        bucket = next(b for b, most in enumerate(self.BUCKETS) if images - 1 <= most)
        np.add.at(self.right, (types.numpy(), bucket), right.numpy())
        np.add.at(self.all, (types.numpy(), bucket), 1)

    def worst(self) -> float:
        asked = self.all > 0
        return (self.right[asked] / self.all[asked]).min()

    def __str__(self) -> str:
        share = lambda t: "/".join(f"{r / a:.2f}" if a else "-" for r, a in zip(self.right[t], self.all[t]))
        shown = " ".join(f"{name} {share(t + 1)}" for t, name in enumerate(TYPES) if self.all[t + 1].any())
        loss, aligned, hint = np.mean(self.losses, 0)
        return f"loss {loss:.3f} align {aligned:.2f} hint {hint:.2f} right: {shown}"


if __name__ == "__main__":
    train(load_config())
