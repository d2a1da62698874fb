"""What `/metrics` shows: requests, which each API process counts, and the record, which every one reads alike.

The processes of one gunicorn share their counts through files (the multiprocess mode of prometheus_client), so that
whichever answers speaks for all. What workers and sweepers do stands in Postgres, see `jobs.meters`. Labels are route
templates, lanes, models and codes: nothing that a client can make up.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, multiprocess, values
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from sqlalchemy import Connection

from jobs import fleet, meters
from jobs.bell import Bell
from jobs.errors import UnavailableError
from jobs.glances import Glances
from jobs.meters import Meter, Readings

_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""Where prometheus_client keeps the counts of processes that share them."""

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Bounds of the histogram of requests; one that is held by `Prefer: wait` takes up to a minute."""

STAGES = {
    "read": Meter.READ_SECONDS,
    "recall": Meter.RECALL_SECONDS,
    "tokenise": Meter.TOKENISE_SECONDS,
    "network": Meter.NETWORK_SECONDS,
    "record": Meter.RECORD_SECONDS,
}


def share(folder: Path) -> None:
    """Let this process, which is one of several, keep its counts in `folder`. Before `Metrics` is made."""
    os.environ[_FOLDER] = str(folder)
    values.ValueClass = values.MultiProcessValue()  # type: ignore[no-untyped-call]


def forget_process(folder: Path, pid: int) -> None:
    """A process that shared its counts has ended: what it held is nobody's, what it has counted stays."""
    multiprocess.mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]


class Metrics:
    """The counts of this process, and the way to what all of them together say."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "rubrika_http_requests",
            "Requests answered, by the template of their route.",
            ("method", "route", "status"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "rubrika_http_request_seconds",
            "From the arrival of a request to the beginning of its answer; the rest of a download is not counted.",
            ("method", "route"),
            buckets=SECONDS,
            registry=self._registry,
        )
        self._streams = Gauge(
            "rubrika_streams",
            "Streams of events that are open.",
            multiprocess_mode="livesum",
            registry=self._registry,
        )

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)

    def streams(self, count: int) -> None:
        """Note how many streams this process holds."""
        self._streams.set(count)

    def exposition(self, glances: Glances, bell: Bell, accept: str) -> tuple[bytes, str]:
        """Everything in the format that `accept` asks for, and the media type of that."""
        everything = CollectorRegistry()
        everything.register(_Record(glances, bell))
        if _FOLDER in os.environ:
            multiprocess.MultiProcessCollector(everything)  # type: ignore[no-untyped-call]
        else:
            everything.register(self._registry)
        encode, media_type = choose_encoder(accept)
        return encode(everything), media_type


class _Record(Collector):
    """What Postgres and Redis say at this moment. While Postgres is away, or does not answer, only that is said."""

    def __init__(self, glances: Glances, bell: Bell) -> None:
        self._glances = glances
        self._bell = bell

    def collect(self) -> Iterator[Metric]:
        readings: Readings | None = None
        try:
            readings = self._glances.take(_readings)
        except UnavailableError:
            readings = None
        unheard = self._bell.unheard()
        yield _gauge("rubrika_postgres_up", "1 while Postgres answers.", float(readings is not None))
        yield _gauge("rubrika_redis_up", "1 while Redis answers.", float(unheard is not None))
        if unheard is not None:
            yield _gauge("rubrika_bells_unheard", "Messages in Redis that no worker has taken yet.", float(unheard))
        if readings is not None:
            yield from _queue(readings)
            yield from _work(readings)
            yield from _care(readings)


def _readings(connection: Connection) -> Readings:
    return meters.read(connection, alive_seconds=fleet.WORKER_ALIVE_SECONDS)


def _queue(readings: Readings) -> Iterator[Metric]:
    chunks = GaugeMetricFamily("rubrika_queue_chunks", "Chunks that wait or are in work.", labels=("lane", "state"))
    rows = GaugeMetricFamily("rubrika_queue_rows", "Rows that wait or are in work.", labels=("lane", "state"))
    oldest = GaugeMetricFamily(
        "rubrika_queue_oldest_seconds", "How long the oldest waiting chunk has waited; 0: none waits.", labels=("lane",)
    )
    for lane, waiting in readings.lanes.items():
        name = lane.name.lower()
        chunks.add_metric((name, "queued"), waiting.queued_chunks)
        chunks.add_metric((name, "running"), waiting.running_chunks)
        rows.add_metric((name, "queued"), waiting.queued_rows)
        rows.add_metric((name, "running"), waiting.running_rows)
        oldest.add_metric((name,), waiting.oldest_seconds)
    workers = GaugeMetricFamily("rubrika_workers", "Workers that are alive.", labels=("model", "device"))
    for group in readings.fleet:
        workers.add_metric((group.model, group.device), group.workers)
    yield from (chunks, rows, oldest, workers)


def _work(readings: Readings) -> Iterator[Metric]:
    sums = readings.sums
    yield _counter(
        "rubrika_rows",
        "Rows recorded by workers: computed, known from an equal text, or failed.",
        "answer",
        {
            "computed": sums[Meter.ROWS_COMPUTED],
            "cached": sums[Meter.ROWS_CACHED],
            "failed": sums[Meter.ROWS_FAILED],
        },
    )
    yield _counter(
        "rubrika_claims",
        "Claims that a worker has begun on, for the first time or after a worker was lost with them.",
        "attempt",
        {"first": sums[Meter.CLAIMS_FIRST], "again": sums[Meter.CLAIMS_AGAIN]},
    )
    yield _counter("rubrika_batches", "Batches that networks have computed.", None, {"": sums[Meter.BATCHES]})
    yield _counter(
        "rubrika_tokens",
        "Tokens in them: of texts, and those that only fill a batch up.",
        "kind",
        {"text": sums[Meter.TOKENS], "padding": sums[Meter.PADDING]},
    )
    yield _counter(
        "rubrika_stage_seconds",
        "Time that recorded claims took, by stage; stages of different claims run beside each other.",
        "stage",
        {stage: sums[meter] for stage, meter in STAGES.items()},
    )


def _care(readings: Readings) -> Iterator[Metric]:
    sums = readings.sums
    yield _counter("rubrika_sweeps", "Sweeps that were done.", None, {"": sums[Meter.SWEEPS]})
    yield _counter(
        "rubrika_leases_expired",
        "Leases that ran out: their chunk waits again, was split, or was one text and given up.",
        "outcome",
        {
            "requeued": sums[Meter.LEASES_REQUEUED],
            "split": sums[Meter.LEASES_SPLIT],
            "given_up": sums[Meter.LEASES_GIVEN_UP],
        },
    )
    if readings.swept_seconds is not None:
        yield _gauge("rubrika_last_sweep_seconds", "Time since the last sweep.", readings.swept_seconds)


def _gauge(name: str, help_text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, help_text, value=value)


def _counter(name: str, help_text: str, label: str | None, values: dict[str, float]) -> Metric:
    family = CounterMetricFamily(name, help_text, labels=(label,) if label else ())
    for value, count in values.items():
        family.add_metric((value,) if label else (), count)
    return family
