"""What is better, more or less: needed to choose checkpoints and to order sweeps."""

from __future__ import annotations

from typing import Literal

from phi3v.errors import UserError
from phi3v.task.field import METRICS, nearest

_LESS_IS_BETTER = ("mae", "mape", "median_ape", "loss")


def direction(name: str) -> Literal["min", "max"]:
    """Whether a metric is to be minimised or maximised.

    Args:
        name: any metric's name, with or without split and field ("val/full_price/mape").

    Raises:
        UserError: the last part of the name is no metric.
    """
    known = ("parse_rate", "loss", *(metric for names in METRICS.values() for metric in names))
    last = name.rsplit("/", 1)[-1]
    if last not in known:
        raise UserError(f"metric {name!r}: there is no metric {last!r}; {nearest(last, known)}")
    return "min" if last in _LESS_IS_BETTER else "max"
