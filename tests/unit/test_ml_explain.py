"""Explanations: the weights are those of the words, the places those of the field, and taking words out shows it."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from cli.main import main
from jobs.settings import SHIPPED_MODEL
from ml.artifact import ModelInfo, Topic
from ml.classifier import Classifier, Predictions
from ml.errors import ModelError
from ml.explain import MAX_PIECES, Piece, explain
from ml.posts import FIELDS, Post
from web.examples import EXAMPLES

WEIGHTS = {"гол": 2.0, "матч": 1.0, "скидка": -1.5, "🔥🔥": 0.5}
LONGEST = 200


class Linear:
    """Log-odds are sums over words, so that the right weights are known. It reads `LONGEST` words."""

    info = ModelInfo("linear", "1", "0" * 64, (Topic("sport", "Спорт", "Sport", 0.5),), {})

    def prepare(self, posts: list[Post]) -> "Asked":
        return Asked([" ".join(getattr(post, field) for field in FIELDS).split() for post in posts])

    def compute(self, asked: "Asked", _between_batches: object = None) -> Predictions:
        sums = np.array([[sum(WEIGHTS.get(w.strip(",!"), 0) for w in one[:LONGEST])] for one in asked.words])
        failures = {row: "broken" for row, one in enumerate(asked.words) if "сломай" in one}
        probabilities, logits = (1 / (1 + np.exp(-sums))).astype(np.float32), sums.astype(np.float32)
        return Predictions(probabilities, asked.truncated, failures, logits)


class Asked:
    def __init__(self, words: list[list[str]]) -> None:
        self.words = words
        self.truncated = np.array([len(one) > LONGEST for one in words])


def pieces(post: Post) -> list[Piece]:
    return explain(Linear(), post)["sport"]  # type: ignore[arg-type]


def said(post: Post) -> dict[str, float]:
    return {getattr(post, one.field)[one.start : one.end]: one.weight for one in pieces(post)}


def test_of_a_linear_model_the_weights_are_found_exactly() -> None:
    post = Post("😀 какой матч, гол! 🔥🔥", "скидка", "и ещё")
    assert said(post) == pytest.approx(
        {"😀": 0, "какой": 0, "матч": 1, "гол": 2, "🔥🔥": 0.5, "скидка": -1.5, "и": 0, "ещё": 0}, abs=1e-4
    )
    assert [one.field for one in pieces(post)] == ["doc_text"] * 5 + ["image2text"] + ["speech2text"] * 2


def test_a_long_text_is_explained_in_phrases_and_only_as_far_as_it_is_read() -> None:
    post = Post(" ".join(["слово"] * 150 + ["гол"]), " ".join(["буква"] * 400 + ["матч"]))
    found = pieces(post)
    assert len(found) <= MAX_PIECES
    best = max(found, key=lambda one: one.weight)
    assert "гол" in post.doc_text[best.start : best.end]
    assert best.weight == pytest.approx(2, abs=1e-3)
    # 151 words of the text leave room for 49 of the picture.
    assert max(one.end for one in found if one.field == "image2text") <= len("буква ") * 51
    assert all(one.start < one.end for one in found)


def test_how_far_a_text_is_read_does_not_depend_on_what_stands_behind() -> None:
    """Thousands of marks that the model never reads are not mistaken for the end of what it does."""
    post = Post(" ".join(["слово"] * 100 + ["гол"]) + " , , ," * 2000, "матч ! " * 500)
    found = pieces(post)
    assert max(one.end for one in found) == len("слово ") * 100 + len("гол")
    assert found[-1].weight == pytest.approx(2, abs=1e-3)


def test_words_are_not_held_responsible_for_what_moves_up_in_their_place() -> None:
    """Without 'слово' the model would read one more 'гол' behind its limit."""
    post = Post(" ".join(["слово"] * LONGEST + ["гол"] * 50))
    assert [one.weight for one in pieces(post)] == pytest.approx([0] * len(pieces(post)), abs=1e-6)


def test_a_text_without_words_has_no_pieces_and_a_model_that_fails_says_so() -> None:
    assert pieces(Post("!!! ... —")) == []
    with pytest.raises(ModelError, match="broken"):
        pieces(Post("сломай это"))


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    return Classifier.load(SHIPPED_MODEL, device="cpu", threads=1, cache_dir=tmp_path_factory.mktemp("cache"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda one: one.key)
def test_without_its_top_words_a_text_loses_far_more_than_without_random_ones(
    shipped: Classifier, example: object
) -> None:
    post = Post(*(getattr(example, field) for field in FIELDS))
    (probabilities,) = shipped.predict([post]).probabilities
    best = int(probabilities.argmax())
    found = explain(shipped, post)[shipped.info.topics[best].id]
    assert found == explain(shipped, post)[shipped.info.topics[best].id]
    count = max(1, len(found) // 4)

    def left(chosen: list[Piece]) -> Post:
        texts = {field: getattr(post, field) for field in FIELDS}
        for one in sorted(chosen, key=lambda one: -one.start):
            texts[one.field] = texts[one.field][: one.start] + texts[one.field][one.end :]
        return Post(**texts)

    rng = np.random.default_rng(1)
    random = [left([found[i] for i in rng.permutation(len(found))[:count]]) for _ in range(10)]
    top = left(sorted(found, key=lambda one: -one.weight)[:count])
    without_top, *without_random = shipped.predict([top, *random]).probabilities[:, best]
    assert without_top < probabilities[best]
    assert without_top < np.mean(without_random)


def test_the_command_says_it_in_words_and_as_json(tmp_path: Path) -> None:
    environment = {"XDG_CACHE_HOME": str(tmp_path), "RUBRIKA_THREADS": "1", "RUBRIKA_DEVICE": "cpu"}

    def run(*arguments: str) -> str:
        result = CliRunner(env=environment).invoke(main, ["explain", *arguments])
        assert result.exit_code == 0, result.output
        return result.output

    text = "Сборная забила решающий гол и выиграла матч чемпионата"
    words = run(text)
    assert words.startswith("Спорт (sport)")
    assert "for:" in words
    answer = json.loads(run(text, "--image", "счёт 3:0", "--json"))
    assert set(answer["explanation"]) == set(answer["probabilities"])
    sport = answer["explanation"]["sport"]
    assert [text[one["start"] : one["end"]] for one in sport if one["field"] == "doc_text"] == text.split()
    empty = CliRunner(env=environment).invoke(main, ["explain", "  "])
    assert empty.exit_code == 2
    assert "nothing to read" in empty.output
