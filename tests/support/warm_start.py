"""Starts a program in a process of its own that need not import torch and its company again.

    finished = warm_start(Path("train.py"), ["seed=8"], cwd=folder, env={"PHI3V_CACHE": "cache"})
    with warm_running(Path("train.py"), ["seed=8"], cwd=folder, env={}) as process:
        read_until(process, "step 1/")
        process.send_signal(signal.SIGTERM)

Importing takes longer than most tests' runs. A server process (multiprocessing's forkserver)
imports once and every program is a fork of it: its own memory, its own session, its own end. What
it starts itself, the other ranks of a training or the jobs of a sweep, are forks that were made
before it began and have waited since. What forks share is that the libraries were imported before
the program's environment was set; tests of imports, of starts and of times use a new interpreter.
"""

import atexit
import contextlib
import json
import multiprocessing
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    ["phi3v.run.training", "phi3v.run.evaluation", "phi3v.run.jobs", "hydra"]
)
# How many processes a program may start as forks, and each of those; further ones start cold.
SPARES = (1, 0)


class WarmProgram:
    """A program that runs beside the test; with what is used of subprocess.Popen."""

    def __init__(self, process: Any, out: Path, err: Path) -> None:
        self._process, self._out, self._err = process, out, err
        self.pid: int = process.pid
        self.stdout = self._lines()

    @property
    def returncode(self) -> int | None:
        """Its status; None while it runs."""
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Send a signal to it alone."""
        os.kill(self.pid, number)

    def communicate(self, timeout: float) -> tuple[str, str]:
        """Wait for its end; all that it wrote.

        Raises:
            subprocess.TimeoutExpired: When it takes longer.
        """
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired("the program", timeout, stderr=self._err.read_bytes())
        return self._out.read_text(), self._err.read_text()

    def read_so_far(self) -> str:
        """What it has written up to now, to both streams."""
        return self._out.read_text() + self._err.read_text()

    def _lines(self) -> Iterator[str]:
        with self._out.open() as file:
            part = ""
            while True:
                ended = self.returncode is not None
                part += file.readline()
                if part.endswith("\n"):
                    yield part
                    part = ""
                elif ended:
                    return
                else:
                    time.sleep(0.01)


@contextlib.contextmanager
def warm_running(
    script: Path,
    words: Sequence[str],
    cwd: Path,
    env: Mapping[str, str],
    spares: tuple[int, ...] = SPARES,
) -> Iterator[WarmProgram]:
    """Runs `script` with `words` beside the test; nothing of it is left afterwards.

    Args:
        script: A Python program.
        words: What it is given.
        cwd: Where it runs.
        env: All of its environment.
        spares: How many processes it may start as forks; and each of these, and so on.
    """
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder) / "out", Path(folder) / "err"
        out.touch()
        err.touch()
        order = (str(script), list(words), str(cwd), dict(env), spares)
        process = FORKS.Process(target=_first, args=(*order, str(out), str(err)))
        process.start()
        try:
            yield WarmProgram(process, out, err)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid or 0, signal.SIGKILL)
            process.join()


def warm_start(
    script: Path,
    words: Sequence[str],
    cwd: Path,
    env: Mapping[str, str],
    timeout: float,
    spares: tuple[int, ...] = SPARES,
) -> tuple[int | None, str, str]:
    """Runs `script` with `words` and waits; nothing of it is left afterwards, whatever happens.

    Returns:
        Exit status (None where the time ran out), standard output, standard error.
    """
    with warm_running(script, words, cwd, env, spares) as program:
        try:
            out, err = program.communicate(timeout)
        except subprocess.TimeoutExpired:
            return None, "", program.read_so_far()
        return program.returncode, out, err


def _first(
    script: str,
    words: list[str],
    cwd: str,
    env: dict[str, str],
    spares: tuple[int, ...],
    out: str,
    err: str,
) -> None:
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored
    # As in a new interpreter: a fork of the server would start a server for its own workers.
    multiprocessing.set_start_method(None, force=True)
    for file, descriptor in ((out, 1), (err, 2)):
        os.dup2(os.open(file, os.O_WRONLY | os.O_APPEND), descriptor)
    raise SystemExit(_status_of(script, words, cwd, env, spares))


def _status_of(
    script: str, words: list[str], cwd: str, env: dict[str, str], spares: tuple[int, ...]
) -> int:
    """Is a program to its end, as an interpreter would be; its status."""
    try:
        _become(script, words, cwd, env, spares)
    except SystemExit as end:
        if isinstance(end.code, int | None):
            return end.code or 0
        print(end.code, file=sys.stderr, flush=True)
        return 1
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)  # libraries have theirs
        sys.stderr.flush()
        return 130 if isinstance(error, KeyboardInterrupt) else 1
    return 0


def _become(
    script: str, words: list[str], cwd: str, env: dict[str, str], spares: tuple[int, ...]
) -> None:
    """Be `python <script> <words>` in this process."""
    _lend(spares)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = [script, *words]
    sys.path[0] = str(Path(script).parent)  # as the interpreter does for a script
    try:
        runpy.run_path(script, run_name="__main__")
    finally:
        atexit._run_exitfuncs()  # a fork ends without
        sys.stdout.flush()
        sys.stderr.flush()


def _lend(spares: tuple[int, ...]) -> None:
    """Lets Lightning and sweeps, which start programs like this one, use forks of this process."""
    import lightning.pytorch.strategies.launchers.subprocess_script as launcher

    import phi3v.run.sweep.job as job

    number, *others = spares or (0,)
    waiting: list[_Spare] = []
    for _ in range(number):
        waiting.append(_Spare(waiting, tuple(others)))

    def start(command: Sequence[str], **options: Any) -> Any:
        known = {name for name, value in options.items() if value is not None}
        if not waiting or known - {"env", "cwd", "stdout", "stderr", "pass_fds"}:
            return subprocess.Popen(command, **options)
        return waiting.pop(0).start(command, **options)

    for module in (launcher, job):
        module.subprocess = SimpleNamespace(Popen=start)  # type: ignore[attr-defined]


class _Spare:
    """A fork that waits to be told which program it is; with what is used of subprocess.Popen.

    Args:
        others: Those of the same process, made before.
        spares: How many it may start itself, and so on.
    """

    def __init__(self, others: Sequence["_Spare"], spares: tuple[int, ...]) -> None:
        self.returncode: int | None = None
        self._socket, mine = socket.socketpair()
        self.pid = os.fork()
        if self.pid:
            mine.close()
            return
        for one in (*others, self):  # or else it would keep the others from seeing the end
            one._socket.close()
        status = 1
        try:
            status = _wait_for_orders(mine, spares)
        finally:
            os._exit(status)

    def start(
        self,
        command: Sequence[str],
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        stdout: Any = None,
        stderr: Any = None,
        pass_fds: Sequence[int] = (),
    ) -> "_Spare":
        """Let it become a program."""
        env = dict(os.environ if env is None else env)
        order = {"words": list(command[1:]), "cwd": cwd or str(Path.cwd()), "env": env}
        streams = [stdout.fileno() if stdout else 1, stderr.fileno() if stderr else 2]
        with self._socket as line:
            socket.send_fds(line, [b"!"], [*streams, *pass_fds])
            line.sendall(json.dumps(order).encode())
        return self

    def poll(self) -> int | None:
        """Its status; None while it runs."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end.

        Raises:
            subprocess.TimeoutExpired: When it takes longer.
        """
        until = time.monotonic() + (timeout or float("inf"))
        while self.poll() is None:
            if time.monotonic() > until:
                raise subprocess.TimeoutExpired("the program", timeout or 0)
            time.sleep(0.01)
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


def _wait_for_orders(line: socket.socket, spares: tuple[int, ...]) -> int:
    """Sleeps until there is a program to be; its status."""
    interrupted = signal.signal(signal.SIGINT, signal.SIG_DFL)  # ends in silence while it waits
    with line:
        _, streams, _, _ = socket.recv_fds(line, 1, 3)  # a third one only has to stay open
        if not streams:
            return 0  # who might have used it has ended
        order = json.loads(b"".join(iter(lambda: line.recv(65536), b"")))
    signal.signal(signal.SIGINT, interrupted)
    for descriptor, stream in enumerate(streams[:2], 1):
        os.dup2(stream, descriptor)
        os.close(stream)
    script, *words = order["words"]
    return _status_of(script, words, order["cwd"], order["env"], spares)
