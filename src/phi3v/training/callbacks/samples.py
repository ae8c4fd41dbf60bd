"""A table of sample predictions with their pictures in Weights & Biases.

One panel, "predictions", that grows by a few rows with every validation: the rows of one example
over the steps show what the model learns. Without a W&B logger nothing happens.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from PIL import Image

from phi3v.data import Example, open_picture
from phi3v.training.module import FineTuning

if TYPE_CHECKING:
    import wandb

COLUMNS = ("step", "id", "picture", "truth", "prediction")


class SampleTable(Callback):
    """Adds the first examples of every validation to the table.

    Args:
        examples: How many rows each validation adds.
        pixels: Longest side of the pictures in the table.
    """

    def __init__(self, examples: int = 8, pixels: int = 256) -> None:
        self.examples = examples
        self.pixels = pixels
        self._table: wandb.Table | None = None

    @rank_zero_only
    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Append this validation's rows and log them under the one key."""
        loggers = [logger for logger in trainer.loggers if isinstance(logger, WandbLogger)]
        if not loggers or trainer.sanity_checking:
            return
        import wandb  # takes a second, which runs without W&B need not wait

        assert isinstance(pl_module, FineTuning)
        if self._table is None:
            self._table = wandb.Table(columns=[*COLUMNS], log_mode="INCREMENTAL")
        examples = validation_examples(trainer)
        # By id: the same examples every time, whatever the order of the batches.
        for sample in sorted(pl_module.predictions, key=lambda p: p.id)[: self.examples]:
            picture = wandb.Image(self._thumbnail(examples[sample.id]))
            step = trainer.global_step
            self._table.add_data(step, sample.id, picture, sample.truth, sample.text)
        # The axis of Lightning's own metrics, which counts steps from 0.
        axis = {"trainer/global_step": max(trainer.global_step - 1, 0)}
        for logger in loggers:
            logger.experiment.log({"predictions": self._table, **axis})

    def _thumbnail(self, example: Example) -> Image.Image:
        """The first picture, as the model gets it but smaller."""
        picture = open_picture(example.images[0], example.origin)
        picture.thumbnail((self.pixels, self.pixels))
        return picture


def validation_examples(trainer: Trainer) -> Mapping[str, Example]:
    """Id -> validation example of the trainer's data module."""
    data: Any = getattr(trainer, "datamodule", None)
    return {example.id: example for example in data.examples["val"]}
