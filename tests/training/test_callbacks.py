"""What is said before and during a training, and what stops it at once."""

import io
import json
import logging
import re

import pytest
import torch
import wandb
from lightning.pytorch.loggers import WandbLogger
from PIL import Image

from phi3v.adapter import FullFineTuning, LoraAdapter, NoAdapter, trained_state
from phi3v.errors import UserError
from phi3v.model.parts import PARTS
from phi3v.optim import Linear
from phi3v.training import (
    BestCheckpoint,
    GradientCheck,
    SampleTable,
    StepLines,
    TrainablePartsTable,
)

LINE = re.compile(
    r"step (\d+)/(\d+) loss \d+\.\d{3} lr \d\.\de[-+]\d\d [\d.e+]+ examples/s [\d.]+k? tokens/s"
)


@pytest.fixture
def said(caplog):
    """What the training wrote to its log, message by message."""
    caplog.set_level(logging.INFO, logger="phi3v")
    return lambda: [r.getMessage() for r in caplog.records if r.name.startswith("phi3v")]


def test_the_table_of_what_trains_comes_before_the_first_step(
    make_module, make_data, make_trainer, said
):
    callbacks = [StepLines(), TrainablePartsTable()]
    make_trainer(1, callbacks).fit(make_module(), make_data())
    messages = said()
    table = next(i for i, message in enumerate(messages) if "decoder" in message)
    step = next(i for i, message in enumerate(messages) if message.startswith("step 1/"))
    assert table < step
    cells = {row.split()[1]: row.split() for row in messages[table].splitlines() if "%" in row}
    assert set(cells) == {*PARTS, "all"}
    assert cells["decoder"][3] == "3,584"
    assert cells["projector"][3] == "896"
    assert cells["vision"][3] == "0"
    assert cells["all"][3] == "4,480"


def test_the_first_and_the_last_step_have_a_line(make_module, make_data, make_trainer, said):
    make_trainer(2, [StepLines(seconds=1000)]).fit(make_module(), make_data())
    lines = [LINE.fullmatch(message) for message in said() if message.startswith("step")]
    assert [(m.group(1), m.group(2)) for m in lines] == [("1", "6"), ("6", "6")]


def test_lines_come_every_so_many_optimizer_steps(make_module, make_data, make_trainer, said):
    trainer = make_trainer(2, [StepLines(seconds=1000, steps=2)], accumulate_grad_batches=2)
    trainer.fit(make_module(), make_data(count=24, batch_size=2))
    numbers = [LINE.match(m).group(1) for m in said() if m.startswith("step")]
    assert numbers == ["1", "3", "5", "7", "8"]


def test_a_validation_has_a_line_with_what_selects_the_checkpoint(
    make_module, make_data, make_trainer, said, tmp_path
):
    callbacks = [StepLines(), BestCheckpoint(tmp_path, "number/mape")]
    make_trainer(1, callbacks).fit(make_module(), make_data())
    lines = [message for message in said() if message.startswith("validation")]
    assert len(lines) == 1
    pattern = r"validation after step 3: loss \d\.\d+ parse_rate 0 number/mape \d\.\d+"
    assert re.fullmatch(pattern, lines[0])


def test_a_line_shows_the_learning_rate_of_its_step(make_module, make_data, make_trainer, said):
    module = make_module(lr=1e-2, schedule=Linear())
    make_trainer(1, [StepLines(steps=1)]).fit(module, make_data())
    rates = [message.split(" lr ")[1].split()[0] for message in said() if " lr " in message]
    assert rates == ["1.0e-02", "6.7e-03", "3.3e-03"]


@pytest.mark.parametrize("adapter", [LoraAdapter(2, 4, scope=PARTS), FullFineTuning(PARTS)])
def test_the_gradient_check_lets_a_sound_model_pass(
    base, make_module, make_data, make_trainer, adapter
):
    module = make_module(adapter.attach(base))
    make_trainer(1, [GradientCheck()]).fit(module, make_data())


@pytest.mark.parametrize("adapter", [LoraAdapter(2, 4, scope=PARTS), FullFineTuning(PARTS)])
def test_the_gradient_check_stops_the_training_when_a_part_is_cut_off(
    base, make_module, make_data, make_trainer, adapter
):
    model = adapter.attach(base)
    base.model.vision_embed_tokens.img_processor.register_forward_hook(
        lambda _, inputs, out: out.detach()
    )
    module = make_module(model)
    before = {name: tensor.clone() for name, tensor in trained_state(model).items()}
    with pytest.raises(UserError, match=r"tensors of the vision got no gradient .*img_proc") as e:
        make_trainer(1, [GradientCheck()]).fit(module, make_data())
    assert "\n" not in str(e.value)
    after = trained_state(model)
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_the_gradient_check_stops_a_part_whose_work_is_multiplied_by_zero(
    base, make_module, make_data, make_trainer
):
    model = FullFineTuning(PARTS).attach(base)
    base.model.vision_embed_tokens.register_forward_hook(
        lambda _, inputs, out: [0 * tokens for tokens in out]
    )
    with pytest.raises(UserError, match=r"every gradient of the .*vision.* is zero"):
        make_trainer(1, [GradientCheck()]).fit(make_module(model), make_data())


def test_the_gradient_check_names_what_is_declared_but_never_read(
    base, make_module, make_data, make_trainer
):
    model = NoAdapter().attach(base)
    model.lm_head.requires_grad_(True)
    tower = model.model.vision_embed_tokens.img_processor.vision_model
    tower.post_layernorm.requires_grad_(True)
    with pytest.raises(UserError, match=r"^2 trainable tensors .*post_layernorm\.weight"):
        make_trainer(1, [GradientCheck()]).fit(make_module(model), make_data())


def test_sample_predictions_are_one_growing_table_with_pictures(
    make_module, make_data, make_trainer, tmp_path, monkeypatch
):
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("WANDB_SILENT", "true")
    logger = WandbLogger(project="test", save_dir=tmp_path, offline=True)
    try:
        trainer = make_trainer(3, [SampleTable(examples=2, pixels=16)], [logger])
        trainer.fit(make_module(), make_data())
    finally:
        wandb.finish()
    files = list((tmp_path / "wandb" / "latest-run" / "files" / "media").rglob("*.table.json"))
    assert {path.name.split("_")[0] for path in files} == {"predictions"}
    tables = sorted((json.loads(path.read_text()) for path in files), key=lambda t: t["data"][0])
    for table in tables:
        assert table["columns"] == ["step", "id", "picture", "truth", "prediction"]
    # Each validation sends its new rows only, about the same two examples.
    assert [[row[0] for row in table["data"]] for table in tables] == [[3, 3], [6, 6], [9, 9]]
    assert len({row[1] for table in tables for row in table["data"]}) == 2
    staged = [path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file()]
    pictures = [data for data in staged if data.startswith(b"\x89PNG")]
    assert len(pictures) == 6
    assert all(max(Image.open(io.BytesIO(data)).size) == 16 for data in pictures)


def test_without_a_wandb_logger_the_sample_table_does_nothing(make_module, make_data, make_trainer):
    callback = SampleTable()
    make_trainer(1, [callback]).fit(make_module(), make_data())
    assert callback._table is None
