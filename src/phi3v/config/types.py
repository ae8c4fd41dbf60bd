"""Whether a value of a configuration fits a type as it is written in a source file.

    misfit(parameter.annotation, parameter.module, "abc")    # None when it fits
    describe(parameter.annotation)                           # "number or null"

A type that is not understood here fits everything: its constructor has the last word.
"""

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher

from phi3v.config.signatures import find_definition

_LISTS = {"list", "List", "Sequence", "Iterable", "Collection", "tuple", "Tuple", "set", "Set"}
_DICTS = {"dict", "Dict", "Mapping", "MutableMapping"}
_PLAIN_NAMES = {
    "str": "text", "Path": "path", "int": "whole number", "float": "number", "bool": "true or false"
}  # fmt: skip
OPEN = {"Any", "object"}
# Stands for a value that is not known yet; it fits everywhere.
UNKNOWN = object()
# More values than this are told beginning with the one that was most likely meant.
_FEW = 3


@dataclass(frozen=True)
class Misfit:
    """The innermost value that does not fit.

    Attributes:
        place: Its keys or list positions below the value that was looked at.
        value: What stands there.
        annotation: What was expected there.
    """

    place: tuple[str, ...]
    value: object
    annotation: ast.expr | None


def misfit(annotation: ast.expr | None, module: str, value: object) -> Misfit | None:
    """What does not fit, or None; the arguments are those of `fits`."""
    if fits(annotation, module, value):
        return None
    for choice in _choices(annotation):
        if not isinstance(choice, ast.Subscript):
            continue
        for place, item, inner in _items(choice, value):
            if deeper := misfit(inner, module, item):
                return Misfit((place, *deeper.place), deeper.value, deeper.annotation)
    return Misfit((), value, annotation)


def fits(annotation: ast.expr | None, module: str, value: object) -> bool:
    """Whether the value may stand where the type is asked for.

    Args:
        annotation: The type as parsed from source; None fits everything.
        module: Where it was written; its other names are looked up there.
        value: What YAML can say: null, bool, int, float, str, list, dict.
    """
    if value is UNKNOWN:
        return True
    match annotation:
        case None:
            return True
        case ast.Constant(value=None):
            return value is None
        case ast.Constant(value=str()):
            return fits(_unquoted(annotation), module, value)
        case ast.BinOp(op=ast.BitOr()) | ast.Subscript(value=ast.Name(id="Union" | "Optional")):
            return any(fits(choice, module, value) for choice in _choices(annotation))
        case ast.Subscript():
            return _fits_generic(annotation, module, value)
        case ast.Name() | ast.Attribute():
            return _fits_name(_last(annotation), module, value)
    return True


def describe(annotation: ast.expr | None, module: str = "", value: object = None) -> str:
    """The type in words for an error message.

    Args:
        annotation: The type as parsed from source.
        module: Where it was written: names for other types are followed from there.
        value: What was given instead; of many possible values the nearest are told first.
    """
    told = list(dict.fromkeys(_descriptions(annotation, module)))
    if len(told) > _FEW and isinstance(value, str):
        told.sort(key=lambda words: (words == "null", -_likeness(words, value)))
    return " or ".join(told)


def _descriptions(annotation: ast.expr | None, module: str) -> list[str]:
    """One text for each way in which a value can fit."""
    match annotation:
        case ast.Constant(value=str()):
            return _descriptions(_unquoted(annotation), module)
        case None:
            return ["anything"]
        case ast.Constant(value=None):
            return ["null"]
        case ast.BinOp(op=ast.BitOr()) | ast.Subscript(value=ast.Name(id="Union" | "Optional")):
            choices = _choices(annotation)
            return [words for choice in choices for words in _descriptions(choice, module)]
        case ast.Subscript(value=ast.Name(id="Literal"), slice=inner):
            return [str(choice) for choice in _literals(inner)]
        case ast.Subscript(value=outer, slice=inner) if _last(outer) in _LISTS:
            items = inner.elts[0] if isinstance(inner, ast.Tuple) else inner
            return [f"a list of {describe(items, module)}"]
        case ast.Subscript(value=outer) if _last(outer) in _DICTS:
            return ["a mapping"]
        case ast.Name() | ast.Attribute():
            return _of_name(_last(annotation), module)
    return [ast.unparse(annotation)]


