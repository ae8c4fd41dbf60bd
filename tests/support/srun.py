"""Starts a program as SLURM's srun does: so many processes of one node, told who they are.

    python tests/support/srun.py 2 train.py experiment=lora_r16 trainer=ddp

Signals are passed on to all of them, and the status is the highest of theirs, as srun's is.
"""

import os
import signal
import subprocess
import sys


def main(tasks: int, words: list[str]) -> int:
    """Starts the processes and waits for all of them."""
    shared = {
        "SLURM_JOB_ID": "4711", "SLURM_STEP_ID": "0", "SLURM_JOB_NAME": "train.sh",
        "SLURM_NTASKS": str(tasks), "SLURM_NTASKS_PER_NODE": str(tasks), "SLURM_NNODES": "1",
        "SLURM_NODEID": "0", "SLURM_NODELIST": "127.0.0.1",
    }  # fmt: skip
    processes = [
        subprocess.Popen(
            [sys.executable, *words],
            env={**os.environ, **shared, "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)},
        )
        for rank in range(tasks)
    ]

    def pass_on(number, frame):
        for process in processes:
            process.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, pass_on)
    return max(process.wait() for process in processes)


if __name__ == "__main__":
    raise SystemExit(main(int(sys.argv[1]), sys.argv[2:]))
