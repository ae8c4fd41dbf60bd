"""What a training that goes on makes of the best checkpoints that it left."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from phi3v.training import BestCheckpoint


def keeping(folder: Path, keep: int, scores: dict[str, float]) -> dict:
    """The state of a callback that has kept these files, the least score being the best."""
    best = BestCheckpoint(folder, "number/mape", keep=keep)
    files = {str(folder / name): torch.tensor(score) for name, score in scores.items()}
    best.best_k_models = files
    best.best_model_path = min(files, key=files.get)
    best.best_model_score = files[best.best_model_path]
    best.kth_best_model_path = max(files, key=files.get)
    best.best_values = {"val/number/mape": float(best.best_model_score)}
    for file in files:
        Path(file).touch()
    return best.state_dict()


def test_a_best_one_that_is_gone_is_looked_for_anew(folder, caplog):
    folder.mkdir(parents=True)
    state = keeping(folder, 1, {"best.ckpt": 0.1})
    there = BestCheckpoint(folder, "number/mape")
    there.load_state_dict(state)
    assert there.best_model_path == str(folder / "best.ckpt")
    assert caplog.records == []
    (folder / "best.ckpt").unlink()
    gone = BestCheckpoint(folder, "number/mape")
    gone.load_state_dict(state)
    assert (gone.best_model_path, gone.best_model_score, gone.best_values) == ("", None, {})
    assert gone.check_monitor_top_k(None, torch.tensor(5.0))  # however bad the next one is
    assert "best.ckpt is gone or broken: the best is looked for anew" in caplog.text


def test_of_several_kept_one_that_is_gone_makes_room(folder):
    folder.mkdir(parents=True)
    state = keeping(folder, 2, {"best-step=2.ckpt": 0.1, "best-step=4.ckpt": 0.2})
    (folder / "best-step=4.ckpt").unlink()
    kept = BestCheckpoint(folder, "number/mape", keep=2)
    kept.load_state_dict(state)
    assert kept.best_model_path == str(folder / "best-step=2.ckpt")
    assert list(kept.best_k_models) == [kept.best_model_path]
    assert kept.check_monitor_top_k(None, torch.tensor(5.0))


@pytest.mark.parametrize("score", [0.05, 0.15])
def test_where_fewer_are_kept_than_before_it_is_the_best_of_them(folder, score, caplog):
    folder.mkdir(parents=True)
    names = {"best-step=2.ckpt": 0.2, "best-step=4.ckpt": 0.1, "best-step=6.ckpt": 0.3}
    best = BestCheckpoint(folder, "number/mape", keep=1)
    best.load_state_dict(keeping(folder, 3, names))
    kept = str(folder / "best-step=4.ckpt")
    assert (list(best.best_k_models), best.kth_best_model_path) == ([kept], kept)
    alone = SimpleNamespace(strategy=SimpleNamespace(reduce_boolean_decision=bool))
    assert best.check_monitor_top_k(alone, torch.tensor(score)) == (score < 0.1)
    told = [record.getMessage().split("/")[-1] for record in caplog.records]
    line = "stays, but is kept no longer: callbacks.best.keep"
    assert told == [f"best-step={step}.ckpt {line}" for step in (2, 6)]


def test_where_more_are_kept_than_before_there_is_room(folder):
    folder.mkdir(parents=True)
    best = BestCheckpoint(folder, "number/mape", keep=2)
    best.load_state_dict(keeping(folder, 1, {"best.ckpt": 0.1}))
    assert best.best_model_path == str(folder / "best.ckpt")
    assert best.check_monitor_top_k(None, torch.tensor(5.0))
