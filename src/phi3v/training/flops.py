"""Floating point operations that a training step needs, to compare its speed with the hardware's.

    cost = cost_of(model)
    cost.of(lengths, supervised, crops, image_tokens)   # of a batch, forward and backward

A multiplication with an addition counts as two, as in PaLM (Chowdhery et al., 2022, appendix B).
Counted is what the model needs for real tokens and real crops: not padding, and not what is
computed a second time to save memory. Gradients count into weights that train, and through
everything that stands behind one of them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from torch import nn

from phi3v.training.loss import base_of


@dataclass(frozen=True)
class Cost:
    """Operations of a training step, by what they grow with.

    Attributes:
        token: For every token.
        pair: For every pair of tokens of a row, in attention.
        supervised: For every token whose prediction counts, in the language head.
        crop: For every crop that is looked at, the overview included.
        image_token: For every token that the projector makes of pictures.
    """

    token: float
    pair: float
    supervised: float
    crop: float
    image_token: float

    def of(self, lengths: Sequence[int], supervised: int, crops: int, image_tokens: int) -> float:
        """Operations of a batch.

        Args:
            lengths: Tokens of each row, without padding.
            supervised: Tokens whose prediction counts.
            crops: Real crops of all pictures.
            image_tokens: Tokens of all pictures.
        """
        pairs = sum(length**2 for length in lengths)
        return (
            self.token * sum(lengths)
            + self.pair * pairs
            + self.supervised * supervised
            + self.crop * crops
            + self.image_token * image_tokens
        )


class _Way:
    """Adds up a way through a model, and knows whether gradients flow back along it."""

    def __init__(self, flows: bool = False) -> None:
        self.flows = flows
        self.linear = 0.0  # for every token
        self.pair = 0.0  # for every pair of tokens

    def through(self, *beside: nn.Module) -> None:
        """Linear layers that read the same input, each with the adapters on it."""
        named = [pair for module in beside for pair in module.named_modules()]
        for name, layer in named:
            if isinstance(layer, nn.Linear):
                carries = self.flows or "lora_B" in name  # which reads what lora_A has made
                times = 1 + carries + layer.weight.requires_grad
                self.linear += 2.0 * times * layer.in_features * layer.out_features
        self.flows = self.flows or _train(beside)

    def attention(self, width: int) -> None:
        """Scores of all pairs of tokens, and the mean of values by them."""
        self.pair += 4.0 * width * (3 if self.flows else 1)


def cost_of(model: nn.Module) -> Cost:
    """The cost of training a model, by what of it requires a gradient.

    Args:
        model: Phi-3-Vision, with or without a PEFT adapter.
    """
    base = base_of(model)
    vision = base.model.vision_embed_tokens
    tower, clip = vision.img_processor.vision_model, cast(Any, base.config.clip)

    embedding = tower.embeddings
    look = _Way(_train([embedding, tower.pre_layrnorm]))
    patches = (clip.image_size // clip.patch_size) ** 2
    for layer in tower.encoder.layers[: tower.depth]:
        attention = layer.self_attn
        look.through(attention.q_proj, attention.k_proj, attention.v_proj)
        look.attention(clip.hidden_size)
        look.through(attention.out_proj)
        look.through(layer.mlp.fc1)
        look.through(layer.mlp.fc2)
    filters = embedding.patch_embedding.weight
    convolution = 2.0 * patches * filters.numel() * (1 + filters.requires_grad)
    positions = patches + 1  # with the class token
    crop = convolution + positions * look.linear + positions**2 * look.pair

    separators = vision.glb_GN.requires_grad or vision.sub_GN.requires_grad
    project = _Way(look.flows or separators)
    project.through(vision.img_projection[0])
    project.through(vision.img_projection[2])

    read = _Way(project.flows or _train([base.model.embed_tokens]))
    for layer in base.model.layers:
        read.through(layer.self_attn.qkv_proj)
        read.attention(base.config.hidden_size)
        read.through(layer.self_attn.o_proj)
        read.through(layer.mlp.gate_up_proj)
        read.through(layer.mlp.down_proj)
    write = _Way(read.flows)
    write.through(base.lm_head)
    return Cost(read.linear, read.pair, write.linear, crop, project.linear)


def _train(modules: Iterable[nn.Module]) -> bool:
    return any(p.requires_grad for module in modules for p in module.parameters())
