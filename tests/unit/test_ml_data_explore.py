"""The parts of an exploration against what is known of small data, and the whole as one page."""

import csv
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from cli.main import main
from ml import mapping
from ml.data import Dataset, TopicName, group_key
from ml.embedding import encoder_vectors
from ml.exploring import ExploreOptions, explore
from ml.posts import Post
from ml.suspects import find_suspects, noise_of_topics
from ml.wordcounts import log_odds, words_of_topics
from tests.tiny_model import TEXTS, make_base
from tests.unit.test_ml_data_check import write_texts

EVIL = "<script>alert('x')</script> & <img src=x>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two topics that their words tell apart; one post stands in the file of the other topic."""
    rng = np.random.default_rng(0)
    topics = {
        name: [" ".join(rng.choice(TEXTS[number].replace(",", "").split(), 6)) + f" {EVIL}" for _ in range(60)]
        for name, number in (("sport", 0), ("ads", 2))
    }
    # Wrong on purpose, unlike any other text, and nothing but words of sport.
    topics["ads"].append("чемпионата по футболу сборная чемпионата выиграла матч чемпионата финал вышла")
    return write_texts(tmp_path_factory.mktemp("posts"), topics)


def dataset(texts: list[tuple[str, int]], topics: int = 2) -> Dataset:
    posts = tuple(Post(text) for text, _ in texts)
    labels = np.zeros((len(texts), topics), dtype=np.float32)
    labels[np.arange(len(texts)), [topic for _, topic in texts]] = 1
    names = tuple(TopicName(name, name, name) for name in "abcdef"[:topics])
    return Dataset(names, posts, labels, tuple(group_key(post) for post in posts))


def test_log_odds_are_those_of_the_paper() -> None:
    inside, outside = np.array([30.0, 60.0, 10.0]), np.array([10.0, 60.0, 30.0])
    z = log_odds(inside, outside)
    # By hand for the first word: prior 1000 * 40 / 200 = 200, so 230 of 1100 against 210 of 1100.
    by_hand = (np.log(230 / 870) - np.log(210 / 890)) / np.sqrt(1 / 230 + 1 / 210)
    assert z[0] == pytest.approx(by_hand)
    assert z[1] == pytest.approx(0)
    assert z[2] == pytest.approx(-z[0])
    assert log_odds(np.zeros(2), np.zeros(2)).tolist() == [0, 0]


def test_a_word_of_one_topic_is_distinctive_and_a_repost_counts_once() -> None:
    numbers = "один два три четыре пять шесть семь восемь девять десять".split()  # noqa: SIM905
    texts = [(f"красный дом {word} и не", 0) for word in numbers] + [(f"синий дом {word} и не", 1) for word in numbers]
    reposts = [("реклама дом" + "!" * count, 0) for count in range(20)]
    first, second = words_of_topics(dataset(texts + reposts))
    assert first.words[0].text == "красный"
    assert (first.words[0].posts, first.words[0].elsewhere) == (10, 0)
    assert first.bigrams[0].text == "красный дом"
    assert second.words[0].text == "синий"
    assert (first.frequent[0].text, first.frequent[0].posts) == ("дом", 11)
    shown = {term.text for term in (*first.words, *first.frequent)}
    assert not shown & {"реклама", "не"}


def test_a_label_is_doubtful_where_the_model_is_as_sure_of_the_opposite() -> None:
    labels = np.array([[1], [1], [1], [1], [0], [0], [0], [0]], dtype=np.float32)
    probabilities = np.array([[0.9], [0.8], [0.7], [0.02], [0.1], [0.1], [0.2], [0.97]], dtype=np.float32)
    suspects = find_suspects(labels, probabilities)
    # The averages: 0.605 for posts that have the topic, 0.6575 (that they lack it) for the others.
    assert [(one.row, one.has_label) for one in suspects] == [(3, True), (7, False)]
    assert suspects[0].trust == pytest.approx(0.02)
    assert suspects[1].trust == pytest.approx(0.03)
    [noise] = noise_of_topics(labels, ["a"], suspects)
    assert (noise.labelled, noise.wrong, noise.missing) == (4, 1, 1)
    assert find_suspects(np.ones((3, 1), np.float32), np.full((3, 1), 0.1, np.float32)) == []


