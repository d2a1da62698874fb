"""Processes with our own kernels: what is kept between starts, whose memory is touched, and fewer instructions."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("numba", reason="Numba is not to be had for this processor or Python")

from ml.x86.emit import features

if not {"fma", "f16c", "avx2"} <= features():
    pytest.skip("this processor lacks instructions that LLVM would call functions for", allow_module_level=True)

from jobs.settings import PROJECT_ROOT
from ml.artifact import ModelFolder
from tests.kernel_models import KINDS, LIMITS, float32, model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    return model(tmp_path_factory.mktemp("x86") / "model", merge_after=(1, 2))


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


LOADS = """
import logging, sys
from pathlib import Path
logging.basicConfig(level=logging.WARNING)
from ml import artifact
from ml.backends.own_cpu import AmxBackend, AmxByteBackend, ByteBackend
import numpy as np
folder = artifact.read(Path(sys.argv[1]))
kind = {"amx": AmxBackend, "bytes": ByteBackend, "amx bytes": AmxByteBackend}[sys.argv[3]]
backend = kind(folder, 1, Path(sys.argv[2]), emulated=True)
print(backend.start([np.arange(5, 25, dtype=np.int32)])().tolist())
print(sum(backend._network.kernel.stats.cache_hits.values()))
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


# --- memory and instructions ----------------------------------------------------------------------------------------

GUARDED = """
import ctypes, mmap, sys
from pathlib import Path
import numpy as np
from ml import artifact
from ml.x86 import dots, network
from tests.kernel_models import KINDS, network_of

libc = ctypes.CDLL(None, use_errno=True)
libc.mprotect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
maps = []

def guarded(size):
    # The last byte is the last of its page, and who reads or writes the pages on either side ends the process.
    page = mmap.PAGESIZE
    length = -(-size // page) * page
    maps.append(mmap.mmap(-1, length + 2 * page))
    whole = np.frombuffer(maps[-1], dtype=np.uint8)
    for place in (0, page + length):
        assert libc.mprotect(whole.ctypes.data + place, page, 0) == 0
    return whole[page + length - size :][:size]

plain = network.aligned
folder = artifact.read(Path(sys.argv[1]))
texts = [np.arange(5, 5 + length, dtype=np.int32) % 60 for length in (33, 1, 2, 17, 64, 8, 9)]
for kind in KINDS:
    network.aligned = plain
    expected = network_of(folder, kind).logits(texts, network_of(folder, kind).buffers())
    network.aligned = guarded
    net = network_of(folder, kind)
    buffers = net.buffers()
    for some in (texts[1:2], texts[:3], texts, texts[1:2]):
        found = net.logits(some, buffers)
    net.logits(texts, buffers)
    assert np.array_equal(net.logits(texts, buffers), expected)
    print(dots.INSTRUCTIONS or "nothing", *expected.ravel().tolist())
"""


@pytest.mark.parametrize("without", ["", "avx512bf16", "avx512vnni", "avx512"])
def test_no_byte_of_others_is_touched_and_fewer_instructions_say_the_same(
    folder: ModelFolder, tmp_path: Path, without: str
) -> None:
    kept = [one for one in sorted(features()) if not (without and one.startswith((without, "avx10")))]
    env = os.environ | {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": ",".join(f"+{one}" for one in kept)}
    done = subprocess.run(
        [sys.executable, "-c", GUARDED, str(folder.path)],
        cwd=PROJECT_ROOT,
        env=env if without else None,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    texts = [np.arange(5, 5 + length, dtype=np.int32) % 60 for length in (33, 1, 2, 17, 64, 8, 9)]
    exact = float32(folder, texts, tmp_path)
    for line, kind in zip(done.stdout.splitlines(), KINDS, strict=True):
        found, *numbers = line.split()
        assert found == ("VNNI" if "avx512vnni" in kept else "AVX-512" if "avx512bw" in kept else "AVX2")
        logits = np.array(numbers, dtype=np.float32).reshape(exact.shape)
        # Without VNNI weights have seven bits.
        assert (np.abs(logits - exact) / exact.std(axis=0)).max() < 1.5 * LIMITS[kind][0]
