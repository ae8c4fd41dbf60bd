"""Which runs answer the same questions on the same base."""

import pytest

from phi3v.config import public_config
from phi3v.config.comparing import first_other

WORDS = ("experiment=lora_r16",)


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (["adapter.r=8", "optimizer.lr=1", "seed=8", "name=other", "trainer.max_epochs=9"], None),
        (["model.vision_cache_gib=0", "model.gradient_checkpointing=true"], None),
        (["data.batch_size=4", "data.eval_limit=3", "data.splits_file=x", "adapter=full"], None),
        (["model.dtype=bfloat16"], "model.dtype"),
        (["model.num_crops=2"], "model.num_crops"),
        (["model.merge=[conf]"], "model.merge"),
        (["model.path=/elsewhere"], "model.path"),
        (["task=caption"], "task.name"),
        (["data.rows=100"], "data.source.rows"),
    ],
)
def test_base_task_and_data_decide_and_nothing_else(composed, words, key) -> None:
    base = public_config(composed(*WORDS))
    found = first_other(public_config(composed(*WORDS, *words)), base)
    assert (found[0] if found else None) == key


def test_a_run_that_was_made_before_adapters_could_be_merged_is_the_same(composed) -> None:
    older = public_config(composed(*WORDS))
    del older["model"]["merge"]
    assert first_other(older, public_config(composed(*WORDS))) is None


def test_both_values_are_told(composed) -> None:
    base = public_config(composed(*WORDS))
    other = public_config(composed(*WORDS, "model.dtype=bfloat16"))
    assert first_other(other, base) == ("model.dtype", "bfloat16", "float32")
