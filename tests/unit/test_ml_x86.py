"""Our own kernels say what the reference says, whatever the lengths; where there is no AMX they run without it."""

import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("numba", reason="Numba is not to be had for this processor or Python")

from ml.x86.emit import features

if not {"fma", "f16c", "avx2"} <= features():
    pytest.skip("this processor lacks instructions that LLVM would call functions for", allow_module_level=True)

from jobs.settings import PROJECT_ROOT
from ml import artifact, ranging
from ml.artifact import ModelFolder
from ml.backends.openvino_cpu import OpenVinoBackend
from ml.backends.own_cpu import AmxBackend, ByteBackend, OwnBackend, why_not
from ml.batches import Ids
from ml.classifier import load_backend
from ml.errors import BackendError, DeviceLostError, ModelError
from ml.ranges import Agreement
from ml.running import Runner
from ml.x86 import network, tiles
from ml.x86.amx_network import AmxNetwork
from ml.x86.byte_network import ByteNetwork
from tests.tiny_model import POSITIONS, make_tiny_model

SIZES = (64, 2, 96)
LENGTHS = (33, 1, 2, 15, 16, 17, 31, 32, 47, 48, 63, 64, 5)
KINDS: dict[str, type[OwnBackend]] = {"amx": AmxBackend, "bytes": ByteBackend}
Floats = npt.NDArray[np.float32]


def model(folder: Path, **changes: Any) -> ModelFolder:
    """A network with ranges that hold for `texts_of`."""
    shape: dict[str, Any] = {"sizes": SIZES, "layers": 3, "ngrams": True, "max_tokens": POSITIONS} | changes
    made = artifact.read(make_tiny_model(folder, **shape))
    found = replace(ranging.over(made, texts_of(LENGTHS, made), 1), agreement=Agreement(100, 1.0, 0.0))
    artifact.put(folder, artifact.RANGES, found.content())
    return artifact.read(folder)


def texts_of(lengths: Sequence[int], folder: ModelFolder, seed: int = 0) -> list[Ids]:
    rng = np.random.default_rng(seed)
    return [rng.integers(5, folder.config["vocab_size"], length).astype(np.int32) for length in lengths]


def network_of(folder: ModelFolder, kind: str) -> network.Network:
    return AmxNetwork(folder) if kind == "amx" else ByteNetwork(folder, folder.fixed_ranges())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    return model(tmp_path_factory.mktemp("x86") / "model", merge_after=(1, 2))


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def backend(folder: ModelFolder, kind: str) -> OwnBackend:
    return KINDS[kind](folder, 2, emulated=True)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"merge_after": (1, 2)},
        {"pooling": "cls", "ngrams": False},
        {"pooling": "pooler", "merge_after": (2,)},
        # Heads of two rows of a tile, and one that is no power of two.
        {"sizes": (128, 2, 64)},
        {"sizes": (96, 1, 128)},
    ],
    ids=str,
)
def test_the_kernels_say_what_the_reference_says(tmp_path: Path, changes: dict[str, Any], kind: str) -> None:
    folder = model(tmp_path / "model", **changes)
    texts = texts_of(LENGTHS, folder)
    ours = KINDS[kind](folder, 1, emulated=True).start(texts)()
    reference = OpenVinoBackend(folder, tmp_path, 1, "float32")
    exact = np.concatenate([reference.start([text])() for text in texts])
    assert ours.dtype == np.float32
    # bfloat16 has three digits, and a byte fewer; texts differ by far more.
    spread = exact.std(axis=0)
    most, mean = (0.1, 0.03) if kind == "amx" else (0.3, 0.1)
    assert (np.abs(ours - exact) / spread).max() < most
    assert (np.abs(ours - exact) / spread).mean() < mean
    assert (np.abs(ours - np.roll(exact, 1, axis=0)) / spread).max() > 1


