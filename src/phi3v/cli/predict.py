"""`phi3v predict`: what a run's model, or any checkpoint, says about pictures.

    phi3v predict runs/lora_r16/2026-01-01_12-00-00-000000 photo.jpg more/ --json
    phi3v predict --model folder --question "What is shown in this image?" photo.jpg
    phi3v predict RUN front_1.jpg back_1.jpg front_2.jpg back_2.jpg --together 2

Each picture is asked about alone, or so many of them in one prompt. One that cannot be read is
reported and the others are answered; the exit status is 1 then.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phi3v.cli.parsing import Parser, at_least_one, meant
from phi3v.cli.pictures import in_prompts, picture_files, unlike_training
from phi3v.cli.progress import Progress
from phi3v.errors import UserError
from phi3v.run.recorded import Recorded, read_run, read_task
from phi3v.task import Task

if TYPE_CHECKING:
    from torch import nn

    from phi3v.model import Phi3VProcessor
    from phi3v.run.prediction import Answer

USAGE = """phi3v predict RUN PICTURE [PICTURE ...]
       phi3v predict --model FOLDER (--question TEXT | --task NAME|FILE) PICTURE [PICTURE ...]"""
SOME_FAILED = 1
FLASH = "flash_attention_2"
# Of a checkpoint without a run, which says nothing of these.
BATCH_SIZE, MAX_NEW_TOKENS = 8, 256


@dataclass(frozen=True)
class Asked:
    """What is asked and who is asked; nothing is loaded yet.

    Attributes:
        task: Writes the question.
        has_fields: Whether its answers have fields to be read.
        batch_size: Pictures at a time, unless the command line says otherwise.
        max_new_tokens: Longest answer, likewise.
        load: Brings the model onto the device of a name, with its processor.
    """

    task: Task
    has_fields: bool
    batch_size: int
    max_new_tokens: int
    load: Callable[[str | None], "tuple[nn.Module, Phi3VProcessor]"]


def parser() -> Parser:
    """What the command takes."""
    made = Parser("phi3v predict", "Answers a question about pictures.", USAGE)
    made.add_argument(
        "words", nargs="*", metavar="RUN PICTURE",
        help="a run's directory, and pictures: files, folders, patterns",
    )  # fmt: skip
    made.add_argument("--model", metavar="FOLDER", help="a checkpoint folder in place of a run")
    made.add_argument("--question", metavar="TEXT", help="what to ask a --model")
    made.add_argument(
        "--task", metavar="NAME|FILE", help="what to ask a --model: a task of conf/task, or a file"
    )
    made.add_argument(
        "--field", action="append", default=[], metavar="NAME=VALUE",
        help="a value that the task's question names; once for each",
    )  # fmt: skip
    made.add_argument(
        "--together", type=at_least_one, default=1, metavar="N",
        help="so many pictures in a prompt, one prompt after the other (default: each alone)",
    )  # fmt: skip
    made.add_argument("--json", action="store_true", help="one JSON object a line")
    made.add_argument("--batch-size", type=at_least_one, metavar="N", help="prompts at a time")
    made.add_argument(
        "--max-new-tokens", type=at_least_one, metavar="N", help="longest answer, in tokens"
    )
    made.add_argument(
        "--device", choices=("cpu", "cuda"), help="default: cuda where there is one, else cpu"
    )
    return made


def run(arguments: argparse.Namespace) -> int:
    """Answer and print.

    Raises:
        UserError: The arguments do not fit together, or there is no such run, model or device.
    """
    asked = _of_model(arguments) if arguments.model else _of_run(arguments)
    words, together = (
        arguments.words if arguments.model else arguments.words[1:],
        arguments.together,
    )
    pictures = in_prompts(picture_files(words, once=together == 1), together)
    what = "pictures" if together == 1 else "prompts"
    values = question_values(asked.task, arguments.field)

    import torch

    from phi3v.run.prediction import Predictor, unreadable

    found: Iterable[Answer] = unreadable(pictures)
    progress = Progress(len(pictures), what)
    if len(list(found)) < len(pictures):  # otherwise there is no reason to load a model
        model, processor = _loaded(asked, arguments.device)
        predictor = Predictor(
            model, processor, asked.task,
            batch_size=arguments.batch_size or asked.batch_size,
            max_new_tokens=arguments.max_new_tokens or asked.max_new_tokens,
        )  # fmt: skip
        progress = Progress(len(pictures), what)  # its clock begins when the model is there
        found = predictor(pictures, values, progress.step)
    try:
        failed = _print(found, asked, arguments.json, progress)
    except torch.OutOfMemoryError:
        raise UserError("the GPU's memory is full: give a smaller --batch-size") from None
    if failed and len(pictures) > 1:
        print(f"{failed} of {len(pictures)} {what} could not be used", file=sys.stderr)
    return SOME_FAILED if failed else 0


def _loaded(asked: Asked, device: str | None) -> "tuple[nn.Module, Phi3VProcessor]":
    import torch

    try:
        return asked.load(device)
    except torch.OutOfMemoryError:
        raise UserError(
            "the GPU has too little memory free for the model; --device cpu takes longer"
        ) from None


def question_values(task: Task, given: Sequence[str]) -> dict[str, str]:
    """The values of `--field` that the task's question names.

    Raises:
        UserError: One is missing, empty, or none of the question's.
    """
    values = {}
    for word in given:
        name, equals, value = word.partition("=")
        if not equals or not value.strip():
            raise UserError(f"--field {word}: write NAME=VALUE")
        if name not in task.question_names:
            hint = meant(name, task.question_names) if task.question_names else "; it names none"
            raise UserError(f"--field {word}: the question {task.question!r} has no {name!r}{hint}")
        values[name] = value.strip()
    missing = [name for name in task.question_names if name not in values]
    if missing:
        fix = " ".join(f"--field {name}=..." for name in missing)
        raise UserError(f"task {task.name!r} asks {task.question!r}: give {fix}")
    return values


def _of_run(arguments: argparse.Namespace) -> Asked:
    for option in ("question", "task"):
        if getattr(arguments, option) is not None:
            raise UserError(f"--{option}: a run has its own; this is for --model FOLDER")
    if not arguments.words:
        raise UserError("name a run's directory and pictures, or a --model and pictures (--help)")
    folder = Path(arguments.words[0])
    if (folder / "config.json").is_file():
        raise UserError(f"{folder}: a model folder, no run; phi3v predict --model {folder} ...")
    if folder.is_file():
        raise UserError(f"{folder}: the first word is a run's directory, and this is a file")
    recorded = read_run(folder)

    def load(device: str | None) -> "tuple[nn.Module, Phi3VProcessor]":
        if warning := unlike_training(arguments.together, recorded.most_pictures()):
            print(f"warning: {warning}", file=sys.stderr)
        return _model_of_run(recorded, device)

    config = recorded.config
    size = config["data"].get("eval_batch_size") or config["data"]["batch_size"]
    return Asked(recorded.task, True, size, config["max_new_tokens"], load)


def _of_model(arguments: argparse.Namespace) -> Asked:
    folder = Path(arguments.model)
    if not (folder / "config.json").is_file():
        raise UserError(f"--model {folder}: no checkpoint folder, there is no config.json in it")
    if (arguments.question is None) == (arguments.task is None):
        raise UserError("--model: say what to ask it, with either --question or --task")
    if arguments.task is not None:
        task = read_task(arguments.task)
    elif arguments.question.strip():
        task = _free_question(arguments.question.strip())
    else:
        raise UserError("--question: it is empty")

    def load(device: str | None) -> "tuple[nn.Module, Phi3VProcessor]":
        return _model_of_folder(folder, device)

    return Asked(task, arguments.task is not None, BATCH_SIZE, MAX_NEW_TOKENS, load)


def _free_question(text: str) -> Task:
    """A task for a question whose answer may be anything."""
    literal = text.replace("{", "{{").replace("}", "}}")
    return Task("question", literal, "{answer}", {"answer": "text"}, "answer/exact_match")


def _model_of_run(recorded: Recorded, name: str | None) -> "tuple[nn.Module, Phi3VProcessor]":
    from phi3v.run.assembly import remember_pictures
    from phi3v.run.quiet import quiet_libraries
    from phi3v.run.trained import device_named, load_trained

    device = device_named(name)
    quiet_libraries()
    settings = {}
    if device.type == "cpu" and recorded.config["model"].get("attn_implementation") == FLASH:
        print(f"{FLASH} needs a GPU: attention is computed by sdpa here", file=sys.stderr)
        settings["attn_implementation"] = "sdpa"
    trained = load_trained(recorded, settings)
    model = trained.model.eval().to(device)
    remember_pictures(model, recorded.config["model"].get("vision_cache_gib", 0))
    return model, trained.loaded.processor


def _model_of_folder(folder: Path, name: str | None) -> "tuple[nn.Module, Phi3VProcessor]":
    from phi3v.model import Checkpoint
    from phi3v.run.quiet import quiet_libraries
    from phi3v.run.trained import device_named

    device = device_named(name)
    quiet_libraries()
    loaded = Checkpoint(str(folder), dtype=_stored_dtype(folder)).load()
    model: nn.Module = loaded.model
    return model.to(device), loaded.processor


def _stored_dtype(folder: Path) -> str:
    """What the folder's weights are kept in; older files use another key for it."""
    file = folder / "config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: cannot be read ({error})") from None
    known = config if isinstance(config, dict) else {}
    return str(known.get("dtype") or known.get("torch_dtype") or "float32")


