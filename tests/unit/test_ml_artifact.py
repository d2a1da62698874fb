"""A model folder is read whole or refused in a sentence."""

import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ml import artifact
from ml.calibrate import Calibration
from ml.errors import ModelError
from tests.tiny_model import make_tiny_model


def test_a_model_folder_tells_its_topics_in_label_order(tmp_path: Path) -> None:
    folder = artifact.read(make_tiny_model(tmp_path / "model"))
    assert [topic.id for topic in folder.info.topics] == ["sport", "humour", "ads", "social", "politics", "personal"]
    assert folder.info.topics[0] == artifact.Topic("sport", "Спорт", "Sport", 0.5)
    assert folder.calibration.slope.tolist() == [1.0] * 6
    assert len(folder.info.sha256) == 64


def test_another_threshold_is_another_model(tmp_path: Path) -> None:
    path = make_tiny_model(tmp_path / "model")
    before = artifact.read(path)
    settings = json.loads((path / artifact.SETTINGS).read_text(encoding="utf-8"))
    settings["topics"][0]["threshold"] = 0.25
    artifact.write_json(path / artifact.SETTINGS, settings)
    artifact.write_manifest(path)
    after = artifact.read(path)
    assert after.info.sha256 != before.info.sha256
    assert after.weights_sha256 == before.weights_sha256


@pytest.mark.parametrize("name", [*artifact.REQUIRED, artifact.MANIFEST])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    path = make_tiny_model(tmp_path / "model")
    (path / name).unlink()
    with pytest.raises(ModelError, match=name):
        artifact.read(path)


def test_one_changed_byte_is_found(tmp_path: Path) -> None:
    path = make_tiny_model(tmp_path / "model")
    content = bytearray((path / artifact.WEIGHTS).read_bytes())
    content[-1] ^= 1
    (path / artifact.WEIGHTS).write_bytes(content)
    with pytest.raises(ModelError, match=r"is damaged: model.safetensors"):
        artifact.read(path)


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="There is no model folder"):
        artifact.read(tmp_path / "nothing")
    with pytest.raises(ModelError, match="no complete model folder"):
        artifact.read(tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", '{"format": 3}', '{"format": 5}', '{"format": 3, "topics": [{}]}'])
def test_damaged_settings_are_refused_even_with_a_fitting_manifest(tmp_path: Path, content: str) -> None:
    path = make_tiny_model(tmp_path / "model")
    (path / artifact.SETTINGS).write_text(content, encoding="utf-8")
    artifact.write_manifest(path)
    with pytest.raises(ModelError):
        artifact.read(path)


def test_a_manifest_cannot_point_outside_its_folder(tmp_path: Path) -> None:
    path = make_tiny_model(tmp_path / "model")
    with (path / artifact.MANIFEST).open("a", encoding="utf-8") as stream:
        stream.write(f"{'0' * 64}  ../outside\n")
    with pytest.raises(ModelError, match="not a name of a file beside it"):
        artifact.read(path)


def test_a_folder_is_replaced_whole_or_stays_as_it_was(tmp_path: Path) -> None:
    path = make_tiny_model(tmp_path / "model")
    before = artifact.read(path).info

    def break_off() -> None:
        with artifact.replacing(path) as draft:
            (draft / "half").write_text("half", encoding="utf-8")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        break_off()
    assert artifact.read(path).info == before
    with artifact.replacing(path) as draft:
        make_tiny_model(draft, seed=1)
    assert artifact.read(path).info.sha256 != before.sha256
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]


def test_a_full_disk_is_told_and_leaves_the_folder_as_it_was(tmp_path: Path) -> None:
    path = make_tiny_model(tmp_path / "model")
    before = artifact.read(path).info
    with pytest.raises(ModelError, match="model cannot be written: No space left"), artifact.replacing(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert artifact.read(path).info == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]


def test_what_is_no_model_is_never_replaced(tmp_path: Path) -> None:
    precious = tmp_path / "photos"
    precious.mkdir()
    (precious / "cat.jpg").write_bytes(b"cat")
    with pytest.raises(ModelError, match="is no model folder"), artifact.replacing(precious):
        pass
    assert (precious / "cat.jpg").read_bytes() == b"cat"


def test_probabilities_follow_the_calibration_of_each_topic() -> None:
    calibration = Calibration(
        slope=np.array([1, 2], dtype=np.float32),
        intercept=np.array([0, -2], dtype=np.float32),
        rivalry=np.array([0, 0], dtype=np.float32),
        threshold=np.array([0.5, 0.5], dtype=np.float32),
    )
    logits = np.array([[0, 1]], dtype=np.float32)
    assert calibration.probabilities(logits).tolist() == [[0.5, 0.5]]
    # The rival of the second topic is the first, and none: both have the logit 0.
    rivalling = replace(calibration, rivalry=np.array([0, -1 / np.log(2)], dtype=np.float32))
    assert rivalling.probabilities(logits) == pytest.approx(np.array([[0.5, 1 / (1 + np.e)]]))


def test_a_folder_whose_topics_know_nothing_of_each_other_can_still_be_read(tmp_path: Path) -> None:
    path = make_tiny_model(tmp_path / "model")
    settings = json.loads((path / artifact.SETTINGS).read_text(encoding="utf-8"))
    settings["format"] = 2
    for topic in settings["topics"]:
        del topic["calibration"]["rivalry"]
    artifact.write_json(path / artifact.SETTINGS, settings)
    artifact.write_manifest(path)
    assert artifact.read(path).calibration.rivalry.tolist() == [0.0] * 6
