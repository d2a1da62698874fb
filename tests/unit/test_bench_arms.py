"""What engines are measured with: texts that all count, arms that are skipped where they cannot be loaded, and a
ceiling with as many threads as they have."""

import dataclasses
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bench import ceiling, engine
from bench.networks import inputs_of, lengths_of, texts_of
from bench.posts import read_posts, text_of
from ml import artifact
from ml.artifact import ModelFolder
from ml.cleaning import Cleaning
from tests.tiny_model import make_tiny_model

TWICE = """doc_text,image2text,speech2text
матч вчера,,
матч  вчера ,,
матч вчера https://example.org/1,,
матч вчера https://example.org/2,,
скидки,на картинке,
скидки,на другой картинке,
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    return artifact.read(make_tiny_model(tmp_path_factory.mktemp("model") / "tiny"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "posts.csv").write_text(TWICE, encoding="utf-8")
    return tmp_path


def test_posts_that_are_one_text_come_once(data: Path) -> None:
    posts = read_posts(data, 12)
    assert len({text_of(post) for post in posts}) == 12
    assert len([post for post in posts if post["doc_text"].split() == ["матч", "вчера"]]) == 1
    made_up = read_posts(None, 3000)
    assert len({text_of(post) for post in made_up}) == 3000


@pytest.mark.parametrize("corpus", ["real", "60"])
def test_no_two_texts_are_one_for_the_network(folder: ModelFolder, data: Path, corpus: str) -> None:
    without_links = dataclasses.replace(folder, cleaning=Cleaning.of(["links"]))
    posts = texts_of(without_links, data, corpus, 9)
    assert len(set(inputs_of(without_links, posts))) == len(posts) == 9
    if corpus != "real":
        assert set(lengths_of(without_links, posts)) == {without_links.max_tokens}


def test_an_engine_that_is_not_installed_is_skipped_and_named(
    folder: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def tiny(*_: str) -> Iterator[ModelFolder]:
        yield folder

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr(engine, "network", tiny)
    monkeypatch.setattr(engine, "peer_arms", lambda *_: iter(()))
    monkeypatch.setattr(engine, "ceilings", lambda *_: {"float32": 1e9})
    only = ["OpenVINO float32", "ONNX Runtime"]
    result, _ = engine.measure("shipped", "real", None, 4, 1, "cpu", 1, only)
    assert list(result["arms"]) == ["OpenVINO float32"]
    assert {"ONNX Runtime float32", "ONNX Runtime int8 dynamic"} <= set(result["not_measured"])
    assert all("onnx" in reason.lower() for reason in result["not_measured"].values())
    with pytest.raises(SystemExit, match="Nothing can be measured"):
        engine.measure("shipped", "real", None, 4, 1, "cpu", 1, ["ONNX Runtime"])


def test_the_ceiling_of_numpy_has_as_many_threads_as_the_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("threadpoolctl")
    run, environments = subprocess.run, []

    def noted(*args: Any, **named: Any) -> Any:
        environments.append(named["env"])
        return run(*args, **named)

    monkeypatch.setattr(ceiling.subprocess, "run", noted)
    assert ceiling.by_numpy([(8, 8)], 1, 16) > 0
    tell = "import json, numpy, threadpoolctl; print(json.dumps(threadpoolctl.threadpool_info()))"
    told = run([sys.executable, "-c", tell], env=environments[0], stdout=subprocess.PIPE, check=True).stdout
    assert {pool["num_threads"] for pool in json.loads(told)} == {1}
    assert os.environ.get("OPENBLAS_NUM_THREADS") != "1"


@pytest.mark.parametrize("kind", ["bfloat16", "int8 by AMX", "int8"])
def test_our_own_products_are_measured_in_as_many_threads(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    pytest.importorskip("numba", reason="Numba is not to be had for this processor or Python")
    from ml.x86.emit import features

    if not {"fma", "f16c", "avx2"} <= features():
        pytest.skip("this processor lacks instructions that LLVM would call functions for")
    from bench.products import AmxByteProduct, AmxProduct, ByteProduct, Product

    products: dict[str, type[Product]] = {"bfloat16": AmxProduct, "int8 by AMX": AmxByteProduct, "int8": ByteProduct}
    product = products[kind]
    threads: set[int] = set()
    run = product.__call__

    def noted(one: Product) -> None:
        threads.add(threading.get_ident())
        run(one)
        # Both are at it before either goes on.
        meeting.wait(10)

    meeting = threading.Barrier(2)
    monkeypatch.setattr(ceiling, "SECONDS", 0.01)
    monkeypatch.setattr(product, "__call__", noted)
    assert ceiling.by_own_kernel(kind, [(64, 96), (128, 64)], 2, 64) > 0
    assert len(threads) == 2


@pytest.mark.parametrize(
    ("flags", "device", "expected"),
    [
        ({"avx2"}, "cpu", {"float32"}),
        ({"avx2", "avx_vnni"}, "cpu", {"float32", "int8"}),
        ({"avx2", "avx512_vnni"}, "cpu", {"float32", "int8"}),
        ({"amx_bf16", "amx_int8"}, "cpu", {"float32", "bfloat16", "int8"}),
        ({"avx2"}, "cuda", {"float32", "bfloat16", "int8"}),
    ],
)
def test_what_a_processor_does_not_multiply_by_itself_is_no_ceiling(
    monkeypatch: pytest.MonkeyPatch, flags: set[str], device: str, expected: set[str]
) -> None:
    monkeypatch.setattr(ceiling, "processor_flags", lambda: frozenset(flags))
    monkeypatch.setattr(ceiling, "_rate", lambda *_: 1.0)
    monkeypatch.setattr(ceiling, "by_numpy", lambda *_: 2.0)
    found = ceiling.ceilings(ceiling.Shape(1, 8, 16), device, 1, 4)
    assert set(found) == expected
    assert found["float32"] == (2.0 if device == "cpu" else 1.0)
