"""Files of many rows through the whole service, beside what Postgres itself does with the same bytes.

    python -m bench.files [--data FOLDER] [--rows 1000000] [--rounds 2] [--keep]

One service (embedded servers, API, sweeper) and one worker with a classifier that costs nothing, so that what is
measured is everything but the network: a file is accepted, worked off, asked about and exported. Beside it, in the
same run and on the same Postgres: a bare COPY of the same file into a bare unlogged table, and a bare ordered COPY out
of the job's texts. Then a worker with the shipped model is saturated by a file while single texts ask for their topics;
where it is done with the file sooner than with the texts, that is named in `not_measured`.
"""

import csv
import http.client
import io
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg2

from bench.harness import Running, run, say, service, started, summary
from bench.keeping import keep, parsed, parser
from bench.posts import as_csv, read_posts
from bench.throughput import call
from jobs.settings import Settings
from local.postgres import EmbeddedPostgres
from local.valkey import EmbeddedValkey
from ml import artifact
from ml.posts import FIELDS

COLUMNS = (*FIELDS, "url", "published", "likes")
ROW_BYTES = 1000
BLOCK = 1 << 20


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--data", type=Path, help="folder of CSV files with posts; without it posts are made up")
    made.add_argument("--rows", type=int, default=1_000_000)
    made.add_argument("--rounds", type=int, default=2)
    made.add_argument("--requests", type=int, default=40, help="of each kind on the large job")
    options = parsed(made)
    model = artifact.read(Settings.from_env().model).info
    result: dict[str, Any] = {"rows": options.rows, "source": "given" if options.data else "made up"}
    with tempfile.TemporaryDirectory(prefix="rubrika-bench-file-") as folder:
        file = Path(folder) / "posts.csv"
        write_file(file, options.data, options.rows)
        result["bytes_per_row"] = round(file.stat().st_size / options.rows)
        with service(RUBRIKA_WORKERS="0") as running:
            result |= measure_files(running, file, options.rows, options.rounds, options.requests)
            # What follows may fail, and a million rows are not read again for that.
            say(json.dumps(result, ensure_ascii=False))
    with service() as running:
        result |= measure_interactive(running, options.data)
        # Before the service ends: who does not wait for that loses nothing.
        keep("files", result, model, options)


