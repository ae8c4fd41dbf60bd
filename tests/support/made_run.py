"""Runs as train.py leaves them, made in a moment: random adapters on the small model."""

from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from phi3v.adapter import load_adapter, save_adapter, trained_state
from phi3v.config import instantiate, save_config
from phi3v.config.composing import check_command_line
from phi3v.data import Example
from phi3v.data.collation import Collator
from phi3v.model import Checkpoint
from phi3v.run.numerics import repeatable
from phi3v.training import generate_answers

ROOT = Path(__file__).parents[2]
TINY = ROOT / "assets" / "tiny"


def make_run(folder: Path, *words: str) -> Path:
    """A run directory with a configuration and weights that differ from the base everywhere."""
    plain = check_command_line(ROOT / "conf", "train", words, config_name="train").plain
    folder.mkdir(parents=True)
    save_config(OmegaConf.create(plain), folder)
    repeatable(plain["seed"])
    loaded = instantiate(plain["model"]).load()
    adapter = instantiate(plain["adapter"])
    model = adapter.attach(loaded.model)
    generator = torch.Generator().manual_seed(3)
    for tensor in trained_state(model).values():
        tensor.add_(torch.randn(tensor.shape, generator=generator), alpha=0.02)
    if adapter.kind == "lora":
        save_adapter(model, folder / "adapter")
    else:
        save_adapter(model, folder / "model")
        loaded.processor.save_pretrained(folder / "model")
    return folder


def loaded_run(run: Path, **settings: Any) -> tuple[Any, Any]:
    """The model of `make_run` with its adapter, and its processor, through none of the commands."""
    repeatable(7)
    if (run / "model").is_dir():
        loaded = Checkpoint(str(run / "model")).load()
        return loaded.model, loaded.processor
    loaded = Checkpoint(str(TINY), **settings).load()
    return load_adapter(loaded.model, run / "adapter"), loaded.processor


@torch.no_grad()
def logits(model: Any, processor: Any, picture: Path, task: Any) -> torch.Tensor:
    """The logits of the task's prompt about a picture."""
    example = Example(id="a", images=(picture,), values={}, group="a", origin="a")
    batch = dict(Collator(processor, task, 4096, "prompt")([example]))
    inputs = {key: value for key, value in batch.items() if key not in ("ids", "truths")}
    return model.eval()(**inputs).logits


def told_by(
    model: Any, processor: Any, task: Any, *pictures: Path, values: Any = None, longest: int = 24
) -> str:
    """The answer about one picture alone, or about several together, through no command."""
    example = Example(id="a", images=pictures, values=values or {}, group="a", origin="a")
    batch = Collator(processor, task, 4096, "prompt")([example])
    return generate_answers(model, processor, batch, longest)[0]
