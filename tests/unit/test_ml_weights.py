"""The weights file: what is rounded, how far, and what is refused."""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file, save_file

from ml import artifact, graph, weights
from ml.errors import ModelError
from tests.tiny_model import make_tiny_model

LAYER = "encoder.encoder.layer.0.output.dense.weight"


def test_a_row_is_off_by_half_a_step_of_its_own_at_most() -> None:
    matrix = np.random.default_rng(0).normal(size=(50, 64)).astype(np.float32) * np.geomspace(1e-2, 1e3, 50)[:, None]
    error = np.abs(weights.rounded(matrix) - matrix).max(axis=1)
    # Half a step, and half of the last bit of float16.
    assert (error <= np.abs(matrix).max(axis=1) * (1 / 127 / 2 + 2**-11) * 1.0001).all()


def test_rounding_what_was_rounded_changes_nothing() -> None:
    matrix = np.random.default_rng(1).normal(size=(200, 96)).astype(np.float16)
    whole, scale = weights.round_rows(matrix)
    again, same = weights.round_rows(weights.rounded(matrix))
    assert (again == whole).all()
    assert same == pytest.approx(scale, rel=1e-3)


def test_a_row_of_zeros_stays_zero() -> None:
    assert (weights.rounded(np.zeros((3, 8), dtype=np.float16)) == 0).all()


def hard_rows(columns: int) -> npt.NDArray[np.float32]:
    """Rows whose pairs are as large as can be, one large beside a small, of either sign, or ordinary."""
    rng = np.random.default_rng(3)
    even = np.arange(columns) % 2 == 0
    ordinary = rng.normal(size=(20, columns))
    rows = [np.ones(columns), -np.ones(columns), np.where(even, 1, -1), np.where(even, 1, 0.02), np.zeros(columns)]
    return np.concatenate([rows, ordinary, np.sign(ordinary)]).astype(np.float32)


@pytest.mark.parametrize("columns", [1, 7, 8])
def test_two_neighbouring_products_fit_into_16_bits(columns: int) -> None:
    matrix = hard_rows(columns)
    whole, scale = weights.round_rows(matrix, in_pairs=True)
    padded = np.pad(whole.astype(np.int64), ((0, 0), (0, columns % 2)))
    for given in (padded.clip(min=0), padded.clip(max=0)):
        sums = 255 * (given[:, 0::2] + given[:, 1::2])
        assert sums.max() <= 2**15 - 1
        assert sums.min() >= -(2**15)
    assert np.abs(whole * scale[:, None] - matrix).max() <= scale.max() / 2 * 1.0001


def test_a_row_without_large_pairs_keeps_its_scale() -> None:
    row = np.array([[1.0, -0.5, 0.002, 0.3]], dtype=np.float32)
    for plain, paired in zip(weights.round_rows(row), weights.round_rows(row, in_pairs=True), strict=True):
        np.testing.assert_array_equal(plain, paired)


def test_products_in_pairs_are_exact_on_this_processor() -> None:
    """Without `in_pairs` they are not, on a processor without VNNI."""
    whole, _ = weights.round_rows(hard_rows(64), in_pairs=True)
    inputs = np.stack([np.full(64, 255), np.arange(64) % 2 * 255, np.arange(64) * 4]).astype(np.uint8)
    product = helper.make_node("MatMulInteger", ["inputs", "weights"], ["sums"])
    given = helper.make_tensor_value_info("inputs", TensorProto.UINT8, list(inputs.shape))
    sums = helper.make_tensor_value_info("sums", TensorProto.INT32, [len(inputs), len(whole)])
    matrix = numpy_helper.from_array(np.ascontiguousarray(whole.T), "weights")
    model = helper.make_model(
        helper.make_graph([product], "product", [given], [sums], [matrix]),
        opset_imports=[helper.make_opsetid("", graph.OPSET)],
        ir_version=graph.IR_VERSION,
    )
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(["sums"], {"inputs": inputs})
    np.testing.assert_array_equal(found, inputs.astype(np.int64) @ whole.T.astype(np.int64))


