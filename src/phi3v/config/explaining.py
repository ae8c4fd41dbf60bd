"""What is wrong with a composed configuration, in one line that says where and what to write."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationToMissingValueError, OmegaConfBaseException

from phi3v.config import schema
from phi3v.config.composed import Composed, loader
from phi3v.config.containers import dotted_keys, has_key, some_keys, to_plain, value_at
from phi3v.config.overrides import Groups
from phi3v.errors import UserError


def interpolation_problem(error: OmegaConfBaseException, cfg: DictConfig) -> str:
    """Why the values of a configuration could not be worked out."""
    if isinstance(error, InterpolationToMissingValueError):
        written = to_plain(cfg, resolve=False)
        open_keys = [key for key in dotted_keys(written) if value_at(written, key) == "???"]
        return f"{open_keys[0]} is required: {open_keys[0]}={_placeholder(open_keys[0])}"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, UserError):  # raised by a resolver
            return str(cause)
        cause = cause.__context__
    return f"{error.full_key}: {str(error).strip().splitlines()[0]}"


def key_problem(word: Override, composed: Composed, groups: Groups) -> str | None:
    """What is wrong with the key of an override, if something is."""
    key = word.key_or_group
    plain = {"hydra": composed.hydra} if key.startswith("hydra.") else composed.plain
    if key in groups.choices or word.is_add() or word.is_force_add():
        return None
    if has_key(plain, key):
        inside = value_at(plain, key)
        if isinstance(inside, Mapping) and not isinstance(word.value(), dict):
            return f"{word.input_line}: expected a mapping with keys like {some_keys(inside)}"
        return None
    parent, _, last = key.rpartition(".")
    node = value_at(plain, parent)
    if not isinstance(node, Mapping) or key.startswith("hydra."):
        return schema.unknown_key(key, {}, dotted_keys(plain))
    known = schema.known_keys(node, parent) if parent else dict.fromkeys(groups.choices)
    group = key.partition(".")[0]
    if parent == f"{group}.source" and has_key(plain, f"{group}.{last}"):
        return f"unknown key '{key}': it is {group}.{last} here"
    if last in known:
        return (
            f"'{key}' is not in the file that was chosen for {group}; "
            f"add it with +{word.input_line}"
        )
    elsewhere = list(_files_with(key, group, groups))
    if elsewhere:
        return (
            f"unknown key '{key}' with {group}={composed.choices[group]}; "
            f"it is one of {group}={' and '.join(elsewhere)}"
        )
    return schema.unknown_key(key, {**known, **node}, dotted_keys(plain))


def _files_with(key: str, group: str, groups: Groups) -> Iterator[str]:
    """The choices of a group that have a key which the chosen one has not."""
    repository = loader().repository
    for choice in groups.choices.get(group, []):
        loaded = repository.load_config(f"{group}/{choice}")
        content = loaded.config if loaded else None
        inner = key.partition(".")[2]
        if isinstance(content, DictConfig) and has_key(to_plain(content, resolve=False), inner):
            yield choice


def explained(
    problem: schema.Problem,
    composed: Composed,
    conf: Path,
    overrides: Sequence[str],
    groups: Groups,
) -> str:
    """A problem of the schema, with the file or the choice that it comes from."""
    if problem.kind == "missing":
        group = problem.key.partition(".")[0]
        chosen = f"{group}={composed.choices[group]} " if composed.choices.get(group) else ""
        return f"{problem.key} is required: {chosen}{problem.key}={_placeholder(problem.key)}"
    given = {word.lstrip("+").partition("=")[0] for word in overrides} - groups.choices.keys()
    # `optimizer.betas=[0.9,abc]` is where `optimizer.betas.1` comes from.
    if any(f"{problem.key}.".startswith(f"{key}.") for key in given):
        return problem.text
    file = _origin(problem.key, composed, conf)
    return problem.text if file is None else f"{file}: {problem.text}"


def _placeholder(key: str) -> str:
    return key.rpartition(".")[2].upper()


def _origin(key: str, composed: Composed, conf: Path) -> str | None:
    """The file that holds a key, where one of the chosen files does."""
    for group, choice in composed.choices.items():
        file = conf / group / f"{choice}.yaml"
        if not file.is_file():
            continue
        loaded = OmegaConf.load(file)
        content = to_plain(loaded, resolve=False) if isinstance(loaded, DictConfig) else {}
        everywhere = file.read_text(encoding="utf-8").startswith("# @package _global_")
        inner = key if everywhere else key.removeprefix(f"{group}.")
        # Another file may have changed it since.
        if has_key(content, inner) and value_at(content, inner) == value_at(composed.plain, key):
            return f"{conf.name}/{group}/{choice}.yaml"
    run = composed.plain.get("run")
    return f"{run}/config.yaml" if run else None
