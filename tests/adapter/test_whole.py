"""Training whole parts, training nothing, and the count of what trains."""

import pytest
import torch

from phi3v.adapter import FullFineTuning, LoraAdapter, NoAdapter, trainable_parts
from phi3v.errors import UserError
from phi3v.model.parts import PARTS, has_no_gradient, part_of


@pytest.mark.parametrize("scope", [["decoder"], ["projector"], ["vision"], list(PARTS)])
def test_exactly_the_weights_of_the_scope_train_and_get_a_gradient(base, batch, scope):
    model = FullFineTuning(scope=scope).attach(base).train()
    model(**{key: value for key, value in batch.items() if key != "ids"}).loss.backward()
    with_gradient = {n for n, p in model.named_parameters() if p.grad is not None}
    wanted = {n for n, _ in model.named_parameters() if part_of(n) in scope}
    unread = {n for n in wanted if has_no_gradient(n, model.config)}
    assert with_gradient == wanted - unread
    assert with_gradient == {n for n, p in model.named_parameters() if p.requires_grad}
    assert bool(unread) == ("vision" in scope)


def test_an_unknown_or_empty_scope_is_refused():
    with pytest.raises(UserError, match="did you mean 'vision'"):
        FullFineTuning(scope=["vison"])
    with pytest.raises(UserError, match="empty"):
        FullFineTuning(scope=[])


def test_weights_in_which_small_steps_vanish_are_refused(base):
    with pytest.raises(UserError, match=r"bfloat16.*model\.dtype=float32"):
        FullFineTuning(scope=["projector"]).attach(base.to(torch.bfloat16))


def test_without_adapter_nothing_trains(base):
    model = NoAdapter().attach(base)
    assert not any(p.requires_grad for p in model.parameters())
    assert [row.trainable for row in trainable_parts(model)] == [0, 0, 0]


def test_the_kinds_name_themselves():
    assert LoraAdapter(r=2, alpha=4).kind == "lora"
    assert FullFineTuning().kind == "full"
    assert NoAdapter().kind == "none"


def test_parameters_are_counted_by_part(base):
    whole = sum(p.numel() for p in base.parameters())
    model = LoraAdapter(r=2, alpha=4, scope=["decoder", "projector"]).attach(base)
    rows = {row.part: row for row in trainable_parts(model)}
    assert list(rows) == list(PARTS)
    hidden, inner, clip = 32, 64, 32
    per_layer = 2 * ((hidden + 3 * hidden) + 2 * hidden + (hidden + 2 * inner) + (inner + hidden))
    assert rows["decoder"].trainable == 2 * per_layer
    assert rows["projector"].trainable == 2 * ((4 * clip + hidden) + 2 * hidden)
    assert rows["vision"].trainable == 0
    added = rows["decoder"].trainable + rows["projector"].trainable
    assert sum(row.total for row in rows.values()) == whole + added


def test_a_frozen_model_computes_no_graph(base, batch):
    model = NoAdapter().attach(base)
    out = model(**{key: value for key, value in batch.items() if key not in ("ids", "labels")})
    assert out.logits.grad_fn is None
    assert torch.isfinite(out.logits).all()