def test_a_text_gets_the_same_whatever_stands_beside_it(backend: OwnBackend, folder: ModelFolder) -> None:
    texts = texts_of(LENGTHS, folder)
    together = backend.start(texts)()
    alone = np.concatenate([backend.start([text])() for text in texts])
    # Memory has been written to by the others by now.
    again = backend.start(texts[::-1])()[::-1]
    # But for the last digits: NumPy multiplies one row and many in different orders.
    assert np.allclose(together, alone, rtol=0, atol=1e-5)
    assert np.allclose(together, again, rtol=0, atol=1e-5)


def test_what_lies_behind_the_texts_does_not_matter(folder: ModelFolder, kind: str) -> None:
    net, texts = network_of(folder, kind), texts_of((7, 33), folder)
    buffers = net.buffers()
    expected = net.logits(texts, buffers)
    buffers.make_room(300, POSITIONS)
    for kept in buffers._kept:
        kept.view(np.uint8)[:] = 0xFF  # As float32 and as bfloat16, no number.
    assert np.array_equal(net.logits(texts, buffers), expected)


def test_threads_do_not_meet(backend: OwnBackend, folder: ModelFolder) -> None:
    batches = [texts_of(LENGTHS, folder, seed) for seed in range(6)]
    expected = [backend.start(batch)() for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda batch: backend.start(batch)(), batches * 3))
    for one, other in zip(found, expected * 3, strict=True):
        assert np.array_equal(one, other)


def test_a_text_that_the_network_cannot_know_fails_alone(backend: OwnBackend, folder: ModelFolder) -> None:
    long = np.full(POSITIONS + 1, 5, dtype=np.int32)
    strange = np.array([5, folder.config["vocab_size"]], dtype=np.int32)
    good = texts_of((9,), folder)[0]
    empty, negative = np.zeros(0, dtype=np.int32), np.array([-1], dtype=np.int32)
    logits, failed, _ = Runner(backend, 6).run([long, good, strange, negative, empty])
    assert sorted(failed) == [0, 2, 3, 4]
    assert f"a text has {POSITIONS + 1}" in failed[0]
    assert np.allclose(logits[1], backend.start([good])()[0], rtol=0, atol=1e-5)


