"""Jobs that run at once: who gets which cores and which GPUs."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from phi3v.run.sweep import places as module
from phi3v.run.sweep.callback import keep_to_gpus
from phi3v.run.sweep.places import gpus_for, place, places, share

GPUS = "CUDA_VISIBLE_DEVICES"
SIX = ["0", "1", "2", "3", "4", "5"]


def test_each_job_has_a_place_of_its_own(tmp_path: Path) -> None:
    with place(tmp_path, 2) as first, place(tmp_path, 2) as second:
        assert {first, second} == {0, 1}


def test_cores_are_divided_over_all_processes_of_all_jobs(monkeypatch) -> None:
    monkeypatch.setattr(module, "cores", lambda: 16)
    assert share(1, 2, 1, None, {}) == {"OMP_NUM_THREADS": "8"}
    assert share(1, 2, 4, None, {}) == {"OMP_NUM_THREADS": "2"}
    assert share(1, 32, 4, None, {}) == {"OMP_NUM_THREADS": "1"}
    assert share(1, 2, 1, None, {"OMP_NUM_THREADS": "3"}) == {}


def test_a_job_has_gpus_that_no_other_has() -> None:
    assert share(1, 3, 2, SIX, {})[GPUS] == "2,3"
    assert share(1, 2, 1, ["5", "7"], {})[GPUS] == "7"


@pytest.mark.parametrize(
    ("devices", "gpus", "count"),
    [(1, SIX, 4), (1, ["0", "1"], 2), (2, SIX[:5], 2), (8, SIX, 1), (1, [], 1), (1, None, 4)],
)
def test_there_are_no_more_places_than_gpus(
    devices: int, gpus: list[str] | None, count: int
) -> None:
    assert places(4, devices, gpus) == count
    for number in range(count if gpus and devices <= len(gpus) else 0):
        assert len(share(number, 4, devices, gpus, {})[GPUS].split(",")) == devices


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
    monkeypatch.setattr("phi3v.run.sweep.callback.cores", lambda: 16)
    monkeypatch.setenv(GPUS, "5,7")
    launcher, trainer = {"n_jobs": wanted}, {"accelerator": accelerator, "devices": 1}
    cfg = OmegaConf.create({"hydra": {"launcher": launcher}, "trainer": trainer})
    OmegaConf.set_readonly(cfg, True)
    keep_to_gpus(cfg)
    assert cfg.hydra.launcher.n_jobs == kept
    told = capsys.readouterr().out
    assert told.count("\n") == (wanted != kept)
    assert ("2 at a time, for a job takes trainer.devices=1 and " in told) == (wanted != kept)


def test_a_launcher_of_one_job_asks_for_no_gpus() -> None:
    keep_to_gpus(OmegaConf.create({"hydra": {"launcher": {}}}))
