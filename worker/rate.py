"""How fast this worker computes, and so how much it should take at once."""

CLAIM_SECONDS = 2.0
"""A claim is about so much work: enough that its fixed costs do not show, little enough that a worker which dies or
is told to stop has not much in hand, and that the last rows of a file are not with one worker while others idle."""

LONG_CLAIM_SECONDS = 6.0
"""What a claim grows to while files keep this worker busy. More texts side by side are more of equal length: fuller
batches, of shapes that the network has just had, and fewer pauses between claims."""

GROWTH = 20
"""A claim is at most such a part of the time that the worker has been busy without a break. Where the last rows of a
file are with one worker alone, the others have then idled for little of what the file took."""

INTERACTIVE_SECONDS = 0.25
"""Waiting requests that are computed together are about so much work, because the next to come waits for them."""

MEMORY_SECONDS = 2.0
"""After so long a time of computing a measurement weighs half."""


def claim_seconds(busy: float) -> float:
    """Return how much work, in seconds, to claim of files after so many seconds without a break."""
    return max(CLAIM_SECONDS, min(LONG_CLAIM_SECONDS, busy / GROWTH))


class Rate:
    """Rows a second of computing, smoothed exponentially over that time: a claim that was nearly all known already, and
    so says little of the network, changes little."""

    def __init__(self) -> None:
        self._rows = 0.0
        self._seconds = 0.0

    def note(self, rows: int, seconds: float) -> None:
        """`rows` were computed in `seconds`."""
        if rows > 0 and seconds > 0:
            kept = 0.5 ** (seconds / MEMORY_SECONDS)
            self._rows = self._rows * kept + rows
            self._seconds = self._seconds * kept + seconds

    def rows_in(self, seconds: float) -> int:
        """About how many rows are computed in so many seconds: one at least, and one while nothing is known."""
        return max(1, int(self._rows / self._seconds * seconds)) if self._seconds else 1
