"""Compose a configuration inside this process and say in one line what is wrong with it.

    check_command_line(conf, "train", ["optimizer.lrr=1"], config_name="train")   # UserError

Costs a tenth of a second and imports neither torch nor anything that does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import InterpolationToMissingValueError, OmegaConfBaseException

from phi3v.config import resolvers, schema
from phi3v.config.overrides import Groups, alternatives, read_overrides
from phi3v.errors import UserError

SHAPES: dict[str, type[schema.Common]] = {"train": schema.Train, "eval": schema.Eval}


@dataclass(frozen=True)
class Composed:
    """A configuration as Hydra composes it.

    Attributes:
        plain: Resolved, without Hydra's node.
        hydra: Hydra's node, as it is written.
        choices: Group -> what was chosen.
    """

    plain: dict[str, Any]
    hydra: dict[str, Any]
    choices: dict[str, str | None]


def check_command_line(
    conf: Path,
    program: str,
    words: Sequence[str],
    config_name: str,
    multirun: bool = False,
    allow_missing: bool = False,
) -> None:
    """Refuse a command line that would not make a valid configuration.

    Args:
        conf: The folder of the configuration files.
        program: "train" or "eval".
        words: The overrides, possibly with sweeps.
        config_name: The primary configuration: the program's own, or one that takes its place.
        multirun: Whether values that sweep are wanted.
        allow_missing: Let mandatory values be open, to print a configuration.

    Raises:
        UserError: With the first problem.
    """
    resolvers.register()
    parsed = read_overrides(words)
    with initialize_config_dir(str(conf.resolve()), version_base="1.3"):
        groups = _groups()
        for word in parsed:
            groups.check(word)
            if word.is_sweep_override() and not multirun:
                raise UserError(
                    f"{word.input_line} has several values: add -m to run them all, or write "
                    f"{word.key_or_group}=[a,b] for a list"
                )
        for overrides in alternatives(parsed):
            composed = _compose(config_name, overrides, groups)
            problem = schema.first_problem(composed.plain, SHAPES[program], allow_missing)
            if problem:
                raise UserError(_explained(problem, composed, conf, overrides))


def _groups() -> Groups:
    loader = GlobalHydra.instance().config_loader()
    names = [""]
    choices: dict[str, list[str]] = {}
    while names:
        group = names.pop()
        for inner in loader.get_group_options(group, results_filter=ObjectType.GROUP):
            name = f"{group}/{inner}".lstrip("/")
            names.append(name)
            choices[name] = loader.get_group_options(name)
            # A file in a folder of the group is chosen by its path below the group.
            parent = name.rpartition("/")[0]
            if parent in choices and not parent.startswith("hydra"):
                tail = name.rpartition("/")[2]
                choices[parent] += [f"{tail}/{option}" for option in choices[name]]
    return Groups(choices)


def _compose(name: str, overrides: Sequence[str], groups: Groups) -> Composed:
    try:
        cfg = compose(name, list(overrides), return_hydra_config=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(_composition_problem(error, name, overrides, groups)) from None
    with open_dict(cfg.hydra.runtime):
        cfg.hydra.runtime.output_dir = "."
    choices = {str(group): choice for group, choice in cfg.hydra.runtime.choices.items()}
    HydraConfig.instance().set_config(cfg)
    hydra = OmegaConf.to_container(cfg.hydra)
    try:
        with open_dict(cfg):
            del cfg["hydra"]
        plain = OmegaConf.to_container(cfg, resolve=True)
    except OmegaConfBaseException as error:
        raise UserError(_interpolation_problem(error, cfg)) from None
    finally:
        HydraConfig.instance().cfg = None
    assert isinstance(plain, dict)
    assert isinstance(hydra, dict)
    return Composed(plain, hydra, choices)


def _interpolation_problem(error: OmegaConfBaseException, cfg: DictConfig) -> str:
    unresolved = OmegaConf.to_container(cfg)
    assert isinstance(unresolved, dict)
    if isinstance(error, InterpolationToMissingValueError):
        for key in dotted_keys(unresolved):
            if value_at(unresolved, key) == schema.MISSING:
                return f"{key} is required: {key}={key.rpartition('.')[2].upper()}"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, UserError):  # raised by a resolver
            return str(cause)
        cause = cause.__context__
    return f"{error.full_key}: {str(error).strip().splitlines()[0]}"


def _composition_problem(
    error: Exception, name: str, overrides: Sequence[str], groups: Groups
) -> str:
    """Put Hydra's reason into one line that names the key and the nearest valid one."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, choice = error.missing_cfg_file.rpartition("/")
        if group in groups.choices:
            where = str(error).partition(":")[0]
            return f"{where}: {groups.unknown(group, choice)}"
    parsed = read_overrides(overrides)
    others = [word.input_line for word in parsed if word.key_or_group in groups.choices]
    if len(others) < len(parsed):
        # Without the values: what is wrong is either a value's key or the value itself.
        composed = _compose(name, [str(line) for line in others], groups)
        for word in parsed:
            if message := _key_problem(word, composed, groups):
                return message
    lines = [line for line in f"{error}\n{error.__cause__ or ''}".splitlines() if line.strip()]
    return lines[0].strip() if lines else type(error).__name__


