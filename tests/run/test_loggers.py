"""What W&B is told at the end of a run."""

import math
from types import SimpleNamespace

import pytest
from lightning.pytorch.loggers import WandbLogger
from wandb.sdk.lib.config_util import save_config_file_from_dict

from phi3v.run.loggers import _name_in_sweep, log_final
from phi3v.run.scoring import Scored
from phi3v.run.training import _objective

SCORED = Scored({"metrics": {"test/loss": 0.25, "test/mape": None, "val/mape": 0.5}}, [])


class Told(WandbLogger):
    """Keeps what it is told; no run of W&B is begun."""

    def __init__(self) -> None:
        self.metrics: dict[str, float] = {}
        self.ended: list[str] = []
        self.begun = SimpleNamespace(summary={}, finish=lambda: self.ended.append("finished"))

    @property
    def experiment(self):
        return self.begun

    def log_metrics(self, metrics, step=None) -> None:
        self.metrics.update(metrics)

    def finalize(self, status) -> None:
        self.ended.append(status)


def test_a_good_end_has_its_objective_under_both_names() -> None:
    told = Told()
    log_final([told], SCORED, 3, ("val/mape", 0.5))
    good = {"objective": 0.5, "outcome": "ok", "reason": ""}  # which an interruption may have left
    assert told.begun.summary == {"val/mape": 0.5, **good}
    assert told.metrics == {"test/loss": 0.25}
    assert told.ended == ["success", "finished"]


def test_a_run_that_diverged_is_left_to_be_ended_with_its_reason() -> None:
    told = Told()
    log_final([told], SCORED, 3, ("val/mape", math.nan))
    assert told.begun.summary == {}
    assert "finished" not in told.ended
    assert told.metrics == {"test/loss": 0.25}


def test_runs_of_a_sweep_have_names_that_tell_them_apart(tmp_path) -> None:
    chosen = {"optimizer.lr": 0.00123456, "experiment": "lora_r8", "data.rows": 40}
    file = tmp_path / "config-abc.yaml"
    save_config_file_from_dict(str(file), {name: {"value": one} for name, one in chosen.items()})
    name = _name_in_sweep("lora_r8", {"WANDB_SWEEP_PARAM_PATH": str(file)})
    assert name == "lora_r8 optimizer.lr=0.001235 data.rows=40"
    assert _name_in_sweep("lora_r8", {}) == "lora_r8"


@pytest.mark.parametrize(
    ("figure", "validated", "objective"),
    [(0.5, {"val/loss": 1.0}, 0.5), (0.5, {}, 0.5)],
)
def test_the_objective_is_the_figure(figure, validated, objective) -> None:
    assert _objective(figure, validated) == objective


@pytest.mark.parametrize(
    ("figure", "validated"), [(0.5, {"val/loss": math.nan}), (None, {"val/loss": 1.0})]
)
def test_where_there_is_no_figure_or_no_model_it_is_no_number(figure, validated) -> None:
    assert math.isnan(_objective(figure, validated))
