"""How much a request costs above the network: `Prefer: wait=10` on an idle service against `Classifier.predict`.

    python -m bench.latency [--data FOLDER] [--count 200] [--keep]

The two arms alternate text by text in one run. The service is started as a user starts it; the network alone runs in
this process with the same model, threads and backend, while the service is idle.
"""

import http.client
import json
import statistics
import time
from pathlib import Path

from bench.harness import run, service, summary
from bench.keeping import keep, parsed, parser
from bench.posts import read_posts
from jobs.settings import Settings
from ml.classifier import Classifier
from ml.posts import Post
from worker.main import load_classifier


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--data", type=Path, help="folder of CSV files with posts; without it posts are made up")
    made.add_argument("--count", type=int, default=200)
    options = parsed(made)
    posts = read_posts(options.data, options.count + 10)
    alone = load_classifier(Settings.from_env())
    with service(RUBRIKA_CACHE_ROWS="0") as running:
        connection = http.client.HTTPConnection(running.host, running.port)
        for post in posts[:10]:
            ask(connection, post)
            compute(alone, post)
        requests, network = [], []
        for post in posts[10:]:
            requests.append(ask(connection, post))
            network.append(compute(alone, post))
        above = [request - net for request, net in zip(requests, network, strict=True)]
        difference = statistics.median(requests) - statistics.median(network)
        result = {
            "texts": options.count,
            "posts": "given" if options.data else "made up",
            "start_seconds": round(running.seconds, 2),
            "backend": alone.backend,
            "request_ms": rounded(requests),
            "network_ms": rounded(network),
            "above_network_ms": rounded(above),
            "p50_request_minus_p50_network_ms": round(1e3 * difference, 2),
        }
        # Before the service ends: who does not wait for that loses nothing.
        keep("latency", result, alone.info, options)


def ask(connection: http.client.HTTPConnection, post: dict[str, str]) -> float:
    """Seconds of one request that waits for its result."""
    body = json.dumps(post, ensure_ascii=False).encode()
    headers = {"Content-Type": "application/json", "Prefer": "wait=10"}
    started = time.perf_counter()
    connection.request("POST", "/api/v1/classifications", body, headers)
    response = connection.getresponse()
    answer = response.read()
    seconds = time.perf_counter() - started
    if response.status != 200:
        raise SystemExit(f"{response.status}: {answer.decode()}")
    return seconds


def compute(classifier: Classifier, post: dict[str, str]) -> float:
    """Seconds of the same text by the classifier alone."""
    started = time.perf_counter()
    classifier.predict([Post(**post)])
    return time.perf_counter() - started


def rounded(seconds: list[float]) -> dict[str, float]:
    """A summary in milliseconds."""
    return {name: round(1e3 * value, 2) for name, value in summary(seconds).items()}


if __name__ == "__main__":
    run(main)
