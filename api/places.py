"""Places for requests that hold a thread for long. Each key has its share of the threads of a process."""

import threading


class Places:
    """How many threads of this process each key holds, `most` at most. Safe to share."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._lock = threading.Lock()
        self._counts: dict[int, int] = {}

    def enter(self, key_id: int) -> bool:
        """Take a place; False when there is none. Who gets one gives it back with `leave`."""
        with self._lock:
            if self._counts.get(key_id, 0) >= self.most:
                return False
            self._counts[key_id] = self._counts.get(key_id, 0) + 1
            return True

    def leave(self, key_id: int) -> None:
        """Give a place back."""
        with self._lock:
            self._counts[key_id] -= 1
            if not self._counts[key_id]:
                del self._counts[key_id]

    def count(self) -> int:
        """How many places are taken."""
        return sum(self._counts.values())
