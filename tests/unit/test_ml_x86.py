"""Our own kernels say what the reference says, whatever the lengths; where there is no AMX they run without it."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("numba", reason="Numba is not to be had for this processor or Python")

from ml.x86.emit import features

if not {"fma", "f16c", "avx2"} <= features():
    pytest.skip("this processor lacks instructions that LLVM would call functions for", allow_module_level=True)

from ml.artifact import ModelFolder
from ml.backends.own_cpu import AmxBackend, OwnBackend
from ml.errors import DeviceLostError
from ml.running import Runner
from ml.x86 import network
from tests.kernel_models import KINDS, LENGTHS, LIMITS, float32, model, network_of, texts_of
from tests.tiny_model import POSITIONS


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
        {"pooling": "cls"},
        {"pooling": "pooler", "merge_after": (2,)},
        # Heads of two rows of a tile, and one that is no power of two.
        {"sizes": (128, 2, 64)},
        {"sizes": (192, 2, 128)},
    ],
    ids=str,
)
def test_the_kernels_say_what_the_reference_says(tmp_path: Path, changes: dict[str, Any], kind: str) -> None:
    folder = model(tmp_path / "model", ngrams=False, **changes)
    texts = texts_of(LENGTHS, folder)
    ours = KINDS[kind](folder, 1, emulated=True).start(texts)()
    exact = float32(folder, texts, tmp_path)
    assert ours.dtype == np.float32
    # bfloat16 has three digits, and a byte fewer; texts differ by far more.
    spread = exact.std(axis=0)
    most, mean = LIMITS[kind]
    assert (np.abs(ours - exact) / spread).max() < most
    assert (np.abs(ours - exact) / spread).mean() < mean
    assert (np.abs(ours - np.roll(exact, 1, axis=0)) / spread).max() > 1


def test_the_linear_part_is_added(tmp_path: Path, kind: str) -> None:
    folder, without = (model(tmp_path / str(number), ngrams=not number) for number in range(2))
    texts = texts_of(LENGTHS, folder)
    ours, alone = (KINDS[kind](one, 1, emulated=True).start(texts)() for one in (folder, without))
    exact = float32(folder, texts, tmp_path) - float32(without, texts, tmp_path)
    assert np.abs(exact).max() > 1
    assert np.allclose(ours - alone, exact, rtol=0, atol=1e-4)


def test_stretches_of_a_batch_go_through_the_second_half_one_by_one(
    folder: ModelFolder, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = texts_of(LENGTHS, folder)
    whole = network_of(folder, kind)
    buffers = whole.buffers()
    assert buffers.block_rows > sum(LENGTHS)
    expected = whole.logits(texts, buffers)
    monkeypatch.setattr(network, "INNER_BYTES", 1)
    parted = network_of(folder, kind)
    buffers = parted.buffers()
    assert buffers.block_rows <= 32
    assert np.array_equal(parted.logits(texts, buffers), expected)


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


def test_a_pool_that_takes_no_more_is_no_fault_of_a_text(folder: ModelFolder) -> None:
    backend = AmxBackend(folder, 1, emulated=True)
    backend._pool.shutdown()
    with pytest.raises(DeviceLostError):
        backend.start(texts_of((5,), folder))
