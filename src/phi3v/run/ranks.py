"""The processes of a run outside of Lightning's loops: begun, given their shares, ended together.

    begin(trainer)                           # for an evaluation; a training has begun them
    with ending_together(trainer):
        model = place(model, weights, trainer)
        for number, counts in shares(12):    # of twelve batches
            ...
        texts = gathered({number: "text"})
    leave()                                  # what follows is done by the first one alone
    with ending_others(trainer):             # where signals are somebody else's
        trainer.fit(module)

Alone, a process has every share.
"""

import atexit
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import lightning
from lightning.pytorch import LightningModule
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher
from torch import distributed, nn

from phi3v.model.slices import WeightFiles
from phi3v.run.told_to_end import leaving_when_told
from phi3v.training import ShardedStrategy

_GROUPED = (DDPStrategy, ModelParallelStrategy)
GRACE = 3.0  # seconds for the others to say what they have met themselves, when one has failed


def begin(trainer: lightning.Trainer) -> None:
    """Starts the other processes of a trainer, where no launcher has, and joins them to a group."""
    strategy = trainer.strategy
    if launcher := strategy.launcher:
        launcher.launch(lambda: None)
    strategy.connect(LightningModule())  # it asks for one
    join_attempt(strategy)
    strategy.setup_environment()


def join_attempt(strategy: Any, environment: Mapping[str, str] = os.environ) -> None:
    """Joins the processes that torchrun has started again, before Lightning would.

    The agent of torchrun keeps one store for all of its attempts, and torch tells them not apart
    there: who comes first would look for the others where those of the earlier attempt were. Here
    each further attempt has a part of the store for itself.

    Args:
        strategy: Of Lightning, before it has set up anything.
        environment: As torchrun makes it.
    """
    attempt = environment.get("TORCHELASTIC_RESTART_COUNT", "0")
    shared = environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    if attempt == "0" or not shared or not isinstance(strategy, _GROUPED):
        return
    strategy.set_world_ranks()
    address, port = environment["MASTER_ADDR"], int(environment["MASTER_PORT"])
    stores: Any = distributed  # the types of which do not name them
    store = stores.TCPStore(address, port, is_master=False)
    device = strategy.root_device
    distributed.init_process_group(
        strategy._get_process_group_backend(),
        store=stores.PrefixStore(f"attempt_{attempt}", store),
        rank=strategy.global_rank,
        world_size=strategy.world_size,
        timeout=strategy._timeout,
        device_id=None if device.type == "cpu" else device,
    )


def place(model: nn.Module, weights: WeightFiles | None, trainer: lightning.Trainer) -> nn.Module:
    """Brings a model to where its trainer computes: to a device, or divided over all processes.

    Args:
        model: With or without an adapter; in place.
        weights: What is to be read into a model that has none yet.
        trainer: After `begin` or a training.
    """
    strategy = trainer.strategy
    if isinstance(strategy, ShardedStrategy):
        strategy.divide(model, weights)
    else:
        model.to(strategy.root_device)
    return model


def shares(count: int, rank: int, size: int, lockstep: bool) -> Iterator[tuple[int, bool]]:
    """Which of `count` things one of several processes takes, and whether what it finds counts.

    Args:
        count: Of things, which are dealt out like cards.
        rank: The process's place.
        size: Of the group.
        lockstep: All take equally many; who has got none takes the first one once more.
    """
    for number in range(rank, count + rank, size):
        if number < count:
            yield number, True
        elif lockstep:
            yield 0, False


def group() -> tuple[int, int]:
    """This process's place in its group, and the group's size; (0, 1) where there is none."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def gathered(own: Mapping[int, str]) -> dict[int, str]:
    """What all processes have found, by number, on each of them."""
    everywhere: list[Mapping[int, str]] = [own]
    if (size := group()[1]) > 1:
        everywhere = [{} for _ in range(size)]
        distributed.all_gather_object(everywhere, own)
    return {number: text for found in everywhere for number, text in found.items()}


def leave() -> None:
    """Ends the work of the processes together: what follows is done by the first one alone.

    As long as there is a group, metrics would wait for all of its members.
    """
    if group()[1] > 1:
        distributed.barrier()
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


@contextmanager
def ending_others(trainer: lightning.Trainer) -> Iterator[None]:
    """Lets no other process wait for one that has failed, nor work on without it.

    When a process ends with an error, Lightning ends the one that started it. The other way round
    nobody would: others of a GPU wait in their next exchange for as long as they are allowed to.
    Who was told to end is no failure: all leave together then, and may still be saving.
    """
    try:
        yield
    except Exception:
        _end_others_at_exit(trainer)
        raise
    except BaseException:
        _taken_over(trainer)
        raise


@contextmanager
def ending_together(trainer: lightning.Trainer) -> Iterator[None]:
    """The same where nobody listens to signals: one that was told to end ends the others too."""
    with leaving_when_told():
        try:
            yield
        except BaseException:
            _end_others_at_exit(trainer)
            raise


def _taken_over(trainer: lightning.Trainer) -> list[subprocess.Popen[bytes]]:
    """The processes that this one has started, which Lightning does not watch any longer.

    It would kill this process within seconds after one of them has ended: while this one still
    tells what the run ended of, to a file, to the screen and to a server.
    """
    launcher: Any = trainer.strategy.launcher
    if not isinstance(launcher, _SubprocessScriptLauncher):
        return []
    others = launcher.procs.copy()
    launcher.procs.clear()  # Lightning's observer looks at this very list
    return others


def _end_others_at_exit(trainer: lightning.Trainer) -> None:
    """Ends the processes that this one has started, when it has said all."""
    if others := _taken_over(trainer):
        atexit.register(_end, others)


def _end(others: list[subprocess.Popen[bytes]]) -> None:
    """Ends processes that do not end by themselves in a moment."""
    until = time.monotonic() + GRACE
    for other in others:
        with contextlib.suppress(subprocess.TimeoutExpired):
            other.wait(max(until - time.monotonic(), 0.01))
    for other in others:
        other.send_signal(signal.SIGKILL)  # unless it has ended
