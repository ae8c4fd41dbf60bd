"""Builds the pieces of a run from its configuration, in the order in which they need each other."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import lightning
import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from phi3v.adapter import Adapter, BaseTunerLayer, PeftModel, load_adapter, merge_into
from phi3v.adapter.beside import settings_of
from phi3v.adapter.order import check_base
from phi3v.adapter.reading import leaves_base_alone as untouched
from phi3v.config import instantiate, instantiate_source
from phi3v.data import Example, ImageTextDataModule, LoadedOnce, Source
from phi3v.errors import UserError
from phi3v.model import Checkpoint, Loaded
from phi3v.model.finite import check_finite
from phi3v.model.memory import PictureMemory
from phi3v.run.answering import Base
from phi3v.run.directory import RunDirectory
from phi3v.run.ranks import place
from phi3v.task import Task
from phi3v.training import ShardedStrategy
from phi3v.training.loss import base_of as model_inside

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pieces:
    """A task, its data and a base model, ready for each other.

    Attributes:
        task: What is asked and answered.
        data: Loaded, divided and checked.
        loaded: The base with its processor.
        reload: Loads the base once more, untouched by training, hollow (True) or not.
    """

    task: Task
    data: ImageTextDataModule
    loaded: Loaded
    reload: Callable[[bool], Loaded]


def build(
    cfg: DictConfig,
    run: RunDirectory | None = None,
    splits_file: Path | None = None,
    hollow: bool = False,
    device: torch.device | None = None,
    check: Callable[[Sequence[Example]], None] = lambda examples: None,
) -> Pieces:
    """Loads data and base model.

    Args:
        cfg: A run's configuration.
        run: A run to be evaluated; where it trained a whole model, that one is loaded, with the
            tokenizer that it was trained with.
        splits_file: Takes the splits from there instead of making them.
        hollow: Leaves the weights in their files, to be read by a model that will be divided.
        device: Where weights are read to from their files, without a stay in the CPU's memory.
        check: Refuses examples before the model is loaded.

    Raises:
        UserError: For whatever is wrong with configuration, data or model.
    """
    task = cast(Task, instantiate(cfg.task))
    source: Source = LoadedOnce(cast(Source, instantiate_source(cfg.data)))
    check(source.load(task))  # before the model: mistakes in the data are told first

    def load(hollow: bool = False) -> Loaded:
        # What is added to the weights needs them as well.
        hollow = hollow and not cfg.model.get("merge")
        return load_base(cfg.model, lambda: texts_of(source, task), hollow, device)

    known = cast(Mapping[str, Any], OmegaConf.to_container(cfg.model, resolve=True))
    whole = run is not None and run.model.is_dir()
    loaded = trained_whole(known, run, device, hollow) if run and whole else load(hollow)
    if kind := cfg.model.get("quantization"):
        log.info("base: the decoder in four bits (%s), for training and for scoring alike", kind)
    context = int(loaded.model.config.max_position_embeddings)
    if cfg.data.max_length > context:
        raise UserError(
            f"data.max_length={cfg.data.max_length}: the model reads {context} tokens; give at most"
            " that"
        )
    replaced = {"splits_file": str(splits_file)} if splits_file else {}
    given: dict[str, Any] = {"source": source, "task": task, "processor": loaded.processor}
    data = cast(ImageTextDataModule, instantiate(cfg.data, **given, **replaced))
    data.setup()
    if (longest := data.longest_answer()) > cfg.max_new_tokens:
        log.warning(
            "the longest answer has %d tokens, and generated ones are cut after max_new_tokens=%d:"
            " set max_new_tokens=%d", longest, cfg.max_new_tokens, longest,
        )  # fmt: skip
    return Pieces(task, data, loaded, load)


def adapter_of(cfg: DictConfig, starts: bool) -> Adapter:
    """The adapter that a run trains.

    Args:
        cfg: Its configuration.
        starts: Where its weights come from a checkpoint, the folder that it began with may be gone.
    """
    earlier = cfg.adapter.get("init_from")
    if earlier and not starts:
        return cast(Adapter, instantiate(cfg.adapter, init_from=None))
    adapter = cast(Adapter, instantiate(cfg.adapter))
    if earlier:
        check_base(earlier, cfg.model.get("merge") or (), key="adapter.init_from")
    return adapter


def load_base(
    node: DictConfig | Mapping[str, Any],
    texts: Callable[[], Iterator[str]],
    hollow: bool = False,
    device: torch.device | None = None,
) -> Loaded:
    """The model that a group `model` describes, with the adapters that it merges.

    Args:
        node: The group.
        texts: What a model that starts from nothing learns its tokenizer on.
        hollow: Leaves the weights in their files; only where nothing is merged.
        device: Where weights are read to from their files; the CPU by default.

    Raises:
        UserError: When the model or an adapter cannot be loaded.
    """
    loaded = cast(Loaded, instantiate(node).load(texts, hollow=hollow, device=device))
    paths = list(node.get("merge") or ())
    for position, path in enumerate(paths):
        loaded.model = merge_into(loaded.model, path, before=paths[:position])
        log.info("merged into the base: %s", path)
    return loaded


def texts_of(source: Source, task: Task) -> Iterator[str]:
    """All questions and answers: a model that starts from nothing learns its tokenizer on them."""
    for example in source.load(task):
        yield task.write_question(example.values)
        yield task.write_answer(example.values)


def trained_whole(
    known: Mapping[str, Any],
    run: RunDirectory,
    device: torch.device | None = None,
    hollow: bool = False,
) -> Loaded:
    """The model of a run that trained whole weights, with the settings of its group `model`.

    Raises:
        UserError: When it cannot be loaded, or holds numbers that are not finite.
    """
    same = ("num_crops", "dtype", "attn_implementation")
    settings = {name: known[name] for name in same if name in known}
    loaded = Checkpoint(path=str(run.model), **settings).load(hollow=hollow, device=device)
    if loaded.weights:  # then they are still in their files
        check_finite(run.model, loaded.weights.tensors())
    return loaded


def restore(run: RunDirectory, loaded: Loaded) -> nn.Module:
    """The model as a run left it: the base with the run's adapter, or the run's own model."""
    if run.model.is_dir():
        return loaded.model
    return load_adapter(loaded.model, run.adapter)


def remember_pictures(model: nn.Module, gib: float) -> None:
    """Lets a model compute the tokens of each picture once, where nothing can change them.

    Args:
        model: Phi-3-Vision with its adapter attached, if it has one.
        gib: Memory in GiB; 0 for none.
    """
    vision = model_inside(model).model.vision_embed_tokens
    changes = any(parameter.requires_grad for parameter in vision.parameters())
    adapted = any(isinstance(module, BaseTunerLayer) for module in vision.modules())
    vision.memory = PictureMemory(int(gib * 2**30)) if gib and not changes and not adapted else None


def leaves_base_alone(model: nn.Module) -> bool:
    """Whether the model is its untouched base as soon as its adapter is switched off."""
    return isinstance(model, PeftModel) and untouched(settings_of(model))


def base_of(model: nn.Module, fresh: Callable[[], nn.Module]) -> Base:
    """What gives the model as it was before training.

    An adapter is switched off for the while. Where that does not bring the base back, because whole
    weights or biases were trained or the adapter took its start out of the weights, the base is
    loaded again.

    Args:
        model: What was trained; divided or not.
        fresh: Loads the base again, to where the model is.
    """

    @contextmanager
    def without_adapter() -> Iterator[nn.Module]:
        with cast(PeftModel, model).disable_adapter():
            yield model

    @contextmanager
    def loaded_again() -> Iterator[nn.Module]:
        yield fresh()

    def enter() -> AbstractContextManager[nn.Module]:
        return without_adapter() if leaves_base_alone(model) else loaded_again()

    return enter


def base_again(pieces: Pieces, trainer: lightning.Trainer) -> nn.Module:
    """The base once more, untouched by training, to where a trainer's model is."""
    divided = isinstance(trainer.strategy, ShardedStrategy)
    loaded = pieces.reload(divided)
    return place(loaded.model, loaded.weights, trainer)
