"""Numbers that would only fail, or do silently another thing, when their job has begun.

for key, text in out_of_range(plain):
    ...  # text says what is wrong with it
"""

import math
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from phi3v.config.containers import value_at

# The least and the most, and what to say of others.
RANGES = {
    "seed": (0, 2**32 - 1, f"from 0 to {2**32 - 1}"),
    "max_new_tokens": (1, math.inf, "at least 1"),
    "max_skipped_steps": (0, math.inf, "at least 0"),
    "optimizer.lr": (0, math.inf, "not below zero"),
    "optimizer.weight_decay": (0, math.inf, "not below zero"),
    "trainer.limit_test_batches": (
        *(sys.float_info.min, math.inf),  # numbers below may count as zero
        "a run ends with what its test split says; give at least 1",
    ),
}


def out_of_range(plain: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The numbers of a configuration that are out of their range: key and message."""
    for key, (least, most, words) in RANGES.items():
        value = value_at(plain, key)
        if isinstance(value, int | float) and not least <= value <= most:
            yield key, f"{key}={value}: {words}"
