"""Examples as a torch data set, a memory for prepared pictures, and a loader with clear errors.

encode = Remembering(Encoder(processor, task, max_length), limit=2**30)
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
