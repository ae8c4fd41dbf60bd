"""What is wrong with several rows, said in one line."""

from collections.abc import Sequence

_SHOWN = 5


def refusal(reasons: Sequence[str], rows: int) -> str:
    """Returns one line with the first five reasons and the number of the others.

    Args:
        reasons: Why each bad row is bad, beginning with where it stands; at least one.
        rows: How many rows there are, good and bad.
    """
    if len(reasons) == 1:
        return reasons[0]
    more = len(reasons) - _SHOWN
    rest = f"; {more} more" if more > 0 else ""
    return f"{len(reasons)} of {rows} rows are bad: {'; '.join(reasons[:_SHOWN])}{rest}"
