"""Makes the starts that PiSSA and OLoRA take out of the weights the same wherever they are taken.

    with repeatable_starts():
        model = get_peft_model(model, config)

In single precision a singular vector depends on how many threads have computed it: on the tiny
model by up to 3e-5 between one and two, which the first step of Adam makes 2e-4. In double
precision what is left all but disappears when it is rounded: one number in thousands may still lie
on the edge between two. So what is small is decomposed in one thread, which costs nothing there; a
weight of full size would take minutes. And an adapter that is loaded takes its start
out of the base once more, so what is left has to be the base that it was trained on.

A GPU draws other numbers from the same seed, and what was trained on one is loaded on CPUs too: so
what draws is decomposed on the CPU wherever the weight is, in about a second where that is large,
and so is what is small. A large weight that is decomposed exactly, which takes a CPU a minute,
stays where it is: the device shows in the last digits alone.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.lora import layer as peft_layer
from torch import Tensor

# Numbers in a weight that one thread decomposes in well under a second.
_SMALL = 2**19
Decomposition = Callable[..., tuple[Tensor, ...]]


@contextmanager
def repeatable_starts() -> Iterator[None]:
    """Lets PEFT decompose in double precision, and draw what it draws for it from a fixed seed."""
    places: list[tuple[Any, str, Decomposition]] = [
        (torch.linalg, "svd", _in_double(torch.linalg.svd)),
        (torch.linalg, "qr", _in_double(torch.linalg.qr)),
        (peft_layer, "svd_lowrank", _in_double(torch.svd_lowrank, draws=True)),
    ]
    before = [getattr(owner, name) for owner, name, _ in places]
    for owner, name, function in places:
        setattr(owner, name, function)
    try:
        yield
    finally:
        for (owner, name, _), function in zip(places, before, strict=True):
            setattr(owner, name, function)


def _in_double(decompose: Decomposition, draws: bool = False) -> Decomposition:
    def decomposed(matrix: Tensor, *arguments: Any, **options: Any) -> tuple[Tensor, ...]:
        small = matrix.numel() <= _SMALL
        here = matrix.cpu() if draws or small else matrix
        with torch.random.fork_rng(devices=[]), _threads(1 if small else None):
            torch.default_generator.manual_seed(0)  # the CPU's alone
            parts = decompose(here.double(), *arguments, **options)
        # torch's own kind of tuple, the parts of which have names
        return type(parts)([part.to(matrix.device, matrix.dtype) for part in parts])

    return decomposed


@contextmanager
def _threads(number: int | None) -> Iterator[None]:
    """So many threads; None for as many as there are."""
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
