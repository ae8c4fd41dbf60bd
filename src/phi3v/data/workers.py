"""What a loader's worker does when signals come.

DataLoader(..., worker_init_fn=leave_signals_to_the_trainer)
"""

import os
import signal
import threading

_ENDING = {signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2}


def leave_signals_to_the_trainer(worker: int) -> None:
    """Lets the training process alone decide when a worker ends.

    It saves what it has and ends its workers by itself; without them it would fail instead. A
    terminal sends Ctrl-C to a whole group of processes, and who manages services or jobs may send
    SIGTERM to all of a tree.
    """
    os.setpgrp()
    if not hasattr(signal, "sigwaitinfo"):
        return  # macOS does not say who has sent a signal
    trainer = os.getppid()
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)

    def wait() -> None:
        while True:
            told = signal.sigwaitinfo(_ENDING)
            if told.si_signo == signal.SIGTERM and told.si_pid == trainer:
                os._exit(0)

    threading.Thread(target=wait, daemon=True).start()
