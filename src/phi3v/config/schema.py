"""What a configuration may hold: the top level here, the groups by their constructors' parameters.

    problem = first_problem(plain, Train)      # None, or a Problem that names the key

Nothing is imported for this: the parameters and their types are read from the source text. That is
also how the classes below are used; they are never made.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from phi3v.config.gate import ROOMS, THIRD_PARTY, allow, check_targets, settle
from phi3v.config.ranges import out_of_range
from phi3v.config.signatures import Parameter, read_constructor
from phi3v.config.spelling import nearest, nearest_key
from phi3v.config.types import Misfit, describe, fits, misfit
from phi3v.errors import UserError

MISSING = "???"
# Groups of several nodes, each under a name of its own; the others are one node.
NAMED = {"callbacks"}
MAY_BE_EMPTY = {"callbacks", "logger"}
# Groups with a choice that means doing without.
OFFERS_NONE = {"adapter", "callbacks", "logger"}
# Parameters that the run fills in; a configuration must not.
GIVEN_BY_RUN = {
    "phi3v.data.ImageTextDataModule": {"task", "processor"},
    "lightning.Trainer": {"logger", "callbacks"},
}
PARTS = {"decoder", "projector", "vision"}
# Mappings whose keys are fixed although their types do not say so. A star stands for every key.
INNER_KEYS = {
    "model.learning_rate": {"lora", "full"},
    "model.examples_at_once": {"train", "generate"},
    "adapter.targets": PARTS,
    "data.splits": {"train", "val", "test"},
    "optimizer.parts": PARTS,
    "optimizer.parts.*": {"lr", "weight_decay"},
}


@dataclass
class Common:
    """Top level of both programs."""

    seed: int
    objective: str
    batch_size: int
    max_new_tokens: int
    model: dict[str, Any]
    adapter: dict[str, Any]
    task: dict[str, Any]
    data: dict[str, Any]
    trainer: dict[str, Any]
    paths: dict[str, Any]


@dataclass
class Train(Common):
    """Top level of train.py."""

    name: str
    tags: list[str]
    run: str | None
    resume: bool
    max_skipped_steps: int
    fail_fast: bool
    optimizer: dict[str, Any]
    scheduler: dict[str, Any]
    callbacks: dict[str, Any]
    logger: dict[str, Any]


@dataclass
class Eval(Common):
    """Top level of eval.py; what only training needs comes along with a run's configuration."""

    run: str | None
    split: Literal["train", "val", "test"]
    compare: list[str]
    name: str = ""
    tags: list[str] | None = None
    max_skipped_steps: int = 0
    fail_fast: bool = False
    optimizer: dict[str, Any] | None = None
    scheduler: dict[str, Any] | None = None
    callbacks: dict[str, Any] | None = None
    logger: dict[str, Any] | None = None


@dataclass
class Paths:
    """The group `paths`."""

    root: str
    assets: str
    cache: str
    data: str
    runs: str
    run: str


@dataclass(frozen=True)
class Problem:
    """Something that is wrong.

    Attributes:
        key: Dotted key.
        text: The whole message.
        kind: "missing" is a mandatory value that was not given.
    """

    key: str
    text: str
    kind: Literal["unknown", "missing", "wrong"] = "wrong"


def first_problem(
    plain: Mapping[str, Any],
    program: type[Common],
    allow_missing: bool = False,
    groups: Iterable[str] = (),
) -> Problem | None:
    """The first thing that is wrong with a composed configuration.

    Args:
        plain: The resolved configuration, without Hydra's own node.
        program: `Train` or `Eval`.
        allow_missing: Let mandatory values be open, to print a configuration.
        groups: What can be chosen, also where that leaves no key (`experiment`): to be suggested.
    """
    problems = _problems(plain, parameters_of(program), groups)
    return next((one for one in problems if not (allow_missing and one.kind == "missing")), None)


def parameters_of(shape: type) -> dict[str, Parameter]:
    """The keys that one of the classes of this file allows."""
    return read_constructor(f"{__name__}.{shape.__name__}").parameters


def known_keys(node: Mapping[str, Any], path: str) -> dict[str, Parameter]:
    """The keys that the node at `path` may have, also those that it has not."""
    if path == "paths":
        return parameters_of(Paths)
    if "_target_" not in node:
        return {}
    keys = dict(allow(node["_target_"], path).parameters)
    source = node.get("source")
    if isinstance(source, Mapping) and "_target_" in source:
        keys = {**allow(source["_target_"], f"{path}.source").parameters, **keys}
    hidden = GIVEN_BY_RUN.get(node["_target_"], set())
    return {key: parameter for key, parameter in keys.items() if key not in hidden}


def unknown_key(key: str, siblings: Iterable[str], elsewhere: Iterable[str] = ()) -> str:
    """The message for a key that does not exist, with the one that was most likely meant."""
    parent, _, last = key.rpartition(".")
    near = nearest(last, siblings)
    meant = f"{parent}.{near}".lstrip(".") if near else nearest_key(key, elsewhere)
    hint = f" (did you mean '{meant}'?)" if meant else ""
    return f"unknown key '{key}'{hint}"


