"""`phi3v make-checkpoint`: a checkpoint of the published layout with random weights, to measure.

phi3v make-checkpoint --like phi3_vision big            # 8.3 GB
python train.py experiment=lora_r16 model=phi3_vision model.path=big trainer=gpu
"""

import argparse
import re
from pathlib import Path

from phi3v.cli.parsing import Parser
from phi3v.errors import UserError
from phi3v.run.placing import check_free, placed

_SIZE = re.compile(r"[1-9]\d*(KB|MB|GB)")


def parser() -> Parser:
    """What the command takes."""
    made = Parser("phi3v make-checkpoint", "Writes a checkpoint with random weights, file by file.")
    made.add_argument("out", type=Path, metavar="OUT", help="a folder that is not there yet")
    made.add_argument(
        "--like", required=True, metavar="MODEL",
        help="phi3_vision, phi35_vision, or the folder of a checkpoint",
    )  # fmt: skip
    made.add_argument("--seed", type=int, default=0, metavar="N", help="of the weights (default 0)")
    made.add_argument(
        "--dtype", choices=("float32", "bfloat16", "float16"), default="bfloat16",
        help="of the weights (default: bfloat16)",
    )  # fmt: skip
    made.add_argument(
        "--max-shard-size", default="1GB", metavar="SIZE",
        help="largest file of weights, and about the memory that it takes (default: 1GB)",
    )  # fmt: skip
    return made


def run(arguments: argparse.Namespace) -> int:
    """Write the folder.

    Raises:
        UserError: `--like` is nothing of the kind, something is at OUT, or the disk cannot hold it.
    """
    if not _SIZE.fullmatch(arguments.max_shard_size):
        raise UserError(f"--max-shard-size {arguments.max_shard_size}: give a size such as 500MB")
    check_free(arguments.out)

    from phi3v.model.loading import torch_dtype  # torch and its company
    from phi3v.model.stand_in import make_checkpoint

    with placed(arguments.out) as draft:
        made = make_checkpoint(
            arguments.like, draft,
            seed=arguments.seed, dtype=torch_dtype(arguments.dtype),
            max_shard_size=arguments.max_shard_size, said=lambda line: print(line, flush=True),
        )  # fmt: skip
    print(f"{made.parameters:,} parameters, {made.size / 1e9:.1f} GB, random weights")
    print(arguments.out)
    return 0
