"""What a constructor takes, read from its source text, so that nothing heavy is imported.

    constructor = read_constructor("lightning.Trainer")
    constructor.parameters["max_epochs"].annotation

Names are followed through the `from ... import` lines of packages. Whatever is found this way is a
class that is written in a file; an attribute that only exists at run time is not found.
"""

import ast
import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from phi3v.errors import UserError

# Classes that hand the arguments they do not know on to a function.
FORWARDS = {"lightning.pytorch.loggers.WandbLogger": ("wandb.sdk.wandb_init", "init")}


@dataclass(frozen=True)
class Parameter:
    """One parameter of a constructor.

    Attributes:
        annotation: Its type as written; None where there is none.
        module: Dotted name of the module in which that type was written.
        required: Whether it has no default.
    """

    annotation: ast.expr | None
    module: str
    required: bool


@dataclass(frozen=True)
class Constructor:
    """A class that a configuration may name.

    Attributes:
        target: As it was asked for.
        module: Dotted name of the module that defines it.
        parameters: By name, without self, with those of a function in `FORWARDS`.
    """

    target: str
    module: str
    parameters: dict[str, Parameter]


@cache
def read_constructor(target: str) -> Constructor:
    """Find a class by its dotted name and read what its constructor takes.

    Raises:
        UserError: When there is no such class.
    """
    module, _, name = target.rpartition(".")
    found = find_definition(module, name) if module else None
    if found is None or not isinstance(found[1], ast.ClassDef):
        raise UserError(f"_target_ '{target}': there is no such class")
    parameters = _parameters(found[0], found[1])
    if target in FORWARDS and (other := find_definition(*FORWARDS[target])):
        assert isinstance(other[1], ast.FunctionDef)
        parameters = _of_arguments(other[0], other[1].args) | parameters
    return Constructor(target, found[0], parameters)


@cache
def find_definition(module: str, name: str) -> tuple[str, ast.stmt] | None:
    """Find the statement that defines a name, following imports.

    Returns:
        The module that defines it and its class, function or assignment; None if there is none.
    """
    tree = _parse(module)
    if tree is None:
        return None
    for statement in tree.body:
        if name in _defined_names(statement):
            return module, statement
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return find_definition(_absolute(module, node), alias.name)
    return None


def _defined_names(node: ast.stmt) -> set[str]:
    match node:
        case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
            return {name}
        case ast.Assign(targets=targets):
            return {target.id for target in targets if isinstance(target, ast.Name)}
        case ast.AnnAssign(target=ast.Name(id=name)):
            return {name}
    return set()


def _parse(module: str) -> ast.Module | None:
    file = _module_file(module)
    return None if file is None else ast.parse(file.read_text(encoding="utf-8"))


def _module_file(module: str) -> Path | None:
    root, *rest = module.split(".")
    # Finding a top-level package does not run it; finding anything below it would.
    spec = importlib.util.find_spec(root) if root.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        return None
    place = Path(spec.submodule_search_locations[0]).joinpath(*rest)
    candidates = (place / "__init__.py", place.parent / f"{place.name}.py")
    return next((file for file in candidates if file.is_file()), None)


def _absolute(module: str, node: ast.ImportFrom) -> str:
    if node.level == 0:
        return node.module or ""
    file = _module_file(module)
    steps = node.level - (file is not None and file.name == "__init__.py")
    base = module.split(".")
    kept = base[: len(base) - steps]
    return ".".join([*kept, *([node.module] if node.module else [])])


def _parameters(module: str, definition: ast.ClassDef) -> dict[str, Parameter]:
    for node in definition.body:
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":
            arguments = _of_arguments(module, node.args)
            return {name: arguments[name] for name in list(arguments)[1:]}  # without self
    inherited: dict[str, Parameter] = {}
    for base in definition.bases:
        if isinstance(base, ast.Name) and (found := find_definition(module, base.id)):
            where, statement = found
            if isinstance(statement, ast.ClassDef):
                inherited |= _parameters(where, statement)
    if any("dataclass" in ast.unparse(decorator) for decorator in definition.decorator_list):
        return inherited | _of_fields(module, definition)
    return inherited


def _of_arguments(module: str, arguments: ast.arguments) -> dict[str, Parameter]:
    places = [*arguments.posonlyargs, *arguments.args]
    optional = {argument.arg for argument in places[len(places) - len(arguments.defaults) :]}
    pairs = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    optional |= {argument.arg for argument, default in pairs if default is not None}
    return {
        argument.arg: Parameter(argument.annotation, module, argument.arg not in optional)
        for argument in [*places, *arguments.kwonlyargs]
    }


def _of_fields(module: str, definition: ast.ClassDef) -> dict[str, Parameter]:
    return {
        node.target.id: Parameter(node.annotation, module, node.value is None)
        for node in definition.body
        if isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and "ClassVar" not in ast.unparse(node.annotation)
        and "init=False" not in ast.unparse(node.value or node.target)
    }
