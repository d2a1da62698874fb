"""Labelled posts: reading, merging, splitting."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from ml import data
from ml.errors import DataError
from ml.posts import Post


def write_posts(folder: Path, topics: Mapping[str, Sequence[str]]) -> Path:
    folder.mkdir(exist_ok=True)
    for topic, texts in topics.items():
        with (folder / f"{topic}.csv").open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["doc_text", "image2text", "speech2text"])
            writer.writerows([text, "", ""] for text in texts)
    return folder


def test_a_text_in_two_files_is_one_post_with_two_topics(tmp_path: Path) -> None:
    posts = data.read_folder(write_posts(tmp_path, {"sport": ["матч", "гол"], "ads": ["скидка", "гол "]}))
    assert [topic.id for topic in posts.topics] == ["sport", "ads"]
    assert sorted(post.doc_text.strip() for post in posts.posts) == ["гол", "матч", "скидка"]
    both = next(row for row, post in enumerate(posts.posts) if "гол" in post.doc_text)
    assert posts.labels[both].tolist() == [1.0, 1.0]
    assert posts.labels.sum() == 4


def test_any_list_of_topics_with_names_from_a_file(tmp_path: Path) -> None:
    write_posts(tmp_path, {"b": ["один"], "a": ["два"], "c": ["три"]})
    names = {"c": {"name": "Цэ", "name_en": "C"}, "a": {"name": "А", "name_en": "A"}}
    (tmp_path / data.NAMES_FILE).write_text(json.dumps(names), encoding="utf-8")
    topics = data.read_folder(tmp_path).topics
    assert [(topic.id, topic.name, topic.name_en) for topic in topics] == [
        ("c", "Цэ", "C"),
        ("a", "А", "A"),
        ("b", "b", "b"),
    ]


def test_the_digest_is_of_the_content_and_not_of_the_order(tmp_path: Path) -> None:
    first = data.read_folder(write_posts(tmp_path / "1", {"a": ["x", "y"], "b": ["z"]}))
    second = data.read_folder(write_posts(tmp_path / "2", {"a": ["y", "x"], "b": ["z"]}))
    third = data.read_folder(write_posts(tmp_path / "3", {"a": ["y"], "b": ["z", "x"]}))
    assert first.digest() == second.digest() != third.digest()


@pytest.mark.parametrize(
    ("topics", "words"),
    [
        ({}, "at least two topics"),
        ({"a": ["x"]}, "at least two topics"),
        ({"a": ["x"], "b": []}, "no row with a text"),
        ({"a": ["x"], "b": [" ", ""]}, "no row with a text"),
    ],
)
def test_too_little_data_is_refused_in_a_sentence(tmp_path: Path, topics: dict[str, list[str]], words: str) -> None:
    with pytest.raises(DataError, match=words):
        data.read_folder(write_posts(tmp_path, topics))


def test_a_missing_folder_column_or_encoding_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no folder"):
        data.read_folder(tmp_path / "nothing")
    write_posts(tmp_path, {"a": ["x"], "b": ["y"]})
    (tmp_path / "b.csv").write_text("text\ny\n", encoding="utf-8")
    with pytest.raises(DataError, match="no column `doc_text`; its columns are text"):
        data.read_folder(tmp_path)
    (tmp_path / "b.csv").write_text("doc_text;image2text\nПривет, мир;\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"its columns are doc_text;image2text\. Cells are divided by commas"):
        data.read_folder(tmp_path)
    (tmp_path / "b.csv").write_bytes("doc_text\nпривет\n".encode("cp1251"))
    with pytest.raises(DataError, match="not UTF-8"):
        data.read_folder(tmp_path)
    (tmp_path / "b.csv").write_text("doc_text\ny\n", encoding="utf-8")
    (tmp_path / data.NAMES_FILE).write_text('{"a": 1}', encoding="utf-8")
    with pytest.raises(DataError, match="must be JSON like"):
        data.read_folder(tmp_path)


def many_posts(groups: int) -> data.Dataset:
    rng = np.random.default_rng(3)
    posts, labels = [], []
    for group in range(groups):
        topics = (1.0, 0.0) if group % 4 else (1.0, 1.0)
        word = "".join(rng.choice(list("абвгдежзик"), 12))
        for copy in range(1 + group % 3):
            posts.append(Post(f"{word}{'!' * copy}"))
            labels.append(topics)
    names = (data.TopicName("a", "a", "a"), data.TopicName("b", "b", "b"))
    keys = tuple(data.group_key(post) for post in posts)
    return data.Dataset(names, tuple(posts), np.array(labels, dtype=np.float32), keys)


def test_a_split_keeps_groups_together_and_sets_of_topics_in_proportion() -> None:
    posts = many_posts(400)
    learn, check = data.split(posts, 0.125, seed=5)
    assert sorted([*learn, *check]) == list(range(len(posts.posts)))
    assert not {posts.groups[row] for row in learn} & {posts.groups[row] for row in check}
    assert len(check) / len(posts.posts) == pytest.approx(0.125, abs=0.02)
    assert posts.labels[check, 1].mean() == pytest.approx(posts.labels[:, 1].mean(), abs=0.05)
    again = data.split(posts, 0.125, seed=5)[1]
    other = data.split(posts, 0.125, seed=6)[1]
    assert check.tolist() == again.tolist() != other.tolist()


def test_folds_cover_everything_evenly() -> None:
    posts = many_posts(400)
    parts = data.folds(posts, 5, seed=1)
    assert sorted(set(parts.tolist())) == [0, 1, 2, 3, 4]
    assert np.bincount(parts).min() > 0.8 * len(parts) / 5
