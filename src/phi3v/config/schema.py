"""What a configuration may hold: the top level here, the groups by their constructors' parameters.

    check(plain, Train, known_files)     # raises a UserError that names the key

Nothing is imported for this: the parameters and their types are read from the source text. That is
also how the classes below are used; they are never made.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from phi3v.config.gate import ROOMS, THIRD_PARTY, allow, check_targets, settle
from phi3v.config.signatures import Parameter, read_constructor
from phi3v.config.spelling import nearest, nearest_key
from phi3v.config.types import describe, fits
from phi3v.errors import UserError

MISSING = "???"
# Groups of several nodes, each under a name of its own; the others are one node.
NAMED = {"callbacks"}
# Groups that may be left empty.
MAY_BE_EMPTY = {"callbacks", "logger"}
# Parameters that the run fills in; a configuration must not.
GIVEN_BY_RUN = {
    "phi3v.data.ImageTextDataModule": {"task", "processor"},
    "lightning.Trainer": {"logger", "callbacks"},
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
    optimizer: dict[str, Any]
    scheduler: dict[str, Any]
    callbacks: dict[str, Any]
    logger: dict[str, Any]


@dataclass
class Eval(Common):
    """Top level of eval.py; what only training needs comes along with a run's config."""

    run: str | None
    split: str
    name: str = ""
    tags: list[str] | None = None
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
    """The first thing that is wrong.

    Attributes:
        key: Dotted key.
        text: The whole message.
        unknown: Whether nothing of that name exists.
    """

    key: str
    text: str
    unknown: bool = False


def check(plain: Mapping[str, Any], program: type[Common], allow_missing: bool = False) -> None:
    """Refuse a composed configuration that its constructors would not take.

    Args:
        plain: The resolved configuration, without Hydra's own node.
        program: `Train` or `Eval`.
        allow_missing: Let mandatory values be open, to print a configuration.

    Raises:
        UserError: With the first problem.
    """
    problem = first_problem(plain, program, allow_missing)
    if problem:
        raise UserError(problem.text)


def first_problem(
    plain: Mapping[str, Any], program: type[Common], allow_missing: bool = False
) -> Problem | None:
    """The first thing that is wrong with a composed configuration, or None."""
    problems = _problems(plain, _own(program))
    return next(
        (found for found in problems if not (allow_missing and MISSING in found.text)), None
    )


def known_keys(node: Mapping[str, Any], path: str) -> dict[str, Parameter]:
    """All keys that the node at `path` may have."""
    if path == "":
        return _own(Eval)
    if path == "paths":
        return _own(Paths)
    if "_target_" not in node:
        return {}
    target = node["_target_"]
    keys = dict(allow(target, path).parameters)
    source = node.get("source")
    if isinstance(source, Mapping) and "_target_" in source:
        keys = dict(allow(source["_target_"], f"{path}.source").parameters) | keys
    hidden = GIVEN_BY_RUN.get(target, set())
    return {key: parameter for key, parameter in keys.items() if key not in hidden}


def _own(shape: type) -> dict[str, Parameter]:
    return read_constructor(f"{__name__}.{shape.__name__}").parameters


def _problems(plain: Mapping[str, Any], top: dict[str, Parameter]) -> Iterator[Problem]:
    yield from _of_keys(plain, "", top)
    for group, node in plain.items():
        if not isinstance(node, Mapping):
            continue
        if group == "paths":
            yield from _of_keys(node, group, _own(Paths))
        elif node or group not in MAY_BE_EMPTY:
            nodes = node if group in NAMED else {"": node}
            for name, one in nodes.items():
                yield from _of_node(one, f"{group}.{name}".rstrip("."), group)


def _of_node(node: object, path: str, group: str) -> Iterator[Problem]:
    if not isinstance(node, Mapping) or "_target_" not in node:
        yield Problem(path, f"{path} has no _target_: name the class that it configures")
        return
    try:
        check_targets(node, path)
        _check_room(str(node["_target_"]), path, group)
        settled = settle(dict(node))
    except UserError as error:
        yield Problem(path, str(error))
        return
    known = known_keys(node, path)
    yield from _of_keys(node, path, known)
    yield from _of_required(settled, path, known)
    for key, child in settled.items():
        if isinstance(child, Mapping) and "_target_" in child:
            inner = known_keys(child, f"{path}.{key}")
            yield from _of_keys(node[key], f"{path}.{key}", inner)
            yield from _of_required(child, f"{path}.{key}", inner)


def _check_room(target: str, path: str, group: str) -> None:
    room = f"phi3v.{ROOMS[group]}." if group in ROOMS else None
    if (room and target.startswith(room)) or target in THIRD_PARTY.get(group, set()):
        return
    raise UserError(f"{path}._target_={target} does not belong into the group '{group}'")


def _of_required(
    node: Mapping[str, Any], path: str, known: Mapping[str, Parameter]
) -> Iterator[Problem]:
    own = allow(node["_target_"], path).parameters
    for key, parameter in known.items():
        if key in own and parameter.required and key not in node:
            yield Problem(f"{path}.{key}", f"{path}.{key} is required by {node['_target_']}")


def _of_keys(
    node: Mapping[str, Any], path: str, known: Mapping[str, Parameter]
) -> Iterator[Problem]:
    for key, value in node.items():
        full = f"{path}.{key}".lstrip(".")
        if key == "_target_":
            continue
        if key not in known:
            yield Problem(full, unknown_key(full, known), unknown=True)
        elif value == MISSING:
            yield Problem(full, f"{full} is {MISSING}: it is required")
        elif not _fits(known[key], value):
            expected = describe(known[key].annotation)
            yield Problem(full, f"{full}={_shown(value)}: expected {expected}")


def _fits(parameter: Parameter, value: object) -> bool:
    if isinstance(value, Mapping) and "_target_" in value:
        return True
    return fits(parameter.annotation, parameter.module, value)


def _shown(value: object) -> str:
    return "null" if value is None else str(value)


def unknown_key(key: str, siblings: Mapping[str, Any], elsewhere: tuple[str, ...] = ()) -> str:
    """The message for a key that does not exist, with the one that was most likely meant."""
    parent, _, last = key.rpartition(".")
    near = nearest(last, siblings)
    meant = f"{parent}.{near}".lstrip(".") if near else nearest_key(key, elsewhere)
    hint = f" (did you mean '{meant}'?)" if meant else ""
    return f"unknown key '{key}'{hint}"
