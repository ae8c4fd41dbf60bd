"""Which rows belong together: rows that share any key are one group, also through third rows.

united([["a"], ["b"], ["a", "c"], ["c"]])  ->  [0, 1, 0, 0]
"""

from collections.abc import Hashable, Iterable, Sequence


def united(keys: Sequence[Iterable[Hashable]]) -> list[int]:
    """Joins rows by shared keys (union-find).

    Args:
        keys: The keys of each row; rows with a key in common are joined.

    Returns:
        One number a row: the index of the first row of its group.
    """
    parent = list(range(len(keys)))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    first: dict[Hashable, int] = {}
    for row, row_keys in enumerate(keys):
        for key in row_keys:
            one, other = sorted((root(row), root(first.setdefault(key, row))))
            parent[other] = one
    return [root(row) for row in range(len(keys))]
