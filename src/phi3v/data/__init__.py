"""Data: sources of examples, splits, encoding, batches, and the LightningDataModule."""

from phi3v.data.batching import LengthBatchSampler
from phi3v.data.collation import Batch, Collator
from phi3v.data.csv_source import CsvSource
from phi3v.data.datamodule import ImageTextDataModule
from phi3v.data.dataset import ImageTextDataset, Remembering
from phi3v.data.download import fetch_pictures
from phi3v.data.encoding import Encoded, Encoder, Lengths, prompt_text
from phi3v.data.example import Example, LoadedOnce, Source
from phi3v.data.pictures import open_picture, picture_size
from phi3v.data.splits import load_splits, make_splits, save_splits

__all__ = [
    "Batch",
    "Collator",
    "CsvSource",
    "Encoded",
    "Encoder",
    "Example",
    "ImageTextDataModule",
    "ImageTextDataset",
    "LengthBatchSampler",
    "Lengths",
    "LoadedOnce",
    "Remembering",
    "Source",
    "fetch_pictures",
    "load_splits",
    "make_splits",
    "open_picture",
    "picture_size",
    "prompt_text",
    "save_splits",
]
