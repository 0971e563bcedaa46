"""A byte-level BPE small enough to ship: every word of the tasks is one token, any other text still encodes."""

import json
import subprocess
from functools import lru_cache
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

TALKER = Path(__file__).with_name("conversations.ts")
# Special tokens by name. Qwen2-VL's vision tokens are spelled as transformers' processors expect them.
COMMON_TOKENS = {"pad": "<pad>", "bos": "<bos>", "eos": "<eos>", "user": "<user>", "assistant": "<assistant>"}
SPECIAL_TOKENS = {
    "pack-mha": {**COMMON_TOKENS, "image": "<image>"},
    "pack-gqa": {
        **COMMON_TOKENS, "image": "<|image_pad|>", "video": "<|video_pad|>",
        "vision_start": "<|vision_start|>", "vision_end": "<|vision_end|>",
    },
}
IMAGE_MARKUP = {"pack-mha": "<image>", "pack-gqa": "<|vision_start|><|image_pad|><|vision_end|>"}
MAX_IMAGES = 128
# Above what the corpus fills: merging goes on until every word of it is one token.
VOCAB_LIMIT = 16_384

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
{{- ':IMAGE_MARKUP' -}}
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


def model_tokenizer(model: str, folder: Path) -> Tokenizer:
    """The tokenizer kept in a model's folder, made at first use: once weights depend on it, the corpus may change but the tokens may not."""
    path = folder / "tokenizer.json"
    if not path.exists():
        train_tokenizer(model).save(str(path))
    return Tokenizer.from_file(str(path))


def train_tokenizer(model: str) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_LIMIT,
        special_tokens=list(SPECIAL_TOKENS[model].values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    return tokenizer


@lru_cache
def corpus() -> list[str]:
    """Text that holds every word of the tasks, and all numbers of images as the chat template writes them."""
    printed = subprocess.run(["npx", "tsx", str(TALKER), "--corpus"], check=True, capture_output=True, text=True, cwd=TALKER.parent.parent).stdout
    return [*printed.splitlines(), *(f"image {k}:" for k in range(1, MAX_IMAGES + 1))]


def padded_vocab_size(tokenizer: Tokenizer) -> int:
    return -(-tokenizer.get_vocab_size() // 32) * 32


def special_ids(model: str, tokenizer: Tokenizer) -> dict[str, int]:
    return {name: tokenizer.token_to_id(token) for name, token in SPECIAL_TOKENS[model].items()}


def chat_template(model: str) -> str:
    return CHAT_TEMPLATE.replace("IMAGE_MARKUP", IMAGE_MARKUP[model])


def save_tokenizer(model: str, tokenizer: Tokenizer, folder: Path, max_length: int) -> None:
    """Everything a tokenizer and a processor are loaded from, beside the weights."""
    tokenizer.save(str(folder / "tokenizer.json"))
    tokens, ids = SPECIAL_TOKENS[model], special_ids(model, tokenizer)
    added = {
        str(ids[name]): {"content": token, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
        for name, token in tokens.items()
    }
    ends = {"bos_token": tokens["bos"], "eos_token": tokens["eos"], "pad_token": tokens["pad"]}
    others = [token for name, token in tokens.items() if name not in ("bos", "eos", "pad")]
    write(folder / "special_tokens_map.json", {**ends, "additional_special_tokens": others})
    write(folder / "tokenizer_config.json", {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "processor_class": PROCESSOR_CLASSES[model],
        "model_max_length": max_length,
        "clean_up_tokenization_spaces": False,
        "add_bos_token": False,
        "padding_side": "left",
        "model_input_names": ["input_ids", "attention_mask"],
        **ends,
        "image_token": tokens["image"],
        **({"video_token": tokens["video"]} if "video" in tokens else {}),
        "additional_special_tokens": others,
        "added_tokens_decoder": added,
        "chat_template": chat_template(model),
    })
    (folder / "chat_template.jinja").write_text(chat_template(model))
    write(folder / "generation_config.json", {
        "bos_token_id": ids["bos"], "eos_token_id": ids["eos"], "pad_token_id": ids["pad"], "do_sample": False, "max_new_tokens": 64,
    })


PROCESSOR_CLASSES = {"pack-mha": "LlavaProcessor", "pack-gqa": "Qwen2VLProcessor"}


def write(path: Path, value) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")
