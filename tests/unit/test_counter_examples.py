from pathlib import Path

import pytest

from ml import counter_examples, data
from ml.counter_examples import Source
from ml.errors import DataError
from ml.posts import Post

ROWS = ("health\t\tодин", "sports\ttrain\tдва", "health\tvalidation\tодин", "travel\t\t три", "noise\t\t ")
TABLE = "\n".join(["category\tsplit\ttext", *ROWS, ""])


def write(folder: Path, content: str = TABLE, name: str = "none.tsv") -> Path:
    file = folder / name
    file.write_text(content, encoding="utf-8")
    return file


def texts(posts: tuple[Post, ...]) -> list[str]:
    return [post.doc_text.strip() for post in posts]


def test_tables_are_read_by_category_and_an_equal_text_counts_once(tmp_path: Path) -> None:
    file, other = write(tmp_path), write(tmp_path, "text,more\nдва,x\nчетыре,y\n", "other.csv")
    assert texts(counter_examples.read([Source.parse(f"{file}=health, travel")]).posts) == ["один", "три"]
    found = counter_examples.read([Source.parse(str(file)), Source.parse(str(other))])
    assert texts(found.posts) == ["один", "два", "три", "четыре"]
    assert [post.doc_text for post in found.held] == ["один"]
    assert counter_examples.read([]).posts == ()


def test_a_sign_of_equality_in_a_name_is_no_list(tmp_path: Path) -> None:
    file = write(tmp_path, name="a=b.tsv")
    assert Source.parse(str(file)) == Source(file)
    assert Source.parse(f"{file}=health") == Source(file, ("health",))
    assert Source.parse(f"{tmp_path}/none=x.tsv") == Source(tmp_path / "none=x.tsv")
    with pytest.raises(DataError, match="names no category"):
        Source.parse(f"{file}= ,")


def test_a_row_that_is_too_short_is_empty(tmp_path: Path) -> None:
    file = write(tmp_path, "category\ttext\nhealth\nhealth\tодин\n\tдва\n")
    assert texts(counter_examples.read([Source(file)]).posts) == ["один", "два"]
    with pytest.raises(DataError, match="no row of the category x; it has health"):
        counter_examples.read([Source(file, ("x",))])


@pytest.mark.parametrize(
    ("content", "chosen", "message"),
    [
        (TABLE, "=cooking", "no row of the category cooking; it has health, noise, sports, travel"),
        (TABLE, "=noise", "no text"),
        ("words\tcategory\nx\ty\n", "", "no column `text`"),
        ("text\nx\n", "=y", "no column `category`"),
        ("text\tsplit\nx\ttest\n", "", "the split 'test'"),
        ("", "", "no column `text`"),
    ],
)
def test_what_is_wrong_with_a_table_is_told(tmp_path: Path, content: str, chosen: str, message: str) -> None:
    file = write(tmp_path, content)
    with pytest.raises(DataError, match=message):
        counter_examples.read([Source.parse(f"{file}{chosen}")])


def test_a_share_is_held_back_beside_what_is_marked(tmp_path: Path) -> None:
    rows = "".join(f"{'validation' if row < 5 else ''}\tтекст номер {'и ' * row}\n" for row in range(45))
    found = counter_examples.read([Source.parse(str(write(tmp_path, f"split\ttext\n{rows}")))])
    learn, check = counter_examples.parts(found, frozenset(), 0.25, seed=1)
    assert len(learn) == 30
    assert len(check) == 15
    assert set(learn).isdisjoint(check)
    assert found.held < set(check)
    assert counter_examples.parts(found, frozenset(), 0.25, seed=1) == (learn, check)
    assert counter_examples.parts(found, frozenset(), 0.25, seed=2) != (learn, check)


def test_what_the_start_has_not_learnt_is_held_back_again_and_nothing_else(tmp_path: Path) -> None:
    rows = "".join(f"{'validation' if row < 5 else ''}\tтекст номер {'и ' * row}\n" for row in range(45))
    found = counter_examples.read([Source.parse(str(write(tmp_path, f"split\ttext\n{rows}")))])
    kept = frozenset({data.text_key(found.posts[20]), data.text_key(Post("нигде"))})
    learn, check = counter_examples.parts(found, kept, 0.25, seed=1)
    assert set(check) == {*found.held, found.posts[20]}
    assert len(learn) == 39


def test_the_kinds_that_ours_hold_back_are_no_kinds_to_learn() -> None:
    file = Path(__file__).parents[2] / "configs" / "counter-examples.tsv"
    rows = data.table_rows(file, delimiter="\t")
    found = counter_examples.read([Source(file)])
    assert len(found.posts) == len(rows) > 600
    kinds = {split: {row["category"] for row in rows if row["split"] == split} for split in ("train", "validation")}
    assert {row["split"] for row in rows} == set(kinds)
    assert kinds["train"].isdisjoint(kinds["validation"])
    assert len({data.text_key(post) for post in found.posts}) > 0.97 * len(rows)
