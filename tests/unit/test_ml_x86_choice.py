"""When our own kernels compute, and what they refuse."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("numba", reason="Numba is not to be had for this processor or Python")

from ml.x86.emit import features

if not {"fma", "f16c", "avx2"} <= features():
    pytest.skip("this processor lacks instructions that LLVM would call functions for", allow_module_level=True)

from ml.artifact import ModelFolder
from ml.backends import usable
from ml.backends.openvino_cpu import OpenVinoBackend
from ml.backends.own_cpu import AmxBackend, AmxByteBackend, ByteBackend, why_not
from ml.classifier import load_backend
from ml.errors import BackendError, ModelError
from ml.ranges import Agreement
from ml.x86 import tiles
from tests.kernel_models import SIZES, model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    return model(tmp_path_factory.mktemp("x86") / "model", merge_after=(1, 2))


AMX = frozenset({"amx_tile", "amx_bf16", "avx512_bf16"})
AMX_BYTES = AMX | {"amx_int8"}


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
    monkeypatch.setattr("ml.classifier.processor_flags", lambda: AMX_BYTES)
    monkeypatch.setattr(tiles, "NATIVE", False)
    monkeypatch.setattr(tiles, "NATIVE_BYTES", False)
    monkeypatch.setattr(ByteBackend, "_instructions", lambda _: "")
    assert isinstance(load_backend(folder, "cpu", "auto", 1, tmp_path, "float32"), OpenVinoBackend)
    assert isinstance(load_backend(folder, "cpu", "auto", 1, tmp_path, "auto"), OpenVinoBackend)
    with pytest.raises(BackendError, match="may not use it"):
        load_backend(folder, "cpu", "amx", 1, tmp_path)
    with pytest.raises(BackendError, match="not in int8"):
        load_backend(folder, "cpu", "amx", 1, tmp_path, "int8")


VNNI = frozenset({"avx512_vnni", "avx512f", "avx2"})


@pytest.mark.parametrize("arithmetic", ["auto", "int8-static"])
@pytest.mark.parametrize(
    "flags", [VNNI, frozenset({"avx2"}), frozenset({"avx2", "avx512f"})], ids=["vnni", "avx2", "avx512"]
)
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
        (VNNI | AMX_BYTES, "auto", AmxByteBackend),
        (VNNI | AMX_BYTES, "int8-static", AmxByteBackend),
        (VNNI | AMX_BYTES, "float", AmxBackend),
        (VNNI | AMX_BYTES, "bfloat16", AmxBackend),
        (VNNI | AMX_BYTES, "float32", OpenVinoBackend),
        (VNNI, "float", OpenVinoBackend),
        (VNNI, "int8", OpenVinoBackend),
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
    monkeypatch.setattr(tiles, "NATIVE_BYTES", "amx_int8" in flags)
    monkeypatch.setattr(ByteBackend, "_instructions", lambda _: "VNNI")
    assert isinstance(load_backend(folder, "cpu", "auto", 1, tmp_path, arithmetic), expected)


def test_with_amx_networks_go_to_what_knows_their_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ml.classifier.processor_flags", lambda: VNNI | AMX_BYTES)
    monkeypatch.setattr(tiles, "NATIVE", True)
    monkeypatch.setattr(tiles, "NATIVE_BYTES", True)
    monkeypatch.setattr(ByteBackend, "_instructions", lambda _: "VNNI")
    narrow = model(tmp_path / "model", sizes=(64, 2, 96))
    wide = model(tmp_path / "wide", sizes=(64, 2, 128))
    assert isinstance(load_backend(narrow, "cpu", "auto", 1, tmp_path), AmxBackend)
    assert isinstance(load_backend(narrow, "cpu", "auto", 1, tmp_path, "int8-static"), ByteBackend)
    assert isinstance(load_backend(narrow, "cpu", "bytes", 1, tmp_path), ByteBackend)
    assert isinstance(load_backend(wide, "cpu", "bytes", 1, tmp_path), AmxByteBackend)


@pytest.mark.parametrize("allowed", [True, False])
def test_what_the_system_does_not_let_us_use_counts_as_absent(monkeypatch: pytest.MonkeyPatch, allowed: bool) -> None:
    monkeypatch.setattr("ml.backends.tiles_are_allowed", lambda: allowed)
    assert usable(VNNI | AMX) == (VNNI | AMX if allowed else VNNI | {"avx512_bf16"})
    assert usable(VNNI) == VNNI


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
