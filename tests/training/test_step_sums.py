"""What a step adds up to."""

import pytest
import torch

from phi3v.training.step_sums import StepSums, StepTotal


class OneRank:
    def reduce(self, tensor, reduce_op):
        assert reduce_op == "sum"
        return tensor


def test_rows_that_only_fill_up_a_rank_are_no_examples(base, batch):
    lengths = batch["attention_mask"].sum(1)
    rest = lengths[:-1].sum().item()
    sums = StepSums(base)
    sums.add(batch, torch.tensor(6.0), 30)
    whole = sums.take(OneRank())
    assert (whole.examples, whole.tokens) == (5, rest + lengths[-1].item())
    filled = {**batch, "labels": batch["labels"].clone()}
    filled["labels"][-1] = -100
    sums.add(filled, torch.tensor(6.0), 30)
    total = sums.take(OneRank())
    assert (total.examples, total.tokens) == (4, rest)
    assert total.places == whole.places == batch["attention_mask"].numel()
    assert total.tflop == pytest.approx(whole.tflop)
    assert sums.take(OneRank()) == StepTotal()
