"""What a sweep of eight jobs costs beside eight separate runs of the same: time, start to report.

    python benchmarks/sweep.py         # about five minutes; writes benchmarks/results/sweep.json

Both have the catalogue drawn already. Four separate runs come before the sweep and four behind it,
so that a machine that grows slower or faster meanwhile meets both. Jobs of one process on the CPU
are forks of one that has imported everything; on GPUs, or of several processes, nothing is saved.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RATES = [0.0005, 0.001, 0.0015, 0.002, 0.0025, 0.003, 0.0035, 0.004]
RECIPE = ("experiment=lora_r16", "data.rows=608", "trainer.max_epochs=1")


def run(words: list[str], folder: Path) -> float:
    """Seconds that `python train.py <words>` takes."""
    begun = time.monotonic()
    subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *RECIPE, *words],
        cwd=folder, check=True, stdout=subprocess.DEVNULL,
        env={
            **os.environ,
            "PHI3V_CACHE": str(folder / "cache"),
            "PHI3V_RUNS": str(folder / "runs"),
        },
    )  # fmt: skip
    return time.monotonic() - begun


def main() -> None:
    """Measure both and write the result."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(["trainer.max_steps=1"], folder)  # draws the catalogue
        shutil.rmtree(folder / "runs")
        half = len(RATES) // 2
        before = [run([f"optimizer.lr={rate}"], folder) for rate in RATES[:half]]
        swept = run(["-m", f"optimizer.lr={','.join(map(str, RATES))}"], folder)
        behind = [run([f"optimizer.lr={rate}"], folder) for rate in RATES[half:]]
        separate = sum(before) + sum(behind)
        jobs = [json.loads(file.read_text())["objective"] for file in folder.rglob("outcome.json")]
    result = {
        "date": str(date.today()),
        "machine": f"{os.cpu_count()} CPU cores, {platform.machine()}",
        "recipe": " ".join(RECIPE),
        "jobs": len(RATES),
        "separate_runs_s": round(separate, 1),
        "before_and_behind_the_sweep_s": [round(sum(before), 1), round(sum(behind), 1)],
        "sweep_s": round(swept, 1),
        "sweep_over_separate": round(swept / separate, 3),
        "objectives": sorted({round(one, 6) for one in jobs if one is not None}),
    }
    file = ROOT / "benchmarks" / "results" / "sweep.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(result, indent=2) + "\n")
    print(file.read_text())


if __name__ == "__main__":
    main()
