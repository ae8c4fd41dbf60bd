"""The metrics of a task as one torchmetrics.Metric, right under any number of ranks.

metrics = FieldMetrics(task, train_values)
metrics.update(batch["ids"], generated_texts, truths)
metrics.compute()  # {"parse_rate": 1.0, "full_price/mape": 0.18, ...}
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torchmetrics import Metric

from phi3v.metric.columns import make_columns
from phi3v.task import Task, Value


class FieldMetrics(Metric):
    """Parses generated answers and measures every field of a task; every row counts.

    The state is the rows themselves, as bytes of JSON lines: unlike strings these travel between
    ranks, and unlike running sums they allow a row that two ranks saw (the sampler pads the last
    batch) to be counted once.

    Args:
        task: the declaration that parser and metrics follow.
        train_values: the values of every field in the training split.
    """

    full_state_update = False
    is_differentiable = False
    rows: list[Tensor]

    def __init__(self, task: Task, train_values: Mapping[str, Sequence[Value]]) -> None:
        super().__init__()
        self.task = task
        self.train_values = {name: list(train_values.get(name, ())) for name in task.field_names}
        # A rank without rows contributes an empty tensor of the metric's dtype.
        self.set_dtype(torch.uint8)
        self.add_state("rows", default=[], dist_reduce_fx="cat")

    def update(
        self, ids: Sequence[str], texts: Sequence[str], truths: Sequence[Mapping[str, Value]]
    ) -> None:
        """Add a batch.

        Args:
            ids: the examples' ids; of an id that comes twice the first is counted.
            texts: the generated answers.
            truths: rows that hold at least the fields of the answer.
        """
        lines = [
            json.dumps([key, text, self.task.truth(truth, f"example {key}")]) + "\n"
            for key, text, truth in zip(ids, texts, truths, strict=True)
        ]
        self.rows.append(
            torch.tensor(list("".join(lines).encode()), dtype=torch.uint8).to(self.device)
        )

    def compute(self) -> dict[str, float]:
        """Every metric of the task, over all ranks' rows.

        Raises:
            UserError: no row was added.
        """
        stored = b"".join(bytes(chunk.tolist()) for chunk in self._chunks())
        first: dict[str, tuple[str, dict[str, Value]]] = {}
        for line in stored.decode().splitlines():
            key, text, truth = json.loads(line)
            first.setdefault(key, (text, truth))
        # Sums of floats depend on their order, which must not depend on the number of ranks.
        answers = [first[key] for key in sorted(first)]
        parsed = [self.task.parse(text) for text, _ in answers]
        truths = [truth for _, truth in answers]
        return make_columns(self.task, self.train_values, parsed, truths).measure()

    def _chunks(self) -> list[Tensor]:
        """The state, which is one tensor after ranks were gathered and a list before."""
        return self.rows if isinstance(self.rows, list) else [self.rows]
