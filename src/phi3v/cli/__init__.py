"""The program `phi3v`: what is done with runs and models besides training and scoring them.

    phi3v predict runs/lora_r16/2026-01-01_12-00-00-000000 photo.jpg
    phi3v export runs/lora_r16/2026-01-01_12-00-00-000000 --merge my-model

A command is a file of its own beside this one. Its `parser()` says what it takes, its
`run(arguments)` does it and returns the exit status. Arguments are checked before torch and its
company are imported: a command imports those inside `run`.
"""

import importlib
import io
import os
import signal
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from types import FrameType
from typing import Any

from phi3v.cli.parsing import Parser, meant
from phi3v.crashes import tell_crashes
from phi3v.errors import UserError

WRONG_INPUT = 2
# Command -> what it does, in one line for --help. Its file has the same name.
COMMANDS = {
    "predict": "answer a run's question, or your own, about pictures",
    "export": "write a run as a model folder, or as an adapter that engines serve",
    "make-checkpoint": "write a checkpoint of full size with random weights, to measure with",
}


def main(words: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status.

    Args:
        words: The command line behind the program's name; by default the process's own.

    Returns:
        What the command returns; 2 for wrong input, 130 after Ctrl-C.
    """
    tell_crashes()
    given = list(sys.argv[1:] if words is None else words)
    # What is half written is tidied away, as after Ctrl-C.
    before = signal.signal(signal.SIGTERM, _leave)
    if isinstance(sys.stdout, io.TextIOWrapper):  # file names may hold what is no letter anywhere
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        return _command(given)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return WRONG_INPUT
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    except BrokenPipeError:  # whoever read this has read enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:  # a name that is too long, a folder that is another user's
        print(f"error: {' '.join(str(error).split())[:300]}", file=sys.stderr)
        return WRONG_INPUT
    finally:
        signal.signal(signal.SIGTERM, before)


def _command(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print(_help())
        return 0 if words else WRONG_INPUT
    if words[0] == "--version":
        print(f"phi3v {version('phi3v')}")
        return 0
    name = words[0]
    if name not in COMMANDS:
        raise UserError(f"there is no command '{name}'{meant(name, COMMANDS)}")
    module: Any = importlib.import_module(f"phi3v.cli.{name.replace('-', '_')}")
    make: Callable[[], Parser] = module.parser
    status: int = module.run(make().read(words[1:]))
    return status


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {what}" for name, what in COMMANDS.items()]
    return "\n".join(
        ["usage: phi3v COMMAND ...", "", *lines, "", "phi3v COMMAND --help says more."]
    )


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
