"""Phi-3-Vision's processor: prompts with <|image_k|> tags and their pictures -> model inputs.

    inputs = processor(text=prompt, images=[picture])
    model.generate(**inputs)

Tokenisation is the published one: the text between tags is cut up piece by piece, every piece with
its own <s>, and a picture stands between them as its number, negated, once for each of its tokens.
"""

# The libraries are typed in part.
# mypy: disable-error-code="no-untyped-call"

import itertools
from collections.abc import Sequence
from typing import Any

from transformers import BatchFeature, PreTrainedTokenizerFast, ProcessorMixin

from phi3v.model.image_processing import Phi3VImageProcessor
from phi3v.model.tags import IMAGE_TAG, check_tags, pictures_by_prompt
from phi3v.model.tokenization import CHAT_TEMPLATE, load_tokenizer, name_known_class

END_OF_TURN = ("<|end|>", "<|endoftext|>")
_SAYS_NOTHING = (None, False)
_UNSUPPORTED = (
    "text_pair",
    "text_target",
    "text_pair_target",
    "stride",
    "is_split_into_words",
    "return_overflowing_tokens",
    "return_special_tokens_mask",
    "return_token_type_ids",
    "return_length",
)


class Phi3VProcessor(ProcessorMixin):
    """Joins an image processor and a tokenizer.

    Args:
        image_processor: makes the crops.
        tokenizer: has the published structure, see `tokenization`.
        chat_template: Jinja template of a conversation; by default the published one, which here
            also takes lists of {"type": "image"} and {"type": "text", "text": ...} as content.
    """

    # The first picture's tag, under the name by which other programs ask for one.
    image_token = "<|image_1|>"
    text_kwargs = {"return_tensors": "pt"}
    images_kwargs = {"return_tensors": "pt"}

    def __init__(
        self,
        image_processor: Phi3VImageProcessor,
        tokenizer: PreTrainedTokenizerFast,
        chat_template: str | dict[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        kwargs.pop("auto_map", None)  # published files name remote code there; it is never run
        super().__init__(
            image_processor, tokenizer, chat_template=chat_template or CHAT_TEMPLATE, **kwargs
        )

    @property
    def end_of_turn_ids(self) -> list[int]:
        """Ids at which generation stops: <|end|> and <|endoftext|>."""
        return [self.tokenizer.convert_tokens_to_ids(token) for token in END_OF_TURN]

    @property
    def model_input_names(self) -> list[str]:
        """Names of what a call with text and pictures returns."""
        return ["input_ids", "attention_mask", *self.image_processor.model_input_names]

    def __call__(
        self,
        text: str | Sequence[str] | None = None,
        images: Any = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """Ids of prompts, and the crops of their pictures.

        Args:
            text: one prompt or several.
            images: one picture; a list of pictures, taken by the tags of the prompts in order; or
                one list for each prompt, empty where a prompt has none.
            **kwargs: options of the tokenizer (`padding`, `padding_side`, `max_length`, ...) and of
                the image processor (`num_crops`, ...), flat or as `text_kwargs` and
                `images_kwargs`. `return_tensors` is "pt" if not given.

        Returns:
            `input_ids` and `attention_mask`; with pictures also `pixel_values` (pictures, crops +
            1, 3, side, side) and `image_sizes` (pictures, 2).

        Raises:
            ValueError: there is no text, or tags and pictures do not match.
        """
        if text is None:
            raise ValueError("text is missing: a picture alone is no prompt")
        prompts = [text] if isinstance(text, str) else list(text)
        if not all(isinstance(prompt, str) for prompt in prompts):
            raise ValueError("text must be a string or a list of strings")
        options = self._merge_kwargs(tokenizer_init_kwargs=self.tokenizer.init_kwargs, **kwargs)
        by_prompt = pictures_by_prompt(prompts, images)
        flat = [picture for own in by_prompt for picture in own]
        vision = self._process(flat, options["images_kwargs"])
        counts = iter(vision.pop("num_img_tokens", []))
        rows = [
            self._encode(number, prompt, [int(next(counts)) for _ in own], options["text_kwargs"])
            for number, (prompt, own) in enumerate(zip(prompts, by_prompt, strict=True), start=1)
        ]
        if options.get("return_mm_token_type_ids"):
            for row in rows:
                row["mm_token_type_ids"] = [int(token < 0) for token in row["input_ids"]]
        tensors = options["text_kwargs"].get("return_tensors")
        columns = self._pad(rows, options["text_kwargs"])
        return BatchFeature({**columns, **vision}, tensor_type=tensors)

    def decode(self, token_ids: Any, **kwargs: Any) -> Any:
        """Text of one row of ids; a picture's ids read as its tag, or as nothing.

        Several rows give a list of texts, as the tokenizer's own method does.

        Args:
            token_ids: ids as `generate` returns them, placeholders of the prompt included.
            **kwargs: of the tokenizer; with `skip_special_tokens` the tags are left out.
        """
        ids = token_ids.tolist() if hasattr(token_ids, "tolist") else token_ids
        if not isinstance(ids, int) and any(isinstance(row, list) for row in ids):
            return self.batch_decode(ids, **kwargs)
        runs = itertools.groupby([ids] if isinstance(ids, int) else ids, lambda one: min(one, 0))
        hidden = kwargs.get("skip_special_tokens", False)
        pieces = [
            ("" if hidden else f"<|image_{-number}|>")
            if number
            else self._decode(list(run), kwargs)
            for number, run in runs
        ]
        return "".join(pieces)

    def batch_decode(self, sequences: Any, **kwargs: Any) -> list[str]:
        """Text of every row of ids; see `decode`."""
        return [self.decode(row, **kwargs) for row in sequences]

    def post_process_image_text_to_text(
        self, generated_outputs: Any, skip_special_tokens: bool = True, **kwargs: Any
    ) -> list[str]:
        """Text of what `generate` returned; what transformers' pipelines call."""
        return self.batch_decode(
            generated_outputs, skip_special_tokens=skip_special_tokens, **kwargs
        )

    def _decode(self, ids: list[int], options: dict[str, Any]) -> str:
        text: str = self.tokenizer.decode(ids, **options)
        return text

    def encode_prompt(self, text: str, image_token_counts: Sequence[int]) -> list[int]:
        """Token ids of one prompt, -k repeated where it says <|image_k|>.

        Args:
            text: the prompt.
            image_token_counts: tokens of each of the prompt's pictures, in the order of their k.

        Raises:
            ValueError: tags and pictures do not match.
        """
        ids: list[int] = self._encode_pieces(text, image_token_counts)["input_ids"]
        return ids

    def _encode_pieces(
        self, text: str, counts: Sequence[int], add_special_tokens: bool = True
    ) -> dict[str, list[Any]]:
        tags = list(IMAGE_TAG.finditer(text))
        check_tags([int(tag[1]) for tag in tags], len(counts))
        starts = [0, *(tag.end() for tag in tags)]
        ends = [*(tag.start() for tag in tags), len(text)]
        pieces = self.tokenizer(
            [text[start:end] for start, end in zip(starts, ends, strict=True)],
            add_special_tokens=add_special_tokens,
            return_offsets_mapping=True,
        )
        ids: list[int] = []
        offsets: list[tuple[int, int]] = []
        for index, start in enumerate(starts):
            if index:
                number, tag = int(tags[index - 1][1]), tags[index - 1]
                ids += [-number] * counts[number - 1]
                offsets += [tag.span()] * counts[number - 1]
            ids += pieces["input_ids"][index]
            offsets += [(start + a, start + b) for a, b in pieces["offset_mapping"][index]]
        return {"input_ids": ids, "offset_mapping": offsets}

    def _encode(
        self, number: int, prompt: str, counts: list[int], options: dict[str, Any]
    ) -> dict[str, list[Any]]:
        refused = [key for key in _UNSUPPORTED if options.get(key) not in _SAYS_NOTHING]
        if refused:
            raise ValueError(f"{refused[0]} is not supported with pictures in the prompt")
        add = options.get("add_special_tokens")
        try:
            row = self._encode_pieces(prompt, counts, True if add is None else add)
        except ValueError as error:
            raise ValueError(f"text {number}: {error}") from None
        if not options.get("return_offsets_mapping"):
            del row["offset_mapping"]
        return self._truncate(number, row, options)

    def _truncate(
        self, number: int, row: dict[str, list[Any]], options: dict[str, Any]
    ) -> dict[str, list[Any]]:
        limit, ids = options.get("max_length"), row["input_ids"]
        wanted = options.get("truncation") not in (None, False, "do_not_truncate")
        if not wanted or limit is None or len(ids) <= limit:
            return row
        left = self.tokenizer.truncation_side == "left"
        keep = slice(len(ids) - limit, None) if left else slice(0, limit)
        dropped = ids[: len(ids) - limit] if left else ids[limit:]
        if min(dropped) < 0:
            raise ValueError(
                f"text {number}: truncation to max_length {limit} would cut into a picture; the "
                f"prompt has {len(ids)} tokens"
            )
        return {key: value[keep] for key, value in row.items()}

    def _pad(
        self, rows: list[dict[str, list[Any]]], options: dict[str, Any]
    ) -> dict[str, list[list[Any]]]:
        target = padded_length([len(row["input_ids"]) for row in rows], options)
        side = options.get("padding_side") or self.tokenizer.padding_side
        fill = {"input_ids": self.tokenizer.pad_token_id, "offset_mapping": (0, 0)}
        columns: dict[str, list[list[Any]]] = {}
        for row in rows:
            if options.get("return_attention_mask") is not False:
                row = row | {"attention_mask": [1] * len(row["input_ids"])}
            for key, values in row.items():
                padding = [fill.get(key, 0)] * max(0, target - len(values))
                padded = padding + values if side == "left" else values + padding
                columns.setdefault(key, []).append(padded)
        return columns

    def _process(self, pictures: list[Any], options: dict[str, Any]) -> dict[str, Any]:
        return dict(self.image_processor(pictures, **options)) if pictures else {}

    def save_pretrained(self, save_directory: Any, push_to_hub: bool = False, **kwargs: Any) -> Any:
        """Writes the files of both, and the chat template."""
        files = super().save_pretrained(save_directory, push_to_hub=push_to_hub, **kwargs)
        name_known_class(save_directory)
        return files

    @classmethod
    def _load_tokenizer_from_pretrained(  # type: ignore[override]
        cls, sub_processor_type: str, pretrained_model_name_or_path: str, **kwargs: Any
    ) -> PreTrainedTokenizerFast:
        return load_tokenizer(pretrained_model_name_or_path, **kwargs)


def padded_length(lengths: Sequence[int], options: dict[str, Any]) -> int:
    """The length rows are padded to; 0 where they are left as they are."""
    how = options.get("padding")
    how = getattr(how, "value", how)
    if how in (None, False, "do_not_pad"):
        return 0
    longest = max(lengths)
    if how == "max_length" and options.get("max_length") is not None:
        longest = max(longest, options["max_length"])
    multiple = options.get("pad_to_multiple_of") or 1
    return -(-longest // multiple) * multiple
