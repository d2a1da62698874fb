"""`rubrika predict`: files and pipes through a model on this machine, without any server."""

import csv
import gzip
import io
import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cli.main import main
from cli.predicting import BATCH_ROWS
from jobs.settings import PROJECT_ROOT
from ml.classifier import Classifier
from ml.data import DEFAULT_NAMES
from ml.posts import Post
from tests.sheets import sheet_xml, xlsx
from tests.support import environment_outside, wait_until
from tests.tiny_model import TEXTS, make_tiny_model

OURS = ["row", *DEFAULT_NAMES, "topics", "truncated", "error"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory, model: Path) -> dict[str, str]:
    cache = str(tmp_path_factory.mktemp("cache"))
    return {"XDG_CACHE_HOME": cache, "RUBRIKA_MODEL": str(model), "RUBRIKA_THREADS": "1", "RUBRIKA_DEVICE": "cpu"}


def predict(environment: dict[str, str], *arguments: object, stdin: bytes | None = None) -> Result:
    return CliRunner(env=environment).invoke(main, ["predict", *map(str, arguments)], input=stdin)


def table(content: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content, newline="")))


def test_a_csv_comes_back_with_its_own_columns_and_the_answers_of_the_model(
    environment: dict[str, str], model: Path, tmp_path: Path
) -> None:
    file, out = tmp_path / "posts.csv", tmp_path / "answers.csv"
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["id", "text", "image2text", "note", "error"])
        writer.writerows([number, text, TEXTS[0], "=1+1", "-5"] for number, text in enumerate(TEXTS))
        writer.writerow([9, " ", "", "пусто", ""])
    done = predict(environment, file, "--out", out)
    assert done.exit_code == 1
    assert done.stderr.startswith("7 rows in ")
    assert "1 failed" in done.stderr
    rows = table(out.read_text(encoding="utf-8"))
    assert list(rows[0]) == ["id", "text", "image2text", "note", "error", *OURS[:-1], "rubrika_error"]
    assert [row["row"] for row in rows] == [str(number) for number in range(1, 8)]
    assert (rows[0]["note"], rows[0]["error"]) == ("'=1+1", "-5")
    classifier = Classifier.load(model, device="cpu", threads=1, cache_dir=Path(environment["XDG_CACHE_HOME"]))
    expected = classifier.predict([Post(text, TEXTS[0]) for text in TEXTS]).probabilities
    for row, probabilities in zip(rows, expected.tolist(), strict=False):
        assert [float(row[topic]) for topic in DEFAULT_NAMES] == pytest.approx(probabilities, abs=2e-3)
        assert row["topics"].split(";") == [topic for topic in DEFAULT_NAMES if float(row[topic]) >= 0.5] or [""]
        assert row["rubrika_error"] == ""
    assert rows[6]["rubrika_error"].startswith("empty_text: ")
    assert {rows[6][topic] for topic in (*DEFAULT_NAMES, "topics", "truncated")} == {""}
    raw = predict(environment, file, "--raw", "--quiet")
    assert (raw.stderr, table(raw.stdout)[0]["note"]) == ("", "=1+1")


def test_ndjson_keeps_types_and_columns_that_come_late(environment: dict[str, str], tmp_path: Path) -> None:
    first = {"text": TEXTS[0], "likes": 5}
    late = {"text": TEXTS[1], "tags": ["a", "б"], "image2text": "счёт"}
    lines = [json.dumps(first)] * 1500 + [json.dumps(late, ensure_ascii=False), "{broken"]
    file, out = tmp_path / "posts.ndjson.gz", tmp_path / "answers.ndjson"
    file.write_bytes(gzip.compress("\n".join(lines).encode()))
    assert predict(environment, file, "--out", out).exit_code == 1
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert {tuple(row) for row in rows} == {("text", "likes", "tags", "image2text", *OURS)}
    assert (rows[0]["likes"], rows[0]["tags"]) == (5, None)
    assert (rows[1500]["likes"], rows[1500]["tags"], rows[1500]["truncated"]) == (None, ["a", "б"], False)
    assert (rows[0]["image2text"] or "", rows[1500]["image2text"]) == ("", "счёт")
    assert isinstance(rows[1500]["topics"], list)
    assert rows[1501]["error"].startswith("broken_row: ")
    assert (rows[1501]["sport"], rows[1501]["topics"]) == (None, None)
    # The same through a pipe, where the columns are known at the end only; and as CSV.
    piped = predict(environment, "-", "--format", "csv", stdin="\n".join(lines).encode())
    assert table(piped.stdout)[1500]["tags"] == '["a", "б"]'
    assert len(table(piped.stdout)) == 1502


