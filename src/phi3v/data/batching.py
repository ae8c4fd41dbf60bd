"""Batches of examples of similar length, so that little of a batch is padding.

    sampler = LengthBatchSampler(lengths, batch_size=8, num_replicas=2, rank=0, accumulate=2)
    sampler.set_epoch(3)
    for indices in sampler: ...

What one step of the optimizer learns from depends on the seed, the epoch and the examples of a step
(here 8 * 2 * 2), never on how many ranks and micro-batches share them: one process, two ranks and
two micro-batches all take the same steps. Sizes of steps differ by one at most, and so do sizes of
micro-batches, instead of a small one at the end. Micro-batches of the ranks that work side by side
hold examples of similar length.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate as running_sum
from itertools import pairwise

import torch
from torch.utils.data import Sampler

from phi3v.errors import UserError

# Examples are sorted by length inside pools of so many steps: large enough to save most of the
# padding, small enough to leave the order random.
_POOL_STEPS = 32


class LengthBatchSampler(Sampler[list[int]]):
    """Yields one rank's micro-batches as lists of indices.

    An index may be negative: `~index` then stands for an example that fills up a rank which would
    have none, and from which nothing may be learned. That happens only where a step has fewer
    examples than there are micro-batches to share them.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        batch_size: int,
        seed: int = 0,
        shuffle: bool = True,
        drop_last: bool = False,
        num_replicas: int = 1,
        rank: int = 0,
        accumulate: int = 1,
    ) -> None:
        """Plans the number of steps.

        Args:
            lengths: Tokens of each example.
            batch_size: Most examples of a micro-batch on one rank.
            seed: Together with the epoch it fixes the order.
            shuffle: False gives every epoch the same batches, the longest first, so that memory
                that does not suffice shows at once.
            drop_last: Leaves out the examples beyond the last full step. Otherwise every example
                comes exactly once an epoch.
            num_replicas: Number of ranks.
            rank: Whose batches to yield.
            accumulate: Micro-batches of a rank that make up one step.

        Raises:
            UserError: When not even one step can be filled.
        """
        if batch_size < 1:
            raise UserError(f"batch_size must be at least 1, got {batch_size}")
        self.lengths = list(lengths)
        self.seed = seed
        self.shuffle = shuffle
        self.num_replicas = num_replicas
        self.rank = rank
        self.accumulate = accumulate
        self.epoch = 0
        self.first = 0
        self.step_size = batch_size * num_replicas * accumulate
        count = len(self.lengths)
        self.steps = count // self.step_size if drop_last else -(-count // self.step_size)
        self._used = self.steps * self.step_size if drop_last else count
        if not self.steps:
            raise UserError(
                f"{count} examples do not fill a batch of {batch_size} on each of {num_replicas} "
                "devices; add examples or lower the batch size"
            )

    @property
    def sampler(self) -> "LengthBatchSampler":
        """Itself: Lightning calls `set_epoch` on a batch sampler's `sampler` before each epoch."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Chooses the order of the next pass."""
        self.epoch = epoch

    def skip(self, batches: int) -> None:
        """Lets the next pass alone begin behind so many of this rank's micro-batches."""
        self.first = batches

    def __len__(self) -> int:
        """Returns the number of micro-batches of this rank in a whole pass."""
        return self.steps * self.accumulate

    def __iter__(self) -> Iterator[list[int]]:
        """Yields this rank's micro-batches."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        steps = _cut(self._order(generator), self.steps)
        order = torch.arange(self.steps)
        if self.shuffle:
            order = order[torch.randperm(self.steps, generator=generator)]
        first, self.first = self.first, 0
        for number in range(first, len(self)):
            step, micro = divmod(number, self.accumulate)
            yield self._share(steps[int(order[step])], micro)

    def _order(self, generator: torch.Generator) -> list[int]:
        """Returns the indices of all examples that this epoch uses, similar lengths together."""
        count = len(self.lengths)
        if not self.shuffle:
            by_length = sorted(range(count), key=self.lengths.__getitem__, reverse=True)
            return by_length[: self._used]
        indices = torch.randperm(count, generator=generator).tolist()[: self._used]
        pool = _POOL_STEPS * self.step_size
        return [
            index
            for start in range(0, self._used, pool)
            for index in sorted(indices[start : start + pool], key=self.lengths.__getitem__)
        ]

    def _share(self, step: Sequence[int], micro: int) -> list[int]:
        """Returns what this rank takes of a step in its micro-batch of that number."""
        shares = _cut(step, self.accumulate * self.num_replicas)
        # An idle rank would leave the others waiting for its gradients.
        return list(shares[micro * self.num_replicas + self.rank]) or [~step[0]]


def _cut(items: Sequence[int], parts: int) -> list[Sequence[int]]:
    """Cuts a sequence into parts whose sizes differ by one at most."""
    size, larger = divmod(len(items), parts)
    edges = [0, *running_sum(size + (number < larger) for number in range(parts))]
    return [items[start:end] for start, end in pairwise(edges)]
