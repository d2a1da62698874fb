"""Build the ONNX graph of a BERT classifier from its safetensors, by the names of its weights and without torch.

One weights file serves every backend: nothing is exported ahead of time and no second copy is carried. Only standard
operators are used (opset 17), and batch and length stay open. The graph has its weights in float16 and computes with
them in float32; or it has those of the layers in 8 bits with a scale for each output, as the folder stores them
(`ml.weights`), which a runtime may multiply as integers; or it rounds what they are multiplied with to 8 bits as well,
within the ranges of the folder (`ml.ranges`). The architecture is that of Devlin et al. 2018
(arXiv:1810.04805), as transformers' `BertModel` computes it.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from ml import weights as weights_file
from ml.artifact import ModelFolder
from ml.backends import Arithmetic, adds_in_pairs, processor_flags
from ml.errors import ModelError
from ml.ranges import Ranges

OPSET = 17
IR_VERSION = 9

# Part of the name of cached graphs: raise it whenever the graph below changes.
GRAPH_VERSION = 5

# Added to the attention scores of padding; far below any score and still finite in bfloat16.
MASKED = -1e4

Array = npt.NDArray[Any]

Weights = Literal["float16", "int8", "int8-static", "int8-paired"]
"""How the weights of the layers are stored; `int8-static`: in 8 bits, and so are their inputs, in fixed ranges;
`int8-paired`: so that no sum of two products overflows 16 bits, besides. Embeddings and the last layer are in float16
and float32 either way."""

FIXED = ("int8-static", "int8-paired")
"""Those of them that need the ranges of a folder."""

LOW, HIGH = ".low", ".high"
"""What the outputs of `watching` are named, after the product whose input they speak of."""


def weights_for(arithmetic: Arithmetic) -> Weights:
    """Return the weights for an arithmetic, on the processor of this machine."""
    if arithmetic == "int8":
        return "int8"
    if arithmetic != "int8-static":
        return "float16"
    return "int8-paired" if adds_in_pairs(processor_flags()) else "int8-static"


def build(folder: ModelFolder, weights: Weights = "float16") -> onnx.ModelProto:
    """Return the graph of a model folder: int64 `input_ids`, `attention_mask` (batch, length) to float32 `logits`.

    Raises:
        ModelError: the encoder is no BERT, weights are missing or of another shape than the configuration says, or
            the folder has no ranges and they are asked for.
    """
    return _bert(folder, weights).build()


def watching(folder: ModelFolder) -> onnx.ModelProto:
    """Return the graph in float16 with more outputs: for each input of products the least and the largest number of
    each channel, float32 (channels,), over all tokens, so that only batches without padding make sense.

    Raises:
        ModelError: as `build`.
    """
    return _bert(folder, "float16", watched=True).build()


def _bert(folder: ModelFolder, weights: Weights, watched: bool = False) -> "_Bert":
    config = folder.config
    if config.get("model_type") != "bert" or config.get("position_embedding_type", "absolute") != "absolute":
        raise ModelError(
            f"{folder.path} holds an encoder of type {config.get('model_type')!r}; only `bert` runs on ONNX Runtime "
            "and OpenVINO. Use the torch backend for it (RUBRIKA_BACKEND=torch)."
        )
    fixed = folder.fixed_ranges() if weights in FIXED else None
    values = weights_file.read(folder.weights)
    return _Bert(config, values, len(folder.info.topics), folder.pooling, folder.merge_after, weights, fixed, watched)


def cached(folder: ModelFolder, cache_dir: Path, weights: Weights = "float16") -> Path:
    """Return the path of the folder's graph in `cache_dir`, built on first use.

    Several processes may ask at once: each file appears whole or not at all.
    """
    form: str = weights
    if weights in FIXED and folder.ranges is not None:
        told = json.dumps(folder.ranges.content()["inputs"], sort_keys=True)
        form += f"-{hashlib.sha256(told.encode()).hexdigest()[:16]}"
    shape = "-".join([folder.pooling, *map(str, folder.merge_after)])
    path = cache_dir / f"{folder.weights_sha256[:24]}-{shape}-{form}-{GRAPH_VERSION}.onnx"
    if not path.exists():
        write(folder, path, weights)
    return path


def write(folder: ModelFolder, path: Path, weights: Weights = "float16") -> None:
    """Build the graph and write it to `path` in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = build(folder, weights).SerializeToString()
    handle, draft = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        Path(draft).chmod(0o644)
        Path(draft).replace(path)
    finally:
        Path(draft).unlink(missing_ok=True)


