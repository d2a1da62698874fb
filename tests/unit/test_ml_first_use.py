"""What is tried before a model serves: two texts through the network, and one kernel on a GPU."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from cli.models_command import models
from jobs.errors import RubrikaError
from jobs.settings import Settings
from ml import artifact, classifier
from ml import weights as weights_file
from ml.backends import Pending, at_once
from ml.backends.torch_any import why_not_cuda
from ml.batches import Batching, Ids
from ml.classifier import Classifier
from ml.errors import BackendError, MemoryShortError
from tests.tiny_model import make_tiny_model
from worker.main import load_chosen, load_classifier
from worker.succession import Choice

torch = pytest.importorskip("torch", reason="torch comes with the train extra")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole model folder whose network answers nothing that is a number."""
    made = make_tiny_model(tmp_path_factory.mktemp("broken") / "tiny")
    values = weights_file.read(made / artifact.WEIGHTS)
    weights_file.write(made / artifact.WEIGHTS, values | {"head.bias": np.full(6, np.nan, dtype=np.float16)})
    artifact.write_manifest(made)
    return made


def no_room(_: Sequence[Ids]) -> Pending:
    raise MemoryShortError("no room")


def no_numbers(texts: Sequence[Ids]) -> Pending:
    return at_once(np.full((len(texts), 6), np.nan, dtype=np.float32))


class Failing:
    """A backend that is loaded, and fails."""

    description = "failing"
    batching = Batching(128)

    def __init__(self, start: Callable[[Sequence[Ids]], Pending]) -> None:
        self._start = start

    def start(self, texts: Sequence[Ids]) -> Pending:
        return self._start(texts)

    def warm_up(self) -> None:
        pass


@pytest.mark.parametrize(("start", "reason"), [(no_room, "no room"), (no_numbers, "not a number")])
def test_a_network_that_fails_when_it_is_tried_is_refused(
    folder: Path, start: Callable[[Sequence[Ids]], Pending], reason: str
) -> None:
    with pytest.raises(BackendError, match=reason):
        Classifier(artifact.read(folder), Failing(start)).warm_up()


def test_such_a_model_is_not_activated(tmp_path: Path, broken: Path) -> None:
    """It is not even asked where the database is."""
    env = {
        "RUBRIKA_DATA_DIR": str(tmp_path),
        "RUBRIKA_DEVICE": "cpu",
        "RUBRIKA_ARITHMETIC": "float32",
        "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
    }
    done = CliRunner(env=env).invoke(models, ["activate", str(broken)])
    assert isinstance(done.exception, RubrikaError)
    assert "not a number" in str(done.exception)


def test_a_worker_with_such_a_model_runs_that_of_its_settings(tmp_path: Path, folder: Path, broken: Path) -> None:
    given = {"RUBRIKA_DEVICE": "cpu", "RUBRIKA_ARITHMETIC": "float32", "RUBRIKA_DATA_DIR": str(tmp_path)}
    settings = Settings.from_env(given | {"RUBRIKA_MODEL": str(folder)})
    sha256 = artifact.read(broken).info.sha256
    loaded, choice = load_chosen(settings, Choice(broken, activate=False, seen=sha256), load_classifier)
    assert loaded.info.sha256 == artifact.read(folder).info.sha256
    assert choice == Choice(folder, activate=False, refused=sha256)


# --- a GPU ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def too_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is a card, torch finds it, and has no kernel for it."""

    def ones(*_: Any, device: str) -> Any:
        assert device == "cuda"
        raise torch.AcceleratorError(
            "CUDA error: no kernel image is available for execution on the device\nCompile with `TORCH_USE_CUDA_DSA`."
        )

    monkeypatch.setattr(classifier, "NVIDIA_DEVICE", tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "ones", ones)


@pytest.mark.usefixtures("too_old")
def test_a_card_without_kernels_is_left_alone_with_a_word_in_the_log(
    tmp_path: Path, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert "CPU" in Classifier.load(folder, cache_dir=tmp_path, threads=1).backend
    assert (
        "torch cannot use it (CUDA error: no kernel image is available for execution on the device): the network runs "
        "on the CPU"
    ) in caplog.text


@pytest.mark.usefixtures("too_old")
def test_who_wants_such_a_card_is_told_what_is_wrong_with_it(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(BackendError, match=r"that torch can use \(CUDA error: no kernel image[^\n]*\): set RUBRIKA_D"):
        Classifier.load(folder, device="cuda", cache_dir=tmp_path, threads=1)


def test_a_card_that_is_full_is_not_left_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    def ones(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB.")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "ones", ones)
    assert why_not_cuda() == ""


def test_a_card_that_computes_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = torch.ones(1)
    monkeypatch.setattr(classifier, "NVIDIA_DEVICE", tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "ones", lambda *_, **__: one)
    assert why_not_cuda() == ""
    assert classifier._cuda_is_there()
