"""What the full-size model takes: seconds and memory of loading, and of training steps by setting.

    phi3v make-checkpoint --like phi3_vision big                    # 8.3 GB of random weights
    python benchmarks/full_size.py big                              # what fits this machine
    python benchmarks/full_size.py big lora_8 qlora_8               # some of the settings

Each row is `train.py` as a user calls it, in a process of its own, on pictures that are drawn; the
speed of a step does not depend on what the weights say. Rows are written as they come, to
benchmarks/results/full_size_<device>.json, beside those of earlier calls.
"""

import argparse
import csv
import json
import math
import os
import platform
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
GIB = 2**30
STEPS = 4
BASE = (
    "experiment=lora_r16", "model=phi3_vision", "data=catalogue", "data.rows=60",
    "callbacks.throughput.seconds=0", "callbacks.last.minutes=600",
    # What is measured are steps; of answers there is one batch of one example at the end.
    "trainer.limit_val_batches=0", "objective=test/full_price/mape",
    "trainer.limit_test_batches=1", "data.eval_batch_size=1",
    "max_new_tokens=4", "optimizer.lr=1e-5",
)  # fmt: skip
GPU = ("trainer=gpu", f"trainer.max_steps={STEPS}", "batch_size=8", "data.num_workers=8")
ONE = ("trainer=cpu", "trainer.max_steps=1", "batch_size=1", "data.batch_size=1")
# In bfloat16 for half the memory: half the time on a CPU that has instructions for it, else six
# times as long.
FLOAT32 = (*ONE, "model.dtype=float32", "trainer.precision=32-true")
BFLOAT16 = (*ONE, "trainer.precision=bf16-mixed")
NO_CHECKPOINTING = "model.gradient_checkpointing=false"
NF4 = "model.quantization=nf4"
# Numbers are examples at once (data.batch_size); pictures have 16 crops unless the name says.
SETTINGS: dict[str, dict[str, tuple[str, ...]]] = {
    "cuda": {
        "lora_1": (*GPU, "data.batch_size=1"),
        "lora_8": (*GPU, "data.batch_size=8"),
        "lora_1_without_checkpointing": (*GPU, "data.batch_size=1", NO_CHECKPOINTING),
        "lora_4_without_checkpointing": (*GPU, "data.batch_size=4", NO_CHECKPOINTING),
        "lora_1_of_4_crops": (*GPU, "data.batch_size=1", "model.num_crops=4"),
        "lora_8_of_4_crops": (*GPU, "data.batch_size=8", "model.num_crops=4"),
        "lora_8_any_kernel": (*GPU, "data.batch_size=8", "trainer.deterministic=false"),
        "qlora_1": (*GPU, "data.batch_size=1", NF4),
        "qlora_8": (*GPU, "data.batch_size=8", NF4),
        "qlora_1_without_checkpointing": (*GPU, "data.batch_size=1", NF4, NO_CHECKPOINTING),
        "lora_8_ddp": (*GPU, "trainer=ddp", "trainer.devices=1", "data.batch_size=8"),
        "lora_8_fsdp": (*GPU, "trainer=fsdp", "trainer.devices=1", "data.batch_size=8"),
        "lora_8_fsdp_offload": (
            *GPU, "trainer=fsdp", "trainer.devices=1", "data.batch_size=8",
            "trainer.strategy.cpu_offload=true",
        ),
    },
    "cpu": {
        "lora_1_of_1_crop": (*FLOAT32, "model.num_crops=1"),
        "lora_1_of_4_crops": (*FLOAT32, "model.num_crops=4"),
        "lora_1_of_1_crop_bfloat16": (*BFLOAT16, "model.num_crops=1"),
        "qlora_1_of_1_crop": (*BFLOAT16, "model.num_crops=1", NF4),
    },
}  # fmt: skip


