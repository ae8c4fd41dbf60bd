"""Prints which parts of the model train, with parameter counts, before the first step."""

import logging
from io import StringIO

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console
from rich.table import Table

from phi3v.adapter import PartCount, trainable_parts
from phi3v.training.module import FineTuning

log = logging.getLogger(__name__)


class TrainablePartsTable(Callback):
    """Logs the table once, on global rank zero."""

    @rank_zero_only
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the table to the log of the run."""
        assert isinstance(pl_module, FineTuning)
        log.info(parts_text(trainable_parts(pl_module.model)))


def parts_text(rows: list[PartCount]) -> str:
    """The table as text: a line for each part and one for the whole model."""
    table = Table()
    table.add_column("part")
    for heading in ("trains", "parameters", "share"):
        table.add_column(heading, justify="right")
    whole = PartCount("all", sum(r.trainable for r in rows), sum(r.total for r in rows))
    for row in rows:
        table.add_row(*_cells(row))
    table.add_section()
    table.add_row(*_cells(whole))
    text = StringIO()
    Console(file=text, width=80).print(table)
    return text.getvalue().rstrip()


def _cells(row: PartCount) -> tuple[str, str, str, str]:
    share = row.trainable / row.total if row.total else 0.0
    return row.part, f"{row.trainable:,}", f"{row.total:,}", f"{share:.2%}"
