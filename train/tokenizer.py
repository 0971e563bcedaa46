"""A byte-level BPE small enough to ship: every word of the task is one token, any other text still encodes."""

import json
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from .compose import COLOUR_NAMES
from .questions import corpus

PAD, BOS, EOS, IMAGE, USER, ASSISTANT = SPECIAL_TOKENS = ("<pad>", "<bos>", "<eos>", "<image>", "<user>", "<assistant>")
MAX_IMAGES = 16
VOCAB_SIZE = 1200

# Images are numbered over the whole conversation, so that "image 3" keeps its meaning in later turns.
# Only constructs that both Jinja and @huggingface/jinja know.
CHAT_TEMPLATE = """\
{%- set counter = namespace(images=0) -%}
{{- bos_token -}}
{%- for message in messages -%}
{%- if message['role'] == 'assistant' -%}
{{- '<assistant>' -}}
{%- else -%}
{{- '<user>' -}}
{%- endif -%}
{%- if message['content'] is string -%}
{{- message['content'] -}}
{%- else -%}
{%- for part in message['content'] -%}
{%- if part['type'] == 'text' -%}
{{- part['text'] -}}
{%- else -%}
{%- set counter.images = counter.images + 1 -%}
{{- 'image ' -}}
{{- counter.images -}}
{{- ':<image>' -}}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{%- if message['role'] == 'assistant' -%}
{{- '<eos>' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<assistant>' -}}
{%- endif -%}
"""


def train_tokenizer(vocabulary: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus(vocabulary, list(COLOUR_NAMES), MAX_IMAGES), trainer)
    return tokenizer


def padded_vocab_size(tokenizer: Tokenizer) -> int:
    return -(-tokenizer.get_vocab_size() // 8) * 8


def special_ids(tokenizer: Tokenizer) -> dict[str, int]:
    names = ("pad", "bos", "eos", "image", "user", "assistant")
    return {name: tokenizer.token_to_id(token) for name, token in zip(names, SPECIAL_TOKENS)}


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Everything a tokenizer and a processor are loaded from, beside the weights."""
    tokenizer.save(str(folder / "tokenizer.json"))
    ids = special_ids(tokenizer)
    added = {
        str(tokenizer.token_to_id(token)): {
            "content": token, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True,
        }
        for token in SPECIAL_TOKENS
    }
    named = {"bos_token": BOS, "eos_token": EOS, "pad_token": PAD}
    write(folder / "special_tokens_map.json", {**named, "additional_special_tokens": [IMAGE, USER, ASSISTANT]})
    write(folder / "tokenizer_config.json", {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "processor_class": "LlavaProcessor",
        "model_max_length": 4096,
        "clean_up_tokenization_spaces": False,
        "add_bos_token": False,
        "padding_side": "left",
        "model_input_names": ["input_ids", "attention_mask"],
        **named,
        "image_token": IMAGE,
        "additional_special_tokens": [IMAGE, USER, ASSISTANT],
        "added_tokens_decoder": added,
        "chat_template": CHAT_TEMPLATE,
    })
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    write(folder / "generation_config.json", {
        "bos_token_id": ids["bos"], "eos_token_id": ids["eos"], "pad_token_id": ids["pad"], "do_sample": False, "max_new_tokens": 64,
    })


def write(path: Path, value) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")
