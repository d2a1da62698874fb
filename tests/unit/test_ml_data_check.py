"""What is wrong with a folder of labelled posts is found, located and explained."""

import csv
import html
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.main import main
from ml.checking import check
from ml.errors import DataError
from ml.findings import CheckReport, Finding, Severity, as_text

HEADER = ("doc_text", "image2text", "speech2text")
WORDS = ("матч", "гол", "тренер", "кубок", "вратарь", "стадион", "сборная", "лига", "тур", "мяч", "пас", "свисток")


def texts_about(word: str, count: int = 60) -> list[str]:
    """Texts of a topic, no two of them near-equal."""
    return [f"{word} {WORDS[n % 12]} {WORDS[n // 12]} {WORDS[(n * 5 + 1) % 12]}" for n in range(count)]


def write_topic(folder: Path, topic: str, rows: Iterable[Sequence[str]], header: Sequence[str] = HEADER) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{topic}.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(header)
        writer.writerows(rows)


def write_texts(folder: Path, topics: dict[str, list[str]]) -> Path:
    for topic, texts in topics.items():
        write_topic(folder, topic, ([text, "", ""] for text in texts))
    return folder


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    return write_texts(tmp_path / "posts", {"sport": texts_about("спорт"), "ads": texts_about("скидка")})


def found_in(report: CheckReport, code: str) -> Finding:
    [found] = [found for found in report.findings if found.code == code]
    return found


def codes(report: CheckReport) -> set[str]:
    return {found.code for found in report.findings}


def test_clean_data_has_no_findings_and_is_counted(clean: Path) -> None:
    report = check(clean)
    assert report.findings == ()
    [part] = report.parts
    assert (part.rows, part.distinct, part.groups) == (120, 120, 120)
    assert part.label_sets == ((("ads",), 60), (("sport",), 60))
    assert "can be trained on" in as_text(report)


def test_copies_within_a_topic_and_across_topics_are_told_apart(clean: Path) -> None:
    again, shared = "скидка матч матч гол", "Общий текст двух тем"
    write_texts(clean, {"ads": [*texts_about("скидка"), f" {again}", "Скидка!! Матч матч гол", shared]})
    write_texts(clean, {"sport": [*texts_about("спорт"), shared]})
    report = check(clean)
    assert codes(report) == {"duplicates", "near_duplicates", "several_topics"}
    [copy] = found_in(report, "duplicates").places
    assert (copy.file, copy.row, copy.line) == ("ads.csv", 61, 62)
    assert "as ads.csv row 1" in copy.example
    [near] = found_in(report, "near_duplicates").places
    assert near.row == 62
    [several] = found_in(report, "several_topics").places
    assert several.example == "[ads + sport] Общий текст двух тем"
    assert all(found.severity is Severity.NOTE for found in report.findings)


def test_near_equal_texts_of_different_topics_disagree(clean: Path) -> None:
    write_texts(clean, {"ads": [*texts_about("скидка"), "СПОРТ: матч, матч, гол"]})
    disagreeing = found_in(check(clean), "disagreeing_labels")
    assert disagreeing.severity is Severity.WARNING
    [place] = disagreeing.places
    assert {"ads", "sport"} <= set(place.example.strip("[").split("]")[0].replace(";", "").split())


def test_lines_are_those_of_the_file_where_cells_hold_line_breaks(clean: Path) -> None:
    rows = [["первая\nи вторая строка поста", "", ""], ["", " ", ""], *([text, "", ""] for text in texts_about("x"))]
    write_topic(clean, "sport", rows)
    [place] = found_in(check(clean), "empty_rows").places
    assert (place.row, place.line) == (2, 4)


