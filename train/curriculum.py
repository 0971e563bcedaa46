"""What the decoder is asked, phase by phase: numbers of images, tokens kept of each, kinds of pictures and of questions."""

from dataclasses import dataclass

# As in src/eval/questions/ask.ts.
TYPES = ("name", "colour", "place", "count", "text", "which", "exists", "list", "choice", "order")


@dataclass(frozen=True)
class Mix:
    """One sort of batch."""

    share: float
    images: tuple[int, ...]
    types: dict[str, float]
    kinds: dict[str, float]
    questions: int = 10
    # Tokens kept of each picture; None keeps all.
    keep: tuple[int | None, ...] = (None,)
    # Image numbers are spread over 1…spread, as if the others had been left out.
    spread: tuple[int, ...] = (0,)
    # Probability that a turn brings further pictures.
    later: float = 0.05
    clip: bool = False
    # Tokens of a step, from which its number of conversations follows.
    tokens: int = 2400


@dataclass(frozen=True)
class Phase:
    """In force until this fraction of the time, or until every type is answered well."""

    until: float
    mixes: tuple[Mix, ...]
    # Heads to fit as the phase begins (match_heads.py): "reader", "match" or none.
    heads: str = ""


SINGLES = {"single": 1}
SEEN_AND_READ = {"single": 4, "text": 1}
ALL_KINDS = {"single": 4, "places": 2, "count": 2, "text": 2}

# Finding an image by its content is learned last, so it is asked more often.
NUMBERS = {"name": 3, "colour": 1, "list": 0.5}
RETRIEVAL = {"name": 1, "which": 3, "exists": 2, "colour": 1}
DETAILS = {"text": 3, "count": 2, "place": 3, "choice": 2, "name": 1, "colour": 1}
EVERY = {"name": 1, "colour": 1, "place": 1, "count": 1, "text": 1.5, "which": 1.5, "exists": 1.5, "list": 0.7, "choice": 2, "order": 1.5}
# Without what is wrong when images are left out between others ("right after").
LONG = {"name": 2, "which": 3, "exists": 2, "colour": 1, "choice": 1}

FEW = (2, 3, 4)


def curriculum(model: str) -> tuple[Phase, ...]:
    # Long contexts of whole pictures: 4800 tokens in pack-mha, 1900 in pack-gqa.
    whole = 0.3 if model == "pack-mha" else 1.0
    detailed = Mix(1, (1, 1, 2), DETAILS, ALL_KINDS, questions=8)
    phases = (
        # "what is in image 3?": the image tokens learn to carry their number.
        Phase(0.05, (Mix(1, (1, 2, 3, 4), NUMBERS, SINGLES, keep=FEW, spread=(0, 8, 32), tokens=1200),), "reader"),
        # "which image shows a violin?": words learn to find pictures.
        Phase(0.30, (Mix(3, (3, 4, 6, 8), RETRIEVAL, SEEN_AND_READ, keep=FEW, spread=(0, 16, 64, 128)), detailed), "match"),
        # Everything, and many images by few of their tokens.
        Phase(0.55, (
            Mix(2, (2, 3, 4, 6, 8), EVERY, ALL_KINDS, keep=(4, 8)),
            Mix(2, (8, 12, 16, 24), LONG, SEEN_AND_READ, questions=16, keep=FEW, spread=(0, 64, 128)),
            Mix(2, (1, 2, 3, 4), EVERY, ALL_KINDS),
        )),
        # All tokens, at several lengths.
        Phase(1.00, (
            Mix(3, (1, 1, 2, 4, 4), EVERY, ALL_KINDS),
            Mix(2, (8, 8, 12, 16), EVERY, ALL_KINDS, questions=16),
            Mix(1, (24, 32, 48, 64), LONG, SEEN_AND_READ, questions=24, keep=(4, 8, 16)),
            Mix(whole, (32, 48, 64), LONG, SEEN_AND_READ, questions=32),
        )),
    )
    if model == "pack-gqa":
        clips = Mix(1, (4, 6, 8, 12, 16), {"name": 1, "which": 3, "exists": 1, "order": 2, "choice": 1}, SINGLES, questions=12, clip=True)
        phases = (*phases[:2], *(Phase(p.until, (*p.mixes, clips), p.heads) for p in phases[2:]))
    return phases
