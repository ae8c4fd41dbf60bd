"""The command line's `key=value` words, checked before Hydra composes anything with them.

words = read_overrides(["experiment=lora_r8,lora_r16", "optimizer.lr=1e-4"])
for overrides in alternatives(words): ...      # one list for each thing that a sweep may choose
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from phi3v.config.spelling import nearest
from phi3v.errors import UserError

# Jobs of a sweep that are all composed before it starts, in a second or two.
_SMALL = 16
# Groups of which nothing need be chosen.
OPTIONAL = {"experiment", "sweep", "debug", "local"}
# Choices of Hydra's own groups that an extra of this project brings.
EXTRAS = {
    "optuna": "optuna",
    "joblib": "joblib",
    "submitit_local": "slurm",
    "submitit_slurm": "slurm",
}


@dataclass(frozen=True)
class Groups:
    """The groups there are and what each offers, for example {"adapter": ["full", "lora"]}."""

    choices: dict[str, list[str]]

    def check(self, word: Override, multirun: bool) -> None:
        """Refuse a choice that its group does not offer, and several, or none, where one is wanted.

        Raises:
            UserError: With the nearest choice and all there are.
        """
        key = word.key_or_group
        if word.is_sweep_override() and not multirun:
            raise UserError(
                f"{word.input_line} has several values: add -m to run them all, or write "
                f"{key}=[a,b] for a list"
            )
        sweeps = word.is_sweep_override() and word.is_discrete_sweep()
        if sweeps and next(word.sweep_string_iterator(), None) is None:
            raise UserError(f"{word.input_line}: there is nothing that it stands for")
        if key not in self.choices or word.is_delete():
            return
        for value in chosen(word):
            name = "null" if value is None else str(value)
            if name not in self.choices[key]:
                raise UserError(self.unknown(key, name))

    def unknown(self, group: str, choice: str) -> str:
        """The message for a choice that does not exist."""
        options = self.choices[group]
        near = None if choice == "null" else nearest(choice, options)
        hint = f"; did you mean '{near}'?" if near else "."
        there_are = f"There are: {', '.join(options) or 'none yet'}"
        if group.startswith("hydra/") and choice in EXTRAS:
            hint = f": it comes with pip install -e '.[{EXTRAS[choice]}]'."
        return f"unknown choice '{choice}' for group '{group}'{hint} {there_are}"


def without_null(words: Sequence[str], conf: Path) -> list[str]:
    """Say `group=null` in words that Hydra takes: it has null in files, not on the command line.

    Args:
        words: What stands on the command line.
        conf: The folder of the configuration files.

    Returns:
        The words, with `logger=none` for `logger=null` and `~debug` for `debug=null`. Others, such
        as `model=null`, stay and are refused later.
    """
    return [_without_null(word, conf) for word in words]


def _without_null(word: str, conf: Path) -> str:
    group, _, value = word.partition("=")
    if value.strip().lower() != "null" or not (conf / group).is_dir():
        return word
    if group in OPTIONAL:
        return f"~{group}"
    return f"{group}=none" if (conf / group / "none.yaml").is_file() else word


def read_overrides(words: Sequence[str], loader: ConfigLoader | None = None) -> list[Override]:
    """Parse the words.

    Args:
        words: What stands on the command line.
        loader: Knows the choices that `group=glob(lora*)` means.

    Raises:
        UserError: When one is not of the form that Hydra understands.
    """
    parser = OverridesParser.create(config_loader=loader)
    parsed = []
    for word in words:
        try:
            parsed += parser.parse_overrides([word])
        except HydraException:
            raise UserError(
                f"cannot read '{word}': write key=value, and quote values with spaces, commas, "
                "brackets or '=' twice: 'key=\"a, b\"'"
            ) from None
    return parsed


def chosen(word: Override) -> list[object]:
    """The values of one word: several when it sweeps or is a list."""
    if word.is_sweep_override() and word.is_discrete_sweep():
        return [str(value) for value in word.sweep_string_iterator()]
    value = word.value()
    return list(value) if isinstance(value, list) else [value]


def alternatives(words: Sequence[Override]) -> Iterator[list[str]]:
    """What a sweep composes: all jobs of a small one, of a large one every choice at least once.

    Yields:
        First the first choice of every word. Of a large sweep then each other choice beside the
        first ones: that finds a wrong word among thousands of jobs with a handful of compositions,
        but not two words that do not go together.
    """
    ways = [_ways(word) for word in words]
    if math.prod(map(len, ways)) <= _SMALL:
        yield from map(list, itertools.product(*ways))
        return
    first = [way[0] for way in ways]
    yield first
    for place, way in enumerate(ways):
        for other in way[1:]:
            yield [*first[:place], other, *first[place + 1 :]]


def _ways(word: Override) -> list[str]:
    if not word.is_sweep_override():
        return [str(word.input_line)]
    prefix = str(word.input_line).partition("=")[0]
    if word.is_discrete_sweep():
        return [f"{prefix}={value}" for value in word.sweep_string_iterator()]
    sweep = word.value()
    return [f"{prefix}={getattr(sweep, 'start', 0)}"]
