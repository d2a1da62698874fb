"""What the service adds to the network: a file through the whole service against `Classifier.predict` alone.

    python -m bench.throughput [--data FOLDER] [--count 5000] [--rounds 3] [--only ARM] [--keep]

All arms work on the same posts in one run, in turns and in random order. The service's time is from the first byte
of the upload to the moment when its last row is recorded; the classifier alone reads the posts from memory; the network
alone gets them tokenised.
"""

import argparse
import http.client
import json
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from bench.harness import in_turns, run, service, summary
from bench.keeping import keep, parsed, parser
from bench.posts import as_csv, read_posts
from jobs.settings import Settings
from ml.classifier import Classifier, Prepared
from ml.posts import Post
from worker.main import load_classifier

POLL_SECONDS = 0.5


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--data", type=Path, help="folder of CSV files with posts; without it posts are made up")
    made.add_argument("--count", type=int, default=5000)
    made.add_argument("--rounds", type=int, default=3)
    made.add_argument("--only", choices=("classifier", "network"), help="measure the service against this alone")
    options = parsed(made)
    posts = read_posts(options.data, options.count)
    data = as_csv(posts)
    alone = load_classifier(Settings.from_env())
    # Every round sends the same posts: with the cache only the first would be computed.
    with service(RUBRIKA_CACHE_ROWS="0") as running:
        prepared = alone.prepare([Post(**post) for post in posts])
        arms: dict[str, Callable[[], float]] = {
            "service": lambda: through_service(running.host, running.port, data, options.count),
            "classifier": lambda: by_classifier(alone, posts),
            "network": lambda: by_network(alone, prepared),
        }
        if options.only:
            arms = {name: arms[name] for name in ("service", options.only)}
        seconds = in_turns(arms, options.rounds, warm_ups=0)
        # Before the service ends: who does not wait for that loses nothing.
        keep("throughput", described(seconds, options, alone.backend), alone.info, options)


def described(seconds: Mapping[str, list[float]], options: argparse.Namespace, backend: str) -> dict[str, Any]:
    """Rates, and the service's share of the others' rates round by round."""
    rates = {name: summary([options.count / value for value in values]) for name, values in seconds.items()}
    ratios = {
        name: [alone / whole for alone, whole in zip(values, seconds["service"], strict=True)]
        for name, values in seconds.items()
        if name != "service"
    }
    return {
        "posts": options.count,
        "source": "given" if options.data else "made up",
        "rounds": options.rounds,
        "backend": backend,
        "posts_per_second": {name: {k: round(v, 1) for k, v in rate.items()} for name, rate in rates.items()},
        **{f"service_over_{name}": {k: round(v, 3) for k, v in summary(one).items()} for name, one in ratios.items()},
    }


def by_classifier(classifier: Classifier, posts: list[dict[str, str]]) -> float:
    """Seconds for all posts in one call, which sorts all of them by length: the hardest rival for chunks."""
    given = [Post(**post) for post in posts]
    started = time.perf_counter()
    classifier.predict(given)
    return time.perf_counter() - started


def by_network(classifier: Classifier, prepared: Prepared) -> float:
    """Seconds for all posts, tokenised before."""
    started = time.perf_counter()
    classifier.compute(prepared)
    return time.perf_counter() - started


def through_service(host: str, port: int, data: bytes, count: int) -> float:
    """Seconds from the start of the upload to the last recorded row, by the service's own clock."""
    connection = http.client.HTTPConnection(host, port, timeout=3600)
    started = time.time()
    job = call(connection, "POST", "/api/v1/jobs?filename=bench.csv", data, {"Content-Type": "text/csv"})
    pause = threading.Event()
    while not job["finished_at"]:
        pause.wait(POLL_SECONDS)
        job = call(connection, "GET", job["links"]["self"])
    assert job["rows"]["succeeded"] == count, job
    call(connection, "DELETE", job["links"]["self"])
    return datetime.fromisoformat(job["finished_at"]).timestamp() - started


def call(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
) -> Any:
    """One request; its JSON. Ends the benchmark when it is refused."""
    connection.request(method, path, body, headers or {})
    response = connection.getresponse()
    answer = response.read()
    if response.status >= 400:
        raise SystemExit(f"{response.status}: {answer.decode()}")
    return json.loads(answer) if answer else None


if __name__ == "__main__":
    run(main)
