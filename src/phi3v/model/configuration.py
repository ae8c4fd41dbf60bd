"""The configuration of Phi-3-Vision: the keys of the published config.json plus `vision_config`.

`Phi3VConfig(**json)` takes a published config.json as it is. The published files leave the image
tower out, because their code always builds CLIP ViT-L/14 at 336 pixels; here it is the default of
`vision_config`, and a small model is the same code with smaller numbers.
"""

# The libraries are typed in part.
# mypy: disable-error-code="no-untyped-call"

import math
from typing import Any, cast

from huggingface_hub.dataclasses import strict
from transformers import CLIPVisionConfig, Phi3Config
from transformers.configuration_utils import SubConfigSpec

# openai/clip-vit-large-patch14-336, the tower that the published code builds unconditionally.
VIT_L_14_336: dict[str, Any] = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 336,
    "patch_size": 14,
    "projection_dim": 768,
}


@strict
class Phi3VConfig(Phi3Config):
    """Configuration of `Phi3VForCausalLM`.

    Everything of `Phi3Config`, and:

    Args:
        vision_config: CLIP's dimensions; keys that are absent are those of ViT-L/14 at 336 pixels.
            `image_size` is the side of a crop in pixels and must hold an even number of patches.
        embd_layer: the published key of the same name; `hd_transform_order` is "sub_glb" or
            "glb_sub".
        img_processor: the published key of the same name; `layer_idx` (default -2) counts CLIP's
            hidden states, `type_feature` (default "patch") drops CLIP's class token.

    Raises:
        ValueError: a published option that no published model uses and that is not built.
    """

    model_type = "phi3_v"
    # No plan for pipelines: a stage would have to hold the pictures as well.
    base_model_pp_plan = None  # type: ignore[assignment]
    sub_configs_defaults = {
        "vision_config": SubConfigSpec(CLIPVisionConfig, init_kwargs=VIT_L_14_336)
    }

    vision_config: dict[str, Any] | CLIPVisionConfig | None = None
    embd_layer: dict[str, Any] | None = None
    img_processor: dict[str, Any] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        # Published files name remote code and an attention package; neither is a property of the
        # model, and neither is loaded on their word.
        kwargs.pop("auto_map", None)
        kwargs.pop("_attn_implementation", None)
        if isinstance(self.vision_config, dict):
            self.vision_config = {**VIT_L_14_336, **self.vision_config}
        super().__post_init__(**kwargs)
        self._refuse_what_is_not_built()

    def convert_rope_params_to_dict(  # type: ignore[override]
        self, **kwargs: Any
    ) -> dict[str, Any]:
        """Turns the published rope types "su" and "yarn" into transformers' "longrope"."""
        published, rope = kwargs.pop("rope_scaling", None), dict(self.rope_parameters or {})
        if published:  # of what we write, in both ways, the rest is in the other one
            rope.pop("rope_type", None)
            rope |= published
        if rope:
            kwargs["rope_scaling"] = self._as_longrope(rope)
        rest: dict[str, Any] = super().convert_rope_params_to_dict(**kwargs)
        return rest

    def to_diff_dict(self) -> dict[str, Any]:
        """What is written: with the published keys beside those that transformers has for them.

        The published code and other engines know no others, and without `rope_scaling` they would
        rotate as a model without it does.
        """
        values: dict[str, Any] = super().to_diff_dict()
        rope = cast(dict[str, Any], self.rope_parameters)
        values["rope_theta"] = rope["rope_theta"]
        if self.switches_rope:
            factors = {name: rope[name] for name in ("long_factor", "short_factor")}
            values["rope_scaling"] = {"type": self._published_rope_type(rope), **factors}
        if "dtype" in values:
            values["torch_dtype"] = values["dtype"]
        return values

    def _published_rope_type(self, rope: dict[str, Any]) -> str:
        given = rope.get("attention_factor")
        if given is None:
            return "su"
        # A factor of its own is nothing that the published code could be told.
        return "yarn" if given == self._attention_factor_of_yarn() else "longrope"

    def _attention_factor_of_yarn(self) -> float:
        scale = self.max_position_embeddings / self.original_max_position_embeddings
        return 0.1 * math.log(scale) + 1.0 if scale > 1 else 1.0

    def _as_longrope(self, rope: dict[str, Any]) -> dict[str, Any]:
        kind = rope.pop("type", None)
        kind = rope.get("rope_type", kind)
        rope["rope_type"] = "longrope" if kind in ("su", "yarn") else kind
        if rope["rope_type"] == "longrope":
            known = type(self).original_max_position_embeddings
            given = rope.get("original_max_position_embeddings")
            if given and self.original_max_position_embeddings == known:
                self.original_max_position_embeddings = int(given)  # stated here and nowhere else
            rope["original_max_position_embeddings"] = self.original_max_position_embeddings
            rope["factor"] = self.max_position_embeddings / self.original_max_position_embeddings
        if kind == "yarn":  # the published code's "yarn" differs from "su" in this factor alone
            rope["attention_factor"] = self._attention_factor_of_yarn()
        return rope

    def _refuse_what_is_not_built(self) -> None:
        clip = self.clip
        if self.crop_size % (2 * self.patch_size):
            raise ValueError(
                f"vision_config: image_size {self.crop_size} must be a multiple of twice the "
                f"patch_size {self.patch_size}, because patches are merged two by two"
            )
        self._refuse_heads_that_do_not_fit()
        layer = self.vision_layer_index
        if not -clip.num_hidden_layers - 1 <= layer <= clip.num_hidden_layers:
            raise ValueError(
                f"img_processor.layer_idx {layer} is not one of the {clip.num_hidden_layers + 1} "
                "hidden states of the vision tower"
            )
        built = {
            "img_processor.type_feature": (self._option("img_processor", "type_feature"), "patch"),
            "img_processor.image_dim_out": (
                self._option("img_processor", "image_dim_out"),
                clip.hidden_size,
            ),
            "embd_layer.use_hd_transform": (self._option("embd_layer", "use_hd_transform"), True),
            "embd_layer.with_learnable_separator": (
                self._option("embd_layer", "with_learnable_separator"),
                True,
            ),
            "embd_layer.projection_cls": (self._option("embd_layer", "projection_cls"), "mlp"),
        }
        for key, (value, only) in built.items():
            if value is not None and value != only:
                raise ValueError(f"{key} is {value!r}, and only {only!r} is built")
        if self.hd_transform_order not in ("sub_glb", "glb_sub"):
            raise ValueError(
                f"embd_layer.hd_transform_order is {self.hd_transform_order!r}, "
                "and only 'sub_glb' and 'glb_sub' exist"
            )

    def _refuse_heads_that_do_not_fit(self) -> None:
        heads, groups = self.num_attention_heads, cast(int, self.num_key_value_heads)
        if self.hidden_size % (2 * heads):  # rotation turns the dimensions of a head in pairs
            raise ValueError(
                f"hidden_size {self.hidden_size} must be a multiple of twice the "
                f"num_attention_heads {heads}"
            )
        if heads % groups:
            raise ValueError(
                f"num_attention_heads {heads} must be a multiple of num_key_value_heads {groups}"
            )

    def _option(self, group: str, key: str) -> Any:
        return (getattr(self, group) or {}).get(key)

    @property
    def clip(self) -> CLIPVisionConfig:
        """`vision_config`, which is a `CLIPVisionConfig` once this is constructed."""
        return cast(CLIPVisionConfig, self.vision_config)

    @property
    def crop_size(self) -> int:
        """Side of a crop in pixels."""
        return cast(int, self.clip.image_size)

    @property
    def patch_size(self) -> int:
        """Side of a patch of CLIP in pixels."""
        return cast(int, self.clip.patch_size)

    @property
    def vision_layer_index(self) -> int:
        """Index of the CLIP hidden state that is the picture's feature; 0 is the embedding."""
        index = self._option("img_processor", "layer_idx")
        return -2 if index is None else int(index)

    @property
    def vision_depth(self) -> int:
        """Number of CLIP layers that run; the layers above influence nothing."""
        index = self.vision_layer_index
        return index if index >= 0 else self.clip.num_hidden_layers + 1 + index

    @property
    def hd_transform_order(self) -> str:
        """Which comes first: "sub_glb" the crops, "glb_sub" the overview."""
        return self._option("embd_layer", "hd_transform_order") or "sub_glb"

    @property
    def crop_grid(self) -> int:
        """Tokens along one side of a crop: patches are merged two by two (12 when published)."""
        return self.crop_size // self.patch_size // 2

    @property
    def switches_rope(self) -> bool:
        """Whether rope has short and long factors and switches at the original context length."""
        rope = cast(dict[str, Any], self.rope_parameters)
        return bool(rope["rope_type"] == "longrope")
