"""Exact-match accuracy by question type on unseen compositions, in the training styles and in the held-out one."""

import json
import math
import random
import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import LlavaForConditionalGeneration

from .compose import COLOUR_NAMES, Composer, normalise
from .config import HELD_OUT_STYLE, TOKENS_PER_IMAGE, TRAINING_STYLES, load_config, scratch
from .conversations import Conversation, Writer, pad
from .questions import TYPES, ask
from .tokenizer import special_ids
from .tower import tower_features

EVALUATION_SEED = 7_000_000


def interval(right: int, count: int) -> list[float]:
    """Wilson's 95 % interval of a fraction."""
    if count == 0:
        return [0.0, 1.0]
    z, p = 1.96, right / count
    centre = (p + z * z / (2 * count)) / (1 + z * z / count)
    half = z * math.sqrt(p * (1 - p) / count + z * z / (4 * count * count)) / (1 + z * z / count)
    return [round(centre - half, 3), round(centre + half, 3)]


@torch.no_grad()
def evaluate(
    model: LlavaForConditionalGeneration,
    tokenizer: Tokenizer,
    composer: Composer,
    num_images: int,
    num_contexts: int,
    styles: tuple[str, ...] = TRAINING_STYLES,
    earlier_turns: int = 0,
) -> dict[str, dict]:
    """One question of each type per context, each in its own conversation, after `earlier_turns` other questions.

    A greedy answer equals the expected one exactly when, given the expected prefix, every next token and the
    final <eos> is the arg-max; so one forward pass checks what generation would give.
    """
    seed = EVALUATION_SEED + 100 * num_images + 10 * earlier_turns + (styles != TRAINING_STYLES)
    rng = random.Random(seed)
    generator = torch.Generator().manual_seed(seed)
    writer = Writer(tokenizer, TOKENS_PER_IMAGE)
    right = dict.fromkeys(TYPES, 0)
    asked = dict.fromkeys(TYPES, 0)
    types = [t for t in TYPES if num_images > 1 or t != "list"]
    per_batch = max(1, 32 // num_images)
    for at in range(0, num_contexts, per_batch):
        conversations, owners, features = [], [], []
        for _ in range(min(per_batch, num_contexts - at)):
            _, style, colours = composer.sample_labels(num_images, generator, styles)
            concepts = torch.tensor(rng.sample(range(len(composer.names)), num_images))
            pixels = normalise(composer.compose(concepts, style, colours, generator))
            shared = tower_features(model.model.vision_tower, pixels)
            names = [composer.names[c] for c in concepts]
            colour_names = [COLOUR_NAMES[c] for c in colours]
            for type in types:
                conversations.append(write(writer, names, colour_names, composer.names, type, earlier_turns, rng))
                owners.append(type)
                features.append(shared)
        for type, good in zip(owners, exactly_right(model, conversations, torch.cat(features), special_ids(tokenizer)["pad"])):
            asked[type] += 1
            right[type] += good
    figures = {t: {"accuracy": round(right[t] / asked[t], 3), "n": asked[t], "interval95": interval(right[t], asked[t])} for t in types}
    total, count = sum(right.values()), sum(asked.values())
    return {**figures, "all": {"accuracy": round(total / count, 3), "n": count, "interval95": interval(total, count)}}


def write(writer: Writer, names, colours, vocabulary, type: str, earlier_turns: int, rng: random.Random) -> Conversation:
    conversation = writer.start()
    for turn in range(earlier_turns + 1):
        writer.user(conversation)
        if turn == 0:
            for _ in names:
                writer.image(conversation)
        last = turn == earlier_turns
        writer.ask(conversation, ask(type if last else rng.choice(TYPES), names, colours, vocabulary, rng))
        if not last:
            conversation.answer_of = [0] * len(conversation.ids)  # only the last answer is judged
    return conversation


def exactly_right(model, conversations: list[Conversation], features: torch.Tensor, pad_id: int) -> list[bool]:
    ids, answer_of, _ = (torch.from_numpy(a) for a in pad(conversations, pad_id))
    projected = model.model.multi_modal_projector(features).flatten(0, 1)
    embedded = model.get_input_embeddings()(ids)
    embedded = embedded.masked_scatter((ids == model.config.image_token_index)[..., None], projected)
    hidden = model.model.language_model(inputs_embeds=embedded, use_cache=False).last_hidden_state
    supervised = answer_of[:, 1:] > 0
    wrong = torch.zeros_like(supervised)
    wrong[supervised] = model.lm_head(hidden[:, :-1][supervised]).argmax(-1) != ids[:, 1:][supervised]
    return [not row for row in wrong.any(-1).tolist()]


def evaluate_all(folder: Path, contexts: int) -> dict[str, dict]:
    model = LlavaForConditionalGeneration.from_pretrained(folder).eval()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    composer = Composer(scratch())
    settings = {
        "1 image": (1, 2 * contexts, TRAINING_STYLES, 0),
        "4 images": (4, contexts, TRAINING_STYLES, 0),
        "4 images, after 3 other turns": (4, contexts // 2, TRAINING_STYLES, 3),
        "8 images": (8, contexts // 2, TRAINING_STYLES, 0),
        "1 image, held-out style": (1, contexts, (HELD_OUT_STYLE,), 0),
        "4 images, held-out style": (4, contexts // 2, (HELD_OUT_STYLE,), 0),
    }
    figures = {}
    for label, setting in settings.items():
        figures[label] = evaluate(model, tokenizer, composer, *setting)
        print(label, {t: f["accuracy"] for t, f in figures[label].items()}, "n", figures[label]["all"]["n"], flush=True)
    return figures


if __name__ == "__main__":
    torch.set_num_threads(load_config().threads)
    contexts = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    result = evaluate_all(scratch() / "checkpoint", contexts)
    (scratch() / "evaluation.json").write_text(json.dumps(result, indent=1))
