"""Starts a program in a process of its own that need not import torch and its company again.

    finished = warm_start(Path("train.py"), ["seed=8"], cwd=folder, env={"PHI3V_CACHE": "cache"})

Importing takes longer than most tests' runs. A server process (multiprocessing's forkserver)
imports once and every program is a fork of it: its own memory, its own session, its own end. What
forks share is that the libraries were imported before the program's environment was set; tests of
the imports, of how a training is started and of what is timed start a new interpreter instead. Of
a training on several ranks only the first is a fork: Lightning starts the others.
"""

import atexit
import contextlib
import multiprocessing
import os
import runpy
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["phi3v.run.training", "phi3v.run.evaluation"])


def warm_start(
    script: Path, words: Sequence[str], cwd: Path, env: Mapping[str, str], timeout: float
) -> tuple[int | None, str, str]:
    """Runs `script` with `words` and waits; nothing of it is left afterwards, whatever happens.

    Returns:
        Exit status (None where the time ran out), standard output, standard error.
    """
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder) / "out", Path(folder) / "err"
        process = FORKS.Process(target=_run, args=(script, list(words), cwd, dict(env), out, err))
        process.start()
        try:
            process.join(timeout)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid or 0, signal.SIGKILL)
        return process.exitcode, out.read_text(), err.read_text()


def _run(
    script: Path, words: list[str], cwd: Path, env: dict[str, str], out: Path, err: Path
) -> None:
    os.setsid()
    # As in a new interpreter: a fork of the server would start a server for its own workers.
    multiprocessing.set_start_method(None, force=True)
    for file, descriptor in ((out, 1), (err, 2)):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), descriptor)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = [str(script), *words]
    sys.path[0] = str(script.parent)  # as the interpreter does for a script
    try:
        runpy.run_path(str(script), run_name="__main__")
    finally:
        atexit._run_exitfuncs()  # a fork ends without
        sys.stdout.flush()
        sys.stderr.flush()
