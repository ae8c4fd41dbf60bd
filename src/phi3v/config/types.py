"""Whether a value of a configuration fits a type as it is written in a source file.

    fits(parameter.annotation, parameter.module, "abc")      # False where a float is expected
    describe(parameter.annotation)                           # "float or null"

A type that is not understood here fits everything: its constructor has the last word.
"""

import ast
from collections.abc import Mapping

from phi3v.config.signatures import find_definition

_LISTS = {"list", "List", "Sequence", "Iterable", "Collection", "tuple", "Tuple", "set", "Set"}
_DICTS = {"dict", "Dict", "Mapping", "MutableMapping"}
_PLAIN_NAMES = {
    "str": "text", "Path": "path", "int": "whole number", "float": "number", "bool": "true or false"
}  # fmt: skip
OPEN = {"Any", "object"}


def fits(annotation: ast.expr | None, module: str, value: object) -> bool:
    """Whether the value may stand where the type is asked for.

    Args:
        annotation: The type as parsed from source; None fits everything.
        module: Where it was written; its other names are looked up there.
        value: What YAML can say: null, bool, int, float, str, list, dict.
    """
    match annotation:
        case None:
            return True
        case ast.Constant(value=None):
            return value is None
        case ast.Constant(value=str(text)):
            return fits(ast.parse(text, mode="eval").body, module, value)
        case ast.BinOp(op=ast.BitOr()) | ast.Subscript(value=ast.Name(id="Union" | "Optional")):
            return any(fits(choice, module, value) for choice in _choices(annotation))
        case ast.Subscript(value=outer, slice=inner):
            return _fits_generic(_last(outer), inner, module, value)
        case ast.Name() | ast.Attribute():
            return _fits_name(_last(annotation), module, value)
    return True


def describe(annotation: ast.expr | None) -> str:
    """The type in words for an error message."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        return describe(ast.parse(annotation.value, mode="eval").body)
    match annotation:
        case None:
            return "anything"
        case ast.Constant(value=None):
            return "null"
        case ast.BinOp(op=ast.BitOr()) | ast.Subscript(value=ast.Name(id="Union" | "Optional")):
            return " or ".join(dict.fromkeys(map(describe, _choices(annotation))))
        case ast.Subscript(value=ast.Name(id="Literal"), slice=inner):
            return " or ".join(str(choice) for choice in _literals(inner))
        case ast.Subscript(value=outer, slice=inner) if _last(outer) in _LISTS:
            items = inner.elts[0] if isinstance(inner, ast.Tuple) else inner
            return f"a list of {describe(items)}"
        case ast.Subscript(value=outer) if _last(outer) in _DICTS:
            return "a mapping"
        case ast.Name() | ast.Attribute():
            name = _last(annotation)
            return _PLAIN_NAMES.get(name, name)
    return ast.unparse(annotation)


def _choices(annotation: ast.expr) -> list[ast.expr]:
    """The members of `A | B`, `Union[A, B]` or `Optional[A]`."""
    if isinstance(annotation, ast.BinOp):
        return [annotation.left, annotation.right]
    assert isinstance(annotation, ast.Subscript)
    inner = annotation.slice
    members = inner.elts if isinstance(inner, ast.Tuple) else [inner]
    null = [ast.Constant(None)] if _last(annotation.value) == "Optional" else []
    return [*members, *null]


def _literals(inner: ast.expr) -> list[object]:
    members = inner.elts if isinstance(inner, ast.Tuple) else [inner]
    return [member.value for member in members if isinstance(member, ast.Constant)]


def _last(name: ast.expr) -> str:
    return ast.unparse(name).rpartition(".")[2]


def _fits_generic(outer: str, inner: ast.expr, module: str, value: object) -> bool:
    if outer == "Literal":
        return value in _literals(inner)
    if outer in _LISTS:
        items = inner.elts[0] if isinstance(inner, ast.Tuple) else inner
        return isinstance(value, list) and all(fits(items, module, item) for item in value)
    if outer in _DICTS and isinstance(inner, ast.Tuple):
        _, values = inner.elts
        return isinstance(value, Mapping) and all(
            fits(values, module, item) for item in value.values()
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