def write_file(file: Path, data: Path | None, rows: int) -> None:
    """A CSV of posts that all differ, filled up or cut to about `ROW_BYTES` each."""
    posts = read_posts(data, 5000)
    shuffler = random.Random(7)
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        for number in range(rows):
            texts = [shuffler.choice(posts)[name] for name in FIELDS]
            room = ROW_BYTES // 2 - 60
            texts[1], texts[2] = texts[1][: room // 4], texts[2][: room // 4]
            texts[0] = f"{number} {texts[0]}"
            while sum(map(len, texts)) < room:
                texts[0] += f" {shuffler.choice(posts)['doc_text']}"
            texts[0] = texts[0][: room - len(texts[1]) - len(texts[2])]
            writer.writerow([*texts, f"https://example.org/wall-{number}", "2026-01-02T03:04:05Z", number % 997])


# --- a large file ---------------------------------------------------------------------------------------------------


def measure_files(running: Running, file: Path, rows: int, rounds: int, requests: int) -> dict[str, Any]:
    """Acceptance, the whole path, what is asked of the finished job, and its exports."""
    postgres = EmbeddedPostgres(running.data_dir)
    rates: dict[str, list[float]] = {}

    def note(name: str, begun: float) -> None:
        rates.setdefault(name, []).append(rows / (time.perf_counter() - begun))
        say(f"{name}: {rates[name][-1]:,.0f} rows/s")

    connection = http.client.HTTPConnection(running.host, running.port, timeout=3600)
    job: dict[str, Any] = {}
    for _ in range(rounds):
        for arm in random.sample(["bare COPY", "accepted"], 2):
            begun = time.perf_counter()
            if arm == "accepted":
                if job:
                    call(connection, "DELETE", job["links"]["self"])
                    begun = time.perf_counter()
                job = upload(connection, file)
            else:
                bare_copy(postgres, file)
            note(arm, begun)
    peak = api_peak_bytes(running)
    with fake_worker(running, postgres) as worker:
        begun = time.perf_counter()
        wait_finished(connection, job, worker)
        note("worked off", begun)
        call(connection, "DELETE", job["links"]["self"])
        forget_answers(postgres)
        begun = time.perf_counter()
        job = upload(connection, file)
        wait_finished(connection, job, worker)
        note("whole path", begun)
    seconds = {
        name: with_p95([timed(connection, path) for _ in range(requests)]) for name, path in questions(job).items()
    }
    for _ in range(rounds):
        for name in random.sample(["bare ordered COPY out", "csv", "ndjson", "parquet"], 4):
            begun = time.perf_counter()
            if name == "bare ordered COPY out":
                bare_copy_out(postgres, job)
            else:
                download(connection, job["links"][name])
            note(f"exported: {name}", begun)
    if rows < 1_048_576:
        begun = time.perf_counter()
        download(connection, job["links"]["xlsx"])
        note("exported: xlsx", begun)
    return {
        "rows_per_second": {name: round(max(found)) for name, found in rates.items()},
        "rounds": {name: [round(value) for value in found] for name, found in rates.items()},
        "accepted_over_bare_copy": round(max(rates["accepted"]) / max(rates["bare COPY"]), 2),
        "api_peak_mib": {"after uploads": peak, "after exports": api_peak_bytes(running)},
        "milliseconds": {name: milliseconds(found) for name, found in seconds.items()},
    }


def upload(connection: http.client.HTTPConnection, file: Path) -> dict[str, Any]:
    with file.open("rb") as stream:
        headers = {"Content-Type": "text/csv", "Content-Length": str(file.stat().st_size)}
        connection.request("POST", f"/api/v1/jobs?filename={file.name}", stream, headers)
        response = connection.getresponse()
        answer = response.read()
    if response.status != 202:
        raise SystemExit(f"{response.status}: {answer.decode()}")
    job: dict[str, Any] = json.loads(answer)
    return job


def bare_copy(postgres: EmbeddedPostgres, file: Path) -> None:
    """The same bytes into a table without keys, logs or checks: as fast as this Postgres takes them."""
    with closing(psycopg2.connect(postgres.dsn_of("rubrika"))) as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE UNLOGGED TABLE bare ({', '.join(f'{name} text' for name in COLUMNS)})")
        with file.open("rb") as stream:
            cursor.copy_expert("COPY bare FROM STDIN (FORMAT csv, HEADER)", stream, BLOCK)
        connection.commit()
        cursor.execute("DROP TABLE bare")
        connection.commit()


def bare_copy_out(postgres: EmbeddedPostgres, job: dict[str, Any]) -> None:
    """The job's texts and results by key, as CSV into nothing."""

    class Nothing(io.RawIOBase):
        def write(self, data: Any) -> int:
            return len(data)

    with closing(psycopg2.connect(postgres.dsn_of("rubrika"))) as connection, connection.cursor() as cursor:
        query = cursor.mogrify(
            "COPY (SELECT doc_text, image2text, speech2text, extra, row_no FROM texts WHERE job_id = %s "
            "ORDER BY job_id, row_no) TO STDOUT (FORMAT csv)",
            (job["id"],),
        )
        cursor.copy_expert(query, Nothing(), BLOCK)


def forget_answers(postgres: EmbeddedPostgres) -> None:
    """Empty the cache of answers: the next file is new to the worker, and every row of it is computed."""
    with closing(psycopg2.connect(postgres.dsn_of("rubrika"))) as connection, connection.cursor() as cursor:
        cursor.execute("TRUNCATE answers")
        connection.commit()


@contextmanager
def fake_worker(running: Running, postgres: EmbeddedPostgres, *module: str) -> Iterator["subprocess.Popen[str]"]:
    """A worker process whose classifier costs nothing, at the service's own servers; `module` names another.

    What it has to warn of goes where our own errors go: a worker that fails is not to look like one that is slow.
    """
    env = {
        **os.environ,
        "DATABASE_URL": postgres.url,
        "REDIS_URL": EmbeddedValkey(running.data_dir).url,
        "FAKE_SECONDS": "0",
        "RUBRIKA_LOG_LEVEL": "WARNING",
    }
    with started([sys.executable, "-m", *(module or ("tests.fake_classifier",))], env) as process:
        yield process


def wait_finished(
    connection: http.client.HTTPConnection, job: dict[str, Any], worker: "subprocess.Popen[str]"
) -> dict[str, Any]:
    """The job when all its rows are computed. Ends the benchmark with the first that fails, or with its only worker."""
    pause = threading.Event()
    while True:
        found: dict[str, Any] = call(connection, "GET", job["links"]["self"])
        if found["rows"]["failed"]:
            raise SystemExit(f"Rows have failed, so nothing is measured: {found}")
        if found["finished_at"]:
            return found
        if worker.poll() is not None:
            raise SystemExit(f"The worker has ended with {worker.returncode} before the job: {found}")
        pause.wait(0.2)


def questions(job: dict[str, Any]) -> dict[str, str]:
    """What a page asks of a large job."""
    results = job["links"]["results"]
    return {
        "job": job["links"]["self"],
        "summary": job["links"]["summary"],
        "page of results": f"{results}?limit=100",
        "page by topic": f"{results}?limit=100&topic=sport&min_probability=0.9",
        "page that finds nothing": f"{results}?limit=100&topic=ads&min_probability=0.99",
        "page by words": f"{results}?limit=100&q=%D1%8F%D0%B7%D1%8B%D0%BA%D1%8A",
    }


def timed(connection: http.client.HTTPConnection, path: str) -> float:
    begun = time.perf_counter()
    call(connection, "GET", path)
    return time.perf_counter() - begun


def with_p95(values: list[float]) -> dict[str, float]:
    """A summary, and the 95th percentile of the same values."""
    return summary(values) | {"p95": sorted(values)[int(0.95 * (len(values) - 1) + 0.5)]}


def milliseconds(seconds: dict[str, float]) -> dict[str, float]:
    return {name: round(value * 1000, 1) for name, value in seconds.items()}


def download(connection: http.client.HTTPConnection, path: str) -> int:
    connection.request("GET", path)
    response = connection.getresponse()
    if response.status != 200:
        raise SystemExit(f"{response.status}: {response.read().decode()}")
    size = 0
    while block := response.read(BLOCK):
        size += len(block)
    return size


def api_peak_bytes(running: Running) -> float:
    """The largest peak of memory (VmHWM) among the processes of the API, in MiB."""
    peaks = []
    for child in psutil.Process(running.pid).children(recursive=True):
        # Some live no longer than a file is read.
        with suppress(psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
            if "api" in child.cmdline():
                status = Path(f"/proc/{child.pid}/status").read_text()
                peaks += [int(peak) / 1024 for peak in re.findall(r"VmHWM:\s+(\d+)", status)]
    return round(max(peaks), 1)


# --- a single text beside a file ------------------------------------------------------------------------------------


def measure_interactive(running: Running, data: Path | None, count: int = 60) -> dict[str, Any]:
    """Seconds of single texts alone, and while a file keeps the only worker busy."""
    connection = http.client.HTTPConnection(running.host, running.port, timeout=600)
    posts = read_posts(data, 4000, seed=3)
    alone = [ask(connection, post, number) for number, post in enumerate(posts[:count])]
    job = call(connection, "POST", "/api/v1/jobs?filename=bulk.csv", as_csv(posts), {"Content-Type": "text/csv"})
    pause = threading.Event()
    while call(connection, "GET", job["links"]["self"])["status"] == "queued":
        pause.wait(0.1)
    beside = [ask(connection, post, number) for number, post in enumerate(posts[count : 2 * count])]
    found = {"alone": milliseconds(with_p95(alone))}
    if (still := call(connection, "GET", job["links"]["self"]))["status"] != "running":
        reason = f"too fast: of {len(posts)} rows none was left when {count} texts were answered ({still['status']})"
        return {"one_text_milliseconds": found, "not_measured": {"one text beside a file": reason}}
    return {"one_text_milliseconds": found | {"beside a file": milliseconds(with_p95(beside))}, "not_measured": {}}


def ask(connection: http.client.HTTPConnection, post: dict[str, str], number: int) -> float:
    """Seconds of one text that was not seen before."""
    body = json.dumps(post | {"doc_text": f"{post['doc_text']} {number}"}).encode()
    begun = time.perf_counter()
    answer = call(
        connection,
        "POST",
        "/api/v1/classifications",
        body,
        {"Content-Type": "application/json", "Prefer": "wait=30"},
    )
    assert answer["status"] == "succeeded", answer
    return time.perf_counter() - begun


if __name__ == "__main__":
    run(main)
