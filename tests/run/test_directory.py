"""What a run's directory gives back of what was written into it."""

from pathlib import Path

import pytest

from phi3v.errors import UserError
from phi3v.run.directory import RunDirectory


def test_predictions_come_back_whatever_ends_lines_in_their_texts(tmp_path: Path) -> None:
    rows = [{"id": "a", "prediction": "x\u2028y\u0085z\n"}, {"id": "b", "prediction": ""}]
    run = RunDirectory(tmp_path)
    run.write_predictions(rows)
    assert run.read_predictions() == rows


@pytest.mark.parametrize("content", [b"{bad", b"\xff\xfe\n"])
def test_torn_files_are_told_by_name(tmp_path: Path, content: bytes) -> None:
    run = RunDirectory(tmp_path)
    for file, read in [(run.predictions, run.read_predictions), (run.metrics, run.read_metrics)]:
        file.write_bytes(content)
        with pytest.raises(UserError, match=f"{file.name}: cannot be read: "):
            read()
    run.metrics.write_text("[]")
    with pytest.raises(UserError, match="holds no names with values"):
        run.read_metrics()
