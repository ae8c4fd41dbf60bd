"""Checkpoint folders that are damaged by a test, and what is then said."""

import json
from pathlib import Path
from typing import Any

import pytest

from phi3v.errors import UserError
from phi3v.model import Checkpoint


def edit(path: Path, **changes: Any) -> None:
    """Writes other values into a JSON file; None takes a key out."""
    values = json.loads(path.read_text()) | changes
    kept = {key: value for key, value in values.items() if value is not None}
    path.write_text(json.dumps(kept))


def refused(folder: str | Path, **options: Any) -> str:
    """The one line with which a checkpoint is refused."""
    with pytest.raises(UserError) as caught:
        Checkpoint(str(folder), **options).load()
    message = str(caught.value)
    assert "\n" not in message
    return message
