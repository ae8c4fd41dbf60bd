"""Starts a program in an interpreter of its own and waits until all of it has ended.

status, out, err = to_its_end("train.py", "seed=8", cwd=folder)
"""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path


def to_its_end(
    *words: object,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float = 180,
) -> tuple[int, str, str]:
    """Runs `python <words>`; nothing of it is left afterwards, whatever happens.

    Args:
        words: The script and what it is given.
        cwd: Where it runs, by default here.
        env: All of its environment, by default the one here.
        timeout: Seconds until `subprocess.TimeoutExpired`.

    Returns:
        Exit status, standard output, standard error.
    """
    process = subprocess.Popen(
        [sys.executable, *map(str, words)],
        cwd=cwd, env=env, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        out, err = process.communicate(timeout=timeout)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, out, err
