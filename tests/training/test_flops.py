"""The operations that are counted are those that torch counts when it does them."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from phi3v.adapter import FullFineTuning, LoraAdapter
from phi3v.training.flops import cost_of
from phi3v.training.loss import base_of, supervised_loss

ADAPTERS = {
    "decoder": LoraAdapter(r=4, alpha=8, scope=["decoder"]),
    "projector": LoraAdapter(r=4, alpha=8, scope=["projector"]),
    "all": LoraAdapter(r=4, alpha=8, scope=["decoder", "projector", "vision"]),
    "some": LoraAdapter(
        r=4, alpha=8, scope=["decoder"], targets={"decoder": ["layers.1.mlp.down_proj"]}
    ),
    "full": FullFineTuning(scope=["decoder", "projector"]),
    "whole": FullFineTuning(scope=["decoder", "projector", "vision"]),
}


@pytest.mark.parametrize("name", ADAPTERS)
def test_the_count_is_what_torch_counts(name, base, batch):
    base.set_attn_implementation("eager")  # whose products torch counts one by one
    model = ADAPTERS[name].attach(base)
    vision = base_of(model).model.vision_embed_tokens
    # Torch counts padding too: take rows of one length and pictures of one shape.
    length = int(batch["attention_mask"].sum(1).min())
    rows = (batch["attention_mask"].sum(1) == length).nonzero()[:, 0]
    chosen = {k: v[rows] for k, v in batch.items() if isinstance(v, torch.Tensor)}
    chosen = {k: v[:, :length] if "pixel" not in k and "sizes" not in k else v
              for k, v in chosen.items() if "prompt" not in k}  # fmt: skip
    with FlopCounterMode(display=False) as counter:
        total, count = supervised_loss(model, chosen)
        total.backward()
    sizes = chosen["image_sizes"]
    crops = int(sum(h * w for h, w in (sizes // vision.crop_size).tolist())) + len(rows)
    tokens = sum(vision.count_tokens(sizes))
    own = cost_of(model).of([length] * len(rows), count, crops, tokens)
    assert own == pytest.approx(counter.get_total_flops(), rel=0.01)