def _of_name(name: str, module: str) -> list[str]:
    if name in _PLAIN_NAMES or name in OPEN:
        return [_PLAIN_NAMES.get(name, name)]
    if name in _LISTS | _DICTS:
        return ["a list" if name in _LISTS else "a mapping"]
    found = find_definition(module, name) if module else None
    if found and isinstance(found[1], ast.Assign | ast.AnnAssign):
        other = found[1].value
        if isinstance(other, ast.Name | ast.Attribute | ast.Subscript | ast.BinOp):
            return _descriptions(other, found[0])
    return [name]


def _likeness(one: str, other: str) -> float:
    return SequenceMatcher(None, one, other).ratio()


def _unquoted(annotation: ast.Constant) -> ast.expr:
    return ast.parse(str(annotation.value), mode="eval").body


def _choices(annotation: ast.expr | None) -> list[ast.expr]:
    """The members of `A | B`, `Union[A, B]` or `Optional[A]`; of another type itself."""
    match annotation:
        case None:
            return []
        case ast.Constant(value=str()):
            return _choices(_unquoted(annotation))
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return [*_choices(left), *_choices(right)]
        case ast.Subscript(value=ast.Name(id="Union"), slice=ast.Tuple(elts=members)):
            return [choice for member in members for choice in _choices(member)]
        case ast.Subscript(value=ast.Name(id="Optional"), slice=member):
            return [*_choices(member), ast.Constant(None)]
    return [annotation]


def _items(
    annotation: ast.Subscript, value: object
) -> Iterable[tuple[str, object, ast.expr | None]]:
    """The items of a list or mapping: key or position, item, expected type."""
    outer, inner = _last(annotation.value), annotation.slice
    if outer in _LISTS and isinstance(value, list):
        item_type = inner.elts[0] if isinstance(inner, ast.Tuple) else inner
        return [(str(place), item, item_type) for place, item in enumerate(value)]
    if outer in _DICTS and isinstance(inner, ast.Tuple) and isinstance(value, Mapping):
        return [(str(key), item, inner.elts[1]) for key, item in value.items()]
    return []


def _literals(inner: ast.expr) -> list[object]:
    members = inner.elts if isinstance(inner, ast.Tuple) else [inner]
    return [member.value for member in members if isinstance(member, ast.Constant)]


def _last(name: ast.expr) -> str:
    return ast.unparse(name).rpartition(".")[2]


def _fits_generic(annotation: ast.Subscript, module: str, value: object) -> bool:
    outer = _last(annotation.value)
    if outer == "Literal":
        return value in _literals(annotation.slice)
    if outer in _LISTS | _DICTS:
        container = list if outer in _LISTS else Mapping
        return isinstance(value, container) and all(
            fits(inner, module, item) for _, item, inner in _items(annotation, value)
        )
    return True


def _fits_name(name: str, module: str, value: object) -> bool:
    whole = isinstance(value, int) and not isinstance(value, bool)
    match name:
        case "bool":
            return isinstance(value, bool)
        case "int":
            return whole
        case "float":
            return whole or isinstance(value, float)
        case "str" | "Path" | "PathLike":
            return isinstance(value, str)
        case _ if name in _LISTS:
            return isinstance(value, list)
        case _ if name in _DICTS:
            return isinstance(value, Mapping)
        case _ if name in OPEN:
            return True
    found = find_definition(module, name)
    if found is None:
        return True
    where, statement = found
    if isinstance(statement, ast.Assign | ast.AnnAssign):  # a name for another type
        return fits(statement.value, where, value)
    # A class of ours can only come out of a node with a _target_, which is a mapping.
    return not where.startswith("phi3v.") or isinstance(value, Mapping)
