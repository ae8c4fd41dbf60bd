"""A tokenizer with the published structure, trained on texts of one's own.

`train_tokenizer(texts, vocab_size)` gives what a published tokenizer.json gives, in small: the same
normaliser, byte fallback, template and special tokens, so that a prompt is cut up by the same
rules. The ids are <unk> 0, <s> 1, </s> 2, the 256 bytes, the printable ASCII characters, merged
pieces, and last the special tokens of a chat.
"""

# The libraries are typed in part.
# mypy: disable-error-code="no-untyped-call"

import json
import string
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

SPACE = "\u2581"
CHAT_TOKENS = ("<|endoftext|>", "<|assistant|>", "<|system|>", "<|end|>", "<|user|>")
FIRST_TOKENS = ("<unk>", "<s>", "</s>")
CHARACTERS = SPACE + string.digits + string.ascii_letters + string.punctuation
# A newline has no piece of its own, published or here: it is the byte <0x0A>.
BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))
SMALLEST_VOCABULARY = len(FIRST_TOKENS) + len(BYTES) + len(CHARACTERS) + len(CHAT_TOKENS)

# The published tokenizer.json of both models: 32,000 pieces, then 45 added tokens, of which the
# chat and the picture have names and 39 are left free.
PUBLISHED_PIECES = 32_000
_NAMED = {0: "<|endoftext|>", 1: "<|assistant|>", 6: "<|system|>", 7: "<|end|>", 10: "<|user|>"}
_FREE = (place for place in range(44) if place not in _NAMED)
PUBLISHED_TOKENS = tuple(
    token
    for _, token in sorted(
        {
            **_NAMED,
            **{place: f"<|placeholder{number}|>" for number, place in enumerate(_FREE, start=1)},
            44: "<|image|>",
        }.items()
    )
)

# Plain strings render as published; in a content list a picture is written as its numbered tag.
CHAT_TEMPLATE = (
    "{% set count = namespace(image=0) %}"
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + '\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}"
    "{% set count.image = count.image + 1 %}{{ '<|image_' + count.image|string + '|>\n' }}"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}"
    "{{ '<|end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt and messages[-1]['role'] != 'assistant' %}"
    "{{- '<|assistant|>\n' -}}{% endif %}"
)


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Trains a tokenizer on `texts`; the same texts in the same order give the same tokenizer.

    Args:
        texts: what the vocabulary is learnt from; only runs of ASCII letters are merged, so that
            digits and punctuation stay pieces of their own.
        vocab_size: the most ids there may be; fewer when the texts hold fewer words.

    Raises:
        ValueError: `vocab_size` has no room for the pieces that are always there.
    """
    if vocab_size < SMALLEST_VOCABULARY:
        raise ValueError(
            f"vocab_size {vocab_size} is too small: bytes, characters and special tokens alone "
            f"are {SMALLEST_VOCABULARY}"
        )
    merges = learn_merges(texts, vocab_size - SMALLEST_VOCABULARY)
    pieces = [*FIRST_TOKENS, *BYTES, *CHARACTERS, *("".join(pair) for pair in merges)]
    return _as_fast(_tokenizer_json(pieces, merges, CHAT_TOKENS))


def stand_in_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer with the published ids of all special tokens that cuts text into characters.

    For models of the published size where the published tokenizer.json is not at hand. The ids
    between the characters and the special tokens are pieces that no text is cut into.
    """
    known = [*FIRST_TOKENS, *BYTES, *CHARACTERS]
    unused = (f"<unused {number}>" for number in range(len(known), PUBLISHED_PIECES))
    return _as_fast(_tokenizer_json([*known, *unused], [], PUBLISHED_TOKENS))


def _as_fast(content: dict[str, Any]) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(content)),
        bos_token="<s>",
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        unk_token="<unk>",
        padding_side="right",
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
        chat_template=CHAT_TEMPLATE,
    )


def load_tokenizer(
    pretrained_model_name_or_path: str | Path, **options: Any
) -> PreTrainedTokenizerFast:
    """Loads tokenizer.json as it is.

    The published files name the class LlamaTokenizer beside it, and today's class of that name
    cuts up the text after special tokens differently.

    Args:
        pretrained_model_name_or_path: a folder or a hub id.
        **options: of `from_pretrained`, such as `revision`.
    """
    for key in ("trust_remote_code", "_from_auto"):
        options.pop(key, None)
    tokenizer: PreTrainedTokenizerFast = PreTrainedTokenizerFast.from_pretrained(
        pretrained_model_name_or_path, **options
    )
    tokenizer.init_kwargs.pop("auto_map", None)  # names remote code; it is never run
    return tokenizer


def name_known_class(folder: str | Path) -> None:
    """Let the tokenizer in a folder be read by transformers 4 as well, which has other names.

    Args:
        folder: What `save_pretrained` has written.
    """
    file = Path(folder) / "tokenizer_config.json"
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    content["tokenizer_class"] = "PreTrainedTokenizerFast"
    if isinstance(extra := content.get("extra_special_tokens"), list):  # there, it is a table
        content["additional_special_tokens"] = extra
        del content["extra_special_tokens"]
    text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    file.write_text(text, encoding="utf-8")


def learn_merges(texts: Iterable[str], count: int) -> list[tuple[str, str]]:
    """At most `count` byte-pair merges of words with the space before them, best first."""
    learner = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    learner.normalizer = _normalizer()
    words = Regex(f"{SPACE}?[A-Za-z]+")
    learner.pre_tokenizer = pre_tokenizers.Split(words, behavior="removed", invert=True)
    letters = [SPACE, *string.ascii_letters]
    trainer = trainers.BpeTrainer(
        vocab_size=len(letters) + count, initial_alphabet=letters, show_progress=False
    )
    learner.train_from_iterator(texts, trainer)
    merges = json.loads(learner.to_str())["model"]["merges"]
    return [(left, right) for left, right in merges]


def _normalizer() -> normalizers.Normalizer:
    return normalizers.Sequence([normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)])


def _tokenizer_json(
    pieces: list[str], merges: list[tuple[str, str]], added: Sequence[str]
) -> dict[str, Any]:
    bos = {"SpecialToken": {"id": "<s>", "type_id": 0}}
    text = {"Sequence": {"id": "A", "type_id": 0}}
    pair = [{"SpecialToken": {"id": "<s>", "type_id": 1}}, {"Sequence": {"id": "B", "type_id": 1}}]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _added_tokens(len(pieces), added),
        "normalizer": json.loads(_normalizer().__getstate__()),
        "pre_tokenizer": None,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [bos, text],
            "pair": [bos, text, *pair],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
        },
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ],
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "<unk>",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "vocab": {piece: index for index, piece in enumerate(pieces)},
            "merges": [list(pair) for pair in merges],
        },
    }


def _added_tokens(first_id: int, added: Sequence[str]) -> list[dict[str, Any]]:
    # Published flags: what follows these loses its white space; </s> is no special token.
    strips = ("</s>", "<|assistant|>", "<|image|>")
    return [
        {
            "id": index,
            "content": token,
            "single_word": False,
            "lstrip": False,
            "rstrip": token in strips or token.startswith("<|placeholder"),
            "normalized": False,
            "special": token != "</s>",
        }
        for index, token in [*enumerate(FIRST_TOKENS), *enumerate(added, start=first_id)]
    ]
