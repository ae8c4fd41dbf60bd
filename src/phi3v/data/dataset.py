"""Examples as a torch data set, and a memory for prepared pictures.

encode = Remembering(Encoder(processor, task, max_length), limit=3000)
dataset = ImageTextDataset(examples, encode)
dataset[0].input_ids
"""

from collections.abc import Callable, Sequence

from torch.utils.data import Dataset

from phi3v.data.encoding import Encoded
from phi3v.data.example import Example


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