def _problems(
    plain: Mapping[str, Any], top: Mapping[str, Parameter], groups: Iterable[str]
) -> Iterator[Problem]:
    yield from _of_keys(plain, "", top, groups)
    run = plain.get("run")
    if isinstance(run, str) and not run.strip():  # as run=$RUN with a variable that is not set
        yield Problem("run", f"run={run}: empty; give the directory of a run, or run=null for none")
    yield from _of_absent(plain, "", top)
    for group, node in plain.items():
        if not isinstance(node, Mapping):
            continue
        if group == "paths":
            yield from _of_keys(node, group, parameters_of(Paths))
            yield from _of_absent(node, "paths.", parameters_of(Paths))
        elif node or group not in MAY_BE_EMPTY:
            nodes = node if group in NAMED else {"": node}
            for name, one in nodes.items():
                yield from _of_node(one, f"{group}.{name}".rstrip("."), group)
    yield from (Problem(key, text) for key, text in out_of_range(plain))


def _of_absent(
    node: Mapping[str, Any], prefix: str, known: Mapping[str, Parameter]
) -> Iterator[Problem]:
    for key, parameter in known.items():
        if parameter.required and key not in node:
            fix = f"write {key}=none" if key in OFFERS_NONE else "it cannot be left out or deleted"
            yield Problem(f"{prefix}{key}", f"{prefix}{key} is missing: {fix}")


def _of_node(node: object, path: str, group: str) -> Iterator[Problem]:
    if not isinstance(node, Mapping) or "_target_" not in node:
        yield Problem(path, f"{path} has no _target_: name the class that it configures")
        return
    try:
        check_targets(node, path)
        _check_room(node["_target_"], path, group)
        settled = settle(dict(node))
    except UserError as error:
        yield Problem(path, str(error))
        return
    yield from _of_keys(node, path, known_keys(node, path))
    yield from _of_required(settled, path)
    for key, child in settled.items():
        if isinstance(child, Mapping) and "_target_" in child:
            inner = f"{path}.{key}"
            yield from _of_keys(node[key], inner, known_keys(child, inner))
            yield from _of_required(child, inner)


def _check_room(target: str, path: str, group: str) -> None:
    room = f"phi3v.{ROOMS[group]}." if group in ROOMS else None
    if (room and target.startswith(room)) or target in THIRD_PARTY.get(group, set()):
        return
    raise UserError(f"{path}._target_={target} does not belong into the group '{group}'")


def _of_required(node: Mapping[str, Any], path: str) -> Iterator[Problem]:
    target = node["_target_"]
    given = GIVEN_BY_RUN.get(target, set())
    for key, parameter in allow(target, path).parameters.items():
        if parameter.required and key not in node and key not in given:
            yield Problem(f"{path}.{key}", f"{path}.{key} is missing: {target} needs it")


def _of_keys(
    node: Mapping[str, Any],
    path: str,
    known: Mapping[str, Parameter],
    others: Iterable[str] = (),
) -> Iterator[Problem]:
    for key, value in node.items():
        full = f"{path}.{key}".lstrip(".")
        if key == "_target_":
            continue
        if key not in known:
            text = unknown_key(full, [*known, *others])
            if full in others:  # a group that leaves no key, such as experiment or local
                text = f"{full}: its file has to begin with the line '# @package _global_'"
            yield Problem(full, text, "unknown")
        elif value == MISSING:
            yield Problem(full, f"{full} is required", "missing")
        else:
            yield from _of_value(full, value, known[key])


def _of_value(key: str, value: object, parameter: Parameter) -> Iterator[Problem]:
    if isinstance(value, Mapping) and "_target_" in value:
        return  # a node of its own
    yield from _of_inner_keys(key, key, value)
    if wrong := misfit(parameter.annotation, parameter.module, value):
        full = ".".join([key, *wrong.place])
        shown = "null" if wrong.value is None else str(wrong.value)
        wanted = describe(wrong.annotation, parameter.module, wrong.value)
        text = f"{full}={shown}: expected {wanted}"
        yield Problem(full, text + _better(full, shown, wrong, parameter.module))


def _better(key: str, shown: str, wrong: Misfit, module: str) -> str:
    """How a single value is written so that it fits: as null, as text, or as a list of one."""
    value = wrong.value
    if not isinstance(value, str | int | float):
        return ""
    ways: dict[str, object] = {"null": None} if value == "None" else {}
    ways[f"[{shown}]"] = [value]
    if not isinstance(value, str):
        ways |= {f"'\"{shown}\"'": str(value), f"'[\"{shown}\"]'": [str(value)]}
    fitting = (way for way, meant in ways.items() if fits(wrong.annotation, module, meant))
    way = next(fitting, None)
    return f"; write {key}={way}" if way else ""


def _of_inner_keys(key: str, pattern: str, value: object) -> Iterator[Problem]:
    if pattern not in INNER_KEYS or not isinstance(value, Mapping):
        return
    for inner, item in value.items():
        if inner not in INNER_KEYS[pattern]:
            full = f"{key}.{inner}"
            yield Problem(full, unknown_key(full, INNER_KEYS[pattern]), "unknown")
        yield from _of_inner_keys(f"{key}.{inner}", f"{pattern}.*", item)
