"""Every golden case: what the published code computes, this code computes."""

from pathlib import Path

import pytest
import torch

GOLDEN = Path(__file__).parent / "golden"
CASES = sorted(path.stem for path in (GOLDEN / "cases").glob("*.json"))


def outputs_of(golden, case, attention="sdpa"):
    model = golden.model(case.config_file, attention)
    grad = "labels" in case.inputs and bool(case.meta.get("grad_norms"))
    with torch.set_grad_enabled(grad):
        return model, model(**case.inputs)


@pytest.mark.parametrize("name", CASES)
def test_logits_loss_and_gradients_are_those_of_the_published_code(golden, name):
    case = golden.case(name)
    model, out = outputs_of(golden, case)
    logits = out.logits.detach()
    rows, columns = case.expected["logits_index"].T
    assert (logits[rows, columns] - case.expected["logits"]).abs().max() < 1e-4
    real = case.inputs["attention_mask"] == 1
    assert torch.equal(logits.argmax(-1)[real], case.expected["argmax"][real])
    difference = logits.logsumexp(-1)[real] - case.expected["logsumexp"][real]
    assert difference.abs().max() < 1e-4
    if "loss" in case.meta:
        assert abs(out.loss.item() - case.meta["loss"]) < 1e-4
    if case.meta.get("grad_norms"):
        out.loss.backward()
        check_gradients(model, case)


def check_gradients(model, case):
    gradients = {name: value.grad for name, value in model.named_parameters()}
    assert gradients.keys() == case.meta["grad_norms"].keys()
    for name, norm in case.meta["grad_norms"].items():
        if norm is None:
            assert gradients[name] is None, name
        else:  # some biases of CLIP's keys have a gradient of pure rounding noise
            assert gradients[name].norm().item() == pytest.approx(norm, rel=2e-3, abs=1e-6), name
    full = [key for key in case.expected if key.startswith("grad.")]
    assert full
    for key in full:
        expected = case.expected[key]
        error = (gradients[key.removeprefix("grad.")] - expected).norm() / expected.norm()
        assert error < 2e-3, key


@pytest.mark.parametrize("name", CASES)
def test_generated_tokens_are_those_of_the_published_code(golden, name):
    case = golden.case(name)
    if "generated" not in case.expected:
        assert "generate" not in case.meta  # a case for the forward pass alone
        return
    model = golden.model(case.config_file)
    inputs = {key: case.inputs[key] for key in case.inputs if key != "labels"}
    out = model.generate(
        **inputs,
        max_new_tokens=case.meta["generate"]["max_new_tokens"],
        do_sample=False,
        eos_token_id=None,
        return_dict_in_generate=True,
        output_logits=True,
    )
    new = out.sequences[:, case.inputs["input_ids"].shape[1] :]
    assert torch.equal(new, case.expected["generated"])
    last = out.logits[-1] - case.expected["generate_last_step_logits"]
    assert last.abs().max() < 1e-4


WITH_PICTURES = [n for n in CASES if "pixels" in (GOLDEN / "cases" / f"{n}.json").read_text()]


@pytest.mark.parametrize("name", WITH_PICTURES)
def test_image_tokens_are_those_of_the_published_code(golden, name):
    case = golden.case(name)
    embedding = golden.model(case.config_file).model.vision_embed_tokens
    pixels, sizes = case.inputs["pixel_values"], case.inputs["image_sizes"]
    with torch.no_grad():
        tokens = torch.cat(embedding(pixels, sizes))
        for index, (height, width) in enumerate(sizes.tolist()):
            real = (height // 336) * (width // 336) + 1
            features = embedding.img_processor(pixels[index, :real])[:, ::48]
            expected = case.expected["clip_features_patch_stride48"][index, :real]
            assert (features - expected).abs().max() < 1e-4
    assert len(tokens) == case.meta["n_image_tokens"]
    rows = case.expected["image_embeds_index"]
    assert (tokens[rows] - case.expected["image_embeds"]).abs().max() < 1e-4
    assert (tokens.norm(dim=-1) - case.expected["image_embeds_norm"]).abs().max() < 1e-3


@pytest.mark.parametrize("name", CASES)
def test_eager_attention_computes_the_same(golden, name):
    case = golden.case(name)
    _, out = outputs_of(golden, case, "eager")
    rows, columns = case.expected["logits_index"].T
    assert (out.logits.detach()[rows, columns] - case.expected["logits"]).abs().max() < 1e-4


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_half_precision_is_the_same_but_for_rounding(golden, name):
    """Within 3e-2 of float32 over all real positions; a wrong computation is off by its half."""
    case = golden.case(name)
    model, out = outputs_of(golden, case)
    half = model.to(torch.bfloat16)(
        **{k: v.to(torch.bfloat16) if v.is_floating_point() else v for k, v in case.inputs.items()}
    )
    real = case.inputs["attention_mask"] == 1
    difference = (half.logits - out.logits)[real].norm() / out.logits[real].norm()
    assert difference < 3e-2