def _key_problem(word: Override, composed: Composed, groups: Groups) -> str | None:
    key = word.key_or_group
    plain = dict(composed.plain)
    if key.startswith("hydra."):
        plain = {"hydra": composed.hydra}
    if key in groups.choices or word.is_add() or word.is_force_add() or has_key(plain, key):
        return None
    parent, _, last = key.rpartition(".")
    node = value_at(plain, parent) if parent else plain
    if not isinstance(node, Mapping) or parent.startswith("hydra"):
        return schema.unknown_key(key, {}, dotted_keys(plain))
    known = schema.known_keys(node, parent) if parent else dict.fromkeys(groups.choices)
    if last in known:
        group = parent.partition(".")[0]
        return (
            f"'{key}' is not in the file that was chosen for {group}; "
            f"add it with +{word.input_line}"
        )
    return schema.unknown_key(key, {**known, **node}, dotted_keys(plain))


def _explained(
    problem: schema.Problem, composed: Composed, conf: Path, overrides: Sequence[str]
) -> str:
    if schema.MISSING in problem.text:
        group = problem.key.partition(".")[0]
        choice = composed.choices.get(group)
        example = f"{problem.key}={problem.key.rpartition('.')[2].upper()}"
        return f"{problem.key} is required: {group}={choice} {example}"
    typed = any(word.lstrip("+").startswith(f"{problem.key}=") for word in overrides)
    file = None if typed else _origin(problem.key, composed.choices, conf)
    return problem.text if file is None else f"{file}: {problem.text}"


def _origin(key: str, choices: Mapping[str, str | None], conf: Path) -> str | None:
    """The file that holds a key, where one of the chosen files does."""
    for group, choice in reversed(choices.items()):
        file = conf / group / f"{choice}.yaml"
        if not file.is_file():
            continue
        content = OmegaConf.to_container(OmegaConf.load(file))
        everywhere = file.read_text(encoding="utf-8").startswith("# @package _global_")
        inner = key if everywhere else key.removeprefix(f"{group}.")
        if isinstance(content, dict) and has_key(content, inner):
            return f"{conf.name}/{group}/{choice}.yaml"
    return None


def has_key(plain: Mapping[str, Any], key: str) -> bool:
    """Whether a dotted key exists."""
    parent, _, last = key.rpartition(".")
    node = value_at(plain, parent) if parent else plain
    if isinstance(node, list):
        return last.isdigit() and int(last) < len(node)
    return isinstance(node, Mapping) and last in node


def value_at(plain: Mapping[str, Any], key: str) -> Any:
    """The value of a dotted key; None when it does not exist."""
    node: Any = plain
    for word in key.split("."):
        node = node.get(word) if isinstance(node, Mapping) else None
    return node


def dotted_keys(plain: Mapping[str, Any], prefix: str = "") -> tuple[str, ...]:
    """Every key that a person can set, outer ones first."""
    keys: list[str] = []
    for key, value in plain.items():
        if key != "_target_":
            keys.append(f"{prefix}{key}")
            if isinstance(value, Mapping):
                keys += dotted_keys(value, f"{prefix}{key}.")
    return tuple(sorted(keys, key=lambda name: name.count(".")))