def test_matrices_of_the_encoder_have_8_bits_and_the_rest_is_as_it_was(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    values = {
        LAYER: rng.normal(size=(8, 16)).astype(np.float32),
        "encoder.embeddings.word_embeddings.weight": rng.normal(size=(9, 8)).astype(np.float32),
        "encoder.embeddings.position_embeddings.weight": rng.normal(size=(9, 8)).astype(np.float16),
        "encoder.encoder.layer.0.output.dense.bias": rng.normal(size=8).astype(np.float16),
        "head.weight": rng.normal(size=(6, 8)).astype(np.float16),
        "ngrams.hashes": np.array([[1, 2, 2**31 - 1]], dtype=np.int32),
    }
    path = tmp_path / artifact.WEIGHTS
    weights.write(path, values)
    assert path.stat().st_mode & 0o777 == 0o644
    stored = load_file(path)
    small = {name for name, array in stored.items() if array.dtype == np.int8}
    assert small == {LAYER, "encoder.embeddings.word_embeddings.weight"}
    found = weights.read(path)
    assert found.keys() == values.keys()
    for name, array in values.items():
        assert (found[name] == (weights.rounded(array) if name in small else array)).all()


def as_written_by(format_: int, folder: Path) -> None:
    """Make of the tiny model what a folder of this format was: the parts that came with a later one are not there."""
    settings = json.loads((folder / artifact.SETTINGS).read_text(encoding="utf-8"))
    assert settings["format"] == artifact.FORMAT
    settings["format"] = format_
    # Format 4 brought layers that read merged tokens.
    del settings["merge_after"]
    if format_ < 3:
        for topic in settings["topics"]:
            del topic["calibration"]["rivalry"]
    if format_ < 2:
        whole = weights.read(folder / artifact.WEIGHTS)
        save_file({name: array.astype(np.float16) for name, array in whole.items()}, folder / artifact.WEIGHTS)
    artifact.write_json(folder / artifact.SETTINGS, settings)
    artifact.write_manifest(folder)


@pytest.mark.parametrize("format_", [1, 2, 3])
def test_a_folder_of_each_format_before_is_read_as_it_is(tmp_path: Path, format_: int) -> None:
    now, before = make_tiny_model(tmp_path / "now"), make_tiny_model(tmp_path / "before")
    as_written_by(format_, before)
    written = json.loads((before / artifact.SETTINGS).read_text(encoding="utf-8"))
    assert written["format"] == format_
    assert "merge_after" not in written
    assert ["rivalry" in topic["calibration"] for topic in written["topics"]] == [format_ == 3] * 6
    assert (np.dtype(np.int8) in {array.dtype for array in load_file(before / artifact.WEIGHTS).values()}) == (
        format_ > 1
    )
    folder = artifact.read(before)
    assert folder.merge_after == ()
    assert folder.calibration.rivalry.tolist() == [0.0] * 6
    assert {array.dtype for array in weights.read(folder.weights).values()} == {np.dtype(np.float16)}
    # The graph has its weights in float16, so that it is the same for all.
    assert graph.build(folder).SerializeToString() == graph.build(artifact.read(now)).SerializeToString()


@pytest.mark.parametrize("scale", [None, np.ones(3, dtype=np.float32)])
def test_8_bits_without_a_fitting_scale_are_damage(tmp_path: Path, scale: np.ndarray | None) -> None:
    stored = {LAYER: np.ones((2, 4), dtype=np.int8)} | ({} if scale is None else {LAYER + weights.SCALE: scale})
    save_file(stored, tmp_path / artifact.WEIGHTS)
    with pytest.raises(ModelError, match=f"{LAYER} in 8 bits without a scale"):
        weights.read(tmp_path / artifact.WEIGHTS)


def test_what_is_no_safetensors_is_named(tmp_path: Path) -> None:
    (tmp_path / artifact.WEIGHTS).write_bytes(b"PK\x03\x04 something else")
    with pytest.raises(ModelError, match=r"model\.safetensors cannot be read as safetensors"):
        weights.read(tmp_path / artifact.WEIGHTS)
