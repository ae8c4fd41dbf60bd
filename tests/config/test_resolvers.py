"""The functions that configuration files may call."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from phi3v.config import resolvers
from phi3v.config.composing import check_command_line
from phi3v.errors import UserError

from .conftest import ROOT


def test_first_skips_null_but_not_zero() -> None:
    resolvers.register()
    cfg = OmegaConf.create({"a": None, "b": "${first:${a},0,x}", "c": "${first:${a}}"})
    assert cfg.b == 0
    assert cfg.c is None


def test_registering_twice_is_harmless_and_nothing_evaluates_code() -> None:
    resolvers.register()
    resolvers.register()
    assert not OmegaConf.has_resolver("eval")


@pytest.mark.parametrize(
    ("total", "at_once", "devices", "nodes", "steps"),
    [(32, 32, 1, 1, 1), (32, 2, 1, 1, 16), (32, 2, 4, 2, 2), (32, 4, [0, 3], 1, 4)],
)
def test_the_batch_of_the_optimizer_does_not_depend_on_the_hardware(
    total: int, at_once: int, devices: object, nodes: int, steps: int
) -> None:
    assert resolvers.accumulation(total, at_once, devices, nodes) == steps


@pytest.mark.parametrize(
    ("total", "most", "devices", "nodes", "size"),
    [(32, 32, 1, 1, 32), (32, 32, 2, 1, 16), (32, 2, 4, 2, 2), (32, 8, 32, 1, 1), (30, 4, 1, 1, 3)],
)
def test_a_device_takes_as_much_as_comes_out_even(
    total: int, most: int, devices: int, nodes: int, size: int
) -> None:
    assert resolvers.per_device(total, most, devices, nodes) == size
    steps = resolvers.accumulation(total, size, devices, nodes)
    assert size * devices * nodes * steps == total


@pytest.mark.parametrize("devices", [3, 0, "auto", -1])
def test_a_batch_that_cannot_be_divided_is_refused(devices: object) -> None:
    with pytest.raises(UserError):
        resolvers.accumulation(32, 2, devices, 1)


@pytest.mark.parametrize(
    ("numbers", "key"),
    [((0, 2, 1, 1), "batch_size"), ((8, 0, 1, 1), "data.batch_size"), ((8, 2, 1, 0), "num_nodes")],
)
def test_a_number_below_one_is_refused_by_its_own_key(
    numbers: tuple[int, int, int, int], key: str
) -> None:
    with pytest.raises(UserError, match=rf"^(trainer\.)?{key}=0: give a whole number"):
        resolvers.accumulation(*numbers)


def test_the_repository_is_where_the_programs_are() -> None:
    assert (Path(resolvers.repository()) / "train.py").is_file()


@pytest.mark.parametrize(
    ("adapter", "rate"),
    [("phi3v.adapter.LoraAdapter", 2e-4), ("phi3v.adapter.FullFineTuning", 1e-5)],
)
def test_whole_weights_take_their_own_learning_rate(adapter: str, rate: float) -> None:
    assert resolvers.fitting_rate({"lora": 2e-4, "full": 1e-5}, adapter) == rate


@pytest.mark.parametrize(
    ("words", "rates"),
    [
        ([], (2e-3, 2e-3, 2e-3)),
        (["adapter.whole=[projector]"], (2e-3, 1e-3, 2e-3)),
        (["adapter.whole=[vision]", "optimizer.lr=5e-4"], (5e-4, 5e-4, 1e-3)),
        (["adapter.whole=[projector]", "optimizer.parts.projector.lr=7e-4"], (2e-3, 7e-4, 2e-3)),
        (["adapter=full"], (1e-3, 1e-3, 1e-3)),
    ],
)
def test_what_trains_whole_beside_a_lora_takes_the_rate_of_whole_weights(
    words: list[str], rates: tuple[float, ...]
) -> None:
    plain = check_command_line(ROOT / "conf", "train", words, config_name="train").plain
    parts = plain["optimizer"]["parts"]
    assert tuple(parts[part]["lr"] for part in ("decoder", "projector", "vision")) == rates


@pytest.mark.parametrize("whole", ["3", "projector"])
def test_parts_that_are_no_list_are_refused_in_one_line(whole: str) -> None:
    with pytest.raises(UserError, match=r"adapter\.whole.*a list of text"):
        check_command_line(ROOT / "conf", "train", [f"adapter.whole={whole}"], config_name="train")
