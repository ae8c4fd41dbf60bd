"""A run's log file, which a full disk keeps from growing and nothing else from going on.

    handlers: {file: {class: phi3v.config.log_file.LogFile, filename: train.log}}

logging itself prints a traceback for every message that cannot be written.
"""

import contextlib
import logging
import sys
from pathlib import Path


class LogFile(logging.FileHandler):
    """Leaves out what cannot be written, says so once, and tries again with the next message."""

    def __init__(self, filename: str | Path, mode: str = "a", encoding: str = "utf-8") -> None:
        super().__init__(filename, mode, encoding, delay=True)
        self._told = False
        with contextlib.suppress(OSError):  # the first message will tell
            self.stream = self._open()

    def emit(self, record: logging.LogRecord) -> None:
        """Write a message."""
        try:
            super().emit(record)  # opens the file, where there is none yet
        except OSError:
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """Say what is wrong, in one line for all messages."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
            return
        if not self._told:
            why = error.strerror or error
            print(f"{self.baseFilename}: messages are missing there ({why})", file=sys.stderr)
        self._told = True
        with contextlib.suppress(OSError):  # it would write what it has kept
            self.close()
