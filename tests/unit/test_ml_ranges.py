"""8 bits with fixed ranges: how they are measured and kept, who takes them, and that they are near float32."""

import csv
import json
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import numpy_helper

from cli.ranges_command import ranges as command
from jobs.settings import SHIPPED_MODEL
from ml import artifact, graph, ranging
from ml import weights as weights_file
from ml.backends import adds_in_pairs, fastest_arithmetic
from ml.backends.onnxruntime_cpu import OnnxRuntimeBackend
from ml.classifier import Classifier
from ml.data import DEFAULT_NAMES, Dataset, TopicName
from ml.errors import BackendError, ModelError
from ml.posts import Post
from ml.ranges import Agreement, Range, Ranges, holding, ranges_of
from tests.tiny_model import HIDDEN, LAYERS, TEXTS, make_tiny_model
from web.examples import EXAMPLES

LEARN = tuple(Post(" ".join(text.split()[start:])) for text in TEXTS for start in range(3))
VNNI = frozenset({"avx2", "avx512_vnni"})
AVX2 = frozenset({"avx2"})


def check_posts(texts: tuple[str, ...] = TEXTS) -> Dataset:
    topics = tuple(TopicName(topic, *names) for topic, names in DEFAULT_NAMES.items())
    labels = np.eye(6, dtype=np.float32)[np.arange(len(texts)) % 6]
    return Dataset(topics, tuple(map(Post, texts)), labels, tuple(texts))


