"""The repository's own configuration files, and ways to look at them."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, open_dict

from phi3v.config import resolvers

ROOT = Path(__file__).resolve().parents[2]
HEAVY = re.compile(r"\|\s+(torch|transformers|lightning|peft|wandb|torchmetrics|PIL)\b")


@pytest.fixture
def conf() -> Path:
    return ROOT / "conf"


@pytest.fixture
def composed(conf: Path, tmp_path: Path) -> Any:
    """Compose as Hydra would for a run in `tmp_path`."""

    def make(*words: str, name: str = "train") -> DictConfig:
        resolvers.register()
        with initialize_config_dir(str(conf), version_base="1.3"):
            cfg = compose(name, list(words), return_hydra_config=True)
        with open_dict(cfg):
            cfg.hydra.runtime.output_dir = str(tmp_path)
            HydraConfig.instance().set_config(cfg)
            del cfg["hydra"]
        return cfg

    yield make
    HydraConfig.instance().cfg = None


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Start train.py or eval.py as a user would, from an empty directory."""

    def start(script: str, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-X", "importtime", str(ROOT / script), *words],
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return start


def heavy_imports(stderr: str) -> list[str]:
    """The heavy packages among the lines of `-X importtime`."""
    return sorted(set(HEAVY.findall(stderr)))


def messages(stderr: str) -> list[str]:
    """What a person would have seen without `-X importtime`."""
    return [line for line in stderr.splitlines() if not line.startswith("import time:")]
