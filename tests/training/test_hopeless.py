"""A job that lies behind the median of the others is ended; one that does not is left alone."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from phi3v.errors import UserError
from phi3v.training import StopHopeless
from phi3v.training.metrics_csv import read_column

STEPS = (3, 6, 9)  # where the small training is validated


def others(sweep: Path, values: list[list[float]], name: str = "val/number/mape") -> None:
    for number, curve in enumerate(values):
        folder = sweep / f"{number + 1}"
        folder.mkdir(parents=True)
        rows = [f"{step},{value}" for step, value in zip(STEPS, curve, strict=False)]
        (folder / "metrics.csv").write_text("\n".join([f"step,{name}", *rows]) + "\n9,")


def train(make_trainer, make_module, make_data, sweep: Path, **settings) -> tuple:
    callback = StopHopeless(sweep / "0", "number/mape", **settings)
    trainer = make_trainer(3, [callback])
    trainer.fit(make_module(), make_data())
    return callback, trainer.global_step


@pytest.mark.parametrize(
    ("curves", "settings", "steps"),
    [
        ([[0.0, 0.0, 0.0]] * 4, {}, 3),
        ([[0.0, 0.0, 0.0]] * 4, {"validations": 2}, 6),
        ([[1e9, 0.0, 0.0]] * 4, {}, 6),
        ([[1e9, 1e9, 0.0]] * 4, {}, 9),  # its last validation: there is nothing to save any more
        ([[0.0, 0.0, 0.0]] * 3, {}, 9),  # too few
        ([[0.0]] * 4, {"validations": 2}, 9),  # none came as far
        ([[0.0, 0.0, 0.0]] * 2 + [[1e9, 1e9, 1e9]] * 3, {}, 9),
    ],
)
def test_it_is_ended_when_the_median_of_the_others_was_better(
    make_trainer, make_module, make_data, tmp_path, curves, settings, steps
):
    others(tmp_path, curves)
    callback, reached = train(make_trainer, make_module, make_data, tmp_path, **settings)
    assert reached == steps
    assert bool(callback.reason) == (steps < 9)
    if callback.reason:
        assert f"by step {steps}, and the median of 4 other jobs 0" in callback.reason


def test_its_own_figures_are_none_of_the_others(make_trainer, make_module, make_data, tmp_path):
    others(tmp_path, [[0.0, 0.0, 0.0]] * 3)
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "metrics.csv").write_text("step,val/number/mape\n3,0.0\n")
    callback, reached = train(make_trainer, make_module, make_data, tmp_path)
    assert reached == 9
    assert callback.reason == ""


@pytest.mark.parametrize("first", [float("nan"), float("inf")])
def test_a_validation_that_came_to_no_figure_is_not_its_best(tmp_path, first):
    others(tmp_path, [[0.5]] * 4, "val/colour/accuracy")
    callback = StopHopeless(tmp_path / "0", "colour/accuracy")
    verdicts = []
    for value in (first, 0.75):
        trainer = SimpleNamespace(
            sanity_checking=False,
            callback_metrics={"val/colour/accuracy": value},
            global_step=3,
            estimated_stepping_batches=9,
            is_global_zero=True,
            strategy=SimpleNamespace(broadcast=lambda reason: reason),
        )
        callback.on_validation_end(trainer, None)
        verdicts.append((callback.best, callback.reason))
    assert verdicts == [(None, ""), (0.75, "")]


def test_the_best_so_far_outlives_an_interruption(tmp_path):
    before = StopHopeless(tmp_path, "colour/accuracy")
    before.best, before.seen = 0.5, 2
    after = StopHopeless(tmp_path, "colour/accuracy")
    after.load_state_dict(before.state_dict())
    assert (after.best, after.seen, after.mode) == (0.5, 2, "max")


def test_numbers_that_make_no_sense_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"callbacks\.hopeless\.jobs=0: at least 1"):
        StopHopeless(tmp_path, "colour/accuracy", jobs=0)


def test_a_file_that_somebody_is_writing_can_be_read(tmp_path):
    file = tmp_path / "metrics.csv"
    file.write_text("step,epoch,val/loss\n3,0,\n3,0,0.5\n6,1,nan\n9,2,0.2\n12,3,-")
    assert read_column(file, "val/loss") == [(3, 0.5), (9, 0.2)]
    assert read_column(file, "val/other") == []
