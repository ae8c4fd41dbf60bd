"""Batches of examples of similar length, so that little of a batch is padding.

    sampler = LengthBatchSampler(lengths, batch_size=8, seed=0, shuffle=True)
    sampler.set_epoch(3)
    for indices in sampler: ...

Every rank gets equally many batches, and ranks that step together get batches of similar length.
Batch sizes differ by one at most, instead of one small batch at the end, so that every step
weighs its examples alike.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise

import torch
from torch.utils.data import Sampler

from phi3v.errors import UserError

# Examples are sorted by length inside pools of so many batches for every rank: large enough to
# save most of the padding, small enough to leave the order random.
_POOL_BATCHES = 32


class LengthBatchSampler(Sampler[list[int]]):
    """Yields lists of indices; the order depends on the seed and the epoch only."""

    def __init__(
        self,
        lengths: Sequence[int],
        batch_size: int,
        seed: int = 0,
        shuffle: bool = True,
        drop_last: bool = False,
        num_replicas: int = 1,
        rank: int = 0,
    ) -> None:
        """Plans the number of batches.

        Args:
            lengths: Tokens of each example.
            batch_size: Most examples of a batch on one rank.
            seed: Together with the epoch it fixes the order.
            shuffle: False gives every epoch the same batches, the longest first, so that memory
                that does not suffice shows at once.
            drop_last: Leaves out the examples beyond the last full round of batches. Otherwise
                every example comes exactly once an epoch; only where there are fewer examples
                than batches (more ranks than examples, or one example a batch) some come again.
            num_replicas: Number of ranks.
            rank: Whose batches to yield.

        Raises:
            UserError: When not even one round of batches can be filled.
        """
        if batch_size < 1:
            raise UserError(f"batch_size must be at least 1, got {batch_size}")
        self.lengths = list(lengths)
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.num_replicas = num_replicas
        self.rank = rank
        self.epoch = 0
        in_a_round = batch_size * num_replicas
        count = len(self.lengths)
        self.rounds = count // in_a_round if drop_last else -(-count // in_a_round)
        if not self.rounds:
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

    def __len__(self) -> int:
        """Returns the number of batches of this rank."""
        return self.rounds

    def __iter__(self) -> Iterator[list[int]]:
        """Yields this rank's batches."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        batches = self._batches(self._order(generator))
        rounds = torch.arange(self.rounds)
        if self.shuffle:
            rounds = rounds[torch.randperm(self.rounds, generator=generator)]
        for number in rounds.tolist():
            yield batches[number * self.num_replicas + self.rank]

    def _order(self, generator: torch.Generator) -> list[int]:
        """Returns the indices of all examples that this epoch uses, similar lengths together."""
        count = len(self.lengths)
        used = self.rounds * self.batch_size * self.num_replicas if self.drop_last else count
        if not self.shuffle:
            return sorted(range(count), key=self.lengths.__getitem__, reverse=True)[:used]
        indices = torch.randperm(count, generator=generator).tolist()[:used]
        pool = _POOL_BATCHES * self.batch_size * self.num_replicas
        return [
            index
            for start in range(0, used, pool)
            for index in sorted(indices[start : start + pool], key=self.lengths.__getitem__)
        ]

    def _batches(self, order: Sequence[int]) -> list[list[int]]:
        """Cuts the order into rounds x ranks batches whose sizes differ by one at most."""
        count = self.rounds * self.num_replicas
        filled = [order[i % len(order)] for i in range(max(len(order), count))]
        size, larger = divmod(len(filled), count)
        sizes = [size + (number < larger) for number in range(count)]
        edges = [0, *accumulate(sizes)]
        return [filled[start:end] for start, end in pairwise(edges)]
