"""A Phi-3-Vision of a few thousand parameters with every part, and a batch with a picture."""

import pytest
import torch
from small_model import CONFIG

from phi3v.model import Loaded
from phi3v.model import Scratch as FromScratch

TEXTS = ["Product: red scarf, Category: scarves, Full Price: 120", "What is shown in this image?"]


def tiny_model(dtype: str = "float32") -> Loaded:
    """The same each time."""
    model = FromScratch(config=CONFIG, vocab_size=420, num_crops=1, seed=3, dtype=dtype)
    return model.load(lambda: TEXTS)


@pytest.fixture
def base():
    return tiny_model().model


@pytest.fixture
def bf16_base():
    return tiny_model("bfloat16").model


@pytest.fixture(scope="session")
def batch():
    """Two rows of a prompt with one picture each; everything after the picture is supervised."""
    generator = torch.Generator().manual_seed(5)
    picture_tokens = 2 * 4 + 1 + 2 * 2  # two crops of 2 x 2 tokens and the separators
    text = torch.randint(5, 300, (2, 9), generator=generator)
    picture = torch.full((2, picture_tokens), -1)
    ids = torch.cat([text[:, :2], picture, text[:, 2:]], dim=1)
    labels = ids.where(torch.arange(ids.shape[1]) > picture_tokens + 3, -100)
    return {
        "ids": ["a", "b"],
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "labels": labels,
        "pixel_values": torch.randn(2, 2, 3, 28, 28, generator=generator),
        "image_sizes": torch.tensor([[28, 28], [28, 28]]),
    }


@pytest.fixture
def logits_of(batch):
    """The logits of the batch under a model, without gradient."""

    @torch.no_grad()
    def run(model):
        inputs = {key: value for key, value in batch.items() if key not in ("ids", "labels")}
        return model.eval()(**inputs).logits

    return run
