"""Command lines whose mistakes are one line with the nearest word that exists.

parser = Parser("phi3v predict", "Answers a question about pictures.")
parser.add_argument("--json", action="store_true")
arguments = parser.read(["--jsn"])   # UserError: unknown option '--jsn' (did you mean '--json'?)
"""

import argparse
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import NoReturn

from phi3v.errors import UserError


class Parser(argparse.ArgumentParser):
    """argparse's parser with errors for `main` to print, and options anywhere in the line.

    Args:
        name: The program and its command.
        purpose: What it does, for --help.
        usage: The lines of its usage, where argparse's own would mislead.
    """

    def __init__(self, name: str, purpose: str, usage: str | None = None) -> None:
        super().__init__(
            prog=name,
            description=purpose,
            usage=usage,
            allow_abbrev=False,  # an option that is added later would change what a short one means
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    def read(self, words: Sequence[str]) -> argparse.Namespace:
        """The arguments of a command line.

        Raises:
            UserError: An option does not exist, lacks its value or has a wrong one.
        """
        arguments, rest = self.parse_known_intermixed_args(words)
        for word in rest:
            option = word.partition("=")[0]
            if option.startswith("-"):
                known = [name for action in self._actions for name in action.option_strings]
                raise UserError(f"{self.prog}: unknown option '{option}'{meant(option, known)}")
        if rest:
            raise UserError(f"{self.prog}: '{rest[0]}' is one word too many (--help)")
        return arguments

    def error(self, message: str) -> NoReturn:
        """Hand argparse's own complaint on.

        Raises:
            UserError: Always.
        """
        raise UserError(f"{self.prog}: {message} (--help says what there is)")


def meant(word: str, known: Iterable[str]) -> str:
    """A hint behind a word that does not exist: the nearest one, or all there are."""
    names = list(known)
    near = get_close_matches(word, names, n=1)
    return f" (did you mean '{near[0]}'?)" if near else f"; there is {', '.join(names)}"


def at_least_one(text: str) -> int:
    """A whole number above zero, for argparse's `type`."""
    number = int(text) if text.strip().isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return number
