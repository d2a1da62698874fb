"""Traces by OpenTelemetry's SDK, sent by OTLP over HTTP. Where to is said by its own variables, as everywhere:
OTEL_EXPORTER_OTLP_ENDPOINT and those beside it."""

from collections.abc import Iterable, Mapping, Sequence
from contextvars import ContextVar
from uuid import UUID

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from jobs.traces import Attributes

_RANDOM_BITS = 62
"""So many of the lowest bits of a UUIDv7 are random."""

_first_of: ContextVar[UUID | None] = ContextVar("first_of", default=None)


class OtlpTraces:
    """See `jobs.traces.Traces`. `share` of all jobs are traced, the same ones in every process."""

    def __init__(self, share: float, process: str, exporter: SpanExporter | None = None) -> None:
        self._below = round(share * (1 << _RANDOM_BITS))
        resource = Resource.create({"service.namespace": "rubrika", "service.name": f"rubrika-{process}"})
        # What is traced is decided here, before a span is made.
        self._provider = TracerProvider(sampler=ALWAYS_ON, resource=resource, id_generator=_Ids())
        self._provider.add_span_processor(BatchSpanProcessor(exporter or OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("rubrika")

    def accepted(self, job_id: UUID, begun: int, ended: int, attributes: Attributes, parent: str) -> None:
        """The first span of a trace."""
        if not self._is_traced(job_id):
            return
        token = _first_of.set(job_id)
        try:
            span = self._tracer.start_span(
                "accept", Context(), SpanKind.SERVER, _named(job_id, attributes), _links(parent), start_time=begun
            )
        finally:
            _first_of.reset(token)
        span.end(ended)

    def computed(
        self, job_ids: Iterable[UUID], begun: int, ended: int, moments: Mapping[str, int], attributes: Attributes
    ) -> None:
        """A span below the first one, in the trace of each job."""
        for job_id in job_ids:
            if not self._is_traced(job_id):
                continue
            first = SpanContext(job_id.int, _first_span(job_id), is_remote=True, trace_flags=TraceFlags(1))
            span = self._tracer.start_span(
                "compute",
                trace.set_span_in_context(NonRecordingSpan(first), Context()),
                SpanKind.CONSUMER,
                _named(job_id, attributes),
                start_time=begun,
            )
            for name, moment in moments.items():
                span.add_event(name, timestamp=moment)
            span.end(ended)

    def close(self) -> None:
        """Send what is left; a collector that is away is not waited for longer than its time-out."""
        self._provider.shutdown()

    def _is_traced(self, job_id: UUID) -> bool:
        return job_id.int & ((1 << _RANDOM_BITS) - 1) < self._below


class _Ids(IdGenerator):
    """Random ids, but for the first span of a job."""

    def __init__(self) -> None:
        self._random = RandomIdGenerator()

    def generate_trace_id(self) -> int:
        job_id = _first_of.get()
        return self._random.generate_trace_id() if job_id is None else job_id.int

    def generate_span_id(self) -> int:
        job_id = _first_of.get()
        return self._random.generate_span_id() if job_id is None else _first_span(job_id)


def _first_span(job_id: UUID) -> int:
    """The low half of the id, which is never zero: its highest bit is that of the variant."""
    return job_id.int & ((1 << 64) - 1)


def _named(job_id: UUID, attributes: Attributes) -> dict[str, str | int | float]:
    return {"rubrika.job": job_id.hex, **attributes}


def _links(parent: str) -> Sequence[Link]:
    given = trace.get_current_span(TraceContextTextMapPropagator().extract({"traceparent": parent}, Context()))
    context = given.get_span_context()
    return [Link(context)] if context.is_valid else []
