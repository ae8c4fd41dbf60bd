"""A Phi-3-Vision of a few thousand parameters that has every part.

Two decoder layers, and three of CLIP, the last of which nothing reads.
"""

from pathlib import Path

from phi3v.model import Scratch

CONFIG = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "original_max_position_embeddings": 256,
    "vision_config": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 7,
    },
}


def make_checkpoint(folder: Path) -> Path:
    """A checkpoint folder whose weights are far enough from zero to write something."""
    config = {**CONFIG, "initializer_range": 0.1}
    words = ["red green blue", "Which?"] * 3
    Scratch(config=config, vocab_size=420, num_crops=2, seed=3).load(lambda: words).save(folder)
    return folder
