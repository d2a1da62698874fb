"""The classifier in its three steps: order, equal texts, failures that stay alone, calls within calls."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from ml import artifact, classifier, running
from ml import weights as weights_file
from ml.backends import Logits, Pending, at_once, fastest_arithmetic
from ml.backends.openvino_cpu import OpenVinoBackend
from ml.batches import Batching, Ids
from ml.classifier import Classifier, Predictions, load_backend
from ml.errors import BackendError, DeviceLostError, MemoryShortError, ModelError
from ml.posts import Post
from tests.tiny_model import make_tiny_model

WORDS = ("матч", "кот", "скидка", "канал", "закон", "мама", "финал", "дети")


class CountingBackend:
    """Logits that tell tokens apart without a network.

    Refuses texts that hold the token `poison`, and has memory for `room` tokens at a time.
    """

    description = "counting"

    def __init__(self, poison: int | None = None, multiple: int = 16, in_flight: int = 1, room: int = 10**9) -> None:
        self.poison = poison
        self.batching = Batching(128, multiple, in_flight)
        self.room = room
        self.started: list[list[int]] = []
        self.most_waiting = self._waiting = 0

    def start(self, texts: Sequence[Ids]) -> Pending:
        lengths = [len(text) for text in texts]
        if sum(lengths) > self.room:
            raise MemoryShortError("no room")
        self.started.append(lengths)
        self._waiting += 1
        self.most_waiting = max(self.most_waiting, self._waiting)
        return lambda: self._finish(texts)

    def warm_up(self) -> None:
        pass

    def _finish(self, texts: Sequence[Ids]) -> Logits:
        self._waiting -= 1
        if self.poison is not None and any((text == self.poison).any() for text in texts):
            raise RuntimeError("this row is poison")
        total = np.array([text.sum() for text in texts]) / 1000
        return np.stack([total + topic for topic in range(6)], axis=1).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("model") / "tiny")


def many_posts(count: int) -> list[Post]:
    rng = np.random.default_rng(0)
    return [Post(" ".join(rng.choice(WORDS, int(rng.integers(1, 25))))) for _ in range(count)]


def classifier_with(folder: Path, backend: CountingBackend) -> Classifier:
    return Classifier(artifact.read(folder), backend)


def assert_same(first: Predictions, second: Predictions) -> None:
    np.testing.assert_array_equal(first.probabilities, second.probabilities)
    np.testing.assert_array_equal(first.truncated, second.truncated)
    assert first.failures == second.failures


def test_every_post_gets_its_own_result_in_its_own_place(folder: Path) -> None:
    classifier = classifier_with(folder, CountingBackend())
    posts = many_posts(100)
    together = classifier.predict(posts)
    assert together.probabilities.shape == (100, 6)
    assert together.probabilities.dtype == np.float32
    for row, post in enumerate(posts):
        np.testing.assert_array_equal(together.probabilities[row], classifier.predict([post]).probabilities[0])


@pytest.mark.parametrize("multiple", [16, 0])
def test_batches_are_bounded_by_tokens_and_hold_similar_lengths(folder: Path, multiple: int) -> None:
    backend = CountingBackend(multiple=multiple)
    classifier_with(folder, backend).predict(many_posts(100))
    rounded = [-(-max(lengths) // 16) * 16 * len(lengths) if multiple else sum(lengths) for lengths in backend.started]
    assert all(tokens <= 128 for tokens in rounded)
    assert sum(rounded) / len(rounded) > 90
    everything = [length for lengths in backend.started for length in lengths]
    assert everything == sorted(everything, reverse=True)


def test_so_many_batches_are_in_flight_as_suit_the_backend(folder: Path) -> None:
    posts = many_posts(100)
    alone = classifier_with(folder, CountingBackend()).predict(posts)
    for in_flight in (1, 3):
        backend = CountingBackend(in_flight=in_flight)
        assert_same(classifier_with(folder, backend).predict(posts), alone)
        assert backend.most_waiting == in_flight


@pytest.mark.parametrize("in_flight", [1, 2])
def test_a_batch_that_memory_does_not_hold_is_halved(folder: Path, in_flight: int) -> None:
    posts = many_posts(60)
    whole = classifier_with(folder, CountingBackend()).predict(posts)
    short = CountingBackend(in_flight=in_flight, room=40)
    assert_same(classifier_with(folder, short).predict(posts), whole)
    assert all(sum(lengths) <= 40 for lengths in short.started)


def test_batches_stay_small_once_memory_was_short(folder: Path) -> None:
    backend = CountingBackend(room=1500)
    classifier = Classifier(artifact.read(folder), backend, batch_tokens=4000)
    posts = many_posts(400)
    classifier.predict(posts)
    backend.room = 10**9
    backend.started.clear()
    classifier.predict(posts)
    assert max(map(sum, backend.started)) <= 2000


def test_a_text_that_memory_does_not_hold_fails_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "SMALLEST_BUDGET", 10)
    predictions = classifier_with(folder, CountingBackend(room=10)).predict([Post("матч"), Post("кот " * 20)])
    assert list(predictions.failures) == [1]
    assert "memory" in predictions.failures[1]


def test_a_device_that_is_lost_is_no_fault_of_the_texts(folder: Path) -> None:
    class LostBackend(CountingBackend):
        def _finish(self, texts: Sequence[Ids]) -> Logits:
            raise DeviceLostError("gone")

    with pytest.raises(DeviceLostError):
        classifier_with(folder, LostBackend()).predict(many_posts(3))


@pytest.mark.parametrize("multiple", [0, 16], ids=["packed", "padded"])
def test_the_effort_is_what_the_network_was_given(folder: Path, multiple: int) -> None:
    backend = CountingBackend(multiple=multiple)
    classifier = classifier_with(folder, backend)
    prepared = classifier.prepare(many_posts(40))
    effort = classifier.compute(prepared).effort
    assert effort.batches == len(backend.started)
    assert effort.tokens == prepared.tokens == sum(map(sum, backend.started))
    filled = sum(len(batch) * -(-max(batch) // 16) * 16 for batch in backend.started)
    assert effort.padding == (filled - effort.tokens if multiple else 0)
    assert effort.seconds > 0


def test_equal_texts_are_computed_once(folder: Path) -> None:
    backend = CountingBackend()
    posts = [Post("матч"), Post("кот"), Post("матч "), Post("матч")] * 5
    predictions = classifier_with(folder, backend).predict(posts)
    assert sum(map(len, backend.started)) == 2
    np.testing.assert_array_equal(predictions.probabilities[0], predictions.probabilities[18])
    assert (predictions.probabilities[0] != predictions.probabilities[1]).any()


def test_one_bad_text_fails_alone(folder: Path) -> None:
    classifier = classifier_with(folder, CountingBackend())
    poison = int(classifier.prepare([Post("дети")]).ids[0][1])
    bad = classifier_with(folder, CountingBackend(poison))
    posts = [Post("матч"), Post("кот дети"), Post("скидка"), Post("кот дети")]
    predictions = bad.predict(posts)
    assert predictions.failures == dict.fromkeys((1, 3), "RuntimeError: this row is poison")
    assert np.isnan(predictions.probabilities[[1, 3]]).all()
    np.testing.assert_array_equal(predictions.probabilities[[0, 2]], classifier.predict(posts).probabilities[[0, 2]])


def test_a_network_that_returns_no_numbers_is_a_failure(folder: Path) -> None:
    class BrokenBackend(CountingBackend):
        def start(self, texts: Sequence[Ids]) -> Pending:
            return at_once(np.full((len(texts), 6), np.nan, dtype=np.float32))

    predictions = classifier_with(folder, BrokenBackend()).predict([Post("матч")])
    assert "not a number" in predictions.failures[0]


def test_no_posts_are_no_error(folder: Path) -> None:
    predictions = classifier_with(folder, CountingBackend()).predict([])
    assert predictions.probabilities.shape == (0, 6)
    assert predictions.truncated.shape == (0,)


def test_long_posts_are_marked(folder: Path) -> None:
    posts = [Post("матч"), Post("матч " * 100), Post("", "", "мама " * 100)]
    assert classifier_with(folder, CountingBackend()).predict(posts).truncated.tolist() == [False, True, True]


def test_between_batches_another_prediction_may_be_made(folder: Path) -> None:
    classifier = classifier_with(folder, CountingBackend())
    posts = many_posts(60)
    inner: list[Predictions] = []
    outer = classifier.compute(classifier.prepare(posts), lambda: inner.append(classifier.predict(posts[:7])))
    assert len(inner) >= 3
    assert_same(outer, classifier.predict(posts))
    for one in inner:
        assert_same(one, classifier.predict(posts[:7]))


def test_what_between_batches_raises_ends_the_call(folder: Path) -> None:
    class StopError(Exception):
        pass

    def stop() -> None:
        raise StopError

    classifier = classifier_with(folder, CountingBackend())
    with pytest.raises(StopError):
        classifier.compute(classifier.prepare(many_posts(60)), stop)


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime", "torch"])
@pytest.mark.parametrize("pooling", ["mean", "cls", "pooler"])
@pytest.mark.parametrize("merge_after", [(), (1, 3)])
def test_every_backend_agrees_with_the_reference(
    tmp_path: Path,
    backend: str,
    pooling: str,
    merge_after: tuple[int, ...],
    reference: Callable[[Path, list[Post]], npt.NDArray[np.float32]],
) -> None:
    folder = make_tiny_model(tmp_path / "model", pooling=pooling, layers=4, merge_after=merge_after)
    posts = [*many_posts(12), Post("Гол!", "счёт", "мама"), Post("")]
    classifier = Classifier.load(
        folder, backend=backend, arithmetic="float", device="cpu", threads=1, cache_dir=tmp_path / "cache"
    )
    classifier.warm_up()
    predictions = classifier.predict(posts)
    assert not predictions.failures
    # A processor with bfloat16 computes in it, with about three digits.
    np.testing.assert_allclose(predictions.probabilities, reference(folder, posts), atol=2e-2 if _bf16() else 1e-5)


@pytest.fixture
def reference() -> Callable[[Path, list[Post]], npt.NDArray[np.float32]]:
    """Probabilities by the layers of transformers, one text at a time and without padding."""

    def compute(folder: Path, posts: list[Post]) -> npt.NDArray[np.float32]:
        import torch
        from transformers import BertConfig, BertModel

        model = artifact.read(folder)
        weights = {name: torch.from_numpy(array).float() for name, array in weights_file.read(model.weights).items()}
        encoder = BertModel(BertConfig(**model.config)).eval()
        prefix = "encoder."
        own = {name.removeprefix(prefix): one for name, one in weights.items() if name.startswith(prefix)}
        encoder.load_state_dict(own, strict=True)
        rows = []
        for ids in _token_ids(model, posts):
            with torch.inference_mode():
                states = encoder.embeddings(torch.tensor([ids]))
                # The tokens that each state stands for.
                stands = [[token] for token in range(len(ids))]
                for number, layer in enumerate(encoder.encoder.layer):
                    if number in model.merge_after:
                        pairs = [range(first, min(first + 2, len(stands))) for first in range(0, len(stands), 2)]
                        many = [torch.tensor([float(len(stands[one])) for one in pair]) for pair in pairs]
                        means = [states[0, list(pair)].T @ (n / n.sum()) for pair, n in zip(pairs, many, strict=True)]
                        states = torch.stack(means)[None]
                        stands = [[token for one in pair for token in stands[one]] for pair in pairs]
                    states = layer(states)
                assert model.merge_after or torch.allclose(states, encoder(torch.tensor([ids])).last_hidden_state)
                mean = states[0].T @ torch.tensor([len(tokens) / len(ids) for tokens in stands])
                pooled = {"mean": mean, "cls": states[0, 0], "pooler": encoder.pooler(states)[0]}[model.pooling]
                rows.append(torch.sigmoid(weights["head.weight"] @ pooled + weights["head.bias"]).numpy())
        return np.stack(rows)

    return compute


def _token_ids(model: artifact.ModelFolder, posts: list[Post]) -> list[list[int]]:
    prepared = Classifier(model, CountingBackend()).prepare(posts)
    return [prepared.ids[text].tolist() for text in prepared.text_of]


def _bf16() -> bool:
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.exists() and "bf16" in cpuinfo.read_text(encoding="utf-8")


@pytest.mark.parametrize("pooling", ["mean", "cls", "pooler"])
def test_eight_bits_are_near_the_whole_numbers_and_not_the_same(
    tmp_path: Path, pooling: str, reference: Callable[[Path, list[Post]], npt.NDArray[np.float32]]
) -> None:
    folder = make_tiny_model(tmp_path / "model", pooling=pooling)
    posts = many_posts(12)
    classifier = Classifier.load(folder, arithmetic="int8", device="cpu", threads=1, cache_dir=tmp_path / "cache")
    assert "int8" in classifier.backend
    probabilities = classifier.predict(posts).probabilities
    whole = reference(folder, posts)
    np.testing.assert_allclose(probabilities, whole, atol=2e-2)
    assert np.abs(probabilities - whole).max() > 1e-5


def test_eight_bits_are_chosen_where_they_are_fastest() -> None:
    assert fastest_arithmetic(frozenset({"avx2", "avx512_vnni"})) == "int8"
    assert fastest_arithmetic(frozenset({"avx2", "avx_vnni"})) == "int8"
    assert fastest_arithmetic(frozenset({"avx512_vnni", "amx_bf16", "amx_int8"})) == "float"
    assert fastest_arithmetic(frozenset({"avx2"})) == "float"
    assert fastest_arithmetic(frozenset()) == "float"


def test_several_processes_may_compute_on_all_cores(tmp_path: Path, folder: Path) -> None:
    """Pinned to cores, the threads of each would take the first ones."""
    backend = load_backend(artifact.read(folder), "cpu", "openvino", 1, tmp_path)
    assert isinstance(backend, OpenVinoBackend)
    assert backend.compiled.get_property("ENABLE_CPU_PINNING") is False


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_however_many_batches_are_begun_each_comes_back_to_its_own(tmp_path: Path, folder: Path, backend: str) -> None:
    loaded = load_backend(artifact.read(folder), "cpu", backend, 2, tmp_path, "float32")
    assert loaded.batching.in_flight == 2
    rng = np.random.default_rng(0)
    batches = [[rng.integers(5, 50, length, dtype=np.int32) for _ in range(3)] for length in (3, 40, 7, 25, 12, 4)]
    alone = [loaded.start(batch)() for batch in batches]
    begun = [loaded.start(batch) for batch in batches]
    for pending, expected in zip(reversed(begun), reversed(alone), strict=True):
        np.testing.assert_allclose(pending(), expected, atol=1e-5)


def test_a_gpu_that_torch_cannot_use_is_left_alone(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(classifier, "NVIDIA_DEVICE", tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "CPU" in Classifier.load(folder, cache_dir=tmp_path, threads=1).backend
    assert "torch cannot use it" in caplog.text
    with pytest.raises(BackendError, match="no CUDA device"):
        Classifier.load(folder, device="cuda", cache_dir=tmp_path, threads=1)


def test_graphs_are_kept_and_found_again(tmp_path: Path, folder: Path) -> None:
    def load() -> None:
        Classifier.load(folder, backend="onnxruntime", device="cpu", threads=1, cache_dir=tmp_path)

    load()
    (graph,) = tmp_path.glob("*.onnx")
    written = graph.stat().st_mtime_ns
    load()
    assert [entry.stat().st_mtime_ns for entry in tmp_path.glob("*.onnx")] == [written]


def test_what_cannot_be_run_is_refused_in_a_sentence(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(BackendError, match="must be one of"):
        Classifier.load(folder, backend="abacus", cache_dir=tmp_path)
    with pytest.raises(BackendError, match="runs in torch, not in openvino"):
        Classifier.load(folder, backend="openvino", device="cuda", cache_dir=tmp_path)
    with pytest.raises(BackendError, match="must be one of"):
        Classifier.load(folder, arithmetic="int4", cache_dir=tmp_path)
    for backend in ("onnxruntime", "torch"):
        with pytest.raises(BackendError, match=f"int8 runs on OpenVINO alone, and the backend is {backend}"):
            Classifier.load(folder, backend=backend, arithmetic="int8", device="cpu", cache_dir=tmp_path)
    strange = make_tiny_model(tmp_path / "strange")
    config = (strange / artifact.CONFIG).read_text(encoding="utf-8").replace('"bert"', '"gpt2"')
    (strange / artifact.CONFIG).write_text(config, encoding="utf-8")
    artifact.write_manifest(strange)
    with pytest.raises(ModelError, match="Use the torch backend"):
        Classifier.load(strange, backend="openvino", cache_dir=tmp_path)


def test_signals_are_handled_after_one_network_and_then_another_were_let_go(tmp_path: Path, folder: Path) -> None:
    script = f"""
import gc, os, signal
from pathlib import Path
from ml.classifier import Classifier

def load():
    return Classifier.load(Path({str(folder)!r}), backend="openvino", threads=1, cache_dir=Path({str(tmp_path)!r}))

first = load()
second = load()
del first
gc.collect()
del second
gc.collect()
signal.signal(signal.SIGUSR1, lambda *_: print("handled"))
os.kill(os.getpid(), signal.SIGUSR1)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr
