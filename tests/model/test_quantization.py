"""A base in four bits: what is rounded and what is not, and what is refused."""

import copy
import importlib.util
import subprocess
import sys

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn import Linear4bit
from damaged import edit, refused
from torch import nn

from phi3v.errors import UserError
from phi3v.model import Checkpoint
from phi3v.model.quantization import check_quantization, dequantised, import_bitsandbytes

# What bitsandbytes does when it is imported on a CPU that multiplies bfloat16.
ASKS_FOR_CODE = """
import logging
try:
    from kernels import get_kernel
    asked = True
except ImportError:
    asked = False
    logging.getLogger("bitsandbytes.backends.cpu.ops").warning("Failed to load")
"""
TELLS_ITS_ORDER = """
import importlib.abc, sys
class Seen(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "bitsandbytes.nn":
            print("kernels" in sys.modules and sys.modules["kernels"] is None)
sys.meta_path.insert(0, Seen())
import lightning, torch  # which has its own
compiles = torch.compile
import phi3v.training
print("torch._inductor.compile_fx" in sys.modules, torch.compile is compiles)
"""
PROMPT = "<|user|>\n<|image_1|>\nWhat is shown in this image?<|end|>\n<|assistant|>\n"


@pytest.fixture(scope="module")
def quantised(saved_wide):
    return Checkpoint(str(saved_wide), quantization="nf4").load()


def test_the_linear_layers_of_the_decoder_are_in_four_bits_and_nothing_else(quantised):
    linear = {n: m for n, m in quantised.model.named_modules() if isinstance(m, nn.Linear)}
    four_bit = {name for name, module in linear.items() if isinstance(module, Linear4bit)}
    parts = ("self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj")
    assert four_bit == {f"model.layers.{number}.{part}" for number in (0, 1) for part in parts}
    names = {f"{name}.weight" for name in four_bit}
    rest = {p.dtype for n, p in quantised.model.named_parameters() if n not in names}
    assert rest == {torch.float32}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_it_is_nf4_with_its_scales_rounded_too_and_computes_in_the_type_of_the_rest(
    saved_wide, dtype
):
    model = Checkpoint(str(saved_wide), quantization="nf4", dtype=dtype).load().model
    layers = [module for module in model.modules() if isinstance(module, Linear4bit)]
    assert layers
    for layer in layers:
        assert layer.weight.quant_state.quant_type == "nf4"
        assert layer.weight.quant_state.nested
        assert layer.compute_dtype == getattr(torch, dtype)
        assert layer.weight.quant_state.dtype == getattr(torch, dtype)


@torch.no_grad()
def test_as_numbers_it_computes_the_same(saved_wide, quantised, picture):
    inputs = quantised.processor(text=PROMPT, images=picture())
    wanted = quantised.model(**inputs).logits
    plain = dequantised(Checkpoint(str(saved_wide), quantization="nf4").load()).model
    assert not any(isinstance(module, Linear4bit) for module in plain.modules())
    assert {weight.dtype for weight in plain.parameters()} == {torch.float32}
    torch.testing.assert_close(plain(**inputs).logits, wanted, atol=1e-4, rtol=0)


def test_without_four_bits_there_is_nothing_to_turn_back(small):
    assert dequantised(small) is small


@torch.no_grad()
def test_it_computes_with_weights_that_are_rounded_to_four_bits(quantised, wide, picture):
    small = copy.deepcopy(wide)
    inputs = quantised.processor(text=PROMPT, images=picture())
    logits = quantised.model(**inputs).logits
    assert not torch.allclose(logits, small.model(**inputs).logits, atol=1e-2)
    for name, module in quantised.model.named_modules():
        if isinstance(module, Linear4bit):
            rounded = dequantize_4bit(module.weight.data, module.weight.quant_state)
            weight = small.model.get_submodule(name).weight
            assert (rounded - weight).abs().max() < 0.2 * weight.abs().max()
            for block in rounded.flatten().split(64):  # each with a scale of its own
                assert len(block.unique()) <= 16
            weight.copy_(rounded)
    assert torch.allclose(logits, small.model(**inputs).logits, atol=1e-4)


def test_rounding_twice_gives_the_same(saved_wide, quantised):
    again = Checkpoint(str(saved_wide), quantization="nf4").load().model
    state = quantised.model.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in again.state_dict().items())


@torch.no_grad()
def test_a_cpu_that_multiplies_bfloat16_computes_as_any_other(saved_wide, picture, monkeypatch):
    monkeypatch.setattr("bitsandbytes.nn.modules.has_avx512bf16", lambda: True)
    loaded = Checkpoint(str(saved_wide), quantization="nf4").load()
    before = {name: value.clone() for name, value in loaded.model.state_dict().items()}
    inputs = loaded.processor(text=PROMPT, images=picture())
    evaluated = loaded.model.eval()(**inputs).logits
    trained = loaded.model.train()(**inputs).logits
    torch.testing.assert_close(evaluated, trained, atol=1e-5, rtol=0)
    after = loaded.model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_bitsandbytes_is_imported_without_what_it_would_fetch(tmp_path, monkeypatch, caplog):
    (tmp_path / "kernels.py").write_text("get_kernel = None")
    (tmp_path / "bitsandbytes").mkdir()
    (tmp_path / "bitsandbytes" / "__init__.py").write_text(ASKS_FOR_CODE)
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "bitsandbytes"]:
        monkeypatch.delitem(sys.modules, name)
    import_bitsandbytes()
    assert sys.modules["bitsandbytes"].asked is False
    assert caplog.records == []
    import kernels  # whoever wants it has it

    monkeypatch.delitem(sys.modules, "bitsandbytes")
    import_bitsandbytes()
    assert sys.modules["bitsandbytes"].asked is False
    assert sys.modules.pop("kernels") is kernels


def test_nobody_imports_bitsandbytes_in_another_way_or_with_torchs_compiler():
    words = [sys.executable, "-c", TELLS_ITS_ORDER]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == (
        "True\nFalse True\n"
    )


def test_layers_whose_rows_are_no_whole_number_of_blocks_are_refused(folder):
    assert "its hidden_size of 32 is no multiple of 64" in refused(folder, quantization="nf4")
    edit(folder / "config.json", hidden_size=64, num_attention_heads=8)
    assert "its intermediate_size of 48 is no mult" in refused(folder, quantization="nf4")


def test_what_cannot_be_is_refused(saved, monkeypatch):
    assert "model.quantization: int3 is not one of null, nf4" in refused(saved, quantization="int3")
    with pytest.raises(UserError, match="cannot be divided over processes; use trainer=ddp or"):
        check_quantization("nf4", hollow=True)
    check_quantization(None, hollow=True)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install -e '.[qlora]'" in refused(saved, quantization="nf4")
