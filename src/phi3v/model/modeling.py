"""Phi-3-Vision as a native transformers model: Phi-3's decoder with pictures in the prompt.

Composed of the decoder layers and CLIP layers that transformers ships, under the parameter names
of the published checkpoints. In `input_ids` a picture stands as a run of negative ids: -k where
the prompt says <|image_k|>, as many as the picture has tokens.
"""

# The libraries are typed in part.
# mypy: disable-error-code="no-untyped-call"

from typing import Unpack

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.cache_utils import Cache, DynamicCache
from transformers.masking_utils import create_causal_mask, create_sliding_window_causal_mask
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.modeling_utils import slice_logits_to_keep
from transformers.models.clip.modeling_clip import CLIPMLP, CLIPAttention
from transformers.models.phi3.modeling_phi3 import (
    Phi3Attention,
    Phi3DecoderLayer,
    Phi3RMSNorm,
    Phi3RotaryEmbedding,
)
from transformers.utils.generic import (
    TransformersKwargs,
    can_return_tuple,
    merge_with_config_defaults,
)
from transformers.utils.import_utils import is_torchdynamo_compiling
from transformers.utils.output_capturing import capture_outputs

from phi3v.model.configuration import Phi3VConfig
from phi3v.model.generation import PictureGenerationMixin
from phi3v.model.placeholders import Pictures, find_pictures
from phi3v.model.vision import VisionEmbedding


class Phi3VPreTrainedModel(PreTrainedModel):
    """What the two model classes share: abilities, and how fresh weights are drawn."""

    config: Phi3VConfig
    config_class = Phi3VConfig
    base_model_prefix = "model"
    input_modalities = ["image", "text"]
    supports_gradient_checkpointing = True
    _no_split_modules = [
        "Phi3DecoderLayer",
        "CLIPEncoderLayer",
        "CLIPVisionEmbeddings",
    ]
    _skip_keys_device_placement = ["past_key_values"]
    _supports_flash_attn = True
    _supports_sdpa = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True
    _can_record_outputs = {
        "hidden_states": Phi3DecoderLayer,
        "attentions": Phi3Attention,
    }

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, VisionEmbedding):
            init.zeros_(module.glb_GN)
            init.zeros_(module.sub_GN)
            # transformers leaves out modules without parameters of their own when the class is not
            # one of its own, and CLIP scales the weights of its layers in just such modules.
            tower = module.img_processor.vision_model
            for part in tower.modules():
                if isinstance(part, CLIPAttention | CLIPMLP):
                    tower._init_weights(part)


