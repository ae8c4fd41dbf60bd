"""Examples as a torch data set, a memory for prepared pictures, and a loader that can be resumed.

encode = Remembering(Encoder(processor, task, max_length), limit=2**30)
dataset = ImageTextDataset(examples, encode)
dataset[0].input_ids
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from torch.utils.data import DataLoader, Dataset

from phi3v.data.batching import LengthBatchSampler
from phi3v.data.encoding import Encoded
from phi3v.data.example import Example
from phi3v.errors import UserError


class ImageTextDataset(Dataset[Encoded]):
    """Encodes an example when it is asked for; by `~index` as one that nothing is learned from."""

    def __init__(self, examples: Sequence[Example], encode: Callable[[Example], Encoded]) -> None:
        self.examples = examples
        self.encode = encode

    def __len__(self) -> int:
        """Returns the number of examples."""
        return len(self.examples)

    def __getitem__(self, index: int) -> Encoded:
        """Returns one encoded example."""
        if index >= 0:
            return self.encode(self.examples[index])
        return replace(self.encode(self.examples[~index]), supervised=False)


class Remembering:
    """Keeps what an encoder made of the first examples, so that later epochs decode nothing.

    The tensors that come back are the very same ones, so results do not depend on the limit. A
    picture takes 4 * 3 * size * size bytes a crop: 0.14 MB for five crops of 48 pixels, 23 MB for
    seventeen of 336. Worker processes each have a memory of their own.

    Args:
        encode: What makes the tensors of an example.
        limit: Bytes of pictures that are kept at most.
    """

    def __init__(self, encode: Callable[[Example], Encoded], limit: int) -> None:
        self._encode = encode
        self._left = limit
        self._kept: dict[str, Encoded] = {}

    def __call__(self, example: Example) -> Encoded:
        """Returns the encoded example, from memory where it is there."""
        encoded = self._kept.get(example.id)
        if encoded is None:
            encoded = self._encode(example)
            size = sum(crops.nbytes for crops in encoded.pixel_values)
            if size <= self._left:
                self._left -= size
                self._kept[example.id] = encoded
        return encoded


class BatchLoader(DataLoader[Encoded]):
    """A DataLoader that goes on within an epoch, and whose workers' errors are one line.

    The place in the epoch is counted in steps of the optimizer, so that a training can go on with
    another number of ranks or micro-batches. Lightning asks for it when it saves a checkpoint, and
    what workers have read ahead by then does not count.

    torch puts the worker's whole traceback into the message of the error that it raises again; here
    that error reads as it does in the main process.
    """

    def __init__(
        self, dataset: ImageTextDataset, sampler: LengthBatchSampler, **options: Any
    ) -> None:
        super().__init__(dataset, batch_sampler=sampler, **options)
        self._plan = sampler
        self._given = 0
        self.waited = 0.0  # seconds, for all batches so far

    def state_dict(self) -> dict[str, int]:
        """Returns how many steps of this epoch have been given out; none at its end."""
        return {"steps": self._given % len(self._plan) // self._plan.accumulate}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Lets the next pass begin behind the steps of a saved state."""
        self._plan.skip(state["steps"] * self._plan.accumulate)

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """Yields batches.

        Raises:
            UserError: As the worker said it.
        """
        self._given = self._plan.first
        try:
            begun = time.perf_counter()
            for batch in super().__iter__():
                self.waited += time.perf_counter() - begun
                self._given += 1
                yield batch
                begun = time.perf_counter()
        except UserError as error:
            last = str(error).strip().splitlines()[-1]
            name = f"{UserError.__module__}.{UserError.__qualname__}: "
            raise UserError(last.removeprefix(name)) from None
