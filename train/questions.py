"""Questions over a context of images, with their short answers: naming, retrieval, presence, background, listing."""

import random
from dataclasses import dataclass

PLURAL_OR_MASS = {
    "bacon", "books", "bread", "cheese", "cherries", "coffee", "corn", "fire", "fries", "glasses", "grapes",
    "headphones", "honey", "jeans", "meat", "pizza", "popcorn", "scissors", "sushi", "wine",
}

# {k} is an image's number, {c} a concept with its article, {b} the bare concept.
PHRASINGS = {
    "name one": ("what is this?", "what is in the image?", "what do you see?", "name this"),
    "name": ("what is in image {k}?", "what does image {k} show?", "name image {k}", "what do you see in image {k}?"),
    "which": ("which image shows {c}?", "which image has {c}?", "where is the {b}?", "find the {b}"),
    "exists": ("is there {c}?", "do you see {c}?", "does any image show {c}?"),
    "colour one": ("what colour is the background?", "what is the background colour?"),
    "colour": ("what colour is the background of image {k}?", "which colour is behind image {k}?", "background colour of image {k}?"),
    "list": ("list all images", "list the images", "name all images"),
}
TYPES = ("name", "which", "exists", "colour", "list")


@dataclass(frozen=True)
class Question:
    type: str
    text: str
    answer: str


def with_article(concept: str) -> str:
    if concept in PLURAL_OR_MASS:
        return concept
    return ("an " if concept[0] in "aeio" or concept.startswith("umb") else "a ") + concept


def ask(type: str, concepts: list[str], colours: list[str], vocabulary: list[str], rng: random.Random) -> Question:
    """A question of one type over the images seen so far (`concepts` and `colours`, in order; concepts distinct)."""
    image = rng.randrange(len(concepts))
    concept = concepts[image]
    form = type
    if type == "name":
        form = "name one" if len(concepts) == 1 and rng.random() < 0.7 else "name"
        answer = concept
    elif type == "colour":
        form = "colour one" if len(concepts) == 1 and rng.random() < 0.5 else "colour"
        answer = colours[image]
    elif type == "which":
        answer = f"image {image + 1}"
    elif type == "exists":
        if rng.random() < 0.45:
            concept = rng.choice(vocabulary)
            while concept in concepts:
                concept = rng.choice(vocabulary)
            answer = "no"
        else:
            answer = f"yes, image {image + 1}"
    else:
        answer = ", ".join(concepts)
    text = rng.choice(PHRASINGS[form]).format(k=image + 1, c=with_article(concept), b=concept)
    return Question(type, text, answer)


def corpus(vocabulary: list[str], colours: list[str], max_images: int) -> list[str]:
    """Text for the tokenizer: every phrasing, number, colour and concept, concepts both first and later in a line."""
    lines = []
    for concept in vocabulary:
        for type in ("which", "exists"):
            lines += [p.format(c=with_article(concept), b=concept) for p in PHRASINGS[type]]
        lines += [concept, f"{concept}, {concept}"] * 3
    for k in range(1, max_images + 1):
        for type in ("name", "colour"):
            lines += [p.format(k=k) for p in PHRASINGS[type]] * 5
        lines += [f"image {k}", f"yes, image {k}", f"image {k}:"] * 10
    for type in ("name one", "colour one", "list"):
        lines += list(PHRASINGS[type]) * 20
    lines += [*colours, "yes", "no"] * 20
    return lines
