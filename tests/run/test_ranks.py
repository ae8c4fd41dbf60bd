"""Several processes answer what one answers, share the work, keep their parts, and end together."""

import json
import os
import re
import signal
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest
from attempts import count_all
from lightning.fabric.strategies.launchers.subprocess_script import _ChildProcessObserver
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher
from safetensors.torch import load_file
from small_model import make_checkpoint
from torch.distributed import TCPStore
from warm_start import FORKS, warm_start

from phi3v.run import ranks
from phi3v.run.ranks import ending_others, ending_together, gathered, shares

SCRIPT = Path(__file__).parents[1] / "support" / "scored_together.py"


@pytest.mark.parametrize("lockstep", [True, False])
@pytest.mark.parametrize("size", [1, 2, 3, 8])
@pytest.mark.parametrize("count", [0, 1, 2, 7, 8, 9])
def test_each_batch_counts_once_and_in_lockstep_all_take_as_many(count, size, lockstep):
    dealt = [list(shares(count, rank, size, lockstep)) for rank in range(size)]
    counted = [number for one in dealt for number, counts in one if counts]
    assert sorted(counted) == list(range(count))
    lengths = {len(one) for one in dealt}
    if lockstep:
        assert lengths == {-(-count // size)}
    else:
        assert max(lengths) - min(lengths) <= 1
        assert sum(map(len, dealt)) == count


def test_a_process_alone_has_gathered_what_it_found():
    assert gathered({3: "three", 1: "one"}) == {3: "three", 1: "one"}


@pytest.mark.slow
def test_processes_that_torchrun_starts_again_find_each_other():
    """Also where the second one comes first, and finds what the first one left the time before.

    By chance (which of two ports is greater) that did no harm in every other attempt.
    """
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    for attempt in range(5):
        both = [
            FORKS.Process(target=count_all, args=(attempt, rank, store.port, 0.5 * (rank == 0)))
            for rank in range(2)
        ]
        for process in both:
            process.start()
        for process in both:
            process.join(30)
        for process in both:
            process.kill()  # which would wait for the other one for half an hour
        assert [process.exitcode for process in both] == [2, 2]


@pytest.fixture
def at_exit(monkeypatch):
    """What would be called at the end of these tests."""
    calls = []
    monkeypatch.setattr("atexit.register", lambda *call: calls.append(call))
    monkeypatch.setattr(ranks, "GRACE", 0.5)
    return calls


@pytest.fixture
def started():
    """Starts another process as Lightning does; the trainer that has."""

    def start(*command):
        launcher = _SubprocessScriptLauncher(LightningEnvironment(), num_processes=2, num_nodes=1)
        launcher.procs = [processes.enter_context(subprocess.Popen(command))]
        return SimpleNamespace(strategy=SimpleNamespace(launcher=launcher))

    with ExitStack() as processes:
        yield start


@pytest.mark.parametrize("ending", [ending_together, ending_others])
def test_one_that_fails_ends_the_others_when_it_has_said_all(started, at_exit, ending):
    trainer = started("sleep", "60")
    (other,) = trainer.strategy.launcher.procs
    with ending(trainer):
        pass
    assert not at_exit
    with pytest.raises(ArithmeticError), ending(trainer):
        raise ArithmeticError
    assert other.poll() is None
    ((end, *given),) = at_exit
    end(*given)
    assert other.wait(10) == -signal.SIGKILL


def test_another_that_fails_as_well_may_say_so(started, at_exit):
    trainer = started("bash", "-c", "sleep 0.1; exit 2")
    (other,) = trainer.strategy.launcher.procs
    with pytest.raises(ArithmeticError), ending_others(trainer):
        raise ArithmeticError
    ((end, *given),) = at_exit
    end(*given)
    assert other.wait(10) == 2


@pytest.mark.parametrize("told", [SystemExit, KeyboardInterrupt])
def test_one_that_is_told_to_end_leaves_the_others_their_training(started, at_exit, told):
    with pytest.raises(told), ending_others(started("true")):
        raise told
    assert not at_exit


@pytest.mark.parametrize("ending", [ending_together, ending_others])
@pytest.mark.parametrize("error", [ArithmeticError, SystemExit])
def test_lightning_does_not_kill_one_that_still_tells_what_it_ended_of(
    started, at_exit, monkeypatch, ending, error
):
    trainer = started("false")
    watched = trainer.strategy.launcher.procs
    watched[0].wait(10)
    killed = []
    monkeypatch.setattr("os.kill", lambda *told: killed.append(told))
    observer = _ChildProcessObserver(os.getpid(), watched)
    with pytest.raises(error), ending(trainer):
        raise error
    observer._run()
    assert not killed


def test_a_signal_ends_the_scoring_with_its_status():
    trainer = SimpleNamespace(strategy=SimpleNamespace(launcher=None))
    before = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with pytest.raises(SystemExit) as ended, ending_together(trainer):
            signal.raise_signal(signal.SIGTERM)
        assert ended.value.code == 128 + signal.SIGTERM
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint"))


def to_its_end(cwd, *words):
    return warm_start(SCRIPT, [str(word) for word in words], cwd, os.environ, timeout=180)


@pytest.fixture(scope="module")
def score(checkpoint, tmp_path_factory):
    """Runs the script to its end, at most once for the same words; what it told, and its folder."""
    done = {}

    def run(*words):
        if words not in done:
            result = tmp_path_factory.mktemp("result") / "told.json"
            status, _, err = to_its_end(result.parent, checkpoint, result, *words)
            assert status == 0, err[-3000:]
            done[words] = json.loads(result.read_text()), result.with_suffix("")
        return done[words]

    return run


@pytest.mark.slow
@pytest.mark.parametrize("words", [("ddp", "2"), ("fsdp", "2")])
@pytest.mark.parametrize("kind", ["lora", "pissa", "full"])
def test_several_processes_answer_and_save_what_one_does(score, words, kind):
    alone, folder = score("auto", "1")
    told, other = score(*words)
    for name in ("own", "controls", "before"):
        assert told[kind][name] == alone[kind][name]
    assert told[kind]["own"] != told[kind]["before"]
    assert len(set(told[kind]["own"])) > 1
    files = sorted(file.name for file in (folder / kind).iterdir())
    assert files == sorted(file.name for file in (other / kind).iterdir())
    for file in files:
        assert (other / kind / file).read_bytes() == (folder / kind / file).read_bytes()


@pytest.mark.slow
def test_the_base_before_training_is_the_same_whatever_was_trained(score):
    told, _ = score("fsdp", "2")
    assert told["lora"]["before"] == told["pissa"]["before"] == told["full"]["before"]


@pytest.mark.slow
def test_processes_share_the_batches_and_go_through_a_divided_model_together(score):
    # Five batches under each of the four ways to ask.
    assert score("auto", "1")[0]["lora"]["passes"] == [20]
    assert score("ddp", "2")[0]["lora"]["passes"] == [12, 8]
    assert score("fsdp", "2")[0]["lora"]["passes"] == [12, 12]


@pytest.mark.slow
def test_no_process_ever_keeps_more_than_its_part(score):
    told, _ = score("fsdp", "2")
    # Where an adapter cannot simply be switched off there is a second model, the base.
    for kind, models in (("lora", 1), ("pissa", 2), ("full", 2)):
        assert told[kind]["kept"] < 0.51 * models * told[kind]["whole"]


@pytest.mark.slow
def test_a_whole_model_is_saved_whole(score):
    told, folder = score("fsdp", "2")
    state = load_file(folder / "full" / "model.safetensors")
    assert sum(tensor.nbytes for tensor in state.values()) == told["full"]["whole"]


@pytest.mark.slow
@pytest.mark.parametrize(("strategy", "rank"), [("ddp", 0), ("ddp", 1), ("fsdp", 0), ("fsdp", 1)])
def test_an_error_of_one_process_ends_all_of_them_and_is_told(checkpoint, tmp_path, strategy, rank):
    told = tmp_path / "told.json"
    status, _, err = to_its_end(tmp_path, checkpoint, told, strategy, "2", f"error:{rank}")
    assert status != 0
    assert f"ArithmeticError: failed on rank {rank}" in err
    failed = float(re.search(r"failing at ([\d.]+)", err).group(1))
    assert time.time() - failed < 30
    assert not told.exists()
