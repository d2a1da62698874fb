from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from cli.data_commands import data as data_commands
from jobs.errors import RubrikaError
from ml import data, teachers
from ml.posts import Post

FIRST, SECOND = Post("Матч перенесли"), Post("Скидки", image2text="весь июль")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    posts = tmp_path / "posts"
    posts.mkdir()
    rows = 'doc_text,image2text\nМатч перенесли,\n"Одна\nстрока, ""две""",\n'
    (posts / "sport.csv").write_text(rows, encoding="utf-8")
    (posts / "ads.csv").write_text("doc_text,image2text\nСкидки,весь июль\nМатч перенесли,\n", encoding="utf-8")
    return posts


def keys(*arguments: object) -> str:
    ran = CliRunner().invoke(data_commands, ["keys", *map(str, arguments)])
    if ran.exception is not None:
        raise ran.exception
    return ran.output


def test_posts_are_listed_with_their_keys_and_topics(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "keys.tsv"
    assert keys(folder, "--out", file) == f"wrote {file}; 3 different posts\n"
    rows = {row["key"]: row for row in data.table_rows(file, delimiter="\t")}
    assert {key: row["topics"] for key, row in rows.items()} == {
        data.text_key(FIRST): "sport;ads",
        data.text_key(Post('Одна\nстрока, "две"')): "sport",
        data.text_key(SECOND): "ads",
    }
    assert rows[data.text_key(SECOND)]["image2text"] == "весь июль"
    assert 'Одна\nстрока, "две"' in {row["doc_text"] for row in rows.values()}


def test_a_reader_who_fills_the_list_in_is_a_teacher(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "keys.tsv"
    keys(folder, "--out", file)
    said = [(row["key"], 90 if "sport" in row["topics"] else 5) for row in data.table_rows(file, delimiter="\t")]
    read = tmp_path / "read.tsv"
    read.write_text("key\tsport\tads\n" + "".join(f"{key}\t{sport}\t50\n" for key, sport in said), encoding="utf-8")
    posts = data.read_folder(folder)
    found = teachers.read_table(read, posts)
    sport = [topic.id for topic in posts.topics].index("sport")
    assert np.array_equal(found[:, sport], np.where(posts.labels[:, sport] > 0, np.float32(0.9), np.float32(0.05)))


def test_a_list_that_cannot_be_written_is_told(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RubrikaError, match="cannot be written"):
        keys(folder, "--out", tmp_path / "none" / "keys.tsv")
