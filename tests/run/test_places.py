"""Jobs that run at once: who gets which cores and which GPUs."""

from pathlib import Path
from threading import Event, Thread

import pytest
from omegaconf import DictConfig, OmegaConf

from phi3v.errors import UserError
from phi3v.run.sweep import places as module
from phi3v.run.sweep.callback import divide
from phi3v.run.sweep.directory import Plan
from phi3v.run.sweep.places import gpus_for, hold_gpus, note_threads, places, share

GPUS = "CUDA_VISIBLE_DEVICES"
SIX = ["0", "1", "2", "3", "4", "5"]


def test_each_job_has_gpus_that_no_other_has_however_many_it_takes(tmp_path: Path) -> None:
    three = ["5", "7", "MIG-a/1/0"]
    with hold_gpus(tmp_path, 2, three) as wide, hold_gpus(tmp_path, 1, three) as narrow:
        assert (wide, narrow) == (["5", "7"], ["MIG-a/1/0"])
    with hold_gpus(tmp_path, 1, three) as narrow, hold_gpus(tmp_path, 2, three) as wide:
        assert (narrow, wide) == (["5"], ["7", "MIG-a/1/0"])
    with hold_gpus(tmp_path, 8, three) as own:
        assert own == three
    for none in ([], None):
        with hold_gpus(tmp_path, 2, none) as own:
            assert own == []


def test_who_gets_too_few_gpus_keeps_none_of_them_while_waiting(tmp_path: Path) -> None:
    waits, got = Event(), Event()

    def wide() -> None:
        waits.set()
        with hold_gpus(tmp_path, 3, SIX[:3]):
            got.set()

    with hold_gpus(tmp_path, 1, SIX[:3]):
        other = Thread(target=wide)
        other.start()
        waits.wait()
        with hold_gpus(tmp_path, 2, SIX[:3]) as own:
            assert own == ["1", "2"]
            assert not got.wait(0.3)
    other.join(10)
    assert got.is_set()


def test_cores_are_divided_over_all_processes_of_all_jobs(monkeypatch) -> None:
    monkeypatch.setattr(module, "cores", lambda: 16)

    def threads(at_once: int, devices: int) -> set[str]:
        # Joblib's own share knows nothing of a job's processes.
        shared = share(at_once, devices, [], {"OMP_NUM_THREADS": "16", "MKL_NUM_THREADS": "16"})
        assert shared.keys() == {"OMP_NUM_THREADS", "MKL_NUM_THREADS"}
        return set(shared.values())

    assert threads(2, 1) == {"8"}
    assert threads(2, 4) == {"2"}
    assert threads(32, 4) == {"1"}


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ({"OMP_NUM_THREADS": "3"}, ["3", "3"]),
        ({"MKL_NUM_THREADS": "3"}, ["8", "3"]),
        ({"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "3"}, ["2", "3"]),
    ],
)
def test_a_number_of_threads_that_the_user_has_set_stays(
    typed: dict[str, str], kept: list[str], monkeypatch
) -> None:
    monkeypatch.setattr(module, "cores", lambda: 16)
    environment = dict(typed)
    note_threads(environment)
    environment |= {"OMP_NUM_THREADS": "5", "MKL_NUM_THREADS": "5"}
    shared = share(2, 1, [], environment)
    assert [shared["OMP_NUM_THREADS"], shared["MKL_NUM_THREADS"]] == kept


def test_a_job_sees_its_own_gpus_alone() -> None:
    assert share(3, 2, ["2", "7"], {})[GPUS] == "2,7"
    assert GPUS not in share(3, 2, [], {})


@pytest.mark.parametrize(
    ("devices", "gpus", "count"),
    [(1, SIX, 4), (1, ["0", "1"], 2), (2, SIX[:5], 2), (8, SIX, 1), (1, [], 1), (1, None, 4)],
)
def test_there_are_no_more_places_than_gpus(
    devices: int, gpus: list[str] | None, count: int
) -> None:
    assert places(4, devices, gpus) == count


@pytest.mark.parametrize(
    ("accelerator", "visible", "gpus"),
    [
        ("cpu", "0,1", None),
        ("gpu", "5, 7", ["5", "7"]),
        ("gpu", "GPU-a1,MIG-b2", ["GPU-a1", "MIG-b2"]),
        ("cuda", "", []),
        ("gpu", "-1", []),
        ("gpu", "0,-1,2", ["0"]),  # as CUDA reads it
        ("auto", "3", ["3"]),
        ("auto", "", None),
    ],
)
def test_the_gpus_are_those_that_the_environment_lets_see(
    accelerator: str, visible: str, gpus: list[str] | None
) -> None:
    assert gpus_for(accelerator, {GPUS: visible}) == gpus


def test_else_the_driver_says_which_gpus_there_are(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    module._listed.cache_clear()
    try:
        assert gpus_for("gpu", {}) == []
        tool = tmp_path / "nvidia-smi"
        tool.write_text("#!/bin/sh\necho 'GPU 0: A'\necho '  MIG 1g: B'\necho 'GPU 1: A'\n")
        tool.chmod(0o755)
        module._listed.cache_clear()
        assert gpus_for("gpu", {}) == ["0", "1"]
    finally:
        module._listed.cache_clear()


@pytest.mark.parametrize(
    ("accelerator", "wanted", "kept"), [("gpu", 4, 2), ("gpu", -1, 2), ("cpu", 4, 4), ("gpu", 1, 1)]
)
def test_a_launcher_is_kept_to_the_gpus_there_are(
    accelerator: str, wanted: int, kept: int, monkeypatch, capsys
) -> None:
    monkeypatch.setenv(GPUS, "5,7")
    cfg = config(wanted, accelerator)
    assert divide(cfg, plan(8, wanted)) == cfg.hydra.launcher.n_jobs == kept
    told = capsys.readouterr().out
    assert told.count("\n") == (wanted != kept)
    assert ("2 at a time, for a job takes trainer.devices=1 and " in told) == (wanted != kept)


@pytest.mark.parametrize(("jobs", "kept"), [(2, 2), (0, 3), (40, 16)])
def test_there_are_no_more_places_than_jobs(jobs: int, kept: int, capsys) -> None:
    cfg = config(-1, "cpu")
    cfg.hydra.sweeper = {"n_jobs": 3}  # a search has no list of jobs
    assert divide(cfg, plan(jobs, -1)) == cfg.hydra.launcher.n_jobs == kept
    assert capsys.readouterr().out == ""


def test_a_launcher_of_one_job_asks_for_no_gpus() -> None:
    assert divide(OmegaConf.create({"hydra": {"launcher": {}}}), plan(2, 1)) == 1


def test_a_launcher_that_may_run_nothing_is_refused() -> None:
    with pytest.raises(UserError, match=r"^hydra\.launcher\.n_jobs=0: at least 1, or -1 for as"):
        divide(config(0, "cpu"), plan(2, 1))


def config(wanted: int, accelerator: str) -> DictConfig:
    launcher, trainer = {"n_jobs": wanted}, {"accelerator": accelerator, "devices": 1}
    return OmegaConf.create({"hydra": {"launcher": launcher, "sweeper": {}}, "trainer": trainer})


def plan(jobs: int, wanted: int) -> Plan:
    """Of a sweep on 16 cores."""
    words = tuple((f"seed={number}",) for number in range(jobs))
    return Plan((), "train.py", "val/loss", words, jobs, 16 if wanted == -1 else wanted)