@pytest.fixture(scope="module")
def ranged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with ranges."""
    folder = make_tiny_model(tmp_path_factory.mktemp("model") / "tiny")
    ranging.add(folder, LEARN, check_posts(), threads=1)
    return folder


def with_agreement(folder: Path, out: Path, same: float, change: float = 0.0) -> Path:
    """A copy of a folder with ranges that agree so well."""
    shutil.copytree(folder, out)
    found = artifact.read(out).ranges
    assert found is not None
    artifact.put(out, artifact.RANGES, replace(found, agreement=Agreement(100, same, change)).content())
    return out


def logits(folder: Path, cache: Path, arithmetic: str, posts: list[Post], backend: str = "openvino") -> np.ndarray:
    loaded = Classifier.load(
        folder, device="cpu", backend=backend, arithmetic=arithmetic, threads=1, cache_dir=cache / "cache"
    )
    found = loaded.predict(posts)
    assert not found.failures
    return found.logits


def test_a_range_holds_all_numbers_and_the_channels_that_stand_out_are_divided() -> None:
    low, high = np.full(128, -2.0, dtype=np.float32), np.full(128, 3.0, dtype=np.float32)
    high[7], low[9] = 31.0, -4.0
    found = holding(low, high)
    assert found.divided == {7: 16.0, 9: 2.0}
    assert (found.low, found.high) == (-2.0, 3.0)
    assert found.divisors(128)[[6, 7, 9]].tolist() == [1.0, 16.0, 2.0]
    # The 256 numbers reach from end to end, and one of them is 0.
    assert -found.zero * found.step == pytest.approx(-2.0, abs=found.step)
    assert (255 - found.zero) * found.step == pytest.approx(3.0, abs=found.step)


def test_a_range_of_positive_numbers_begins_at_0_and_one_of_zeros_is_one() -> None:
    found = holding(np.full(8, 1.0, dtype=np.float32), np.full(8, 2.0, dtype=np.float32))
    assert (found.low, found.high, found.zero) == (0.0, 2.0, 0)
    nothing = holding(np.zeros(8, dtype=np.float32), np.zeros(8, dtype=np.float32))
    assert nothing.step > 0
    assert not nothing.divided


def test_ranges_are_written_and_read_as_they_are() -> None:
    found = Ranges({"a": Range(-1.5, 2.0, {3: 4.0}), "b": Range(0.0, 1.0, {})}, 7, Agreement(5, 0.995, -0.001))
    assert ranges_of(json.loads(json.dumps(found.content()))) == found
    assert ranges_of(replace(found, agreement=None).content()) == replace(found, agreement=None)
    assert ranges_of({"format": 2}) is None


def test_the_folder_has_a_range_for_each_input_and_no_text(ranged: Path, tmp_path: Path) -> None:
    model = artifact.read(ranged)
    assert model.ranges is not None
    assert len(model.ranges.inputs) == 4 * LAYERS
    assert model.ranges.agreement is not None
    assert model.ranges.agreement.posts == len(TEXTS)
    assert artifact.RANGES in (ranged / artifact.MANIFEST).read_text(encoding="utf-8")
    assert (ranged / artifact.RANGES).read_text(encoding="utf-8").isascii()
    before = artifact.read(make_tiny_model(tmp_path / "before"))
    assert model.info.sha256 != before.info.sha256
    assert model.weights_sha256 == before.weights_sha256


def test_what_was_seen_is_what_the_network_computes(ranged: Path) -> None:
    """The first input of the first layer, by hand: embeddings, added up and normalised."""
    model = artifact.read(ranged)
    found = ranging.measured(model, LEARN[:3], threads=1)
    values = {name: array.astype(np.float32) for name, array in weights_file.read(model.weights).items()}
    encoder = ranging.encoder_of(model)
    ids = encoder.encode([encoder.compose(post) for post in LEARN[:3]]).ids
    prefix = "encoder.embeddings"
    low = np.full(HIDDEN, np.inf)
    high = np.full(HIDDEN, -np.inf)
    for one in ids:
        states = (
            values[f"{prefix}.word_embeddings.weight"][one] + values[f"{prefix}.position_embeddings.weight"][: len(one)]
        )
        states += values[f"{prefix}.token_type_embeddings.weight"][0]
        states = (states - states.mean(1, keepdims=True)) / states.std(1, keepdims=True)
        states = states * values[f"{prefix}.LayerNorm.weight"] + values[f"{prefix}.LayerNorm.bias"]
        low, high = np.minimum(low, states.min(0)), np.maximum(high, states.max(0))
    expected = holding(low.astype(np.float32), high.astype(np.float32))
    seen = found.inputs["encoder.encoder.layer.0.attention.self"]
    assert seen.divided == expected.divided
    assert (seen.low, seen.high) == pytest.approx((expected.low, expected.high), abs=1e-4)


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_fixed_ranges_are_near_float32_and_not_the_same(ranged: Path, tmp_path: Path, backend: str) -> None:
    posts = [Post(text) for text in TEXTS] + [Post("Гол!", "счёт", "мама"), Post("")]
    rounded = logits(ranged, tmp_path, "int8-static", posts, backend)
    exact = logits(ranged, tmp_path, "float32", posts, backend)
    assert np.abs(rounded - exact).max() > 1e-5
    assert np.abs(rounded - exact).mean() < 0.05 * exact.std()


def test_dividing_a_channel_that_stands_out_brings_the_others_nearer(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "model")
    values = weights_file.read(folder / artifact.WEIGHTS)
    for layer in range(LAYERS):
        name = f"encoder.encoder.layer.{layer}.attention.output.LayerNorm"
        values[f"{name}.bias"][3] = 60
    weights_file.write(folder / artifact.WEIGHTS, values)
    artifact.write_manifest(folder)
    posts = [Post(text) for text in TEXTS]
    exact = logits(folder, tmp_path, "float32", posts)
    found = ranging.measured(artifact.read(folder), posts, threads=1)
    place = "encoder.encoder.layer.1.intermediate.dense"
    assert found.inputs[place].divided[3] >= 8
    whole = {
        name: Range(one.low * max(one.divided.values(), default=1), one.high * max(one.divided.values(), default=1), {})
        for name, one in found.inputs.items()
    }
    errors = []
    for inputs in (found.inputs, whole):
        artifact.put(folder, artifact.RANGES, replace(found, inputs=inputs).content())
        errors.append(np.abs(logits(folder, tmp_path, "int8-static", posts) - exact).mean())
    assert errors[0] < errors[1] / 2


def test_which_weights_a_processor_gets() -> None:
    for flags in (VNNI, AVX2 | {"avx_vnni"}, AVX2 | {"sse2", "avx512f", "amx_int8"}, frozenset({"asimd"})):
        assert not adds_in_pairs(flags)
    assert adds_in_pairs(AVX2 | {"sse2"})
    assert adds_in_pairs(AVX2 | {"sse2", "avx512f"})


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_processors_that_add_in_pairs_get_weights_that_do_not_overflow(
    ranged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    posts = [Post(text) for text in TEXTS]
    exact = logits(ranged, tmp_path, "float32", posts, backend)
    for paired, flags in ((False, VNNI), (True, AVX2 | {"sse2"})):
        monkeypatch.setattr("ml.graph.processor_flags", lambda flags=flags: flags)
        before = set(tmp_path.rglob("*.onnx"))
        rounded = logits(ranged, tmp_path, "int8-static", posts, backend)
        (made,) = set(tmp_path.rglob("*.onnx")) - before
        assert ("-int8-paired-" in made.name) == paired
    # The last of them never overflow, whatever the processor of this machine is.
    assert np.abs(rounded - exact).mean() < 0.05 * exact.std()


def test_weights_beside_undivided_channels_are_those_that_are_stored(ranged: Path) -> None:
    model = artifact.read(ranged)
    assert model.ranges is not None
    inputs = {name: replace(one, divided={}) for name, one in model.ranges.inputs.items()}
    built = graph.build(replace(model, ranges=replace(model.ranges, inputs=inputs)), "int8-static")
    constants = {one.name: numpy_helper.to_array(one) for one in built.graph.initializer}
    onnx.checker.check_model(built)
    name = "encoder.encoder.layer.1.output.dense.weight"
    stored = weights_file.round_rows(weights_file.read(model.weights)[name])
    np.testing.assert_array_equal(constants[f"{name}.int8"].T, stored[0])
    np.testing.assert_array_equal(constants[f"{name}.scale"], stored[1])


def test_a_folder_without_ranges_runs_as_before_and_says_how_to_get_them(
    ranged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ml.classifier.processor_flags", lambda: VNNI)
    plain = make_tiny_model(tmp_path / "plain")
    assert "int8 and" in Classifier.load(plain, device="cpu", threads=1, cache_dir=tmp_path).backend
    for backend in ("openvino", "onnxruntime"):
        with pytest.raises(ModelError, match=r"has no ranges .*`rubrika ranges"):
            Classifier.load(plain, device="cpu", backend=backend, arithmetic="int8-static", cache_dir=tmp_path)
    with pytest.raises(BackendError, match="Fixed ranges run on our own kernels, OpenVINO and ONNX Runtime"):
        Classifier.load(ranged, device="cpu", backend="torch", arithmetic="int8-static", cache_dir=tmp_path)


@pytest.mark.parametrize(
    ("same", "change", "expected"),
    [(0.99, -0.003, "fixed ranges"), (0.989, 0.0, "int8 and"), (1.0, -0.0031, "int8 and")],
)
def test_ranges_are_taken_unasked_only_where_they_agree(
    ranged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, same: float, change: float, expected: str
) -> None:
    monkeypatch.setattr("ml.classifier.processor_flags", lambda: VNNI)
    folder = with_agreement(ranged, tmp_path / "model", same, change)
    assert expected in Classifier.load(folder, device="cpu", threads=1, cache_dir=tmp_path / "cache").backend


def test_ranges_are_for_processors_that_gain_by_8_bits() -> None:
    assert fastest_arithmetic(VNNI, ranges_agree=True) == "int8-static"
    assert fastest_arithmetic(frozenset({"avx_vnni"}), ranges_agree=True) == "int8-static"
    assert fastest_arithmetic(VNNI | {"amx_bf16"}, ranges_agree=True) == "float"
    assert fastest_arithmetic(frozenset({"avx2"}), ranges_agree=True) == "float"


@pytest.mark.parametrize(
    ("flags", "same", "arithmetic", "expected"),
    [
        (AVX2, 1.0, "auto", "ONNX Runtime"),
        (AVX2, 0.5, "auto", "OpenVINO"),
        (AVX2, 0.5, "int8-static", "ONNX Runtime"),
        (AVX2, 1.0, "float", "OpenVINO"),
        (AVX2, 1.0, "int8", "OpenVINO"),
        (AVX2 | {"avx512f"}, 1.0, "auto", "OpenVINO"),
        (VNNI, 1.0, "auto", "OpenVINO"),
        (AVX2 | {"avx_vnni"}, 1.0, "int8-static", "OpenVINO"),
        (frozenset(), 1.0, "auto", "OpenVINO"),
    ],
)
def test_where_there_is_no_vnni_onnxruntime_takes_the_ranges(
    ranged: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    flags: frozenset[str],
    same: float,
    arithmetic: str,
    expected: str,
) -> None:
    monkeypatch.setattr("ml.classifier.processor_flags", lambda: flags)
    folder = with_agreement(ranged, tmp_path / "model", same)
    found = Classifier.load(folder, device="cpu", arithmetic=arithmetic, threads=1, cache_dir=tmp_path / "cache")
    assert found.backend.startswith(expected)


def test_without_onnxruntime_openvino_takes_its_place(
    ranged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ml.classifier.processor_flags", lambda: AVX2)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    folder = with_agreement(ranged, tmp_path / "model", 1.0)
    found = Classifier.load(folder, device="cpu", threads=1, cache_dir=tmp_path / "cache")
    assert found.backend.startswith("OpenVINO")


@pytest.mark.parametrize(
    ("flags", "same", "expected"),
    [(VNNI, 1.0, "fixed ranges"), (AVX2, 1.0, "fixed ranges"), (AVX2, 0.5, "f32"), (frozenset(), 1.0, "f32")],
)
def test_onnxruntime_by_name_takes_ranges_where_they_agree_and_8_bits_are_faster(
    ranged: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    flags: frozenset[str],
    same: float,
    expected: str,
) -> None:
    monkeypatch.setattr("ml.classifier.processor_flags", lambda: flags)
    folder = with_agreement(ranged, tmp_path / "model", same)
    found = Classifier.load(folder, device="cpu", backend="onnxruntime", threads=1, cache_dir=tmp_path / "cache")
    assert expected in found.backend
    assert ("int8" in found.backend) == (expected == "fixed ranges")


def test_onnxruntime_computes_a_batch_for_each_core_side_by_side(ranged: Path, tmp_path: Path) -> None:
    folder = artifact.read(ranged)
    backend = OnnxRuntimeBackend(folder, tmp_path, 2, "int8-static", streams=2)
    # And one more that waits for the first that is free.
    assert backend.batching.in_flight == 3
    both = threading.Barrier(2, timeout=60)

    class Session:
        """Nobody is done before two have begun."""

        def run(self, outputs: list[str], inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
            both.wait()
            return session.run(outputs, inputs)

    session, backend._session = backend._session, Session()
    encoder = ranging.encoder_of(folder)
    batches = [encoder.encode([text]).ids for text in TEXTS[:2]]
    found = [pending() for pending in [backend.start(batch) for batch in batches]]
    alone = OnnxRuntimeBackend(folder, tmp_path, 1, "int8-static")
    for batch, logits_of_it in zip(batches, found, strict=True):
        np.testing.assert_array_equal(logits_of_it, alone.start(batch)())


def test_other_ranges_are_another_graph(ranged: Path, tmp_path: Path) -> None:
    model = artifact.read(ranged)
    assert model.ranges is not None
    first = graph.cached(model, tmp_path, "int8-static")
    # What was said of agreement is no part of the graph.
    told = replace(model, ranges=replace(model.ranges, agreement=None))
    assert graph.cached(told, tmp_path, "int8-static") == first
    wider = {name: replace(one, high=one.high * 2) for name, one in model.ranges.inputs.items()}
    other = replace(model, ranges=replace(model.ranges, inputs=wider))
    assert graph.cached(other, tmp_path, "int8-static") != first


@pytest.mark.parametrize(
    "content",
    ["[]", "{}", '{"format": 1}', '{"format": 1, "texts": 1, "agreement": null, "inputs": []}'],
)
def test_damaged_ranges_are_refused_even_with_a_fitting_manifest(ranged: Path, tmp_path: Path, content: str) -> None:
    folder = tmp_path / "model"
    shutil.copytree(ranged, folder)
    (folder / artifact.RANGES).write_text(content, encoding="utf-8")
    artifact.write_manifest(folder)
    with pytest.raises(ModelError, match=r"ranges\.json is damaged"):
        artifact.read(folder)


@pytest.mark.parametrize("one", [Range(1.0, 2.0, {}), Range(-1.0, float("inf"), {}), Range(-1.0, 1.0, {0: 0.0})])
def test_a_range_that_is_none_is_refused(one: Range) -> None:
    with pytest.raises(ValueError, match="is none"):
        ranges_of(Ranges({"a": one}, 1).content())


def test_ranges_of_another_network_are_refused(ranged: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(ranged, folder)
    found = artifact.read(folder).ranges
    assert found is not None
    inputs = dict(found.inputs)
    inputs["encoder.encoder.layer.0.output.dense"] = Range(-1.0, 1.0, {10_000: 2.0})
    artifact.put(folder, artifact.RANGES, replace(found, inputs=inputs).content())
    with pytest.raises(ModelError, match=r"do not fit the network.*layer\.0\.output\.dense"):
        Classifier.load(folder, device="cpu", arithmetic="int8-static", cache_dir=tmp_path)


def test_the_command_adds_ranges_to_an_older_folder(tmp_path: Path) -> None:
    folder, posts = make_tiny_model(tmp_path / "model"), tmp_path / "posts"
    posts.mkdir()
    for number, topic in enumerate(DEFAULT_NAMES):
        words = TEXTS[number].split()
        with (posts / f"{topic}.csv").open("w", encoding="utf-8", newline="") as stream:
            csv.writer(stream).writerows([["doc_text"], *([" ".join(words[row % 3 :])] for row in range(20))])
    result = CliRunner().invoke(command, [str(folder), str(posts), "--threads", "1"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "of the assignments as in float32" in result.output
    found = artifact.read(folder).ranges
    assert found is not None
    assert found.agreement is not None
    (posts / "sport.csv").rename(posts / "chess.csv")
    result = CliRunner().invoke(command, [str(folder), str(posts)])
    assert result.exit_code == 1
    assert "The model knows the topics" in result.output


def test_the_shipped_network_is_right_within_ranges_also_on_odd_texts(tmp_path: Path) -> None:
    """Ranges of a few sentences must do for texts of all kinds: what they cut off is little."""
    folder = tmp_path / "model"
    shutil.copytree(SHIPPED_MODEL, folder)
    posts = [Post(one.doc_text, one.image2text, one.speech2text) for one in EXAMPLES]
    found = ranging.measured(artifact.read(folder), [*map(Post, TEXTS), *posts[::2], *map(Post, ranging.ODD)], 1)
    artifact.put(folder, artifact.RANGES, found.content())
    model = artifact.read(folder)
    odd = ["7" * 300, "КУПИТЕ СЕЙЧАС", "Buy now and save 50%!", "🙂" * 50, "", "Мама", "и " * 700, "Ñandú çà et là"]
    texts = [*posts, *map(Post, odd)]
    exact, rounded = (
        model.calibration.probabilities(logits(folder, tmp_path, arithmetic, texts))
        for arithmetic in ("float32", "int8-static")
    )
    assert np.abs(rounded - exact).max() < 0.1
    assert np.abs(rounded - exact).mean() < 0.01
