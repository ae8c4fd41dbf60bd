"""Stops a training whose loss or gradient is no finite number, before the weights are spoilt.

policy = NonFiniteSteps(skips=2)
if not policy.allows(step=12, loss=loss, norm=norm, ids=ids):
    ...  # leave this step out
"""

import logging
import math
from collections.abc import Sequence

from phi3v.errors import DivergedError

log = logging.getLogger(__name__)


class NonFiniteStep(DivergedError):
    """A step that would have spoilt the weights; they are as they were before it."""


class NonFiniteSteps:
    """Leaves out the first of such steps, and stops at the next one.

    Args:
        skips: How many steps of a training may be left out.
    """

    def __init__(self, skips: int = 0) -> None:
        self.skips = skips
        self.skipped = 0

    def allows(self, step: int, loss: float, norm: float, ids: Sequence[str]) -> bool:
        """Whether the step can be taken.

        Args:
            step: Its number, from 1.
            loss: Of the whole step.
            norm: Of the whole step's gradient.
            ids: The examples in it, on all ranks; one may also fill up another rank.

        Raises:
            NonFiniteStep: When too many steps were left out already.
        """
        if math.isfinite(loss) and math.isfinite(norm):
            return True
        what = (
            f"the loss is {loss}" if not math.isfinite(loss) else f"the gradient's norm is {norm}"
        )
        line = f"step {step}: {what}, on the examples {', '.join(dict.fromkeys(ids))}"
        if self.skipped == self.skips:
            already = f", after {self.skipped} that were left out" if self.skipped else ""
            raise NonFiniteStep(
                f"{line}{already}; the weights before it are kept: look at these examples, lower "
                f"optimizer.lr, or leave such steps out with max_skipped_steps={self.skips + 1}"
            )
        self.skipped += 1
        log.warning("%s; left out (%d of max_skipped_steps=%d)", line, self.skipped, self.skips)
        return False
