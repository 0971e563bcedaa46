"""Conversations as tokens: ids, positions and which tokens are answers; what each token shows or asks for, to start match heads with."""

import random
import re
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from tokenizers import Tokenizer

from .features import Pool
from .tokenizer import MAX_IMAGES, special_ids

NOTHING = -1
# Types asked by an image's number alone: the number itself is asked for the answer's first token.
NUMBER_HINTED = ("name", "colour", "text")
# Types asked by a subject: it is asked for the number of its image, or for the answer's first token where that is no image.
IMAGE_HINTED = ("which", "exists", "order")
ANSWER_HINTED = ("colour", "place", "count")
NUMBERED = re.compile(r"(?<=\bimage )\d+")


@dataclass
class Conversation:
    ids: list[int] = field(default_factory=list)
    # One position per axis; a LLaVA decoder takes the first axis.
    positions: list[tuple[int, int, int]] = field(default_factory=list)
    # Index of the question's type + 1 at tokens of an answer (its <eos> included), 0 elsewhere.
    answer_of: list[int] = field(default_factory=list)
    # Position of a question's subject, number or option -> token that a hint asks for there.
    hints: dict[int, int] = field(default_factory=dict)
    # Position -> thing or number, for tokens that show one (keys) and tokens that ask for one (queries).
    shown_thing: dict[int, int] = field(default_factory=dict)
    asked_thing: dict[int, int] = field(default_factory=dict)
    shown_number: dict[int, int] = field(default_factory=dict)
    asked_number: dict[int, int] = field(default_factory=dict)
    # Tokens of the pool's features, in order.
    features: list[np.ndarray] = field(default_factory=list)


@dataclass(frozen=True)
class Form:
    """How much of each picture is written: all tokens, or a few at the positions they would have among all of them."""

    keep: int | None
    # Numbers of images are spread over 1…spread, as if the context had that many and the others were left out.
    spread: int = 0


