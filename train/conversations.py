"""Conversations as token ids: images first, many questions as turns after them, only answers supervised."""

import random
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from tokenizers import Tokenizer

from .questions import TYPES, Question, ask
from .tokenizer import special_ids


@dataclass
class Conversation:
    ids: list[int] = field(default_factory=list)
    # Type index + 1 at tokens of an answer (its <eos> included), 0 elsewhere.
    answer_of: list[int] = field(default_factory=list)
    # Position of a question's concept → token that says where it is (an image's number, or "no").
    hints: dict[int, int] = field(default_factory=dict)
    images: int = 0


class Writer:
    """Builds conversations in the chat template's form with `tokens_per_image` placeholders an image."""

    def __init__(self, tokenizer: Tokenizer, tokens_per_image: int):
        self.special = special_ids(tokenizer)
        self.tokens_per_image = tokens_per_image
        self.encode = lru_cache(maxsize=100_000)(lambda text: tokenizer.encode(text).ids)

    def start(self) -> Conversation:
        return Conversation([self.special["bos"]], [0])

    def user(self, to: Conversation) -> None:
        self._add(to, [self.special["user"]])

    def image(self, to: Conversation) -> None:
        to.images += 1
        self._add(to, self.encode(f"image {to.images}:") + [self.special["image"]] * self.tokens_per_image)

    def ask(self, to: Conversation, question: Question) -> None:
        self._add(to, self.encode(question.text))
        if question.type in ("which", "exists"):
            # Every such phrasing ends with the concept and perhaps a question mark. The answer's last token is the number.
            to.hints[len(to.ids) - 1 - question.text.endswith("?")] = self.encode(question.answer)[-1]
        self._add(to, [self.special["assistant"]])
        self._add(to, self.encode(question.answer) + [self.special["eos"]], TYPES.index(question.type) + 1)

    def _add(self, to: Conversation, ids: list[int], answer_of: int = 0) -> None:
        to.ids += ids
        to.answer_of += [answer_of] * len(ids)


def sample_conversation(
    writer: Writer,
    concepts: list[str],
    colours: list[str],
    vocabulary: list[str],
    num_later: int,
    num_questions: int,
    rng: random.Random,
    types: tuple[str, ...] = TYPES,
) -> Conversation:
    """Images with these concepts and colours, `num_later` of them arriving before a later question."""
    conversation = writer.start()
    arrivals = set(rng.sample(range(1, num_questions), num_later))
    for turn in range(num_questions):
        writer.user(conversation)
        for _ in range(len(concepts) - num_later if turn == 0 else int(turn in arrivals)):
            writer.image(conversation)
        seen = conversation.images
        writer.ask(conversation, ask(rng.choice(types), concepts[:seen], colours[:seen], vocabulary, rng))
    return conversation


def pad(conversations: list[Conversation], pad_id: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ids, answer types and hints (−1 for none) — each [B, S], padded on the right (causal attention never looks there)."""
    length = max(len(c.ids) for c in conversations)
    ids = np.full((len(conversations), length), pad_id, dtype=np.int64)
    answer_of = np.zeros((len(conversations), length), dtype=np.int64)
    hints = np.full((len(conversations), length), -1, dtype=np.int64)
    for row, c in enumerate(conversations):
        ids[row, : len(c.ids)] = c.ids
        answer_of[row, : len(c.ids)] = c.answer_of
        hints[row, list(c.hints)] = list(c.hints.values())
    return ids, answer_of, hints
