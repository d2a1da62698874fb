"""How often somebody may come: a bucket for each, in Redis, or in this process while Redis is away.

The rule is the generic cell rate algorithm (ITU-T I.371, annex A): of each bucket one number is kept, the time at which
it is full again. A bucket holds what may come in a minute, all at once if need be, and fills evenly.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from jobs.bell import redis_client

log = logging.getLogger(__name__)

WINDOW_SECONDS = 60

_TIMEOUT_SECONDS = 0.5
_AWAY_SECONDS = 1.0
_MOST_LOCAL = 10_000
"""Buckets of this process; those that are full again are forgotten when there are more."""

# The clock is that of Redis, so that those of the API's machines need not agree. Times are milliseconds.
_SCRIPT = """
local clock = redis.call('TIME')
local now = clock[1] * 1000 + clock[2] / 1000
local every, most = tonumber(ARGV[1]), tonumber(ARGV[2])
local full = math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), now) + every
local over = full - now - most * every
if over > 0.001 then
    return {0, 0, math.ceil(over), math.ceil(full - every - now)}
end
redis.call('SET', KEYS[1], string.format('%.3f', full), 'PX', math.ceil(full - now) + 1)
return {1, math.floor((most * every - (full - now)) / every + 0.001), 0, math.ceil(full - now)}
"""


@dataclass(frozen=True)
class Taken:
    """What a bucket says to one who comes: whether there was room, and how it stands now. Times are seconds."""

    allowed: bool
    most: int
    """What it holds, and what fills it again in a minute."""
    left: int
    retry_after: float
    full_after: float


class Limiter:
    """Buckets by name. One per process; safe to share between threads.

    While Redis is away each of `processes` keeps buckets of its own, with its share of the limit: nobody is refused
    because Redis is, and nobody has all doors open either.
    """

    def __init__(self, redis_url: str, *, processes: int = 1, clock: Callable[[], float] = time.monotonic) -> None:
        self._redis: Redis = redis_client(redis_url, timeout=_TIMEOUT_SECONDS)
        # A pooled connection may have died with a Redis that is back; a second try makes a new one, without a pause.
        self._redis.set_retry(Retry(NoBackoff(), 1))
        self._script = self._redis.register_script(_SCRIPT)
        self._processes = processes
        self._clock = clock
        self._lock = threading.Lock()
        self._away_until = float("-inf")
        self._full_at: dict[str, float] = {}

    def take(self, name: str, most: int) -> Taken:
        """Take one from the bucket called `name`, which holds `most`; one round trip to Redis. Never raises for Redis.

        Only one caller a second finds out that Redis is away, the others take from this process at once.
        """
        if self._clock() >= self._away_until:
            try:
                found = self._script(keys=[f"rubrika:limit:{name}"], args=[WINDOW_SECONDS * 1000 / most, most])
            except (RedisError, OSError) as error:
                self._away_until = self._clock() + _AWAY_SECONDS
                self._redis.connection_pool.disconnect(inuse_connections=False)
                log.warning("Redis is away, each process counts requests by itself: %s", error)
            else:
                allowed, left, retry_ms, full_ms = map(int, found)
                return Taken(bool(allowed), most, left, retry_ms / 1000, full_ms / 1000)
        return self._take_here(name, max(1, ceil(most / self._processes)))

    def close(self) -> None:
        """Give the connections back."""
        self._redis.close()

    def _take_here(self, name: str, most: int) -> Taken:
        every = WINDOW_SECONDS / most
        with self._lock:
            now = self._clock()
            if len(self._full_at) > _MOST_LOCAL:
                self._full_at = {name: at for name, at in self._full_at.items() if at > now}
            full = max(self._full_at.get(name, now), now) + every
            over = full - now - WINDOW_SECONDS
            if over > 1e-6:
                return Taken(False, most, 0, over, full - every - now)
            self._full_at[name] = full
        return Taken(True, most, int((WINDOW_SECONDS - (full - now)) / every + 0.001), 0.0, full - now)
