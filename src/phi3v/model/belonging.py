"""Whether the files of a checkpoint belong together: crops, tokenizer and model.

A tokenizer of another model loads without a word, and every token then means something else.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from phi3v.errors import UserError
from phi3v.model.configuration import Phi3VConfig
from phi3v.model.processing import Phi3VProcessor
from phi3v.model.tokenization import CHAT_TOKENS

# What may end a turn, in any of the files that were ever published: the first is stale, but true.
_ENDS = ("</s>", "<|endoftext|>", "<|end|>", "<|assistant|>")


def check_crops_fit(path: str, config: Phi3VConfig, processor: Phi3VProcessor) -> None:
    """Refuses a preprocessor that makes other crops than the model reads."""
    side, tokens = config.crop_size, config.crop_grid**2
    made = processor.image_processor
    if (made.crop_size, made.num_img_tokens) != (side, tokens):
        raise UserError(
            f"{path}: preprocessor_config.json makes crops of {made.crop_size} pixels "
            f"and {made.num_img_tokens} tokens, config.json wants {side} and {tokens}"
        )


def check_tokenizer_fits(
    path: str, folder: Path, config: Phi3VConfig, processor: Phi3VProcessor
) -> None:
    """Refuses a tokenizer that the model was not made with, as far as the files tell.

    Args:
        path: The checkpoint as its user calls it.
        folder: Where its files are.
        config: Of the model.
        processor: Holds the tokenizer.

    Raises:
        UserError: It lacks a token of a chat, has more ids than the model, or other ids for the
            tokens that config.json and generation_config.json name by their ids.
    """
    tokenizer = processor.tokenizer
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    for token in CHAT_TOKENS:
        if token not in vocabulary:
            raise UserError(f"{path}: tokenizer.json lacks {token}")
    if len(tokenizer) > config.vocab_size:
        raise UserError(
            f"{path}: tokenizer.json has {len(tokenizer)} ids, config.json has a vocab_size of "
            f"{config.vocab_size}"
        )
    words = {number: token for token, number in vocabulary.items()}
    ends = {vocabulary[token] for token in _ENDS if token in vocabulary}
    wanted = {"bos_token_id": {tokenizer.bos_token_id}, "pad_token_id": {tokenizer.pad_token_id}}
    for name in ("config.json", "generation_config.json"):
        stated = _stated(folder / name)
        for key, allowed in {**wanted, "eos_token_id": ends}.items():
            for number in _numbers(stated.get(key)):
                word = words.get(number) if isinstance(number, int) else None
                if word is None or number not in allowed:
                    raise UserError(
                        f"{path}: {name} has {key} {number}, which is"
                        f" {word or 'no token'} in tokenizer.json, where it would be"
                        f" {' or '.join(map(str, sorted(allowed)))}: they are of different models"
                    )


def _stated(file: Path) -> dict[str, Any]:
    """What a file states itself; a default of a class says nothing about the tokenizer."""
    try:
        content: Any = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{file}: cannot be read: it holds no names with values")
    return content


def _numbers(value: Any) -> Iterable[int]:
    if value is None:
        return ()
    return value if isinstance(value, list) else (value,)