def test_memory_that_runs_out_is_told_and_no_lasting_harm(
    folder: ModelFolder, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, texts = network_of(folder, kind), texts_of((20, 30), folder)
    buffers = net.buffers()
    expected = net.logits(texts[:1], buffers)

    def short(size: int) -> npt.NDArray[np.uint8]:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(network, "aligned", short)
        with pytest.raises(MemoryError):
            net.logits(texts * 9, buffers)
    assert np.array_equal(net.logits(texts[:1], buffers), expected)


# --- what is chosen, and what is refused ----------------------------------------------------------------------------

AMX = frozenset({"amx_tile", "amx_bf16", "avx512_bf16"})


@pytest.mark.parametrize("arithmetic", ["auto", "float", "bfloat16"])
def test_they_are_chosen_where_there_is_amx(
    folder: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arithmetic: str
) -> None:
    monkeypatch.setattr("ml.classifier.processor_flags", lambda: AMX)
    monkeypatch.setattr(tiles, "NATIVE", True)
    assert isinstance(load_backend(folder, "cpu", "auto", 1, tmp_path, arithmetic), AmxBackend)
    assert isinstance(load_backend(folder, "cpu", "amx", 1, tmp_path, arithmetic), AmxBackend)


def test_others_compute_where_the_kernel_of_the_system_gives_no_tiles(
    folder: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ml.classifier.processor_flags", lambda: AMX)
    monkeypatch.setattr(tiles, "NATIVE", False)
    assert isinstance(load_backend(folder, "cpu", "auto", 1, tmp_path, "float32"), OpenVinoBackend)
    assert isinstance(load_backend(folder, "cpu", "auto", 1, tmp_path, "auto"), OpenVinoBackend)
    with pytest.raises(BackendError, match="may not use it"):
        load_backend(folder, "cpu", "amx", 1, tmp_path)
    with pytest.raises(BackendError, match="not in int8"):
        load_backend(folder, "cpu", "amx", 1, tmp_path, "int8")


VNNI = frozenset({"avx512_vnni", "avx512f", "avx2"})


@pytest.mark.parametrize("arithmetic", ["auto", "int8-static"])
@pytest.mark.parametrize("flags", [VNNI, frozenset({"avx2"})], ids=["vnni", "avx2"])
def test_they_are_chosen_where_bytes_are_multiplied_and_ranges_agree(
    folder: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: frozenset[str], arithmetic: str
) -> None:
    monkeypatch.setattr("ml.classifier.processor_flags", lambda: flags)
    monkeypatch.setattr(ByteBackend, "_instructions", lambda _: "VNNI")
    assert isinstance(load_backend(folder, "cpu", "auto", 1, tmp_path, arithmetic), ByteBackend)
    assert isinstance(load_backend(folder, "cpu", "bytes", 1, tmp_path, arithmetic), ByteBackend)


@pytest.mark.parametrize(
    ("flags", "arithmetic", "expected"),
    [
        (VNNI | AMX, "auto", AmxBackend),
        (VNNI | AMX, "int8-static", OpenVinoBackend),
        (VNNI, "float", OpenVinoBackend),
        (VNNI, "int8", OpenVinoBackend),
        (frozenset({"avx2", "avx512f"}), "auto", OpenVinoBackend),
        (frozenset({"avx2", "avx_vnni"}), "auto", OpenVinoBackend),
        (frozenset(), "int8-static", OpenVinoBackend),
    ],
    ids=str,
)
def test_what_is_taken_where_several_may_compute(
    folder: ModelFolder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    flags: frozenset[str],
    arithmetic: str,
    expected: type,
) -> None:
    monkeypatch.setattr("ml.classifier.processor_flags", lambda: flags)
    monkeypatch.setattr(tiles, "NATIVE", True)
    monkeypatch.setattr(ByteBackend, "_instructions", lambda _: "VNNI")
    assert isinstance(load_backend(folder, "cpu", "auto", 1, tmp_path, arithmetic), expected)


def test_where_amx_may_not_compute_bytes_do(
    folder: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ml.classifier.processor_flags", lambda: VNNI | AMX)
    monkeypatch.setattr(tiles, "NATIVE", False)
    monkeypatch.setattr(ByteBackend, "_instructions", lambda _: "VNNI")
    assert isinstance(load_backend(folder, "cpu", "auto", 1, tmp_path), ByteBackend)


def test_ranges_that_do_not_agree_are_for_those_who_ask(
    folder: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ml.classifier.processor_flags", lambda: VNNI)
    monkeypatch.setattr(ByteBackend, "_instructions", lambda _: "VNNI")
    apart = replace(folder, ranges=replace(folder.fixed_ranges(), agreement=Agreement(100, 0.5, 0.0)))
    assert isinstance(load_backend(apart, "cpu", "auto", 1, tmp_path), OpenVinoBackend)
    for arithmetic in ("auto", "int8-static"):
        assert isinstance(load_backend(apart, "cpu", "bytes", 1, tmp_path, arithmetic), ByteBackend)
    with pytest.raises(BackendError, match="compute in int8-static, not in float32"):
        load_backend(folder, "cpu", "bytes", 1, tmp_path, "float32")
    with pytest.raises(ModelError, match="`rubrika ranges"):
        load_backend(replace(folder, ranges=None), "cpu", "bytes", 1, tmp_path)


def test_where_bytes_cannot_be_multiplied_others_compute(
    folder: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ml.classifier.processor_flags", lambda: VNNI)
    monkeypatch.setattr(ByteBackend, "_instructions", lambda _: "")
    assert isinstance(load_backend(folder, "cpu", "auto", 1, tmp_path), OpenVinoBackend)
    with pytest.raises(BackendError, match="no AVX-512 VNNI or AVX2"):
        load_backend(folder, "cpu", "bytes", 1, tmp_path)


def test_ranges_of_another_network_are_refused(folder: ModelFolder) -> None:
    found = folder.fixed_ranges()
    place = "encoder.encoder.layer.2.output.dense"
    strange = replace(found.inputs[place], divided={SIZES[2]: 2.0})
    for inputs in (dict(list(found.inputs.items())[:-1]), {**found.inputs, place: strange}):
        with pytest.raises(ModelError, match="do not fit the network"):
            ByteBackend(replace(folder, ranges=replace(found, inputs=inputs)), 1, emulated=True)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model_type": "roberta"}, "'roberta'"),
        ({"hidden_act": "relu"}, "'relu'"),
        ({"num_attention_heads": 4}, "16 (of a head)"),
        ({"intermediate_size": 100}, "100"),
    ],
    ids=str,
)
def test_networks_that_they_do_not_know_are_left_to_others(
    folder: ModelFolder, changes: dict[str, Any], reason: str
) -> None:
    assert why_not(folder) == ""
    folder = replace(folder, config={**folder.config, **changes})
    assert reason in why_not(folder)
    with pytest.raises(BackendError, match="do not know the network"):
        AmxBackend(folder, 1, emulated=True)


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    folder = model(tmp_path / "model")
    with pytest.raises(ModelError, match=r"encoder\.layer\.3"):
        AmxBackend(replace(folder, config={**folder.config, "num_hidden_layers": 4}), 1, emulated=True)
    with pytest.raises(ModelError, match="pooling 'sum'"):
        AmxBackend(replace(folder, pooling="sum"), 1, emulated=True)
    with pytest.raises(ModelError, match="shape"):
        AmxBackend(replace(folder, config={**folder.config, "intermediate_size": 64}), 1, emulated=True)


# --- what is kept between starts ------------------------------------------------------------------------------------

LOADS = """
import logging, sys
from pathlib import Path
logging.basicConfig(level=logging.WARNING)
from ml import artifact
from ml.backends.own_cpu import AmxBackend, ByteBackend
import numpy as np
folder = artifact.read(Path(sys.argv[1]))
backend = (AmxBackend if sys.argv[3] == "amx" else ByteBackend)(folder, 1, Path(sys.argv[2]), emulated=True)
print(backend.start([np.arange(5, 25, dtype=np.int32)])().tolist())
from ml.x86 import amx_kernels, byte_kernels
kernels = amx_kernels if sys.argv[3] == "amx" else byte_kernels
print(sum(kernels.encode.stats.cache_hits.values()))
"""


def load(model: Path, cache: Path, kind: str) -> tuple[str, int, str]:
    """Logits, hits of the cache and the log of a process that loads the kernels."""
    command = [sys.executable, "-c", LOADS, str(model), str(cache), kind]
    done = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    logits, hits = done.stdout.splitlines()
    return logits, int(hits), done.stderr


def test_what_is_compiled_is_kept_and_damage_is_no_hindrance(tmp_path: Path, kind: str) -> None:
    folder = model(tmp_path / "model")
    logits, hits, log = load(folder.path, tmp_path / "cache", kind)
    assert (hits, log) == (0, "")
    assert load(folder.path, tmp_path / "cache", kind) == (logits, 1, "")
    kept = [*(tmp_path / "cache").rglob("*.nbi"), *(tmp_path / "cache").rglob("*.nbc")]
    assert kept
    for file in kept:
        file.write_bytes(b"")
    again, _, log = load(folder.path, tmp_path / "cache", kind)
    assert again == logits
    assert "cannot be kept or read" in log


def test_where_nothing_can_be_kept_the_kernels_are_compiled_anew(tmp_path: Path) -> None:
    folder = model(tmp_path / "model")
    (tmp_path / "file").write_text("no folder")
    _, hits, log = load(folder.path, tmp_path / "file", "bytes")
    assert hits == 0
    assert "compiled anew at each start" in log


def test_a_pool_that_takes_no_more_is_no_fault_of_a_text(folder: ModelFolder) -> None:
    backend = AmxBackend(folder, 1, emulated=True)
    backend._pool.shutdown()
    with pytest.raises(DeviceLostError):
        backend.start(texts_of((5,), folder))
