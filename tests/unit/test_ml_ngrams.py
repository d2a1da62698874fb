"""The linear part: what it learns, and that torch, ONNX Runtime and OpenVINO compute it as NumPy does."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from tokenizers import Tokenizer, models

from ml import graph, ngrams

VOCABULARY, TOPICS = 500, 6


def made() -> ngrams.Ngrams:
    """Return a part of random weights, as exact as a model folder keeps them."""
    rng = np.random.default_rng(0)
    table = (rng.normal(size=(ngrams.ROWS, TOPICS + 1)) * 0.3).astype(np.float16).astype(np.float32)
    table[:, -1] = np.square(table[:, -1]).astype(np.float16) + 1
    hashes = rng.integers(0, ngrams.ROWS, (VOCABULARY, ngrams.LONGEST), dtype=np.int32)
    return ngrams.Ngrams(hashes, table, rng.normal(size=TOPICS).astype(np.float32))


def batch(lengths: list[int], width: int) -> tuple[list[ngrams.Ids], dict[str, np.ndarray]]:
    """Return texts of these lengths, and the same padded to `width`."""
    rng = np.random.default_rng(1)
    ids = [rng.integers(0, VOCABULARY, length).astype(np.int32) for length in lengths]
    padded, mask = np.zeros((2, len(ids), width), dtype=np.int64)
    for row, one in enumerate(ids):
        padded[row, : len(one)], mask[row, : len(one)] = one, 1
    return ids, {"input_ids": padded, "attention_mask": mask}


BATCHES = [batch([40, 17, 3, 2, 1], 48), batch([3], 3), batch([2, 1], 2), batch([1], 1)]


@pytest.mark.parametrize(("ids", "feed"), BATCHES)
def test_torch_computes_what_numpy_does(ids: list[ngrams.Ids], feed: dict[str, np.ndarray]) -> None:
    torch = pytest.importorskip("torch", reason="torch comes with the train extra")
    from ml import network

    part = made()
    module = network.NgramPart(VOCABULARY, ngrams.ROWS, TOPICS)
    for buffer, values in ((module.hashes, part.hashes), (module.table, part.table), (module.bias, part.bias)):
        buffer.copy_(torch.from_numpy(values))
    found = module(*(torch.from_numpy(feed[name]) for name in ("input_ids", "attention_mask")))
    assert found.numpy() == pytest.approx(part.logits(ids), abs=2e-5)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_the_graph_computes_what_numpy_does(runtime: str, tmp_path: Path) -> None:
    peer = pytest.importorskip(runtime)
    part = made()
    path = tmp_path / "ngrams.onnx"
    onnx.save(_graph(part), path)
    if runtime == "onnxruntime":
        session = peer.InferenceSession(str(path))
        found = [session.run(None, feed)[0] for _, feed in BATCHES]
    else:
        compiled = peer.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        found = [np.array(compiled(feed)[0]) for _, feed in BATCHES]
    for (ids, _), logits in zip(BATCHES, found, strict=True):
        assert logits == pytest.approx(part.logits(ids), abs=2e-5)


def _graph(part: ngrams.Ngrams) -> onnx.ModelProto:
    """Return a graph of the linear part alone."""
    values = {"ngrams.table": part.table.astype(np.float16), "ngrams.hashes": part.hashes, "ngrams.bias": part.bias}
    config = {"hidden_size": 8, "num_attention_heads": 1}
    nodes = graph._Bert(config, values, TOPICS, "mean", (), "float16")
    logits = nodes._ngrams(nodes._node("Cast", "attention_mask", to=TensorProto.FLOAT))
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"])
        for name in ("input_ids", "attention_mask")
    ]
    output = helper.make_tensor_value_info(logits, TensorProto.FLOAT, ["batch", TOPICS])
    content = helper.make_graph(nodes._nodes, "ngrams", inputs, [output], list(nodes._initialisers.values()))
    opset = helper.make_opsetid("", graph.OPSET)
    model = helper.make_model(content, opset_imports=[opset], ir_version=graph.IR_VERSION)
    onnx.checker.check_model(model)
    return model


def tokenizer(pieces: list[str]) -> str:
    """Return a `tokenizer.json` of these pieces."""
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    return str(Tokenizer(models.WordLevel(vocabulary, unk_token=pieces[0])).to_str())


def test_upper_and_lower_case_hash_alike_and_others_do_not() -> None:
    hashes = ngrams.token_hashes(tokenizer(["[UNK]", "Матч", "матч", "выборы"]), 1_000_003)
    assert (hashes[1] == hashes[2]).all()
    assert (hashes[1] != hashes[3]).all()


def test_word_order_is_learnt_as_no_bag_of_words_could() -> None:
    pytest.importorskip("sklearn", reason="scikit-learn comes with the train extra")
    pieces = ["[UNK]", "a", "b", "c", "d"]
    ids = [np.array(one, dtype=np.int32) for one in ([1, 2, 3], [1, 2, 4], [2, 1, 3], [2, 1, 4])] * 4
    labels = np.array([[1], [1], [0], [0]] * 4, dtype=np.float32)
    part = ngrams.fit(ids, labels, tokenizer(pieces), seed=0, rows=10_007)
    logits = part.logits(ids)[:, 0]
    assert ((logits > 0) == (labels[:, 0] > 0.5)).all()
    assert part.scaled(0.5).logits(ids)[:, 0] == pytest.approx(logits / 2, abs=1e-6)


def test_a_topic_that_all_or_no_posts_have_is_no_error() -> None:
    pytest.importorskip("sklearn", reason="scikit-learn comes with the train extra")
    ids = [np.array([1, 2], dtype=np.int32)] * 4
    labels = np.array([[1, 0]] * 4, dtype=np.float32)
    logits = ngrams.fit(ids, labels, tokenizer(["[UNK]", "a", "b"]), seed=0, rows=101).logits(ids)
    assert (logits[:, 0] > 0).all()
    assert (logits[:, 1] < 0).all()
