"""One prompt with a picture, by whose logits two forms of a model are compared.

probe = Probe.of(recorded)
gap = distance(probe.logits(model, processor), probe.logits(merged, processor))
"""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from phi3v.data import prompt_text
from phi3v.data.catalogue import random_look
from phi3v.data.drawing import draw
from phi3v.model import Phi3VProcessor
from phi3v.run.recorded import Recorded

# What two ways to the same sum may differ by.
LIMIT = 1e-4
# Enough for a picture of several crops; the published sixteen would only take longer.
_MOST_CROPS = 4


@dataclass(frozen=True)
class Distance:
    """How far two models' logits are apart.

    Attributes:
        largest: The largest difference, and infinity where one is no number.
        scale: The largest logit of the first.
        other_tokens: Positions at which they would say another token.
        positions: All positions.
    """

    largest: float
    scale: float
    other_tokens: int
    positions: int

    @property
    def is_close(self) -> bool:
        """Whether both are the same model but for rounding."""
        return self.largest <= LIMIT


@dataclass(frozen=True)
class Probe:
    """A question about a drawn picture, with the beginning of an answer."""

    text: str
    picture: Image.Image

    @classmethod
    def of(cls, recorded: Recorded) -> "Probe":
        """The question and the answer of the run's first prediction, else the question alone."""
        row = recorded.first_prediction() or {}
        question = str(row.get("question") or recorded.task.question)
        rng = np.random.default_rng(0)
        picture = draw(random_look(rng), rng)
        return cls(prompt_text(question, 1) + str(row.get("answer") or ""), picture)

    @torch.no_grad()
    def logits(self, model: nn.Module, processor: Phi3VProcessor) -> Tensor:
        """The logits at every position, float32 (positions, vocabulary), on the CPU.

        Args:
            model: In float32 or float64.
            processor: Its processor.
        """
        crops = min(_MOST_CROPS, int(processor.image_processor.num_crops))
        inputs = processor(text=self.text, images=[self.picture], num_crops=crops)
        device = next(model.parameters()).device
        out = model.eval()(**inputs.to(device), use_cache=False)
        logits: Tensor = out.logits[0]
        return logits.float().cpu()


def distance(one: Tensor, other: Tensor) -> Distance:
    """Compare logits of the same positions."""
    difference = float((one - other).abs().max())
    return Distance(
        largest=difference if difference == difference else float("inf"),
        scale=float(one.abs().max()),
        other_tokens=int((one.argmax(-1) != other.argmax(-1)).sum()),
        positions=len(one),
    )
