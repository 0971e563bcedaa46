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
    # Heads that are fitted as the phase begins (match_heads.py): "reader", "thing", "number".
    match_heads: tuple[str, ...] = ()


SINGLES = {"single": 1}
SEEN_AND_READ = {"single": 4, "text": 1}
ALL_KINDS = {"single": 4, "places": 2, "count": 2, "text": 2}

# Finding an image by its content is learned last, so it is asked more often.
NUMBERS = {"name": 3, "colour": 1, "list": 0.5}
RETRIEVAL = {"name": 1, "which": 3, "exists": 2, "colour": 1}
DETAILS = {"text": 4, "count": 2, "place": 4, "choice": 4, "name": 3, "colour": 1}
# Half of the colours are those behind a thing that has first to be found.
EVERY = {"name": 1, "colour": 3, "place": 1.5, "count": 1, "text": 1.5, "which": 1.5, "exists": 1, "list": 0.3, "choice": 2, "order": 2}
# Without what is wrong when images are left out between others ("right after").
LONG = {"name": 2, "which": 3, "exists": 1.5, "colour": 3, "choice": 1}

FEW = (2, 3, 4)


def curriculum(model: str) -> tuple[Phase, ...]:
    # Long contexts of whole pictures: 4800 tokens in pack-mha, 1900 in pack-gqa.
    whole = 0.3 if model == "pack-mha" else 1.0
    # Few questions to a context: asked twice, an answer would be copied instead of seen.
    one = Mix(1, (1,), {"name": 3, "colour": 1, "text": 1}, {"single": 4, "text": 1.5, "places": 0.5, "count": 0.5}, questions=2, keep=(3, 4, 8), tokens=1600)
    detailed = Mix(1, (1,), DETAILS, ALL_KINDS, questions=3, keep=(None, None, 16))
    phases = (
        # Losses settle.
        Phase(0.025, (Mix(1, (1, 2, 3, 4), NUMBERS, SINGLES, keep=FEW, spread=(0, 8, 32), tokens=1200),)),
        # Pictures get their names.
        Phase(0.25, (one, Mix(1, (2, 3, 4), {"name": 3, "colour": 1, "which": 2}, SEEN_AND_READ, questions=4, keep=FEW, tokens=1600))),
        # "which image shows a violin?": words find pictures, at any number.
        Phase(0.40, (Mix(2, (3, 4, 6, 8), RETRIEVAL, SEEN_AND_READ, questions=7, keep=FEW, spread=(0, 0, 16, 64)), one, detailed),
              match_heads=("reader", "thing", "number")),
        # Everything, and many images by few of their tokens.
        Phase(0.62, (
            Mix(3, (1,), DETAILS, ALL_KINDS, questions=3, keep=(None, None, 16)),
            Mix(2, (2, 3, 4), EVERY, ALL_KINDS, questions=5, keep=(8, None)),
            Mix(2, (6, 8, 12, 16), LONG, SEEN_AND_READ, questions=10, keep=(*FEW, 8), spread=(0, 0, 64)),
        )),
        # All tokens, at several lengths.
        Phase(1.00, (
            Mix(3, (1,), DETAILS, ALL_KINDS, questions=3),
            Mix(2, (2, 3, 4), EVERY, ALL_KINDS, questions=6),
            Mix(2, (6, 8, 12, 16), EVERY, ALL_KINDS, questions=12),
            Mix(1, (24, 32, 48, 64), LONG, SEEN_AND_READ, questions=24, keep=(4, 8, 16)),
            Mix(whole, (32, 48, 64), LONG, SEEN_AND_READ, questions=32),
        )),
    )
    if model == "pack-gqa":
        clips = Mix(2.5, (4, 6, 8, 12, 16), {"name": 2, "which": 3, "exists": 1, "colour": 2, "order": 2, "choice": 1}, SINGLES, questions=12, clip=True)
        phases = (*phases[:3], *(Phase(p.until, (*p.mixes, clips)) for p in phases[3:]))
    return phases
