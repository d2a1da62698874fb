from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from cli.data_commands import data as data_commands
from jobs.errors import RubrikaError
from ml import data, variants
from ml.errors import DataError
from ml.posts import Post

PROJECT_ROOT = Path(__file__).parents[2]

FIRST, SECOND = Post("Матч перенесли"), Post("Скидки", image2text="весь июль")


def posts(*some: Post) -> data.Dataset:
    topics = (data.TopicName("sport", "Спорт", "Sport"), data.TopicName("ads", "Реклама", "Ads"))
    labels = np.zeros((len(some), 2), dtype=np.float32)
    return data.Dataset(topics, some, labels, tuple(map(data.group_key, some)))


def write(folder: Path, content: str, name: str = "variants.tsv") -> Path:
    file = folder / name
    file.write_text(content, encoding="utf-8")
    return file


def test_variants_name_the_posts_that_are_there(tmp_path: Path) -> None:
    first, second = data.text_key(FIRST), data.text_key(SECOND)
    file = write(
        tmp_path,
        f'key\tdoc_text\timage2text\tspeech2text\n{second}\tРаспродажа\tдо вторника\t\n{first}\t"Бой ""отменён"""\t\t\n'
        f"{'0' * 16}\tЧужой\t\t\n{first}\t \t\t\n",
    )
    other = write(tmp_path, f"doc_text,key\nРаспродажа,{first}\nЗаезд перенесли,{first}\n", "other.csv")
    found, rows = variants.read([file, other]).of(posts(FIRST, SECOND))
    assert found == (
        Post("Распродажа", "до вторника"),
        Post('Бой "отменён"'),
        Post("Распродажа"),
        Post("Заезд перенесли"),
    )
    assert rows.tolist() == [1, 0, 0, 0]
    assert variants.read([file, file]) == variants.read([file])
    # What the data at hand lacks, as a fold or what was held back, brings none of its variants.
    assert variants.read([file]).of(posts(SECOND))[0] == (Post("Распродажа", "до вторника"),)
    assert variants.read([file]).of(posts())[1].dtype == np.int64


def test_the_digest_is_of_texts_and_of_the_posts_they_belong_to(tmp_path: Path) -> None:
    some = [f"key\tdoc_text\n{key}\t{text}\n" for key, text in (("a", "один"), ("b", "один"), ("a", "два"))]
    digests = [variants.read([write(tmp_path, content)]).digest() for content in some]
    assert len({*digests, variants.read([]).digest()}) == 4
    assert variants.read([]).digest() == ""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("key\ttext\na\tодин\n", "no column `doc_text`"),
        ("doc_text\nодин\n", "no column `key`"),
        ("key\tdoc_text\na\t\n", "no row with a text"),
        ("", "no row with a text"),
    ],
)
def test_what_is_wrong_with_a_table_is_told(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        variants.read([write(tmp_path, content)])
    with pytest.raises(DataError, match="There is no file"):
        variants.read([tmp_path / "none.tsv"])


def test_posts_are_listed_with_the_keys_that_tables_name_them_by(tmp_path: Path) -> None:
    folder, file = tmp_path / "posts", tmp_path / "keys.tsv"
    folder.mkdir()
    (folder / "sport.csv").write_text(
        'doc_text,image2text\nМатч перенесли,\n"Одна\nстрока, ""две""",\n', encoding="utf-8"
    )
    (folder / "ads.csv").write_text("doc_text,image2text\nСкидки,весь июль\nМатч перенесли,\n", encoding="utf-8")
    ran = CliRunner().invoke(data_commands, ["keys", str(folder), "--out", str(file)])
    assert ran.output == f"wrote {file}; 3 different posts\n"
    rows = data.table_rows(file, delimiter="\t")
    assert [(row["key"], row["topics"]) for row in rows if row["doc_text"] != 'Одна\nстрока, "две"'] == [
        (data.text_key(SECOND), "ads"),
        (data.text_key(FIRST), "sport;ads"),
    ]
    # The list itself, its texts rewritten, is a table of variants.
    assert len(variants.read([file]).of(data.read_folder(folder))[0]) == 3
    wrong = CliRunner().invoke(data_commands, ["keys", str(folder), "--out", str(tmp_path / "none" / "keys.tsv")])
    assert isinstance(wrong.exception, RubrikaError)
    assert "cannot be written" in str(wrong.exception)
