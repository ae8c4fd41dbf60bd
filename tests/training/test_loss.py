"""The loss on supervised tokens is the model's own loss, and says no when there is none."""

import pytest
import torch

from phi3v.adapter import FullFineTuning, LoraAdapter
from phi3v.training.loss import base_of, supervised_loss

KEYS = ("input_ids", "attention_mask", "labels", "pixel_values", "image_sizes")


@pytest.fixture(params=["bare", "lora"])
def model(request, base):
    if request.param == "bare":
        return FullFineTuning(scope=["decoder", "projector", "vision"]).attach(base)
    model = LoraAdapter(r=2, alpha=4, scope=["decoder", "vision"], init="gaussian").attach(base)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:  # away from zero, so that the adapter matters
            torch.nn.init.normal_(parameter, std=0.1)
    return model


def gradients(model):
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def test_it_equals_the_loss_of_the_model_and_so_do_the_gradients(model, batch):
    wanted = model(**{key: batch[key] for key in KEYS}).loss
    wanted.backward()
    wanted_gradients = gradients(model)
    total, count = supervised_loss(model, batch)
    (total / count).backward()
    assert abs((total / count).item() - wanted.item()) < 1e-6
    found = gradients(model)
    assert found.keys() == wanted_gradients.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, wanted_gradients[name], atol=1e-6, rtol=1e-4)


def test_it_counts_the_answers_tokens_and_their_end(model, batch, processor, task):
    _, count = supervised_loss(model, batch)
    answers = [task.write_answer(truth) for truth in batch["truths"]]
    # The tokenizer begins each text with <s>, and one <|end|> closes each answer.
    assert count == sum(len(processor.tokenizer(a)["input_ids"]) for a in answers)


def test_logits_are_computed_for_supervised_tokens_only(model, batch):
    seen = []
    head = model.get_base_model().lm_head if hasattr(model, "peft_config") else model.lm_head
    head.register_forward_hook(lambda _, inputs, out: seen.append(out.shape[:-1].numel()))
    _, count = supervised_loss(model, batch)
    assert seen == [count]


def test_a_batch_with_nothing_to_learn_has_a_loss_and_gradients_of_zero(model, batch):
    labels = torch.full_like(batch["labels"], -100)
    labels[:, 0] = 5  # the first token is nobody's next token
    total, count = supervised_loss(model, {**batch, "labels": labels})
    assert (float(total), count) == (0.0, 0)
    total.backward()
    found = gradients(model)
    assert found
    assert not any(gradient.any() for gradient in found.values())


def test_without_a_picture_whatever_trains_still_gets_a_gradient(model, batch):
    base_of(model).model.always_looks = True
    total, _ = supervised_loss(model, batch)
    total.backward()
    with_pictures = set(gradients(model))
    ids = batch["input_ids"].clamp(min=0)
    text = {**batch, "input_ids": ids, "pixel_values": None, "image_sizes": None}
    total, _ = supervised_loss(model, text)
    total.backward()
    found = gradients(model)
    assert set(found) == with_pictures
    assert not any(g.any() for name, g in found.items() if "vision_embed_tokens" in name)
    assert any(g.any() for name, g in found.items() if "vision_embed_tokens" not in name)


def test_the_loss_is_float32_for_a_bfloat16_model(base, batch):
    base = base.to(torch.bfloat16)
    total, _ = supervised_loss(base, batch)
    assert total.dtype == torch.float32
