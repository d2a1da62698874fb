"""`rubrika calibrate`: other posts, another calibration, the same network."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from cli.calibrate_command import calibrate
from ml import artifact, ranging
from ml.classifier import Classifier
from ml.data import DEFAULT_NAMES, read_folder
from tests.tiny_model import TEXTS, make_tiny_model

COMPARED = "## What it was compared with\nWith nothing.\n"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model whose card is as training writes it, and was told of a comparison."""
    folder = make_tiny_model(tmp_path / "model")
    training = {"teacher_weight": 0.5, "teacher_names": [], "epochs": 1, "batch": 1, "lr": 0.1, "seed": 1}
    card = {
        "base": "tiny",
        "base_licence": "none",
        "data": {"learned_from": 1, "validation": 1, "counter_examples": 0},
        "training": {**training, "crop_share": 1, "layer_decay": 1, "ngram_share": 0},
        "minutes": 1,
        "limits": ["for tests"],
    }
    artifact.write_json(folder / artifact.CARD, card)
    (folder / artifact.README).write_text(f"# tiny\n\n{COMPARED}\n## Limits\n- for tests\n", encoding="utf-8")
    artifact.write_manifest(folder)
    return folder


@pytest.fixture
def posts(tmp_path: Path) -> Path:
    """Of each topic twenty posts of different lengths, the first topic ten times as common as the others."""
    folder = tmp_path / "posts"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number, topic in enumerate(DEFAULT_NAMES):
        with (folder / f"{topic}.csv").open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["doc_text"])
            words = TEXTS[number].split()
            writer.writerows([[" ".join(rng.choice(words, 5)) + f" {row}"] for row in range(20 if number else 200)])
    return folder


def run(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(calibrate, [str(one) for one in arguments], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.output


def test_a_model_speaks_of_the_posts_that_it_was_calibrated_on(model: Path, posts: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine"
    output = run(model, posts, "-o", out, "--version", "2.5", "--cache-dir", tmp_path, "--device", "cpu")
    # The model records no posts that it has not seen: whoever reads the figures must know.
    assert "! This is not the data that the model records as its own." in output
    before, after = artifact.read(model), artifact.read(out)
    assert after.info.version == "2.5"
    assert after.weights_sha256 == before.weights_sha256
    assert after.info.sha256 != before.info.sha256
    data = read_folder(posts)
    classifier = Classifier.load(out, device="cpu", threads=1, cache_dir=tmp_path)
    predictions = classifier.predict(data.posts)
    # Calibrated: the mean probability of each topic is its share of the posts.
    assert predictions.probabilities.mean(axis=0) == pytest.approx(data.labels.mean(axis=0), abs=0.02)
    assert predictions.probabilities == pytest.approx(after.calibration.probabilities(predictions.logits))
    card = after.info.card
    assert card["calibrated_again"] == {"posts": len(data.posts), "digest": data.digest(), "held_back": False}
    readme = (out / artifact.README).read_text(encoding="utf-8")
    assert f"come from {len(data.posts)} posts that were given later" in readme
    assert f"{card['validation']['figures']['micro_f1']['mean']:.3f}" in readme
    assert readme.count(COMPARED) == 1
    assert readme.index(COMPARED) < readme.index("## Limits")


def test_a_model_may_take_its_own_place(model: Path, posts: Path, tmp_path: Path) -> None:
    run(model, posts, "-o", model, "--version", "0.0.2", "--cache-dir", tmp_path, "--device", "cpu")
    assert artifact.read(model).info.version == "0.0.2"


def test_a_handful_of_posts_says_nothing_of_a_threshold(model: Path, posts: Path, tmp_path: Path) -> None:
    (posts / "ads.csv").write_text("doc_text\nскидка\nпромокод\n", encoding="utf-8")
    output = run(model, posts, "-o", tmp_path / "mine", "--version", "2", "--cache-dir", tmp_path, code=1)
    assert "fewer than 10 posts" in output
    assert not (tmp_path / "mine").exists()


def test_the_posts_of_its_training_are_those_that_it_held_back(model: Path, posts: Path, tmp_path: Path) -> None:
    data = read_folder(posts)
    keys = [one for number, one in enumerate(_keys(posts)) if number % 2]
    content = {"data_digest": data.digest(), "posts": " ".join(keys), "none": ""}
    artifact.write_json(model / artifact.VALIDATION, content)
    artifact.write_manifest(model)
    output = run(model, posts, "-o", tmp_path / "mine", "--version", "2", "--cache-dir", tmp_path, "--device", "cpu")
    assert "! " not in output
    again = json.loads((tmp_path / "mine" / artifact.CARD).read_text(encoding="utf-8"))["calibrated_again"]
    assert again["held_back"]
    assert again["posts"] == len(keys)


def _keys(posts: Path) -> list[str]:
    from ml.data import text_key

    return [text_key(post) for post in read_folder(posts).posts]


def test_ranges_stay_and_are_compared_at_the_new_thresholds(model: Path, posts: Path, tmp_path: Path) -> None:
    data = read_folder(posts)
    found = ranging.add(model, data.posts[:20], data.take(list(range(20, 40))), threads=1)
    out = tmp_path / "mine"
    run(model, posts, "-o", out, "--version", "2", "--cache-dir", tmp_path, "--device", "cpu", "--threads", "1")
    kept = artifact.read(out).ranges
    assert kept is not None
    assert kept.inputs == found.inputs
    assert kept.agreement is not None
    assert kept.agreement.posts == len(data.posts)
