"""Runs the programs as a user does: in a process of their own, ended with all its children."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from started import to_its_end
from warm_start import SPARES, WarmProgram, warm_running, warm_start

ROOT = Path(__file__).parents[2]
MINUTES = 8


@dataclass(frozen=True)
class Finished:
    """How a program ended."""

    status: int
    out: str
    err: str

    @property
    def run(self) -> Path:
        """The directory that the last line names."""
        last = self.out.strip().splitlines()[-1]
        assert last.startswith("run: "), f"the last line is {last!r}\n{self.err[-3000:]}"
        return Path(last.removeprefix("run: "))

    @property
    def metrics(self) -> dict[str, Any]:
        """The run's metrics.json."""
        loaded: dict[str, Any] = json.loads((self.run / "metrics.json").read_text())
        return loaded


def inherited() -> dict[str, str]:
    """The environment, without what a developer may have set for these programs.

    Nor with what another test has: wandb leaves the address of its service in WANDB_SERVICE, and
    programs that share one find a run that was killed still in use.
    """
    return {k: v for k, v in os.environ.items() if not k.startswith(("WANDB", "PHI3V"))}


def start(*words: str, cwd: Path, env: dict[str, str] | None = None) -> Finished:
    """Runs `python <words>` and waits; nothing of it is left afterwards, whatever happens."""
    env = {**inherited(), **(env or {})}
    return Finished(*to_its_end(*words, cwd=cwd, env=env, timeout=60 * MINUTES))


@contextlib.contextmanager
def running(
    *words: str, cwd: Path, env: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """`python <words>` beside the test; whatever happens, it is ended with its children."""
    with subprocess.Popen(
        [sys.executable, *words],
        cwd=cwd, env={**inherited(), **(env or {})}, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # A shell that started these tests in the background has it ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def warm(
    *words: str,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    spares: tuple[int, ...] = SPARES,
) -> AbstractContextManager[WarmProgram]:
    """The same without the time that imports take, for what is not about how a program starts."""
    script, *others = words
    return warm_running(Path(script), others, cwd, {**inherited(), **(env or {})}, spares)


def read_until(process: subprocess.Popen[str] | WarmProgram, beginning: str) -> None:
    """Waits for a line of the program's output."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(beginning):
            return
    raise AssertionError(f"it ended before {beginning!r}: {process.communicate(timeout=10)[1]}")


def assert_nobody_left(session: int) -> None:
    """All processes of a program have ended, or do so in a moment."""
    for _ in range(100):
        try:
            os.killpg(session, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    raise AssertionError("a process of the program is left")


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the programs are called from; runs/ comes to lie below it."""
    return tmp_path_factory.mktemp("workplace")


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all, as on a user's machine."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def program(workplace: Path, cache: Path) -> Any:
    """What runs a script with overrides and waits for it, `fresh` in a new interpreter."""

    def run(
        script: str, *words: str, env: dict[str, str] | None = None, fresh: bool = False
    ) -> Finished:
        own = {"PHI3V_CACHE": str(cache), **(env or {})}
        if fresh:
            return start(str(ROOT / script), *words, cwd=workplace, env=own)
        status, out, err = warm_start(
            ROOT / script, words, workplace, {**inherited(), **own}, timeout=60 * MINUTES
        )
        assert status is not None, f"not done after {MINUTES} minutes\n{err[-3000:]}"
        return Finished(status, out, err)

    return run


@pytest.fixture(scope="session")
def demo(program: Any) -> Finished:
    """The README's first command, to the end, once for all tests that look at its result."""
    finished: Finished = program("train.py", "experiment=lora_r16", fresh=True)
    assert finished.status == 0, finished.err[-3000:]
    return finished


SMALL = (
    "experiment=lora_r16",
    "data.rows=40",
    "trainer.max_epochs=1",
    "max_new_tokens=8",
    "batch_size=8",
    "data.batch_size=8",
)


@pytest.fixture(scope="session")
def small_words() -> tuple[str, ...]:
    """The command line of `small`."""
    return SMALL


@pytest.fixture(scope="session")
def small(program: Any) -> Finished:
    """A run of seconds, for what does not depend on having learned anything."""
    finished: Finished = program("train.py", *SMALL)
    assert finished.status == 0, finished.err[-3000:]
    return finished
