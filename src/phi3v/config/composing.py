"""Compose a configuration inside this process and say in one line what is wrong with it.

    check_command_line(conf, "train", ["optimizer.lrr=1"], config_name="train")   # UserError

Costs a tenth of a second and imports neither torch nor anything that does.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException
from omegaconf import open_dict
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from phi3v.config import resolvers, schema
from phi3v.config.broken import conflict, unreadable
from phi3v.config.composed import Composed, folders, loader
from phi3v.config.containers import resolved_in_part, to_plain
from phi3v.config.explaining import explained, interpolation_problem, key_problem
from phi3v.config.overrides import Groups, alternatives, read_overrides
from phi3v.errors import UserError

SHAPES: dict[str, type[schema.Common]] = {"train": schema.Train, "eval": schema.Eval}


def check_command_line(
    conf: Path,
    program: str,
    words: Sequence[str],
    config_name: str,
    multirun: bool = False,
    allow_missing: bool = False,
) -> Composed:
    """Refuse a command line that would not make a valid configuration.

    Args:
        conf: The folder of the configuration files.
        program: "train" or "eval".
        words: The overrides, possibly with sweeps.
        config_name: The primary configuration: the program's own, or one that takes its place.
        multirun: Whether values that sweep are wanted.
        allow_missing: Let mandatory values be open, to print a configuration.

    Returns:
        The configuration; of a sweep, its last one.

    Raises:
        UserError: With the first problem.
    """
    resolvers.register()
    composed = Composed({}, {}, {}, {})
    with initialize_config_dir(str(conf.resolve()), version_base="1.3"):
        parsed = read_overrides(words, loader())
        try:
            groups = _groups(config_name, words)
            for word in parsed:
                groups.check(word, multirun)
                alone = word.is_hydra_override() or word.key_or_group == "sweep"
                if word.is_sweep_override() and alone:
                    raise UserError(f"{word.input_line}: a sweep has one of it, not several")
            if multirun:
                parsed = [*_of_the_sweep(config_name, parsed, groups), *parsed]
            for overrides in alternatives(parsed):
                composed = _compose(config_name, overrides, groups)
                _refuse_problems(composed, SHAPES[program], allow_missing, groups, conf, overrides)
        except (YAMLError, UnicodeDecodeError) as error:
            raise UserError(unreadable(error, folders())) from None
    return composed


def _of_the_sweep(name: str, parsed: Sequence[Override], groups: Groups) -> list[Override]:
    """What the group `sweep` has jobs choose from, as words of the command line."""
    composed = _compose(name, next(alternatives(parsed)), groups)
    params = composed.hydra["sweeper"].get("params") or {}
    words = read_overrides([f"{key}={value}" for key, value in params.items()], loader())
    given = {word.key_or_group for word in parsed}
    for word in words:
        groups.check(word, multirun=True)
    return [word for word in words if word.key_or_group not in given]


def _refuse_problems(
    composed: Composed,
    shape: type[schema.Common],
    allow_missing: bool,
    groups: Groups,
    conf: Path,
    overrides: Sequence[str],
) -> None:
    # Before the interpolations: they stumble over values of the wrong type that stand elsewhere.
    problem = schema.first_problem(composed.plain, shape, allow_missing, groups.choices)
    if problem:
        raise UserError(explained(problem, composed, conf, overrides, groups))
    if composed.unresolved:
        raise UserError(composed.unresolved)


def _groups(config_name: str, words: Sequence[str]) -> Groups:
    # Knows the folders of hydra.searchpath too, which the loader's own repository does not.
    _, repository = loader()._parse_overrides_and_create_caching_repo(config_name, list(words))
    names = [""]
    choices: dict[str, list[str]] = {}
    while names:
        group = names.pop()
        for inner in repository.get_group_options(group, ObjectType.GROUP):
            name = f"{group}/{inner}".lstrip("/")
            names.append(name)
            choices[name] = repository.get_group_options(name, ObjectType.CONFIG)
            # A file in a folder of the group is chosen by its path below the group.
            if group in choices:
                choices[group] += [f"{inner}/{option}" for option in choices[name]]
    return Groups(choices)


def _compose(name: str, overrides: Sequence[str], groups: Groups) -> Composed:
    try:
        cfg = compose(name, list(overrides), return_hydra_config=True)
    except UnicodeDecodeError:  # a ValueError too, but one of a file
        raise
    # ValueError is what Hydra has for a defaults list that is none.
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise UserError(_composition_problem(error, name, overrides, groups)) from None
    except (AssertionError, AttributeError) as error:
        # What OmegaConf has for a key in a node that is null, as the basic sweeper's is.
        for word in overrides:
            if word.lstrip("+").startswith("hydra.sweeper.params"):
                raise UserError(
                    f"{word}: there is no sweep=NAME to which that could add; write what jobs"
                    " choose from as in seed=1,2"
                ) from error
        raise
    with open_dict(cfg):
        cfg.hydra.runtime.output_dir = "."  # made by the run itself, later
        HydraConfig.instance().set_config(cfg)
        hydra = to_plain(cfg.hydra, resolve=False)
        del cfg["hydra"]
    written, choices = to_plain(cfg, resolve=False), hydra["runtime"]["choices"]
    try:
        return Composed(to_plain(cfg), written, hydra, choices)
    except OmegaConfBaseException as error:
        reason = interpolation_problem(error, cfg)
        return Composed(resolved_in_part(cfg), written, hydra, choices, reason)
    finally:
        HydraConfig.instance().cfg = None


def _composition_problem(
    error: Exception, name: str, overrides: Sequence[str], groups: Groups
) -> str:
    """Put Hydra's reason into one line that names the key and the nearest valid one."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, choice = error.missing_cfg_file.rpartition("/")
        if group in groups.choices:
            where = str(error).partition(":")[0]
            return f"{where}: {groups.unknown(group, choice)}"
    merging = "raised while composing config" in str(error)
    if merging and (clash := conflict(loader(), name, overrides)):
        return clash
    parsed = read_overrides(overrides)
    for word in parsed:
        twice = word.is_add() and "Multiple values for" in str(error)
        if twice and word.key_or_group in groups.choices:
            return f"{word.input_line}: write it without the +, there is a choice already"
    chosen = [str(word.input_line) for word in parsed if word.key_or_group in groups.choices]
    if len(chosen) < len(parsed):
        # Without the values: what is wrong is either a value's key or the value itself.
        composed = _compose(name, chosen, groups)
        for word in parsed:
            if message := key_problem(word, composed, groups):
                return message
    lines = [line for line in f"{error}\n{error.__cause__ or ''}".splitlines() if line.strip()]
    reason = lines[0].strip() if lines else type(error).__name__
    # Such as an interpolation without its closing brace: the reason does not say where.
    key = re.search(r"^\s*full_key: (\S+)$", "\n".join(lines), re.M)
    return f"{key[1]}: {reason}" if key and key[1] not in reason else reason