def test_options_say_how_a_file_is_read(environment: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "posts.txt"
    file.write_bytes("номер|запись\n7|Сборная выиграла матч\n".encode("windows-1251"))
    options = ["--encoding", "windows-1251", "--delimiter", "|", "--columns", "doc_text=запись", "--columns"]
    done = predict(environment, file, *options, "custom_id=номер")
    assert done.exit_code == 0
    assert table(done.stdout)[0]["запись"] == "Сборная выиграла матч"
    as_json = predict(environment, file, *options[:4], "--columns", '{"doc_text": "запись"}')
    assert table(as_json.stdout) == table(done.stdout)


def test_a_sheet_is_chosen_and_a_spreadsheet_may_come_through_a_pipe(
    environment: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "posts.xlsx"
    sheets = {"Первый": [["text"], ["матч"]], "Второй": [["text", "likes"], ["скидка", 5], ["гол", 7]]}
    file.write_bytes(xlsx({name: sheet_xml(dict(enumerate(rows, 1))) for name, rows in sheets.items()}))
    done = predict(environment, file, "--sheet", "Второй", "--format", "ndjson")
    assert done.exit_code == 0
    assert [(row["text"], row["likes"]) for row in map(json.loads, done.stdout.splitlines())] == [
        ("скидка", 5),
        ("гол", 7),
    ]
    piped = predict(environment, "-", stdin=file.read_bytes())
    assert [row["text"] for row in table(piped.stdout)] == ["матч"]


def test_what_cannot_be_used_is_said_in_a_sentence(environment: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "posts.csv"
    file.write_text("text\nматч\n", encoding="utf-8")
    for arguments, words in (
        ((file, "--out", file), "overwritten"),
        ((file, "--columns", "doc_text"), "FIELD=COLUMN"),
        ((file, "--columns", "doc_text=nothing"), "nothing"),
        ((file, "--model", tmp_path / "none"), "none"),
        ((file, "--out", tmp_path / "none" / "out.csv"), "cannot be written"),
        ((tmp_path / "missing.csv",), "missing.csv"),
    ):
        done = predict(environment, *arguments)
        assert done.exit_code == 2
        assert words in done.stderr
        assert "Traceback" not in done.stderr
    assert file.read_text(encoding="utf-8") == "text\nматч\n"


def process(environment: dict[str, str], *arguments: object, **streams: int) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "cli.main", "predict", *map(str, arguments)],
        cwd=PROJECT_ROOT, env={**environment_outside(), **environment}, **streams,
    )  # fmt: skip


def test_an_interruption_leaves_whole_rows_and_says_how_many(environment: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "answers.csv"
    running = process(environment, "-", "--out", out, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    assert running.stdin is not None
    assert running.stderr is not None
    line = f"{TEXTS[0]} {'и ещё ' * 200}\n".encode()
    running.stdin.write(b"text\n" + line * (4 * BATCH_ROWS))
    running.stdin.flush()
    # The pipe stays open: what came in is answered all the same.
    wait_until(lambda: out.exists() and out.read_bytes().count(b"\n") > BATCH_ROWS, 60, "the first rows")
    running.send_signal(signal.SIGINT)
    assert running.wait(60) == 130
    running.stdin.close()
    said = running.stderr.read().decode()
    running.stderr.close()
    rows = table(out.read_text(encoding="utf-8"))
    assert f"Interrupted after {len(rows)} rows" in said
    assert len(rows) % BATCH_ROWS == 0
    assert all(len(row) == 1 + len(OURS) and row["truncated"] == "true" for row in rows)
    assert out.read_bytes().endswith(b"\n")


def test_a_terminal_sees_how_far_it_is(environment: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "posts.csv"
    file.write_text("text\n" + "Сборная выиграла матч\n" * (2 * BATCH_ROWS), encoding="utf-8")
    terminal, end = pty.openpty()
    running = process(environment, file, "--out", tmp_path / "out.csv", stderr=end)
    os.close(end)
    seen = b""
    while True:
        try:
            seen += os.read(terminal, 4096)
        except OSError:
            # The other end is closed: the process is over.
            break
    os.close(terminal)
    assert running.wait(60) == 0
    bar = seen.decode()
    assert f"{2 * BATCH_ROWS}/{2 * BATCH_ROWS}" in bar
    assert "rows/s" in bar.rsplit("\r", 2)[0]