class _Bert:
    """The nodes of one graph, in the order in which the network computes them."""

    def __init__(
        self,
        config: Mapping[str, Any],
        values: Mapping[str, Array],
        topics: int,
        pooling: str,
        merge_after: Sequence[int],
        weights: Weights,
        fixed: Ranges | None = None,
        watched: bool = False,
    ) -> None:
        self._config = config
        self._values = values
        self._weights = weights
        self._fixed = fixed
        self._watched: list[str] | None = [] if watched else None
        self._topics = topics
        self._pooling = pooling
        self._merge_after = merge_after
        self._hidden = int(config["hidden_size"])
        self._heads = int(config["num_attention_heads"])
        self._epsilon = float(config.get("layer_norm_eps", 1e-12))
        self._nodes: list[onnx.NodeProto] = []
        self._initialisers: dict[str, onnx.TensorProto] = {}

    def build(self) -> onnx.ModelProto:
        states = self._embeddings()
        mask = self._node("Cast", "attention_mask", to=TensorProto.FLOAT)
        penalty, counts = self._attention_penalty(mask), mask
        for layer in range(int(self._config["num_hidden_layers"])):
            if layer in self._merge_after:
                states, counts = self._merge(states, counts)
                penalty = self._attention_penalty(self._node("Min", counts, self._float("float_one", 1.0)))
            states = self._layer(f"encoder.encoder.layer.{layer}", states, penalty)
        pooled = self._pool(states, counts)
        if "ngrams.table" in self._values:
            deep = self._linear("head", pooled, self._hidden, self._topics, weights="float16")
            self._node("Add", deep, self._ngrams(mask), output="logits")
        else:
            self._linear("head", pooled, self._hidden, self._topics, output="logits", weights="float16")
        ids = [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"])
            for name in ("input_ids", "attention_mask")
        ]
        logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", self._topics])
        seen = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["channels"]) for name in self._watched or ()]
        graph = helper.make_graph(self._nodes, "rubrika", ids, [logits, *seen], list(self._initialisers.values()))
        opset = helper.make_opsetid("", OPSET)
        return helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="rubrika")

    def _embeddings(self) -> str:
        prefix = "encoder.embeddings"
        words = self._half("words", self._weight(f"{prefix}.word_embeddings.weight"))
        # The table stays in float16 and only the rows that are looked up become float32: it is half of a small model.
        looked_up = self._node("Cast", self._node("Gather", words, "input_ids", axis=0), to=TensorProto.FLOAT)
        positions = self._weight(f"{prefix}.position_embeddings.weight").astype(np.float32)
        # A post is one segment, so the first row of the segment embeddings belongs to every position.
        positions += self._weight(f"{prefix}.token_type_embeddings.weight")[0].astype(np.float32)
        length = self._node("Gather", self._node("Shape", "input_ids"), self._ints("one", [1]), axis=0)
        rows = self._node(
            "Slice", self._constant("positions", positions), self._ints("zero", [0]), length, self._ints("zero", [0])
        )
        return self._norm(f"{prefix}.LayerNorm", self._node("Add", looked_up, rows))

    def _attention_penalty(self, mask: str) -> str:
        kept = self._node("Unsqueeze", mask, self._ints("axes_1_2", [1, 2]))
        inverse = self._node("Sub", self._float("float_one", 1.0), kept)
        return self._node("Mul", inverse, self._float("masked", MASKED))

    def _merge(self, states: str, counts: str) -> tuple[str, str]:
        """Make one of each two neighbouring tokens, as `ml.network.merge_pairs`."""
        length = self._node("Gather", self._node("Shape", counts), self._ints("one", [1]), axis=0)
        # An odd number leaves the last token alone.
        odd, zero = self._node("Mod", length, self._ints("two", [2])), self._ints("zero", [0])
        states = self._node("Pad", states, self._node("Concat", zero, zero, zero, zero, odd, zero, axis=0))
        counts = self._node("Pad", counts, self._node("Concat", zero, zero, zero, odd, axis=0))
        pairs = self._node("Reshape", states, self._ints("pairs", [0, -1, 2, self._hidden]))
        weights = self._node("Reshape", counts, self._ints("weights", [0, -1, 2]))
        axis = self._ints("axis_2", [2])
        total = self._node("ReduceSum", weights, axis, keepdims=1)
        shares = self._node("Div", weights, self._node("Max", total, self._float("float_one", 1.0)))
        shared = self._node("Mul", pairs, self._node("Unsqueeze", shares, self._ints("axis_3", [3])))
        return self._node("ReduceSum", shared, axis, keepdims=0), self._node("Squeeze", total, axis)

    def _layer(self, name: str, states: str, penalty: str) -> str:
        attended = self._attention(f"{name}.attention.self", states, penalty)
        projected = self._product(f"{name}.attention.output.dense", attended, self._hidden, self._hidden)
        states = self._norm(f"{name}.attention.output.LayerNorm", self._node("Add", projected, states))
        wide = int(self._config["intermediate_size"])
        inner = self._activation(self._product(f"{name}.intermediate.dense", states, self._hidden, wide))
        outer = self._product(f"{name}.output.dense", inner, wide, self._hidden)
        return self._norm(f"{name}.output.LayerNorm", self._node("Add", outer, states))

    def _attention(self, name: str, states: str, penalty: str) -> str:
        size = self._hidden // self._heads
        split = self._ints("split_heads", [0, 0, self._heads, size])
        given = self._given(name, states, self._hidden)

        def heads(part: str, order: list[int]) -> str:
            projected = self._linear(f"{name}.{part}", given, self._hidden, self._hidden, place=name)
            return self._node("Transpose", self._node("Reshape", projected, split), perm=order)

        query, key, value = heads("query", [0, 2, 1, 3]), heads("key", [0, 2, 3, 1]), heads("value", [0, 2, 1, 3])
        scores = self._node("Mul", self._node("MatMul", query, key), self._float("scale", size**-0.5))
        shares = self._node("Softmax", self._node("Add", scores, penalty), axis=-1)
        mixed = self._node("Transpose", self._node("MatMul", shares, value), perm=[0, 2, 1, 3])
        return self._node("Reshape", mixed, self._ints("join_heads", [0, 0, self._hidden]))

    def _activation(self, states: str) -> str:
        name = self._config.get("hidden_act", "gelu")
        if name == "relu":
            return self._node("Relu", states)
        if name != "gelu":
            raise ModelError(
                f"The activation {name!r} is not known here; use the torch backend (RUBRIKA_BACKEND=torch)."
            )
        # The exact form with erf; both runtimes recognise it and fuse it.
        inner = self._node("Erf", self._node("Div", states, self._float("root_two", 2.0**0.5)))
        outer = self._node("Mul", states, self._node("Add", inner, self._float("float_one", 1.0)))
        return self._node("Mul", outer, self._float("half", 0.5))

    def _pool(self, states: str, mask: str) -> str:
        if self._pooling == "mean":
            column = self._node("Unsqueeze", mask, self._ints("axis_2", [2]))
            axis = self._ints("one", [1])
            total = self._node("ReduceSum", self._node("Mul", states, column), axis, keepdims=0)
            count = self._node("Max", self._node("ReduceSum", column, axis, keepdims=0), self._float("float_one", 1.0))
            return self._node("Div", total, count)
        first = self._node("Gather", states, self._constant("first", np.array(0, dtype=np.int64)), axis=1)
        if self._pooling == "cls":
            return first
        if self._pooling != "pooler":
            raise ModelError(f"The pooling {self._pooling!r} is not known: it must be mean, cls or pooler.")
        return self._node("Tanh", self._linear("encoder.pooler.dense", first, self._hidden, self._hidden))

    def _ngrams(self, mask: str) -> str:
        """The linear part, as `ml.ngrams` describes it."""
        table, hashes = self._weight("ngrams.table"), self._weight("ngrams.hashes").astype(np.int32)
        rows = self._constant("ngram_rows", np.array(len(table), dtype=np.int32))
        looked_in = self._half("ngrams.table", table)
        axis, end = self._ints("one", [1]), self._ints("far", [2**31 - 1])
        sums, total = "", ""
        for place in range(hashes.shape[1]):
            here = self._node("Gather", self._constant(f"ngrams.hashes.{place}", hashes[:, place].copy()), "input_ids")
            whole = mask
            if place:
                start = self._ints(f"from_{place}", [place])
                here, whole = (self._node("Slice", one, start, end, axis) for one in (here, mask))
                before = self._node("Slice", sums, self._ints("zero", [0]), self._ints("minus_one", [-1]), axis)
                here = self._node("Add", before, here)
            # Both are below the number of rows, so that their sum modulo it is one subtraction at most.
            over = self._node("Cast", self._node("GreaterOrEqual", here, rows), to=TensorProto.INT32)
            sums = self._node("Sub", here, self._node("Mul", over, rows))
            found = self._node("Cast", self._node("Gather", looked_in, sums, axis=0), to=TensorProto.FLOAT)
            kept = self._node("Mul", found, self._node("Unsqueeze", whole, self._ints("axis_2", [2])))
            part = self._node("ReduceSum", kept, axis, keepdims=0)
            total = self._node("Add", total, part) if total else part
        topics = self._ints("topics", [self._topics])
        squares = self._node("Slice", total, topics, self._ints("topics_end", [self._topics + 1]), axis)
        weights = self._node("Slice", total, self._ints("zero", [0]), topics, axis)
        norm = self._node("Sqrt", self._node("Max", squares, self._float("float_one", 1.0)))
        bias = self._constant("ngrams.bias", self._weight("ngrams.bias").astype(np.float32))
        return self._node("Add", self._node("Div", weights, norm), bias)

    def _product(self, name: str, states: str, inputs: int, outputs: int) -> str:
        return self._linear(name, self._given(name, states, inputs), inputs, outputs, place=name)

    def _given(self, place: str, states: str, channels: int) -> str:
        """What a product is given: the states, watched or rounded to 8 bits within their range where that is asked."""
        if self._watched is not None:
            for kind, name in (("ReduceMin", place + LOW), ("ReduceMax", place + HIGH)):
                self._watched.append(self._node(kind, states, output=name, axes=[0, 1], keepdims=0))
        if self._fixed is None:
            return states
        fixed = self._fixed.of(place, channels)
        if fixed.divided:
            states = self._node("Mul", states, self._constant(f"{place}.divisors", 1 / fixed.divisors(channels)))
        step = self._float(f"{place}.step", fixed.step)
        zero = self._constant(f"{place}.zero", np.array(fixed.zero, dtype=np.uint8))
        return self._node("DequantizeLinear", self._node("QuantizeLinear", states, step, zero), step, zero)

    def _linear(
        self,
        name: str,
        states: str,
        inputs: int,
        outputs: int,
        output: str | None = None,
        weights: Weights | None = None,
        place: str | None = None,
    ) -> str:
        weight, bias = self._weight(f"{name}.weight"), self._weight(f"{name}.bias")
        if weight.shape != (outputs, inputs) or bias.shape != (outputs,):
            raise ModelError(f"The weights {name} have shape {weight.shape}, not {(outputs, inputs)}: damaged model.")
        if place and self._fixed is not None:
            matrix = self._whole_matrix(f"{name}.weight", weight * self._fixed.of(place, inputs).divisors(inputs))
        else:
            matrix = self._matrix(f"{name}.weight", weight, weights or self._weights)
        product = self._node("MatMul", states, matrix)
        return self._node("Add", product, self._constant(f"{name}.bias", bias.astype(np.float32)), output=output)

    def _matrix(self, name: str, values: Array, weights: Weights) -> str:
        """Put weights (outputs, inputs) into the graph, as a float32 matrix (inputs, outputs)."""
        if weights == "float16":
            return self._node("Cast", self._half(name, np.ascontiguousarray(values.T)), to=TensorProto.FLOAT)
        whole, scale = weights_file.round_rows(values)
        rounded = self._constant(f"{name}.int8", np.ascontiguousarray(whole.T))
        outputs = self._constant(f"{name}.scale", scale[None])
        return self._node("Mul", self._node("Cast", rounded, to=TensorProto.FLOAT), outputs)

    def _whole_matrix(self, name: str, values: Array) -> str:
        """As `_matrix` in 8 bits, in the form that runtimes look for beside inputs in 8 bits."""
        whole, scale = weights_file.round_rows(values, in_pairs=self._weights == "int8-paired")
        rounded = self._constant(f"{name}.int8", np.ascontiguousarray(whole.T))
        zero = self._constant(f"{name}.zero", np.zeros(len(scale), dtype=np.int8))
        return self._node("DequantizeLinear", rounded, self._constant(f"{name}.scale", scale), zero, axis=1)

    def _norm(self, name: str, states: str) -> str:
        scale = self._constant(f"{name}.weight", self._weight(f"{name}.weight").astype(np.float32))
        bias = self._constant(f"{name}.bias", self._weight(f"{name}.bias").astype(np.float32))
        return self._node("LayerNormalization", states, scale, bias, axis=-1, epsilon=self._epsilon)

    def _weight(self, name: str) -> Array:
        try:
            return self._values[name]
        except KeyError as error:
            raise ModelError(f"The weights lack {name}: incomplete model, or no BERT.") from error

    def _node(self, kind: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        name = output or f"{kind}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, list(inputs), [name], name=f"node_{name}", **attributes))
        return name

    def _constant(self, name: str, values: Array) -> str:
        if name not in self._initialisers:
            self._initialisers[name] = numpy_helper.from_array(values, name)
        return name

    def _half(self, name: str, values: Array) -> str:
        return self._constant(f"{name}.half", values.astype(np.float16))

    def _ints(self, name: str, values: list[int]) -> str:
        return self._constant(name, np.array(values, dtype=np.int64))

    def _float(self, name: str, value: float) -> str:
        return self._constant(name, np.array(value, dtype=np.float32))