@pytest.mark.parametrize("encoding", ["windows-1251", "utf-16", "utf-16-le"])
def test_another_encoding_is_recognised_and_the_rest_is_checked_all_the_same(clean: Path, encoding: str) -> None:
    write_texts(clean, {"ads": [*texts_about("скидка"), "скидка матч матч гол"]})
    file = clean / "ads.csv"
    file.write_bytes(file.read_text("utf-8").encode(encoding))
    report = check(clean)
    assert codes(report) == {"not_utf8", "duplicates"}
    assert f"iconv -f {encoding} -t UTF-8 ads.csv" in found_in(report, "not_utf8").action


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        ("", "no_rows", "is empty"),
        ("doc_text\n", "no_rows", "a header and no row"),
        ("text\nматч\n", "no_text_column", "Rename `text` to `doc_text`"),
        ("doc_text;image2text\nматч;\n", "no_text_column", "Separate the cells with commas"),
        ("doc_text,doc_text\nматч,гол\n", "duplicate_column", "more than once"),
        ("doc_text,lang\nматч,ru\n", "unknown_columns", "`lang`"),
        ("doc_text,image2text\nматч, гол и пас,\n", "too_many_cells", "what is beyond it is lost"),
        ("doc_text,image2text\nматч\n", "too_few_cells", "fewer cells"),
        ('doc_text\n"матч\nгол\nпас\n', "open_quote", "ends inside a quoted cell"),
        ("doc_text\nстрока с \ufffd знаком\n", "lost_characters", "U+FFFD"),
        ("doc_text\n12:30 !!! 🙂\n", "no_words", "no word"),
        ("doc_text\nматч\n", "very_short", "fewer than 2 words"),
        ("doc_text\nматч\n", "few_posts", "has 1 different posts"),
        ("doc_text\n" + "Привет, мир".encode().decode("windows-1251", "replace") + "\n", "garbled", "is Привет"),
        ("doc_text\n" + "матч " * 5000 + "\n", "too_long", "more than 20000 characters"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(clean: Path, content: str, code: str, words: str) -> None:
    (clean / "ads.csv").write_text(content, encoding="utf-8")
    found = found_in(check(clean), code)
    assert words in " ".join([found.message, found.action, *(place.example for place in found.places)])
    assert [place.file for place in found.places] == ["ads.csv"]


def test_real_words_are_not_taken_for_garbled_ones(clean: Path) -> None:
    write_texts(clean, {"ads": [*texts_about("скидка"), "Россия, РФ и СССР: «Спартак» — ЦСКА… Ðаша Ñ 5 °C"]})
    assert check(clean).findings == ()


def test_balance_and_a_topic_within_another(tmp_path: Path) -> None:
    small = texts_about("спорт", 10)
    folder = write_texts(tmp_path, {"sport": small, "ads": [*texts_about("скидка", 120), *small[:9]]})
    report = check(folder)
    assert "sport has 10 different posts" in found_in(report, "few_posts").message
    assert "9 of the 10 texts of sport stand in ads too" in found_in(report, "topic_inside_topic").message
    assert "ads has 129 texts and sport 10" in found_in(report, "unbalanced").message


def test_handles_and_links_of_one_topic_are_traces(clean: Path) -> None:
    linked = [f"{text} https://t.me/club/{n} https://site.ru/{n}" for n, text in enumerate(texts_about("спорт"))]
    offers = [f"{text} https://site.ru" for text in texts_about("скидка")]
    write_texts(clean, {"sport": linked, "ads": offers})
    [place] = found_in(check(clean), "traces_of_source").places
    assert "https://t.me/club stands in 60 posts, 60 of them of sport" in place.example


def test_posts_on_both_sides_of_a_split_leak(tmp_path: Path) -> None:
    sport, ads = texts_about("спорт", 120), texts_about("скидка", 120)
    write_texts(tmp_path / "train", {"sport": sport[:60], "ads": ads[:60]})
    write_texts(tmp_path / "test", {"sport": [*sport[60:], sport[3]], "ads": [*ads[60:], f"{ads[5].upper()}!!! 🙂"]})
    report = check(tmp_path)
    assert [part.name for part in report.parts] == ["train", "test"]
    assert codes(report) == {"leak", "near_leak"}
    leak = found_in(report, "leak")
    assert leak.severity is Severity.ERROR
    assert "1 of the 122 texts of test (0.8 %) stand in train too" in leak.message
    assert (leak.places[0].file, leak.places[0].row) == ("test/sport.csv", 61)
    assert "train/sport.csv row 4" in leak.places[0].example
    assert found_in(report, "near_leak").places[0].file == "test/ads.csv"


def test_another_folder_is_compared_and_topics_that_it_lacks_are_named(clean: Path, tmp_path: Path) -> None:
    other = write_texts(tmp_path / "held", {"sport": texts_about("спорт", 55), "humour": texts_about("анекдот")})
    report = check(clean, other)
    assert "ads, humour" in found_in(report, "missing_topics").message
    assert found_in(report, "leak").count == 55


def test_names_and_other_files_are_looked_at(clean: Path) -> None:
    (clean / "names.json").write_text('{"sport": {"name": "Спорт", "name_en": "Sport"}}', encoding="utf-8")
    (clean / "more.xlsx").write_bytes(b"PK")
    report = check(clean)
    assert "ads" in found_in(report, "names").message
    assert "more.xlsx" in found_in(report, "unread_files").message
    (clean / "names.json").write_text("{", encoding="utf-8")
    assert found_in(check(clean), "names").severity is Severity.ERROR
    with pytest.raises(DataError, match="There is no folder"):
        check(clean / "nothing")


def test_the_command_ends_with_a_code_and_writes_json_and_html(clean: Path, tmp_path: Path) -> None:
    run = CliRunner().invoke
    assert run(main, ["data", "check", str(clean)]).exit_code == 0
    write_texts(clean, {"ads": [*texts_about("скидка"), "<script>alert(1)</script> скидка", "🙂"]})
    assert run(main, ["data", "check", str(clean)]).exit_code == 0
    assert run(main, ["data", "check", str(clean), "--strict"]).exit_code == 1
    (clean / "sport.csv").write_text("doc_text,image2text\n<b>матч, гол</b>,,\n", encoding="utf-8")
    page = tmp_path / "report.html"
    done = run(main, ["data", "check", str(clean), "--json", "--out", str(page)])
    assert done.exit_code == 1
    report = json.loads(done.stdout)
    assert report["ok"] is False
    assert report["findings"][0]["severity"] == "error"
    written = page.read_text(encoding="utf-8")
    assert "<b>" not in written
    assert html.escape("<b>матч") in written
    assert "://" not in written
    missing = run(main, ["data", "check", str(clean / "nothing")])
    assert (missing.exit_code, missing.stderr.count("\n")) == (2, 1)
