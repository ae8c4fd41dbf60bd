"""What the README's first command costs: time to the first step, to the end, and memory.

    python benchmarks/demo.py                     # twice: with and without the catalogue drawn
    python benchmarks/demo.py seed=3 data.rows=500

Prints one JSON object a run, with hardware and date.
"""

import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def measure(words: list[str], cache: str, runs: str) -> dict[str, object]:
    """Runs the program once and notes when it printed what."""
    environment = {**os.environ, "PHI3V_CACHE": cache, "PHI3V_RUNS": runs}
    began = time.perf_counter()
    first_step = None
    lines = []
    with subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), "experiment=lora_r16", *words],
        stdout=subprocess.PIPE, text=True, env=environment,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line.rstrip())
            if first_step is None and line.startswith("step 1/"):
                first_step = time.perf_counter() - began
    seconds = time.perf_counter() - began
    if process.returncode != 0:
        raise SystemExit(f"error: the program ended with status {process.returncode}")
    run = Path(lines[-1].removeprefix("run: "))
    figures = json.loads((run / "metrics.json").read_text())["metrics"]
    return {
        "seconds": round(seconds, 1),
        "seconds_to_first_step": round(first_step or float("nan"), 1),
        # Of the largest process; Linux counts in KiB.
        "peak_gib": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20, 2),
        "figures": {name: value for name, value in figures.items() if name.startswith("test/")},
    }


def main() -> None:
    """Measures a first and a second start."""
    with tempfile.TemporaryDirectory() as folder:
        for catalogue in ("drawn in this run", "drawn before"):
            found = measure(sys.argv[1:], f"{folder}/cache", f"{folder}/runs")
            found |= {
                "catalogue": catalogue,
                "date": datetime.now(UTC).date().isoformat(),
                "hardware": f"{os.cpu_count()} cores, {platform.machine()}",
                "python": platform.python_version(),
            }
            print(json.dumps(found, indent=1), flush=True)


if __name__ == "__main__":
    main()
