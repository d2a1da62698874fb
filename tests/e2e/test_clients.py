"""The command and the package against a real service: what docs/client.md shows, and kills at every stage."""

import csv
import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from jobs.settings import PROJECT_ROOT
from tests.e2e.chaos import sql
from tests.e2e.rows import assert_whole, posts
from tests.e2e.service import Service
from tests.support import chapter, code_blocks, environment_outside, free_port, wait_until

BLOCKS = re.findall(
    r"^```(\w+)\n(.*?)^```$", (PROJECT_ROOT / "docs" / "client.md").read_text(), re.DOTALL | re.MULTILINE
)
README = (PROJECT_ROOT / "README.md").read_text()
INTERRUPTED = 128 + signal.SIGINT


def environment(service: Service) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**environment_outside(), "RUBRIKA_URL": service.url, "PATH": path, "PYTHONPATH": str(PROJECT_ROOT)}


def output_of(service: Service, folder: Path, *command: str) -> str:
    """What a command prints that succeeds in this folder."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment(service),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{service.tails()}"
    return done.stdout


Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start(service: Service, tmp_path: Path) -> Iterator[Start]:
    """Start `rubrika classify` with these arguments in the folder of the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str) -> "subprocess.Popen[bytes]":
        process = subprocess.Popen(
            [sys.executable, "-m", "cli.main", "classify", *arguments],
            cwd=tmp_path,
            env=environment(service),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def ended(process: "subprocess.Popen[bytes]") -> tuple[int, str, str]:
    out, err = process.communicate(timeout=120)
    return process.returncode, out.decode(), err.decode()


def count_of_jobs(service: Service) -> int:
    [(count,)] = sql(service.settings.database_url, "SELECT count(*) FROM jobs")
    return int(count)


def results_of(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_examples_of_the_guide_run(service: Service, tmp_path: Path) -> None:
    service.start_all()
    (tmp_path / "posts.csv").write_text("text\nНаши выиграли матч\nПродам гараж\n")
    for language in ("sh", "python"):
        program = "".join(block for found, block in BLOCKS if found == language)
        assert program.count("\n") > 3
        command = ["bash", "-ec"] if language == "sh" else [sys.executable, "-W", "error", "-c"]
        printed = output_of(service, tmp_path, *command, program)
    assert "there is no such job" in printed
    assert "missing_column" in printed
    assert (tmp_path / "results.csv").read_text().startswith("\ufefftext,row,sport,ads,topics")
    assert (tmp_path / "results.parquet").read_bytes().startswith(b"PAR1")
    assert len(json.loads((tmp_path / "results.json").read_text())) == 2


def test_a_terminal_shows_how_far_it_is_and_how_long_it_takes(service: Service, tmp_path: Path) -> None:
    service.start_all(FAKE_SECONDS="0.003")
    _, data = posts(2000)
    (tmp_path / "posts.csv").write_bytes(data)
    terminal, end = pty.openpty()
    command = [sys.executable, "-m", "cli.main", "classify", "posts.csv", "-o", "a.csv"]
    running = subprocess.Popen(command, cwd=tmp_path, env=environment(service), stdout=end, stderr=end)
    os.close(end)
    seen = b""
    # A terminal whose other end is closed is an error, and not an end, on Linux.
    with suppress(OSError):
        while block := os.read(terminal, 10_000):
            seen += block
    os.close(terminal)
    assert running.wait(60) == 0
    shown = re.sub(r"\x1b\[[0-9;?]*\w", "", seen.decode())
    assert re.search(r"upload +\[#+\] +100%", shown), shown
    assert re.search(r"classify +\[#+-+\] +\d+/2000 +\d+ rows/s, \d+ s left", shown), shown
    assert re.search(r"classify +\[#+\] +2000/2000", shown), shown
    assert "2000 rows by fake@1.0.0; none failed" in shown


def test_a_kill_while_the_file_is_computed_costs_nothing(service: Service, start: Start, tmp_path: Path) -> None:
    service.start_all(FAKE_SECONDS="0.003")
    texts, data = posts(3000)
    (tmp_path / "posts.csv").write_bytes(data)
    command = ("posts.csv", "--out", "results.ndjson")
    note = tmp_path / "results.ndjson.rubrika"
    first = start(*command)
    wait_until(lambda: note.exists() and note.read_bytes(), 60, what="the file to be accepted")
    service.kill(first)
    second = start(*command)
    assert second.stderr
    assert b"posts.csv is job" in second.stderr.readline()
    second.send_signal(signal.SIGINT)
    code, _, err = ended(second)
    assert code == INTERRUPTED, err
    assert "the same command" in err
    assert not (tmp_path / "results.ndjson").exists()
    code, _, err = ended(start(*command))
    assert (code, "3000 rows by fake@1.0.0; none failed" in err) == (0, True), err
    assert_whole(results_of(tmp_path / "results.ndjson"), texts)
    assert count_of_jobs(service) == 1
    assert sorted(path.name for path in tmp_path.iterdir() if "results" in path.name) == ["results.ndjson"]


def test_a_kill_during_the_upload_makes_no_second_job(service: Service, start: Start, tmp_path: Path) -> None:
    service.start_all()
    api = service.processes[0]
    texts, data = posts(20_000)
    (tmp_path / "posts.csv").write_bytes(data)
    command = ("posts.csv", "--out", "results.ndjson")
    # Frozen as a whole when the first bytes have been written somewhere: the client fills the buffers and waits.
    first = start(*command)
    copying = "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'COPY%%' AND state <> 'idle' AND pid <> pg_backend_pid()"
    wait_until(lambda: sql(service.settings.database_url, copying) or count_of_jobs(service), 60, every=0.001)
    os.killpg(api.pid, signal.SIGSTOP)
    service.kill(first)
    os.killpg(api.pid, signal.SIGCONT)
    code, _, err = ended(start(*command))
    assert code == 0, err
    assert_whole(results_of(tmp_path / "results.ndjson"), texts)
    assert count_of_jobs(service) == 1


def test_a_restart_of_the_api_is_waited_for(service: Service, start: Start, tmp_path: Path) -> None:
    service.start_all(FAKE_SECONDS="0.005")
    texts, data = posts(600)
    (tmp_path / "posts.csv").write_bytes(data)
    command = start("posts.csv", "--format", "ndjson")
    wait_until(lambda: sql(service.settings.database_url, "SELECT 1 FROM results LIMIT 1"), 60, what="a result")
    service.kill(service.processes[0])
    service.start("api")
    code, out, err = ended(command)
    assert code == 0, err
    assert_whole([json.loads(line) for line in out.splitlines()], texts)


def test_what_cannot_be_used_is_said_in_words(service: Service, start: Start, tmp_path: Path) -> None:
    service.env |= {"RUBRIKA_MAX_BODY_BYTES": "100000"}
    service.start_all()
    (tmp_path / "open.csv").write_text('text,n\nа,1\n"не закрыта\n')
    (tmp_path / "large.csv").write_bytes(b"text\n" + b"a\n" * 100_000)
    (tmp_path / "good.csv").write_text("text\nматч\n!fail\n")
    expected = {
        ("open.csv", "-o", "a.csv"): "(at line 3",
        ("large.csv", "-o", "a.csv"): "limit of 100000 bytes",
        ("good.csv", "-o", "a.doc"): "ends in none of",
        ("good.csv", "-o", "nowhere/a.csv"): "cannot be written",
        ("good.csv", "-o", "a.csv", "--thresholds", "chess:0.5"): "The topics are sport, ads",
        ("good.csv", "-o", "a.csv", "--thresholds", "sport:2"): "number from 0 to 1",
        ("good.csv", "-o", "a.csv", "--url", f"http://127.0.0.1:{free_port()}"): "Nobody answers",
        ("good.csv", "-o", "a.csv", "--url", "ftp://127.0.0.1"): "http",
    }
    for arguments, words in expected.items():
        code, out, err = ended(start(*arguments))
        assert (code, out) == (2, ""), (arguments, err)
        assert words in err, err
        assert "Traceback" not in err
    assert not list(tmp_path.glob("a.*"))
    code, _, err = ended(start("good.csv", "-o", "a.csv"))
    assert code == 1
    assert "1 failed (model_failed 1)" in err


def test_a_cancelled_job_is_said_and_computed_anew_under_another_name(
    service: Service, start: Start, tmp_path: Path
) -> None:
    service.start("api")
    service.start("sweeper")
    wait_until(lambda: service.get("/healthz").status == 200, 60, every=0.1)
    (tmp_path / "posts.csv").write_text("text\nматч\n")
    waiting = start("posts.csv", "-o", "a.csv")
    [(job,)] = wait_until(lambda: sql(service.settings.database_url, "SELECT replace(id::text, '-', '') FROM jobs"), 60)
    assert service.call("POST", f"/api/v1/jobs/{job}/cancel", b"").status == 202
    code, _, err = ended(waiting)
    assert (code, "was cancelled after 0 of 1 rows" in err) == (2, True), err
    assert not list(tmp_path.glob("a.*"))
    service.start("fake")
    code, _, err = ended(start("posts.csv", "-o", "a.csv", "--run", "2"))
    assert code == 0, err


def test_two_runs_do_not_write_one_output(service: Service, start: Start, tmp_path: Path) -> None:
    service.start("api")
    wait_until(lambda: service.get("/healthz").status == 200, 60, every=0.1)
    (tmp_path / "posts.csv").write_text("text\nматч\n")
    first = start("posts.csv", "-o", "a.csv")
    wait_until(lambda: count_of_jobs(service), 60)
    code, _, err = ended(start("posts.csv", "-o", "a.csv"))
    assert (code, "Another `rubrika classify` is writing a.csv" in err) == (2, True), err
    first.terminate()
    assert ended(first)[0] == 128 + signal.SIGTERM


def test_the_first_file_of_the_readme_has_all_its_results(service: Service, tmp_path: Path) -> None:
    commands = code_blocks(chapter(README, "The first file"), "sh")
    assert [command.split()[0].partition("=")[0] for command in commands] == [".venv/bin/rubrika", "API"]
    service.start_all(FAKE_SECONDS="0.01")
    texts, data = posts(60)
    (tmp_path / "posts.csv").write_bytes(data)
    for command in commands:
        program = command.replace(".venv/bin/", "").replace("http://127.0.0.1:8000", service.url)
        output_of(service, tmp_path, "bash", "-ec", program)
        with (tmp_path / "results.csv").open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == len(texts)
        assert all(row["sport"] for row in rows)
        (tmp_path / "results.csv").unlink()
