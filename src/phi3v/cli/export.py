"""`phi3v export`: a run as a model folder, or as an adapter for engines that serve adapters.

    phi3v export runs/lora_r16/2026-01-01_12-00-00-000000 --merge my-model
    phi3v export runs/lora_r16/2026-01-01_12-00-00-000000 --adapter my-adapter

What is measured stands on the screen and in the README.md of the folder.
"""

import argparse
import re
from pathlib import Path

from phi3v.cli.parsing import Parser
from phi3v.errors import UserError
from phi3v.run.placing import check_free
from phi3v.run.recorded import Recorded, read_run

_SIZE = re.compile(r"[1-9]\d*(KB|MB|GB|KiB|MiB|GiB)", re.IGNORECASE)


def parser() -> Parser:
    """What the command takes."""
    made = Parser("phi3v export", "Writes a run as others load it.")
    made.add_argument("run", metavar="RUN", help="a run's directory")
    kinds = made.add_mutually_exclusive_group(required=True)
    kinds.add_argument(
        "--merge", type=Path, metavar="OUT",
        help="a model folder of the published layout, the adapter merged into its weights",
    )  # fmt: skip
    kinds.add_argument(
        "--adapter", type=Path, metavar="OUT",
        help="the adapter alone, as plain LoRA on the decoder, for PEFT and engines that serve it",
    )  # fmt: skip
    made.add_argument(
        "--max-shard-size", type=_size, metavar="SIZE",
        help="with --merge: largest file of weights (default: 5GB)",
    )  # fmt: skip
    made.add_argument(
        "--dtype", choices=("float32", "bfloat16", "float16"),
        help="with --merge: of the weights (default: what the run held its base in)",
    )  # fmt: skip
    made.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu",
        help="where the models are compared, in float32 (default: cpu)",
    )  # fmt: skip
    return made


def run(arguments: argparse.Namespace) -> int:
    """Write the folder.

    Raises:
        UserError: There is no such run, OUT is taken, or the export is refused.
    """
    out: Path = arguments.merge or arguments.adapter
    for option in ("max_shard_size", "dtype"):
        if arguments.adapter and getattr(arguments, option):
            name = option.replace("_", "-")
            raise UserError(f"--{name}: an adapter is written as it is; this is for --merge")
    check_free(out)
    recorded = read_run(arguments.run)

    import torch

    try:
        _export(recorded, out, arguments)
    except torch.OutOfMemoryError:
        raise UserError("--device cuda: its memory is full; --device cpu takes longer") from None
    print(out)
    return 0


def _export(recorded: Recorded, out: Path, arguments: argparse.Namespace) -> None:
    from phi3v.run.export import export_adapter, export_merged  # torch and its company
    from phi3v.run.quiet import quiet_libraries
    from phi3v.run.trained import device_named

    quiet_libraries()
    if arguments.adapter:
        export_adapter(recorded, out, device=device_named(arguments.device), say=_say)
        return
    export_merged(
        recorded, out,
        dtype=arguments.dtype, shard_size=arguments.max_shard_size or "5GB",
        device=device_named(arguments.device), say=_say,
    )  # fmt: skip


def _say(line: str) -> None:
    print(line, flush=True)


def _size(text: str) -> str:
    if not _SIZE.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 5GB or 500MB")
    return text
