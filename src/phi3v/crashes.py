"""What is said when a library ends the process: torch's C++, a driver, a decoder of pictures.

tell_crashes()  # first thing in a program
"""

import faulthandler

_STDERR = 2


def tell_crashes() -> None:
    """Let the process say in which line of Python each of its threads was, should a library end it.

    The system alone would say "Segmentation fault" at best. The rank of the process is not said.
    Where somebody else listens already, as a test runner does, that stays.
    """
    if not faulthandler.is_enabled():
        faulthandler.enable(_STDERR)
