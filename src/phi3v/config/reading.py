"""Configurations that other programs than train.py and eval.py read, through the same gate.

config = config_of_run("runs/lora_r16/...")   # as `eval.py run=...` composes it
node = task_node("product")                   # conf/task/product.yaml
node = task_node("my_task.yaml")
"""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from phi3v.config import resolvers, schema
from phi3v.config.broken import unreadable
from phi3v.config.composing import check_command_line
from phi3v.config.containers import to_plain
from phi3v.config.saving import base_on_run
from phi3v.errors import UserError


def config_of_run(run: str | Path) -> dict[str, Any]:
    """The resolved configuration of a run, with the places of this machine.

    Raises:
        UserError: When there is none, or it would not be let through by eval.py.
    """
    conf = _conf()
    name = base_on_run(run, (), "eval")
    quoted = str(run).replace("\\", "\\\\").replace("'", "\\'")
    return check_command_line(conf, "eval", [f"run='{quoted}'"], config_name=name).plain


def task_node(task: str) -> dict[str, Any]:
    """The configuration of a task.

    Args:
        task: The name of a file in conf/task, or a YAML file anywhere.

    Raises:
        UserError: When there is none, or it does not describe a task.
    """
    conf = _conf()
    if Path(task).suffix not in (".yaml", ".yml"):
        node: dict[str, Any] = check_command_line(conf, "eval", [f"task={task}"], "eval").plain[
            "task"
        ]
        return node
    plain = check_command_line(conf, "eval", [], config_name="eval").plain
    plain["task"] = _read(Path(task))
    if problem := schema.first_problem(plain, schema.Eval):
        raise UserError(f"{task}: {problem.text}")
    return dict(plain["task"])


def _read(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise UserError(f"{file}: there is no such file")
    try:
        loaded = OmegaConf.load(file)
        if isinstance(loaded, DictConfig):
            return to_plain(loaded)
    except (YAMLError, UnicodeDecodeError) as error:
        raise UserError(unreadable(error, [file.parent])) from None
    except OmegaConfBaseException as error:
        raise UserError(f"{file}: {error.full_key}: {str(error).splitlines()[0]}") from None
    raise UserError(f"{file}: expected a mapping with _target_, name, question, answer, fields")


def _conf() -> Path:
    conf = Path(resolvers.repository()) / "conf"
    if not conf.is_dir():
        raise UserError(f"{conf}: not there; install phi3v from its repository (pip install -e .)")
    return conf
