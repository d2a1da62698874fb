"""Traces as a collector gets them: what API and worker did for a job stands in one trace, under the id of the job."""

import gzip
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from api.app import create_app
from jobs.otlp import OtlpTraces
from jobs.records import new_id
from jobs.settings import Settings
from jobs.traces import NoTraces
from tests.e2e.service import V1, Service
from tests.support import free_port, wait_until


class Collector:
    """Takes what exporters send, and keeps it."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, Any]] = []
        mine = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                mine.take(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Nothing: the output is the test's."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def take(self, sent: ExportTraceServiceRequest) -> None:
        for resource in sent.resource_spans:
            names = {item.key: item.value.string_value for item in resource.resource.attributes}
            self.spans += [(names["service.name"], span) for scope in resource.scope_spans for span in scope.spans]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


def classify(service: Service, text: str, **headers: str) -> str:
    answer = service.call(
        "POST",
        f"{V1}/classifications",
        json.dumps({"text": text}).encode(),
        {"Content-Type": "application/json", "Prefer": "wait=20", **headers},
    )
    assert answer.status == 200
    return str(answer.json["id"].partition("-")[0])


def test_the_trace_of_a_job_goes_from_the_request_to_the_record(service: Service, collector: Collector) -> None:
    service.env |= {
        "RUBRIKA_TRACES": "1",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "50",
    }
    service.start_all()
    client_trace = "0af7651916cd43dd8448eb211c80319c"
    job = classify(service, "тайна", traceparent=f"00-{client_trace}-b7ad6b7169203331-01")
    wait_until(lambda: len(mine(collector, job)) == 2, 20, what="both spans of the job")
    [(api, accept), (worker, compute)] = sorted(mine(collector, job), key=lambda found: found[1].name)
    assert (api, accept.name, worker, compute.name) == ("rubrika-api", "accept", "rubrika-worker", "compute")
    assert not accept.parent_span_id
    assert compute.parent_span_id == accept.span_id
    assert compute.span_id != accept.span_id
    assert [link.trace_id.hex() for link in accept.links] == [client_trace]
    moments = [compute.start_time_unix_nano, *(event.time_unix_nano for event in compute.events)]
    assert [event.name for event in compute.events] == ["prepared", "computed"]
    assert moments == sorted(moments)
    assert compute.end_time_unix_nano >= moments[-1]
    assert "тайна" not in str(collector.spans)


def mine(collector: Collector, job: str) -> list[tuple[str, Any]]:
    return [(process, span) for process, span in collector.spans if span.trace_id.hex() == job]


def test_a_collector_that_is_away_costs_nothing_but_its_traces(service: Service) -> None:
    service.env |= {"RUBRIKA_TRACES": "1", "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}"}
    service.start_all()
    classify(service, "всё равно", traceparent="00-nonsense")


def test_without_the_setting_there_are_none(settings: Settings) -> None:
    app = create_app(settings)
    assert isinstance(app.extensions["rubrika"].traces, NoTraces)
    app.extensions["rubrika"].bell.close()


def test_a_share_of_the_jobs_is_the_same_share_everywhere() -> None:
    sinks = {name: InMemorySpanExporter() for name in ("api", "worker")}
    traces = {name: OtlpTraces(0.25, name, sink) for name, sink in sinks.items()}
    jobs = [new_id() for _ in range(2000)]
    for job in jobs:
        traces["api"].accepted(job, 1, 2, {}, "")
    traces["worker"].computed(jobs, 1, 2, {}, {})
    for one in traces.values():
        one.close()
    api, worker = ({span.context.trace_id for span in sink.get_finished_spans()} for sink in sinks.values())
    assert api == worker
    # A quarter of two thousand, give or take more than chance will.
    assert 350 < len(api) < 650
