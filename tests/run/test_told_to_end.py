"""Where nothing is there to be saved, a signal ends a program with its own status."""

import os
import signal
import time

import pytest

from phi3v.run.told_to_end import SIGNALS, leaving_when_told


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_an_exit_with_its_status(number):
    def told():
        with leaving_when_told():
            os.kill(os.getpid(), number)
            time.sleep(5)

    with pytest.raises(SystemExit) as caught:
        told()
    assert caught.value.code == 128 + number
    assert signal.getsignal(number) == signal.SIG_DFL


def test_who_listens_already_goes_on_listening():
    heard = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: heard.append(number))
    try:
        with leaving_when_told():
            os.kill(os.getpid(), signal.SIGUSR1)
            time.sleep(0.1)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert heard == [signal.SIGUSR1]