class Phi3VModel(Phi3VPreTrainedModel):
    """Embeddings, pictures and decoder; returns hidden states."""

    def __init__(self, config: Phi3VConfig) -> None:
        super().__init__(config)
        self.padding_idx = config.pad_token_id
        self.vocab_size = config.vocab_size
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, self.padding_idx)
        self.embed_dropout = nn.Dropout(config.embd_pdrop)
        self.layers = nn.ModuleList(
            [Phi3DecoderLayer(config, index) for index in range(config.num_hidden_layers)]
        )
        self.vision_embed_tokens = VisionEmbedding(config)
        self.norm = Phi3RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.rotary_emb = Phi3RotaryEmbedding(config=config)
        self.gradient_checkpointing = False
        # True sends a blank crop through the picture side where a batch has no picture: what
        # processes share there, gradients or the weights themselves, takes part in every pass.
        self.always_looks = False
        self.post_init()

    @merge_with_config_defaults  # type: ignore[untyped-decorator]
    @capture_outputs  # type: ignore[untyped-decorator]
    def forward(  # type: ignore[misc]
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        pixel_values: Tensor | None = None,
        image_sizes: Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutputWithPast:
        """Hidden states of a batch.

        Args:
            input_ids: (batch, length); negative ids stand for tokens of pictures.
            attention_mask: (batch, cached length + length), 0 at padding.
            position_ids: (batch, length); without it positions count on from the cache.
            past_key_values: keys and values of what came before.
            inputs_embeds: (batch, length, hidden_size) instead of `input_ids`; holds no pictures.
            pixel_values: (pictures, crops + 1, 3, side, side), pictures listed row by row.
            image_sizes: (pictures, 2), padded height and width in pixels.
            use_cache: whether to return keys and values.
            **kwargs: flags such as `output_hidden_states` and `output_attentions`.

        Raises:
            ValueError: not exactly one of `input_ids` and `inputs_embeds`, or pictures and
                placeholders do not match.
        """
        if input_ids is not None and inputs_embeds is None:
            hidden = self.embed(input_ids, pixel_values, image_sizes)
        elif input_ids is None and inputs_embeds is not None:
            hidden = inputs_embeds
        else:
            raise ValueError("give exactly one of input_ids and inputs_embeds")
        if input_ids is None and pixel_values is not None:
            raise ValueError("pixel_values needs input_ids: their negative ids say where it goes")
        if self.always_looks and _begins(past_key_values) and not _any(pixel_values):
            hidden = hidden + 0.0 * self.vision_embed_tokens.blank_tokens().sum()
        if position_ids is None:
            past = past_key_values.get_seq_length() if past_key_values is not None else 0
            positions = torch.arange(hidden.shape[1], device=hidden.device) + past
            position_ids = positions.unsqueeze(0)

        hidden = self.embed_dropout(hidden)
        windowed = self.config.sliding_window is not None
        make_mask = create_sliding_window_causal_mask if windowed else create_causal_mask
        mask = make_mask(
            config=self.config,
            inputs_embeds=hidden,
            attention_mask=attention_mask,
            past_key_values=past_key_values,
            position_ids=position_ids,
        )
        # After the mask: positions that start again separate packed documents only as long as
        # there is no cache, not even an empty one.
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache(config=self.config)
        rotation = self.rotary_emb(hidden, position_ids=position_ids)
        for layer in self.layers[: self.config.num_hidden_layers]:
            hidden = layer(
                hidden,
                attention_mask=mask,
                position_ids=position_ids,
                past_key_values=past_key_values,
                use_cache=use_cache,
                position_embeddings=rotation,
                **kwargs,
            )
        return BaseModelOutputWithPast(
            last_hidden_state=self.norm(hidden),
            past_key_values=past_key_values if use_cache else None,
        )

    def embed(
        self, input_ids: Tensor, pixel_values: Tensor | None, image_sizes: Tensor | None
    ) -> Tensor:
        """Token embeddings with the pictures' tokens in place; writes into none of its inputs.

        Args:
            input_ids: (batch, length); negative ids stand for tokens of pictures.
            pixel_values: (pictures, crops + 1, 3, side, side) or None.
            image_sizes: (pictures, 2) or None.

        Returns:
            (batch, length, hidden_size).

        Raises:
            ValueError: pictures and placeholders do not match.
        """
        embeds: Tensor = self.embed_tokens(input_ids.clamp(min=0))
        if not _any(pixel_values):
            if not is_torchdynamo_compiling() and bool((input_ids < 0).any()):
                raise ValueError(
                    "input_ids holds placeholders of pictures, and pixel_values is missing"
                )
            return embeds
        pictures = self.find_pictures(input_ids, image_sizes)
        tokens = self.vision_embed_tokens(pixel_values, image_sizes)
        values = torch.cat(tokens).to(embeds.device, embeds.dtype)
        return embeds.index_put((pictures.rows, pictures.columns), values)

    def find_pictures(self, input_ids: Tensor, image_sizes: Tensor | None) -> Pictures:
        """Where the tokens of each picture stand in `input_ids`; see `placeholders`."""
        if image_sizes is None:
            raise ValueError("pixel_values came without image_sizes")
        return find_pictures(input_ids, self.vision_embed_tokens.count_tokens(image_sizes))


def _any(pixel_values: Tensor | None) -> bool:
    return pixel_values is not None and len(pixel_values) > 0


def _begins(cache: Cache | None) -> bool:
    """Whether nothing came before: a generated token's pass follows one that saw the pictures."""
    return cache is None or cache.get_seq_length() == 0


class Phi3VForCausalLM(Phi3VPreTrainedModel, PictureGenerationMixin):
    """Phi-3-Vision with its language head."""

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}
    _tp_plan = {"lm_head": "colwise_gather_output"}
    _fsdp_plan = {"lm_head": "keep_full_weight"}

    def __init__(self, config: Phi3VConfig) -> None:
        super().__init__(config)
        self.model = Phi3VModel(config)
        self.vocab_size = config.vocab_size
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    @can_return_tuple  # type: ignore[untyped-decorator]
    def forward(  # type: ignore[misc]
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        pixel_values: Tensor | None = None,
        image_sizes: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs: Unpack[TransformersKwargs],
    ) -> CausalLMOutputWithPast:
        """Logits, and the loss when there are labels.

        Args:
            input_ids: (batch, length); negative ids stand for tokens of pictures.
            attention_mask: (batch, cached length + length), 0 at padding.
            position_ids: (batch, length).
            past_key_values: keys and values of what came before.
            inputs_embeds: (batch, length, hidden_size) instead of `input_ids`.
            pixel_values: (pictures, crops + 1, 3, side, side), pictures listed row by row.
            image_sizes: (pictures, 2), padded height and width in pixels.
            labels: (batch, length); shifted by one inside. Negative labels, that is -100 and the
                placeholders of pictures, count for nothing.
            use_cache: whether to return keys and values.
            logits_to_keep: how many positions from the end, or which, get logits; 0 means all.
            **kwargs: flags such as `output_hidden_states`, and `num_items_in_batch` for the loss.
        """
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            pixel_values=pixel_values,
            image_sizes=image_sizes,
            use_cache=use_cache,
            **kwargs,
        )
        hidden = slice_logits_to_keep(outputs.last_hidden_state, logits_to_keep)
        logits = self.lm_head(hidden).float()  # as published, also where weights are bfloat16
        loss = None
        if labels is not None:
            labels = labels.where(labels >= 0, -100)
            loss = self.loss_function(
                logits=logits, labels=labels, vocab_size=self.config.vocab_size, **kwargs
            )
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )
