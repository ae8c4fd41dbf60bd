"""What `generate()` needs to know of pictures, negative ids and the two ropes.

Mixed into `Phi3VForCausalLM`. Pictures go in only on passes that hold their placeholders; nothing
that indexes the vocabulary ever sees a negative id; and when a sequence outgrows the original
context, the whole prompt runs once more with the long rope factors, pictures included.
"""

# The libraries are typed in part; generate() is typed as a method of classes yet to be mixed.
# mypy: disable-error-code="no-untyped-call, misc"

from collections.abc import Callable
from typing import Any, cast

from torch import FloatTensor, LongTensor, Tensor
from transformers import GenerationMixin
from transformers.cache_utils import Cache
from transformers.generation.candidate_generator import CandidateGenerator
from transformers.generation.logits_process import LogitsProcessorList
from transformers.generation.stopping_criteria import StoppingCriteriaList

from phi3v.model.configuration import Phi3VConfig


class PictureGenerationMixin(GenerationMixin):
    """Generation with pictures in the prompt."""

    config: Phi3VConfig
    model: Any  # the Phi3VModel of the class that this is mixed into

    def prepare_inputs_for_generation(
        self,
        input_ids: LongTensor,
        next_sequence_length: int | None = None,
        past_key_values: Cache | None = None,
        attention_mask: LongTensor | None = None,
        inputs_embeds: Tensor | None = None,
        is_first_iteration: bool | None = False,
        position_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        image_sizes: Tensor | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Inputs of one pass: the new tokens, and the pictures whose placeholders are among them.

        Raises:
            ValueError: the original context is outgrown, and the tokens in the cache were not given
                again, so that they cannot be rotated anew.
        """
        if past_key_values is not None and self._outgrows_short_rope(
            input_ids.shape[1], next_sequence_length, past_key_values, position_ids
        ):
            # Cached keys carry the short rope factors: forget them and run the whole prompt.
            past_key_values.reset()
            next_sequence_length = None
        inputs: dict[str, Any] = super().prepare_inputs_for_generation(
            input_ids,
            next_sequence_length=next_sequence_length,
            past_key_values=past_key_values,
            attention_mask=attention_mask,
            inputs_embeds=inputs_embeds,
            is_first_iteration=is_first_iteration,
            position_ids=position_ids,
            **kwargs,
        )
        new_ids = inputs.get("input_ids")
        # A pass of one token is a generated token: looking at it would cost a wait for the device.
        if pixel_values is None or image_sizes is None or new_ids is None or new_ids.shape[1] == 1:
            return inputs
        if bool((new_ids < 0).any()):
            pictures = self.model.find_pictures(input_ids, image_sizes)
            wanted = pictures.within(first_column=input_ids.shape[1] - new_ids.shape[1])
            inputs["pixel_values"] = pixel_values[wanted]
            inputs["image_sizes"] = image_sizes[wanted]
        return inputs

    def _outgrows_short_rope(
        self,
        given: int,
        new_tokens: int | None,
        cache: Cache,
        position_ids: Tensor | None,
    ) -> bool:
        cached = int(cache.get_seq_length())
        if cached == 0 or not self.config.switches_rope:
            return False
        boundary = self.config.original_max_position_embeddings
        new = given if new_tokens is None else new_tokens
        columns = cached + new
        if columns <= boundary:
            return False
        # As in the rotation itself, padding counts for nothing where positions are known.
        length = columns if position_ids is None else int(position_ids.max()) + 1
        if not length - new <= boundary < length:
            return False
        if given != columns:
            raise ValueError(
                f"the sequence grows past {boundary} tokens, where rope switches to its long "
                f"factors, and {columns - given} tokens are known from the cache alone: pass the "
                "whole prompt as input_ids"
            )
        return True

    def _expand_inputs_for_generation(
        self,
        expand_size: int = 1,
        is_encoder_decoder: bool = False,
        input_ids: LongTensor | None = None,
        **model_kwargs: Any,
    ) -> tuple[LongTensor, dict[str, Any]]:
        # Rows may hold different numbers of pictures: each row's pictures repeat as a block.
        pixel_values = model_kwargs.pop("pixel_values", None)
        image_sizes = model_kwargs.pop("image_sizes", None)
        if pixel_values is not None:
            order = self.model.find_pictures(input_ids, image_sizes).repeated_by_row(expand_size)
        expanded: tuple[LongTensor, dict[str, Any]] = super()._expand_inputs_for_generation(
            expand_size=expand_size,
            is_encoder_decoder=is_encoder_decoder,
            input_ids=input_ids,
            **model_kwargs,
        )
        if pixel_values is not None:
            expanded[1]["pixel_values"] = pixel_values[order]
            expanded[1]["image_sizes"] = image_sizes[order]
        return expanded

    def _get_logits_processor(self, *args: Any, **kwargs: Any) -> LogitsProcessorList:
        stand_in = self.config.bos_token_id or 0
        return _OnTokenIds(super()._get_logits_processor(*args, **kwargs), stand_in)

    def _get_stopping_criteria(self, *args: Any, **kwargs: Any) -> StoppingCriteriaList:
        stand_in = self.config.bos_token_id or 0
        return _StopOnTokenIds(super()._get_stopping_criteria(*args, **kwargs), stand_in)

    def _get_candidate_generator(self, *args: Any, **kwargs: Any) -> CandidateGenerator:
        generator = super()._get_candidate_generator(*args, **kwargs)
        config = self.config
        boundary = config.original_max_position_embeddings if config.switches_rope else None
        propose = _cut_candidates(generator.get_candidates, boundary)
        setattr(generator, "get_candidates", propose)  # noqa: B010  (a method, to the type checker)
        return generator


class _StopOnTokenIds(StoppingCriteriaList):
    """Shows stopping criteria a real token where `input_ids` holds a picture's placeholder."""

    def __init__(self, criteria: StoppingCriteriaList, stand_in: int) -> None:
        super().__init__(criteria)
        self.stand_in = stand_in

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: Any) -> Any:
        visible = cast(LongTensor, input_ids.where(input_ids >= 0, self.stand_in))
        return super().__call__(visible, cast(FloatTensor, scores), **kwargs)


