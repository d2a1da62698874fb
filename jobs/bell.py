"""The bell: Celery messages that say "there is work", and the wake-up of a request that waits for its result.

No message says what the work is. A lost, doubled or wiped one changes nothing but a delay until the sweeper rings
again. Nothing here raises when Redis is away: the record is in Postgres.
"""

import logging
import threading
import time
from uuid import UUID

from celery import Celery
from kombu.exceptions import KombuError
from redis import Redis
from redis.exceptions import RedisError

from jobs.settings import Settings

log = logging.getLogger(__name__)

QUEUE = "rubrika"
DRAIN_TASK = "rubrika.drain"
ENOUGH_BELLS = 32
"""With so many messages waiting already, one more would wake nobody sooner."""

_ONE_RETRY = {"max_retries": 1, "interval_start": 0.0, "interval_step": 0.0, "interval_max": 0.0}
"""A pooled connection may have died with a Redis that is long back; the second try makes a new one."""

_WAKE_SECONDS = 60
_AWAY_SECONDS = 1.0


def celery_app(settings: Settings, *, timeout: float = 5) -> Celery:
    """The Celery app that API, sweeper and workers share; `timeout` seconds of silence mean that Redis is away.

    Nothing connects yet.
    """
    app = Celery("rubrika", broker=settings.redis_url, set_as_current=False)
    app.conf.update(
        task_default_queue=QUEUE,
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_serializer="json",
        accept_content=["json"],
        # A worker takes a message when it is idle, which it knows by itself. A prefetch count would tell it as well,
        # but counts for ever a message whose acknowledgement was lost with the network: the worker would be deaf.
        worker_prefetch_multiplier=0,
        worker_disable_prefetch=True,
        worker_hijack_root_logger=False,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            "visibility_timeout": 600,
            "socket_timeout": timeout,
            "socket_connect_timeout": 2,
            # A consumer waits in silence, so a connection that the network lost without a word is found by asking: the
            # second question that stays unanswered makes a new one.
            "health_check_interval": 5,
        },
    )
    return app


def redis_client(redis_url: str, *, timeout: float) -> Redis:
    """A client with bounded waits, for the same server that Celery uses (also by its `redis+socket://` address)."""
    if redis_url.startswith("redis+socket://"):
        redis_url = "unix://" + redis_url.removeprefix("redis+socket://").replace("virtual_host=", "db=")
    return Redis.from_url(redis_url, socket_timeout=timeout, socket_connect_timeout=1, decode_responses=True)


class Bell:
    """Rings for workers, wakes requests, and waits to be woken. One per process; safe to share between threads."""

    def __init__(self, settings: Settings) -> None:
        self._app = celery_app(settings, timeout=2)
        self._redis = redis_client(settings.redis_url, timeout=2)
        self._waiting = redis_client(settings.redis_url, timeout=5)
        self._away_until = 0.0
        self._lock = threading.Lock()

    def ring(self, times: int = 1) -> bool:
        """Tell up to `times` workers that there is work; whether Redis has taken the message.

        Call it after the commit. While Redis is away only one caller a second finds that out, the others return at
        once, so that a stopped Redis costs a request two seconds at most.
        """
        if self._is_away():
            return False
        try:
            waiting = int(self._redis.llen(QUEUE))
            for _ in range(min(times, ENOUGH_BELLS - waiting)):
                self._app.send_task(DRAIN_TASK, queue=QUEUE, retry=True, retry_policy=_ONE_RETRY)
        except (RedisError, KombuError, OSError) as error:
            self._note_away(error)
            return False
        return True

    def unheard(self) -> int | None:
        """How many rings no worker has heard yet; None when Redis is away."""
        try:
            return int(self._redis.llen(QUEUE))
        except (RedisError, OSError) as error:
            self._note_away(error)
            return None

    def is_there(self) -> bool:
        """Whether Redis answers."""
        try:
            return bool(self._redis.ping())
        except (RedisError, OSError):
            return False

    def wake(self, jobs: list[UUID]) -> None:
        """Tell the requests that wait for these jobs to look again."""
        if not jobs or self._is_away():
            return
        try:
            with self._redis.pipeline(transaction=False) as pipe:
                for job in jobs:
                    pipe.lpush(_wake_key(job), 1)
                    pipe.expire(_wake_key(job), _WAKE_SECONDS)
                pipe.execute()
        except (RedisError, OSError) as error:
            self._note_away(error)

    def wait(self, job: UUID, seconds: float) -> None:
        """Return when `wake` was or is called for this job, or after `seconds` (four at most), whichever is sooner.

        A list is used rather than a channel, so that a wake-up that came before the wait is not missed.
        """
        try:
            self._waiting.blpop([_wake_key(job)], timeout=max(0.01, min(seconds, 4.0)))
        except (RedisError, OSError) as error:
            self._note_away(error)
            threading.Event().wait(min(seconds, 0.2))

    def close(self) -> None:
        """Give the connections back."""
        self._app.close()
        self._redis.close()
        self._waiting.close()

    def _is_away(self) -> bool:
        with self._lock:
            return time.monotonic() < self._away_until

    def _note_away(self, error: Exception) -> None:
        with self._lock:
            self._away_until = time.monotonic() + _AWAY_SECONDS
        # What the network lost without a word would cost the next one who draws it from the pool a timeout of its own.
        for client in (self._redis, self._waiting):
            client.connection_pool.disconnect(inuse_connections=False)
        log.warning("Redis is away, the sweeper will ring later: %s", error)


def _wake_key(job: UUID) -> str:
    return f"rubrika:wake:{job.hex}"
