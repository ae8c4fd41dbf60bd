"""Where pictures stand in a batch of token ids, and which pictures belong to which row.

A picture's tokens are runs of negative ids, -k for <|image_k|>. Within a row the placeholders of
the smallest k belong to the row's first picture, whatever order the prompt names them in.
"""

# The libraries are typed in part.
# mypy: disable-error-code="no-untyped-call"

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Pictures:
    """Positions of all placeholders, sorted picture by picture.

    Attributes:
        rows: (placeholders,) row of each placeholder.
        columns: (placeholders,) column of each placeholder.
        counts: how many of them belong to each picture, in order.
    """

    rows: Tensor
    columns: Tensor
    counts: list[int]

    def row_of_each(self) -> list[int]:
        """Row of the batch that each picture belongs to."""
        return [int(rows[0]) for rows in self.rows.split(self.counts)]

    def within(self, first_column: int) -> list[int]:
        """Indices of the pictures that stand at or after `first_column`.

        Raises:
            ValueError: a picture stands on both sides.
        """
        wanted = []
        for index, columns in enumerate(self.columns.split(self.counts)):
            inside = columns >= first_column
            if bool(inside.all()):
                wanted.append(index)
            elif bool(inside.any()):
                raise ValueError(f"picture {index + 1} is cut in two by the cached tokens")
        return wanted

    def repeated_by_row(self, times: int) -> list[int]:
        """Order of the pictures when every row is repeated `times` times in place."""
        by_row: dict[int, list[int]] = {}
        for picture, row in enumerate(self.row_of_each()):
            by_row.setdefault(row, []).append(picture)
        return [picture for row in by_row.values() for _ in range(times) for picture in row]


def find_pictures(input_ids: Tensor, counts: list[int]) -> Pictures:
    """Finds the placeholders of every picture.

    Args:
        input_ids: (batch, length) with negative ids at placeholders.
        counts: image tokens of each picture, pictures listed row by row.

    Raises:
        ValueError: the numbers differ, or a picture would spread over two tags or rows.
    """
    rows, columns = (input_ids < 0).nonzero(as_tuple=True)
    if len(rows) != sum(counts):
        raise ValueError(
            f"input_ids holds {len(rows)} placeholders, the {len(counts)} pictures have "
            f"{sum(counts)} tokens"
        )
    tags = -input_ids[rows, columns]
    # Stable sorts, last key first: by row, then by tag, then by position.
    order = torch.argsort(tags, stable=True)
    order = order[torch.argsort(rows[order], stable=True)]
    rows, columns, tags = rows[order], columns[order], tags[order]
    for index, (row, tag) in enumerate(zip(rows.split(counts), tags.split(counts), strict=True)):
        if bool((row != row[0]).any()) or bool((tag != tag[0]).any()):
            raise ValueError(
                f"picture {index + 1} has {counts[index]} tokens, and its placeholders are not "
                "that many"
            )
    return Pictures(rows, columns, counts)