class _OnTokenIds(LogitsProcessorList):
    """Shows logits processors a real token where `input_ids` holds a picture's placeholder.

    Processors index the vocabulary with `input_ids`. The stand-in is <s>: it stands in every prompt
    anyway, so a repetition penalty on it changes no answer.
    """

    def __init__(self, processors: LogitsProcessorList, stand_in: int) -> None:
        super().__init__(processors)
        self.stand_in = stand_in

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: Any) -> Tensor:
        visible = cast(LongTensor, input_ids.where(input_ids >= 0, self.stand_in))
        result: Tensor = super().__call__(visible, scores, **kwargs)
        return result


def _cut_candidates(
    propose: Callable[..., tuple[Tensor, Tensor | None]], boundary: int | None
) -> Callable[..., tuple[Tensor, Tensor | None]]:
    """Cuts proposals of assisted decoding before a placeholder and at the rope boundary.

    Looking up the prompt may propose placeholders. And a proposal across the boundary would be
    judged with the long factors at positions that plain decoding judges with the short ones.
    """

    def get_candidates(
        input_ids: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor | None]:
        candidates, logits = propose(input_ids, *args, **kwargs)
        length = input_ids.shape[1]
        proposed = candidates[0, length:]
        keep = int((proposed >= 0).long().cumprod(0).sum())
        if boundary is not None and length <= boundary:
            keep = min(keep, boundary - length)
        if keep == len(proposed):
            return candidates, logits
        kept = candidates[:, : length + keep]
        return kept, None if logits is None or keep == 0 else logits[:, :keep]

    return get_candidates