def _print(found: Iterable["Answer"], asked: Asked, as_json: bool, progress: Progress) -> int:
    """Print answers as they come, and return how many prompts could not be used."""
    failed = 0
    for answer in found:
        progress.clear()
        parsed = None
        if answer.text is None:
            failed += 1
        elif asked.has_fields:
            parsed = asked.task.parse(answer.text)
        if as_json:
            print(_json(_row(answer, parsed)), flush=True)
        elif answer.text is None:
            print(f"error: {answer.name}: {answer.error}", file=sys.stderr, flush=True)
        else:
            print("\n".join(_lines(answer, parsed, asked.task)), flush=True)
    progress.clear()
    return failed


def _json(row: dict[str, Any]) -> str:
    """A row in one line; its letters are themselves where the output can have all of them."""
    line = json.dumps(row, ensure_ascii=False)
    try:
        line.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return json.dumps(row)
    return line


def _row(answer: "Answer", parsed: Mapping[str, Any] | None) -> dict[str, Any]:
    names = answer.names
    row: dict[str, Any] = {"picture": names if len(names) > 1 else names[0]}
    if answer.text is None:
        return {**row, "error": answer.error}
    row["prediction"] = answer.text
    return row if parsed is None else {**row, "parsed": dict(parsed)}


def _lines(answer: "Answer", parsed: Mapping[str, Any] | None, task: Task) -> list[str]:
    lines = [f"{answer.name}: {answer.text}"]
    if parsed:
        width = max(map(len, parsed))
        for name, value in parsed.items():
            shown = "(not in the answer)" if value is None else task.fields[name].write(value)
            lines.append(f"    {name:<{width}}  {shown}")
    return lines
