"""What a run ran on and from: versions, git commit, hardware, command, seed."""

import json
import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from phi3v.config.front_door import TYPED

PACKAGES = (
    "phi3v", "torch", "lightning", "hydra-core", "omegaconf", "transformers", "tokenizers", "peft",
    "torchmetrics", "wandb", "safetensors", "pillow", "numpy",
)  # fmt: skip
PROJECT = Path(__file__).resolve().parents[3]


def environment(seed: int) -> dict[str, Any]:
    """Everything that may explain why two runs differ, ready for JSON."""
    return {
        "command": _command(),
        "seed": seed,
        "python": platform.python_version(),
        # torch itself knows more than its package: which CUDA it was built for.
        "packages": {name: _version(name) for name in PACKAGES} | {"torch": torch.__version__},
        "git": _git(),
        "hardware": _hardware(),
    }


def _command() -> list[str]:
    """What was typed; the words that Hydra was given in its place nobody would know again."""
    if TYPED not in os.environ:
        return [Path(sys.argv[0]).name, *sys.argv[1:]]
    typed: list[str] = json.loads(os.environ[TYPED])
    return typed


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git() -> dict[str, Any] | None:
    """Commit and whether the working tree differs from it; None outside a checkout."""
    commit = _git_output("rev-parse", "HEAD")
    if not commit:
        return None
    return {"commit": commit, "modified": bool(_git_output("status", "--porcelain"))}


def _git_output(*args: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(PROJECT), *args],
            capture_output=True, text=True, timeout=10, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _hardware() -> dict[str, Any]:
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cpu_cores": os.cpu_count(),
        "cpu_threads": torch.get_num_threads(),
        "gpus": gpus,
        "cuda": torch.version.cuda,
    }