class Writer:
    """Writes conversations in the chat template's form over one pool of pictures."""

    def __init__(self, model: str, tokenizer: Tokenizer, pool: Pool, things: list[str], types: list[str], seed: int):
        self.model, self.pool, self.types = model, pool, types
        self.special = special_ids(model, tokenizer)
        self.random = random.Random(seed)
        self.choice = np.random.default_rng(seed)
        self.encode = lru_cache(maxsize=200_000)(lambda text: tokenizer.encode(text).ids)
        self.number_ids = [self.encode(f"image {k}")[-1] for k in range(MAX_IMAGES + 1)]
        self.image_words = {self.encode(text)[0] for text in ("image", " image")}
        self.number_of = {id: k for k, id in enumerate(self.number_ids)}
        # A word and a drawing of the same name are one: what is asked for is only known by its name.
        self.code_of = {name: code for code, name in reversed(list(enumerate(things)))}
        self.codes = np.array([self.code_of[name] for name in things] + [NOTHING])

    def write(self, turns: list[dict], form: Form, clip: bool = False) -> Conversation:
        """`turns` as `conversations.ts` prints them; the frames of a clip stand in one image of the prompt and are numbered like images."""
        to = Conversation()
        numbers = self._numbers(sum(len(turn["views"]) for turn in turns), form)
        at, seen = self._text(to, [self.special["bos"]], 0), 0
        for turn in turns:
            at = self._text(to, [self.special["user"]], at)
            if clip and turn["views"]:
                at = self._text(to, self.encode("image 1:"), at)
                at = self._pictures(to, turn["views"], at, form, 1)
            else:
                for view in turn["views"]:
                    number = numbers[seen]
                    at += self._stride() * (number - (numbers[seen - 1] if seen else 0) - 1)
                    at = self._text(to, self.encode(f"image {number}:"), at)
                    at = self._pictures(to, [view], at, form, number)
                    seen += 1
            at = self._turn(to, turn, numbers, at)
        return to

    def _numbers(self, count: int, form: Form) -> list[int]:
        """Rising numbers of the images: 1, 2, 3… unless the form spreads them."""
        if form.spread <= count:
            return list(range(1, count + 1))
        return sorted(self.random.sample(range(1, form.spread + 1), count))

    def _stride(self) -> int:
        """Positions that a picture left out would have taken, with its number."""
        return 3 + 64 if self.model == "pack-mha" else 5 + 4

    def _text(self, to: Conversation, ids: list[int], at: int, answer_of: int = 0) -> int:
        to.ids += ids
        to.positions += [(p, p, p) for p in range(at, at + len(ids))]
        to.answer_of += [answer_of] * len(ids)
        return at + len(ids)

    def _pictures(self, to: Conversation, views: list[int], at: int, form: Form, number: int) -> int:
        """One picture, or the frames of a clip."""
        qwen = self.model == "pack-gqa"
        if qwen:
            at = self._text(to, [self.special["vision_start"]], at)
        end = at
        for frame, view in enumerate(views):
            rows, columns = self.pool.grids[view]
            tokens = self.pool.choose(view, form.keep or rows * columns, self.choice)
            start = self.pool.starts[view]
            for index, thing in zip(tokens.tolist(), self.pool.things[start + tokens].tolist()):
                here = len(to.ids)
                to.ids.append(self.special["image"])
                to.answer_of.append(0)
                to.positions.append((at + frame, at + index // columns, at + index % columns) if qwen else (at + index,) * 3)
                to.shown_thing[here] = int(self.codes[thing])
                to.shown_number[here] = number if len(views) == 1 else frame + 1
            to.features.append(start + tokens)
            # As in Qwen2-VL's paper and in transformers.js; transformers 5 leaves the frames out of this maximum.
            end = max(end, at + max(len(views), rows, columns) if qwen else at + rows * columns)
        return self._text(to, [self.special["vision_end"]], end) if qwen else end

    def _turn(self, to: Conversation, turn: dict, numbers: list[int], at: int) -> int:
        renumber = lambda text: NUMBERED.sub(lambda m: str(numbers[int(m[0]) - 1]) if 0 < int(m[0]) <= len(numbers) else m[0], text)
        question, answer = renumber(turn["question"]), renumber(turn["answer"])
        first = len(to.ids)
        ids = self.encode(question)
        at = self._text(to, ids, at)
        for offset, id in enumerate(ids):
            if id in self.number_of and offset and ids[offset - 1] in self.image_words:
                to.asked_number[first + offset] = self.number_of[id]
                if turn["type"] in NUMBER_HINTED:
                    to.hints[first + offset] = self.encode(answer)[0]
        subject = turn.get("subject")
        if subject and subject in self.code_of and (found := question.rfind(subject)) >= 0:
            last = first + len(self.encode(question[: found + len(subject)])) - 1
            to.asked_thing[last] = self.code_of[subject]
            if turn["type"] in IMAGE_HINTED and turn.get("image"):
                to.hints[last] = self.number_ids[numbers[turn["image"] - 1]]
            elif turn["type"] in (*IMAGE_HINTED, *ANSWER_HINTED):
                to.hints[last] = self.encode(answer)[0]
        for letter, choice in zip("ABCD", turn.get("choices", ())):
            # Each option is asked whether it is right: its letter, or "no".
            end = question.index(f"\n{letter}. " if letter == "A" else f" {letter}. ") + 4 + len(renumber(choice))
            to.hints[first + len(self.encode(question[:end])) - 1] = self.encode(letter if letter == answer else "no")[0]
        at = self._text(to, [self.special["assistant"]], at)
        return self._text(to, self.encode(answer) + [self.special["eos"]], at, self.types.index(turn["type"]) + 1)


@dataclass
class Batch:
    """Conversations side by side, padded on the right, where causal attention never looks."""

    ids: np.ndarray  # [B, S]
    positions: np.ndarray  # [B, S] or [3, B, S]
    answer_of: np.ndarray  # [B, S]
    hints: np.ndarray  # [B, S], NOTHING where there is none; so the four below
    shown_thing: np.ndarray
    asked_thing: np.ndarray
    shown_number: np.ndarray
    asked_number: np.ndarray
    features: np.ndarray  # indices into the pool's tokens, of all conversations in order


def stack(conversations: list[Conversation], pad_id: int, axes: int) -> Batch:
    size = (len(conversations), -(-max(len(c.ids) for c in conversations) // 16) * 16)
    ids, answer_of = np.full(size, pad_id, dtype=np.int64), np.zeros(size, dtype=np.int64)
    positions = np.zeros((3, *size), dtype=np.int64)
    marks = {name: np.full(size, NOTHING, dtype=np.int64) for name in ("hints", "shown_thing", "asked_thing", "shown_number", "asked_number")}
    for row, c in enumerate(conversations):
        ids[row, : len(c.ids)] = c.ids
        answer_of[row, : len(c.ids)] = c.answer_of
        positions[:, row, : len(c.ids)] = np.array(c.positions).T
        for name, array in marks.items():
            values = getattr(c, name)
            array[row, list(values)] = list(values.values())
    features = np.concatenate([tokens for c in conversations for tokens in c.features])
    return Batch(ids, positions if axes == 3 else positions[0], answer_of, **marks, features=features)