def test_clusters_of_separate_texts_are_the_topics() -> None:
    rng = np.random.default_rng(1)
    words = (["матч", "гол", "кубок", "пас", "тур"], ["скидка", "товар", "цена", "магазин", "купон"])
    texts = [(" ".join(rng.choice(words[row % 2], 4)), row % 2) for row in range(60)]
    data = dataset(texts)
    vectors = mapping.tfidf_vectors([text for text, _ in texts], seed=1)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
    clusters = mapping.cluster(vectors, 2, seed=1)
    found = mapping.agreement(vectors, data.labels, clusters)
    assert found is not None
    assert (found.ari, found.nmi, found.posts) == (pytest.approx(1), pytest.approx(1), 60)
    assert found.silhouette_labels == pytest.approx(found.silhouette_clusters)
    assert found.silhouette_labels > 0.1
    points = mapping.place(vectors, seed=1)
    assert points.min() == 0.0
    assert points.max() == 1.0
    assert np.array_equal(points, mapping.place(vectors, seed=1))
    assert mapping.agreement(vectors, np.ones((60, 2), np.float32), clusters) is None


def test_an_encoder_gives_one_vector_a_text_whatever_else_is_in_the_batch(tmp_path: Path) -> None:
    base = str(make_base(tmp_path))
    together = encoder_vectors(base, TEXTS)
    assert together.shape == (len(TEXTS), 16)
    assert np.linalg.norm(together, axis=1) == pytest.approx(1, abs=1e-5)
    assert encoder_vectors(base, TEXTS[3:4]) == pytest.approx(together[3:4], abs=1e-4)


class Page(HTMLParser):
    """Tags and the addresses that they would load."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.addresses: list[str] = []
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "action")]


def test_the_command_writes_one_page_that_loads_nothing_and_a_list_to_review(folder: Path, tmp_path: Path) -> None:
    page, suspects = tmp_path / "report.html", tmp_path / "suspects.csv"
    arguments = ["data", "explore", str(folder), "--out", str(page), "--suspects", str(suspects)]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    content = page.read_text(encoding="utf-8")
    read = Page(content)
    assert set(read.addresses) == {"#all-points"}
    assert not read.tags & {"script", "img", "link", "iframe"}
    assert "url(" not in content
    assert {"svg", "table", "path"} <= read.tags
    assert "prefers-color-scheme: dark" in content
    for heading in ("Balance", "Lengths", "Words", "Topics together", "Map", "Doubtful labels"):
        assert f"<h2>{heading}</h2>" in content
    assert re.search(r"adjusted Rand index.*?[01]\.\d{3}", content)
    with suspects.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    planted = [row for row in rows if row["doc_text"].startswith("чемпионата по футболу")]
    assert {(row["suspicion"], row["topic"]) for row in planted} == {("wrong", "ads"), ("missing", "sport")}
    assert {(row["file"], row["row"], row["topics"]) for row in planted} == {("ads.csv", "61", "ads")}
    assert rows[0] in planted
    shown = explore(folder, ExploreOptions())
    assert shown.page == content
    assert len(shown.doubts) == len(rows)


def test_what_stands_in_the_way_is_said_in_a_sentence(tmp_path: Path) -> None:
    few = write_texts(tmp_path / "few", {"sport": ["матч", "гол"], "ads": ["скидка"]})
    out = str(tmp_path / "report.html")
    for folder, words in ((few, "too few posts"), (tmp_path / "none", "There is no folder")):
        done = CliRunner().invoke(main, ["data", "explore", str(folder), "--out", out])
        assert done.exit_code == 2
        assert words in done.stderr
