"""Ctrl-C and SIGTERM, for commands that end in order."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

EXIT_CODE = 128
"""To be added to the number of the signal, as shells do."""


class Interruption:
    """Ctrl-C and SIGTERM as KeyboardInterrupt, but never while rows are being written: none is cut in two."""

    def __init__(self) -> None:
        self.signal: int = signal.SIGINT
        self._writing = False
        self._pending = False

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Catch the signals within."""
        before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def postponed(self) -> Iterator[None]:
        """Let what is done within come to its end first."""
        self._writing = True
        try:
            yield
        finally:
            self._writing = False
        if self._pending:
            raise KeyboardInterrupt

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        # Who asks a second time does not want to wait, for a reader of the pipe that does not read, say.
        impatient, self._pending, self.signal = self._pending, True, number
        if impatient or not self._writing:
            raise KeyboardInterrupt
