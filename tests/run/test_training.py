"""What a training begins with, and what it needs when it goes on."""

import time
from types import SimpleNamespace

import pytest
import torch
from full_disk import small_files
from made_run import ROOT, TINY
from omegaconf import OmegaConf

from phi3v.adapter import FullFineTuning, LoraAdapter
from phi3v.config.composing import check_command_line
from phi3v.errors import UserError
from phi3v.model import Checkpoint
from phi3v.run import setup as subject
from phi3v.run import training
from phi3v.run.assembly import adapter_of
from phi3v.run.directory import RunDirectory
from phi3v.run.resuming import Begun
from phi3v.run.training import keep_model
from phi3v.training import StallReport


def test_a_resumed_training_does_without_the_folder_that_it_began_with(tmp_path):
    node = {"_target_": "phi3v.adapter.LoraAdapter", "r": 2, "alpha": 4}
    cfg = OmegaConf.create({"adapter": {**node, "init_from": str(tmp_path / "gone")}})
    with pytest.raises(UserError, match=r"adapter\.init_from=.*gone"):
        adapter_of(cfg, starts=True)
    assert adapter_of(cfg, starts=False) == adapter_of(OmegaConf.create({"adapter": node}), True)


def test_an_adapter_that_can_begin_nowhere_else_is_made_as_it_is():
    cfg = OmegaConf.create({"adapter": {"_target_": "phi3v.adapter.FullFineTuning"}})
    assert adapter_of(cfg, starts=False).kind == "full"


@pytest.mark.parametrize(
    ("adapter", "place"), [(LoraAdapter(r=2, alpha=4), "adapter"), (FullFineTuning(), "model")]
)
def test_a_disk_that_is_full_when_the_training_is_over_is_one_line(tmp_path, adapter, place):
    loaded = Checkpoint(str(TINY)).load()
    model = adapter.attach(loaded.model)
    pieces = SimpleNamespace(loaded=loaded)
    run = RunDirectory(tmp_path)
    with small_files(20_000), pytest.raises(UserError) as caught:
        keep_model(adapter, model, pieces, run, writes=True)
    assert str(caught.value).startswith(f"{tmp_path / place}: it cannot be written, ")
    assert "(File too large): make space; a training goes on with resume=true" in str(caught.value)
    assert keep_model(adapter, model, pieces, run, writes=True) == tmp_path / place


@pytest.mark.parametrize("watched", [True, False])
def test_a_test_that_stands_still_says_where(monkeypatch, caplog, watched):
    def answer(*_, note, **__):
        note("in batch 2 of 3, blank pictures")
        time.sleep(1)

    monkeypatch.setattr(training, "answer", answer)
    monkeypatch.setattr(training, "keep_model", lambda *_, **__: None)
    strategy = SimpleNamespace(root_device=torch.device("cpu"), launcher=None)
    trainer = SimpleNamespace(
        strategy=strategy, is_global_zero=True, global_rank=3, limit_test_batches=1.0
    )
    setup = subject.Setup(
        trainer=trainer,
        callbacks=[StallReport(seconds=0.3)] if watched else [],
        interruption=None,
        adapter=None,
        pieces=SimpleNamespace(task=None, data=None),
        module=SimpleNamespace(model=torch.nn.Linear(1, 1)),
    )
    training._test(SimpleNamespace(max_new_tokens=8), setup, None)
    told = "rank 3: nothing done for 0 s, in batch 2 of 3, blank pictures (answer, "
    assert (told in caplog.text) == watched
    assert ("nothing done" in caplog.text) == watched


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["adapter.init=pissa", "model.dtype=bfloat16"], "adapter.init=pissa"),
        (["adapter.init=olora", "model.dtype=float16"], "adapter.init=olora"),
        (["adapter.whole=[projector]", "model.dtype=bfloat16"], "adapter.whole"),
        (["adapter.init=pissa", "adapter.whole=[projector]"], None),
        (["model.dtype=bfloat16"], None),
        (["adapter=full", "batch_size=8"], None),
    ],
)
def test_an_adapter_that_peft_computes_otherwise_is_told_of_before_anything_is_loaded(
    tmp_path, monkeypatch, caplog, words, what
):
    def loads(*words):
        raise UserError("the model is loaded here")

    monkeypatch.setattr(subject, "_pieces", loads)
    plain = check_command_line(ROOT / "conf", "train", words, config_name="train").plain
    with caplog.at_level("INFO", "phi3v.run.setup"), pytest.raises(UserError, match="is loaded"):
        subject.set_up(OmegaConf.create(plain), RunDirectory(tmp_path), Begun())
    told = [record.getMessage() for record in caplog.records if "PEFT" in record.getMessage()]
    assert len(told) == bool(what)
    if what:
        assert told[0].startswith(f"{what} on a base in {words[-1].partition('=')[2]}: with PEFT ")
        assert "phi3v export --merge" in told[0]
