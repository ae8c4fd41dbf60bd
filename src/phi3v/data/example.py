"""What the rest of the program knows of a data set: an `Example`, and a `Source` that loads them.

A source turns something on disk into examples; nothing after it asks where they came from:

    examples = source.load(task)
    examples[0].values["title"], examples[0].images[0], examples[0].origin
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from phi3v.task import Task


@dataclass(frozen=True)
class Example:
    """One question-and-answer pair about one or more pictures.

    Attributes:
        id: Unique in its source, and stable when the source's rows change their order.
        images: The pictures, in the order in which the prompt refers to them; at least one.
        values: The task's fields by name; numbers are floats where the task says so.
        group: Examples of one group never stand on both sides of a split.
        origin: Where a person finds this example, such as "products.csv row 7". Every error
            about the example begins with it.
    """

    id: str
    images: tuple[Path, ...]
    values: Mapping[str, str | float]
    group: str
    origin: str


class Source(Protocol):
    """Anything that yields examples for a task.

    A source with an attribute `on_error` of "skip" lets the data module leave out examples that
    turn out to be unusable only when they are encoded; otherwise those are refused.
    """

    def load(self, task: Task) -> list[Example]:
        """Returns every example, in the source's own order.

        Raises:
            UserError: When the source is missing, malformed, or holds bad rows.
        """
        ...

    def describe(self) -> str:
        """Returns one line for people: what this source is and what was left out of it."""
        ...

    def optimum(self, task: Task) -> dict[str, float]:
        """Returns the best attainable metrics where theory gives them, otherwise {}."""
        ...


@dataclass
class LoadedOnce:
    """A source that is read once and then remembers.

    Mistakes in the data can so be told before a large model is loaded, and nothing is read twice.
    """

    source: Source
    _examples: list[Example] | None = field(default=None, init=False)

    @property
    def on_error(self) -> str:
        """What the source does about bad examples."""
        return str(getattr(self.source, "on_error", "raise"))

    def load(self, task: Task) -> list[Example]:
        """Returns every example; `task` has to be the same each time.

        Raises:
            UserError: When the source is missing, malformed, or holds bad rows.
        """
        if self._examples is None:
            self._examples = self.source.load(task)
        return self._examples

    def describe(self) -> str:
        """Returns the source's own line."""
        return self.source.describe()

    def optimum(self, task: Task) -> dict[str, float]:
        """Returns what the source knows of the best attainable metrics."""
        return self.source.optimum(task)
