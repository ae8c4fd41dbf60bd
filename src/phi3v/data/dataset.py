"""Examples as a torch data set, a memory for prepared pictures, and a loader with clear errors.

encode = Remembering(Encoder(processor, task, max_length), limit=3000)
dataset = ImageTextDataset(examples, encode)
dataset[0].input_ids
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch.utils.data import DataLoader, Dataset

from phi3v.data.encoding import Encoded
from phi3v.data.example import Example
from phi3v.errors import UserError


class ImageTextDataset(Dataset[Encoded]):
    """Encodes an example when it is asked for."""

    def __init__(self, examples: Sequence[Example], encode: Callable[[Example], Encoded]) -> None:
        self.examples = examples
        self.encode = encode

    def __len__(self) -> int:
        """Returns the number of examples."""
        return len(self.examples)

    def __getitem__(self, index: int) -> Encoded:
        """Returns one encoded example."""
        return self.encode(self.examples[index])


class Remembering:
    """Keeps what an encoder made of the first `limit` examples, so later epochs decode nothing.

    The tensors that come back are the very same ones, so results do not depend on the limit. A
    picture takes 4 * 3 * size * size bytes a crop. Worker processes each have a memory of their
    own.
    """

    def __init__(self, encode: Callable[[Example], Encoded], limit: int) -> None:
        self._encode = encode
        self._limit = limit
        self._kept: dict[str, Encoded] = {}

    def __call__(self, example: Example) -> Encoded:
        """Returns the encoded example, from memory where it is there."""
        encoded = self._kept.get(example.id)
        if encoded is None:
            encoded = self._encode(example)
            if len(self._kept) < self._limit:
                self._kept[example.id] = encoded
        return encoded


class OneLineErrors(DataLoader[Encoded]):
    """A DataLoader whose workers' errors read like those of the main process.

    torch puts the worker's whole traceback into the message of the error that it raises again.
    """

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """Yields batches.

        Raises:
            UserError: As the worker said it.
        """
        try:
            yield from super().__iter__()
        except UserError as error:
            last = str(error).strip().splitlines()[-1]
            name = f"{UserError.__module__}.{UserError.__qualname__}: "
            raise UserError(last.removeprefix(name)) from None
