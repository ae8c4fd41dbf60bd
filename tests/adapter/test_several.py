"""Several adapters on one base, of which one is switched on."""

import copy

import pytest
import torch

from phi3v.adapter import LoraAdapter, add_adapter, load_adapter, save_adapter, trained_state
from phi3v.errors import UserError
from phi3v.model.parts import PARTS

KINDS = {
    "decoder": LoraAdapter(r=2, alpha=4),
    "everywhere": LoraAdapter(r=3, alpha=4, scope=PARTS, use_rslora=True),
    "dora": LoraAdapter(r=2, alpha=4, scope=["decoder", "vision"], use_dora=True),
}


@pytest.fixture
def folders(base, tmp_path):
    """A folder for each kind, trained on the same base."""
    for number, (name, adapter) in enumerate(KINDS.items()):
        generator = torch.Generator().manual_seed(number)
        model = adapter.attach(copy.deepcopy(base))
        for tensor in trained_state(model).values():
            tensor.add_(torch.randn(tensor.shape, generator=generator), alpha=0.05)
        save_adapter(model, tmp_path / name)
    return {name: tmp_path / name for name in KINDS}


def test_each_gives_the_logits_that_it_gives_alone(base, folders, logits_of):
    alone = {
        name: logits_of(load_adapter(copy.deepcopy(base), folder))
        for name, folder in folders.items()
    }
    untrained = logits_of(base)
    model = load_adapter(base, folders["decoder"])
    add_adapter(model, folders["everywhere"], "second")
    assert torch.equal(logits_of(model), alone["everywhere"])
    add_adapter(model, folders["dora"], "third")
    for name, kind in {"default": "decoder", "second": "everywhere", "third": "dora"}.items():
        model.set_adapter(name, inference_mode=True)
        assert torch.equal(logits_of(model), alone[kind]), kind
    assert not any(parameter.requires_grad for parameter in model.parameters())
    with model.disable_adapter():
        assert torch.equal(logits_of(model), untrained)


@pytest.mark.parametrize(
    "settings", [{"init": "pissa"}, {"whole": ["projector"]}, {"bias": "lora_only"}]
)
def test_one_that_changes_the_base_of_the_others_is_refused(base, folders, tmp_path, settings):
    save_adapter(LoraAdapter(r=2, alpha=4, **settings).attach(copy.deepcopy(base)), tmp_path / "x")
    model = load_adapter(base, folders["decoder"])
    with pytest.raises(UserError, match="this adapter changes the base"):
        add_adapter(model, tmp_path / "x", "second")