def main() -> None:
    """Measure and write, row by row."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="folder of a full-size checkpoint")
    parser.add_argument("settings", nargs="*", help=", ".join(SETTINGS[device]))
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    given = parser.parse_intermixed_args()
    if unknown := set(given.settings) - set(SETTINGS[device]):
        parser.error(f"no setting {sorted(unknown)[0]}; there are {', '.join(SETTINGS[device])}")
    file = given.out / f"full_size_{device}.json"
    result: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {"rows": {}}
    for name, row in measure(given.model, given.settings or list(SETTINGS[device]), device):
        print(name, json.dumps(row), flush=True)
        result["rows"][name] = {"date": str(date.today()), **about(device), **row}
        given.out.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(result, indent=2) + "\n")


def about(device: str) -> dict[str, str]:
    """The machine."""
    gpu = torch.cuda.get_device_name() if device == "cuda" else "no GPU"
    cores = f"{os.cpu_count()} CPU cores, {platform.machine()}"
    return {"machine": f"{gpu}, {cores}", "torch": torch.__version__}


def measure(model: Path, names: list[str], device: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each setting by name with what was measured."""
    with tempfile.TemporaryDirectory() as folder:
        yield (
            "loading",
            run_watched([__file__, str(model.resolve()), "--load", device], Path(folder)),
        )
        for name in names:
            words = [f"model.path={model.resolve()}", *BASE, *SETTINGS[device][name]]
            yield name, train(words, Path(folder))


def train(words: list[str], folder: Path) -> dict[str, Any]:
    """One training: its settings, seconds a step, memory, speed."""
    row = run_watched([str(ROOT / "train.py"), *words], folder)
    row["words"] = " ".join(word for word in words[1:] if word not in BASE)
    run = Path(str(row.pop("last_line", "")).removeprefix("run: "))
    if not (run / "metrics.csv").is_file():
        return row
    with (run / "metrics.csv").open() as file:
        steps = [line for line in csv.DictReader(file) if line.get("speed/examples_per_s")]
    warm = steps[2:] or steps[-1:]  # the first ones choose kernels and take up memory
    for column in ("examples_per_s", "tokens_per_s", "tflops", "mfu", "data_wait"):
        values = [float(line[f"speed/{column}"]) for line in warm if line.get(f"speed/{column}")]
        if values:
            row[column] = round(math.fsum(values) / len(values), 4)
    row["step_peak_gib"] = round(max(float(line["memory/peak_gib"]) for line in steps), 2)
    row["adapter_mb"] = round(sum(f.stat().st_size for f in (run / "adapter").iterdir()) / 1e6, 1)
    row["last_ckpt_mb"] = round((run / "checkpoints" / "last.ckpt").stat().st_size / 1e6, 1)
    return row


def run_watched(words: list[str], folder: Path) -> dict[str, Any]:
    """Run a program of this project: its seconds, and the most memory of the CPU it had for itself.

    Pages of files that it has mapped are counted apart: the system may take those back.
    """
    begun, peak = time.monotonic(), {"RssAnon": 0, "RssFile": 0}
    path = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    own = {"PHI3V_CACHE": str(folder / "cache"), "PYTHONPATH": path}
    with subprocess.Popen(
        [sys.executable, *words], cwd=folder, text=True, env={**os.environ, **own},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(process.kill()))
        watch = threading.Thread(target=keep_peak, args=(process, peak), daemon=True)
        watch.start()
        out, err = process.communicate()
    row: dict[str, Any] = {
        "seconds": round(time.monotonic() - begun, 1),
        "cpu_memory_gib": round(peak["RssAnon"] / GIB, 2),
        "mapped_gib": round(peak["RssFile"] / GIB, 2),
    }
    lines = out.strip().splitlines()
    if process.returncode:
        return {**row, "failed": (err.strip().splitlines() or ["?"])[-1][:300]}
    if lines and lines[-1].startswith("{"):
        return {**row, **json.loads(lines[-1])}
    return {**row, "last_line": lines[-1] if lines else ""}


def keep_peak(process: "subprocess.Popen[str]", peak: dict[str, int]) -> None:
    """Look at a process's memory until it ends."""
    while process.poll() is None:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        except OSError:
            return
        for line in status:
            name, _, rest = line.partition(":")
            if name in peak:
                peak[name] = max(peak[name], 1024 * int(rest.split()[0]))
        time.sleep(0.05)


def load(model: str, device: str) -> None:
    """Load once, touch every weight, and say what it took."""
    from phi3v.model import Checkpoint

    begun = time.monotonic()
    loaded = Checkpoint(model, dtype="bfloat16").load(device=torch.device(device))
    for weight in loaded.model.parameters():
        weight.sum()
    size = sum(weight.nbytes for weight in loaded.model.parameters())
    row = {"load_seconds": round(time.monotonic() - begun, 1), "weights_gib": round(size / GIB, 3)}
    if device == "cuda":
        row["gpu_peak_gib"] = round(torch.cuda.max_memory_allocated() / GIB, 3)
    print(json.dumps(row))


if __name__ == "__main__":
    if "--load" in sys.argv:
        load(sys.argv[1], sys.argv[3])
    else:
        main()
