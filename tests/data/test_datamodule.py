"""The data module gives Lightning the right batches, and refuses bad data before training."""

from dataclasses import replace

import pytest
import torch
from lightning import LightningModule, Trainer

from phi3v.data import CsvSource, ImageTextDataModule, Remembering, make_splits, save_splits
from phi3v.errors import UserError

FRACTIONS = {"train": 0.6, "val": 0.2, "test": 0.2}


@pytest.fixture
def module(task, processor):
    def make(path, **options) -> ImageTextDataModule:
        settings = {"splits": FRACTIONS, "batch_size": 4, "max_length": 1000, "seed": 1} | options
        return ImageTextDataModule(CsvSource(path), task, processor, **settings)

    return make


class Recorder(LightningModule):
    """Trains one number and writes down which examples came when."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = {}

    def _record(self, stage, batch):
        self.seen.setdefault((stage, self.current_epoch), []).append(batch["ids"])
        return self.weight * batch["pixel_values"].mean()

    def training_step(self, batch):
        return self._record("train", batch)

    def validation_step(self, batch):
        assert {"labels", "prompt_input_ids"} <= batch.keys()
        self._record("val", batch)

    def test_step(self, batch):
        self._record("test", batch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(**options) -> Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return Trainer(
        accelerator="cpu",
        max_epochs=3,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        **quiet,
        **options,
    )


def flat(batches) -> list[str]:
    return [own_id for batch in batches for own_id in batch]


def test_a_trainer_sees_every_split_whole_and_a_new_order_each_epoch(shop, module):
    data = module(shop(30))
    recorder = Recorder()
    run = trainer()

    run.fit(recorder, datamodule=data)
    run.test(recorder, datamodule=data, verbose=False)

    for epoch in range(3):
        assert sorted(flat(recorder.seen["train", epoch])) == data.splits["train"]
        assert sorted(flat(recorder.seen["val", epoch])) == data.splits["val"]
    assert sorted(flat(recorder.seen["test", 3])) == data.splits["test"]
    assert recorder.seen["train", 0] != recorder.seen["train", 1] != recorder.seen["train", 2]
    assert recorder.seen["val", 0] == recorder.seen["val", 1]


def test_the_same_seed_gives_the_same_batches(shop, module):
    path = shop(30)
    recorders = [Recorder(), Recorder()]

    for recorder in recorders:
        trainer().fit(recorder, datamodule=module(path))

    assert recorders[0].seen == recorders[1].seen


def test_overfitting_repeats_the_same_batches(shop, module):
    recorder = Recorder()

    trainer(overfit_batches=2).fit(recorder, datamodule=module(shop(30)))

    assert len(recorder.seen["train", 0]) == 2
    assert recorder.seen["train", 0] == recorder.seen["train", 1]


def test_a_loader_takes_no_random_number_from_training(shop, module):
    data = module(shop(20))
    data.setup()
    torch.manual_seed(0)
    expected = torch.rand(1)

    torch.manual_seed(0)
    list(data.train_dataloader())
    list(data.val_dataloader())

    assert torch.equal(torch.rand(1), expected)


def test_each_rank_reads_its_own_part(shop, module):
    class Attached:
        world_size, current_epoch, overfit_batches, accumulate_grad_batches = 2, 1, 0, 1

        def __init__(self, rank):
            self.global_rank = rank

    data = module(shop(30))
    data.setup()
    seen = []
    for rank in range(2):
        data.trainer = Attached(rank)
        seen.append([batch["ids"] for batch in data.train_dataloader()])

    assert len(seen[0]) == len(seen[1])
    assert sorted(flat(seen[0] + seen[1])) == data.splits["train"]


def test_remembered_pictures_are_bit_identical_and_not_decoded_again(shop, module):
    path = shop(20)
    plain, remembering = module(path), module(path, picture_cache_gib=1)
    for data in (plain, remembering):
        data.setup()
    list(remembering.train_dataloader())
    for picture in (path.parent / "images").iterdir():
        picture.touch()
    first = list(plain.train_dataloader())
    for example in remembering.examples["train"]:
        example.images[0].unlink()

    again = list(remembering.train_dataloader())

    for one, other in zip(first, again, strict=True):
        assert one["ids"] == other["ids"]
        for key in ("input_ids", "labels", "pixel_values", "image_sizes"):
            assert torch.equal(one[key], other[key])


@pytest.mark.parametrize(("pictures", "kept"), [(3, 3), (2.9, 2), (0, 0)])
def test_a_limited_memory_holds_no_more_bytes_than_its_limit(shop, module, pictures, kept):
    data = module(shop(8))
    data.setup()
    decoded: list[str] = []

    def encode(example):
        decoded.append(example.id)
        return replace(data.collator("train").encode(example), pixel_values=(torch.zeros(5, 7),))

    remember = Remembering(encode, limit=int(pictures * 5 * 7 * 4))
    examples = data.examples["train"]
    for example in examples + examples:
        remember(example)

    assert len(decoded) == 2 * len(examples) - kept


def test_workers_give_the_same_batches_and_errors_of_one_line(shop, module):
    path = shop(20)
    alone, helped = module(path), module(path, num_workers=1)
    alone.setup()
    helped.setup()

    for one, other in zip(alone.train_dataloader(), helped.train_dataloader(), strict=True):
        assert one["ids"] == other["ids"]
        assert torch.equal(one["pixel_values"], other["pixel_values"])

    lost = helped.examples["train"][0]
    lost.images[0].unlink()
    with pytest.raises(UserError) as refused:
        list(helped.train_dataloader())
    assert str(refused.value) == f"{lost.origin}: picture not found: {lost.images[0]}"


def test_validation_can_be_limited_to_a_fixed_part(shop, module):
    path = shop(40)
    data, again = module(path, eval_limit=3), module(path, eval_limit=3)
    data.setup()
    again.setup()

    chosen = flat(batch["ids"] for batch in data.val_dataloader())

    assert len(chosen) == 3
    assert set(chosen) < set(data.splits["val"])
    assert chosen == flat(batch["ids"] for batch in again.val_dataloader())
    assert len(flat(batch["ids"] for batch in data.test_dataloader())) == 8


@pytest.mark.parametrize(
    "size", [{"eval_limit": 0}, {"eval_limit": -1}, {"eval_batch_size": 0}, {"num_workers": -1}]
)
def test_a_size_that_makes_no_sense_is_refused_by_its_name(shop, module, size):
    ((name, value),) = size.items()
    with pytest.raises(UserError, match=f"data.{name}={value}: must be"):
        module(shop(10), **size)


def test_saved_splits_are_used_as_they_are(shop, module, task, tmp_path):
    path = shop(20)
    splits = make_splits(CsvSource(path).load(task), FRACTIONS, seed=77)
    save_splits(splits, tmp_path / "splits.json")

    data = module(path, splits_file=tmp_path / "splits.json")
    data.setup()

    assert data.splits == splits
    assert [example.id for example in data.examples["val"]] == splits["val"]


def test_all_examples_too_long_are_refused_before_training(shop, module):
    data = module(shop(20))
    data.setup()
    limit = sorted(lengths.total for lengths in data.lengths.values())[-3]
    bad = sum(lengths.total > limit for lengths in data.lengths.values())
    assert 0 < bad <= 2

    with pytest.raises(UserError, match=rf"products.csv row \d+: .* limit of {limit}"):
        module(shop(20), max_length=limit).setup()


def test_examples_too_long_are_left_out_where_bad_rows_are_skipped(shop, task, processor, caplog):
    path = shop(20)
    settings = {"splits": FRACTIONS, "batch_size": 4, "seed": 1}
    whole = ImageTextDataModule(CsvSource(path), task, processor, max_length=1000, **settings)
    whole.setup()
    limit = sorted(lengths.total for lengths in whole.lengths.values())[-3]
    long = {name for name, lengths in whole.lengths.items() if lengths.total > limit}

    source = CsvSource(path, on_error="skip")
    rest = ImageTextDataModule(source, task, processor, max_length=limit, **settings)
    rest.setup()

    used = {example.id for examples in rest.examples.values() for example in examples}
    assert used == set(whole.lengths) - long
    assert f"skipped {len(long)} of 20 examples" in caplog.text
    assert whole.longest_answer() == max(one.answer for one in whole.lengths.values())


def test_a_title_on_both_sides_of_a_split_is_pointed_out(write_shop, shop_rows, module, caplog):
    rows = shop_rows(20)
    module(write_shop(rows)).setup()
    assert "more than one split" not in caplog.text
    rows[-1]["title"] = rows[0]["title"]
    sides = set()
    for seed in range(10):
        caplog.clear()
        data = module(write_shop(rows), seed=seed)
        data.setup()
        owner = {i: split for split, ids in data.splits.items() for i in ids}
        apart = owner["p000"] != owner["p019"]
        assert ("data.group_by=[title]" in caplog.text) is apart
        sides.add(apart)
    assert sides == {True, False}


def test_the_summary_counts_examples_and_tokens(shop, module):
    data = module(shop(20))
    data.setup()

    summary = data.summary()

    totals = sorted(lengths.total for lengths in data.lengths.values())
    assert "examples: train 12, val 4, test 4" in summary
    assert f"together {totals[0]}/{totals[9]}/{totals[-1]}; limit 1000" in summary
