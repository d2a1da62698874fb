"""A network that our own kernels compute: what is the same whatever multiplies, and the memory that they work in."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from ml import weights as weights_file
from ml.artifact import ModelFolder
from ml.backends import Logits
from ml.batches import Ids
from ml.errors import ModelError
from ml.ngrams import Ngrams
from ml.x86 import steps

Array = npt.NDArray[Any]

POOLINGS = ("mean", "cls", "pooler")

INNER_BYTES = 9 << 17
"""Of the wide states that are kept at a time: half of the second cache of a processor with AMX. To bytes, which take
longer to multiply, no size from 48 to 768 tokens made a difference."""


class Network(ABC):
    """A BERT classifier of which batches can be computed, by several threads at once.

    Args:
        folder: the model, of a kind that `ml.backends.own_cpu.why_not` has nothing against.

    Raises:
        ModelError: weights are missing or of another shape than the configuration says.
    """

    kernel: Callable[..., None]
    """Computes the states of all tokens; the places of texts and the weights of tokens become those that are left."""

    rows: ClassVar[int]
    """Tokens that are computed together."""

    item: ClassVar[int]
    """Bytes of a number that a product is given."""

    sums: ClassVar[int]
    """Bytes of the products that are in hand."""

    more: ClassVar[tuple[int, ...]] = ()
    """Bytes of what else `kernel` works in."""

    _beside: Any
    """What `kernel` is given beside the weights."""

    def __init__(self, folder: ModelFolder) -> None:
        config = folder.config
        self._values = weights_file.read(folder.weights)
        self._kept: list[Array] = []
        if folder.pooling not in POOLINGS:
            raise ModelError(f"The pooling {folder.pooling!r} is not known: it must be mean, cls or pooler.")
        self._pooling = folder.pooling
        self._width, self._wide, self._heads, depth = (
            int(config[name])
            for name in ("hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers")
        )
        self._epsilon = float(config.get("layer_norm_eps", 1e-12))
        self._merged = np.array([layer in folder.merge_after for layer in range(depth)], dtype=np.bool_)
        self._embedding = np.array(self._embeddings(), dtype=np.int64)
        self._layers = np.array(
            [self._layer(f"encoder.encoder.layer.{layer}") for layer in range(depth)], dtype=np.int64
        )
        self._head = self._dense("head", len(folder.info.topics))
        self._pooler = self._dense("encoder.pooler.dense") if self._pooling == "pooler" else None
        self._ngrams = self._linear_part(len(folder.info.topics)) if "ngrams.table" in self._values else None
        del self._values

    def logits(self, texts: Sequence[Ids], buffers: "Buffers") -> Logits:
        """Return float32 (texts, topics) of token ids, in memory that no other thread works in.

        Raises:
            ValueError: a text is empty or longer than the network knows, or has tokens that it does not know.
            MemoryError: there is not enough for so many tokens.
        """
        lengths = list(map(len, texts))
        longest = max(lengths)
        if not min(lengths):
            raise ValueError("A text has no tokens.")
        ids = np.concatenate(texts)
        if longest > self._positions or not 0 <= ids.min() <= ids.max() < self._vocabulary:
            raise ValueError(
                f"The network knows {self._vocabulary} tokens in {self._positions} places: a text has {longest}, "
                f"numbered {ids.min()} to {ids.max()}."
            )
        starts = np.zeros(len(texts) + 1, dtype=np.int64)
        np.cumsum(lengths, out=starts[1:])
        whole, weights = starts.copy(), np.ones(len(ids), dtype=np.float32)
        buffers.make_room(len(ids), longest)
        self.kernel(
            ids,
            starts,
            weights,
            self._merged,
            self._embedding,
            self._layers,
            self._beside,
            buffers.addresses,
            buffers.room,
            buffers.block_rows,
            self._width,
            self._heads,
            self._wide,
            self._epsilon,
        )
        pooled = self._pooled(buffers.states, starts, weights)
        logits: Logits = pooled @ self._head[0] + self._head[1]
        return logits if self._ngrams is None else logits + ngram_logits(self._ngrams, ids, whole)

    def buffers(self) -> "Buffers":
        """Return memory to compute in."""
        return Buffers(self._sizes, self.rows, self._block_rows)

    @property
    def _block_rows(self) -> int:
        return max(1, INNER_BYTES // (self.item * self._wide * self.rows)) * self.rows

    def _sizes(self, room: int, line: int) -> list[int]:
        keys, states = line * (self._width // self._heads) * 2, room * self._width
        one_head = [keys, keys, self.rows * (line * 4 + 64), self.rows * line * 2, self.rows * 64, self.sums]
        all_tokens = [states * 4, states * self.item, 3 * states * 2, states * self.item]
        return [*one_head, *all_tokens, self._block_rows * self._wide * self.item, *self.more]

    @abstractmethod
    def _layer(self, name: str) -> list[int]:
        """Lay out the weights of a layer and return their addresses."""

    def _pooled(self, states: Array, starts: npt.NDArray[np.int64], weights: npt.NDArray[np.float32]) -> Array:
        if self._pooling == "mean":
            pooled = np.empty((len(starts) - 1, self._width), dtype=np.float32)
            steps.mean(states.ctypes.data, weights, starts, self._width, pooled.ctypes.data)
            return pooled
        first: Array = states.reshape(-1, self._width)[starts[:-1]]
        return first if self._pooler is None else np.tanh(first @ self._pooler[0] + self._pooler[1])

    # --- the weights ------------------------------------------------------------------------------------------------

    def _embeddings(self) -> list[int]:
        prefix = "encoder.embeddings"
        words = self._value(f"{prefix}.word_embeddings.weight", -1, self._width).astype(np.float16)
        positions = self._value(f"{prefix}.position_embeddings.weight", -1, self._width).astype(np.float32)
        # A post is one segment, so the first row of the segment embeddings belongs to every position.
        self._vocabulary, self._positions = len(words), len(positions)
        positions = positions + self._value(f"{prefix}.token_type_embeddings.weight", -1, self._width)[0]
        return [self._keep(words), self._keep(positions.astype(np.float32)), *self._norm(f"{prefix}.LayerNorm")]

    def _together(self, name: str) -> tuple[Array, Array]:
        """Query, key and value in one, such that `2 ** score` is the share of a key but for what all have in common."""
        parts = [self._dense(f"{name}.{part}", self._width) for part in ("query", "key", "value")]
        # Scores are divided by the root of the size of a head, and `2 ** (x / log(2))` is `exp(x)`.
        share = np.float32((self._width // self._heads) ** -0.5 / np.log(2))
        parts[0] = (parts[0][0] * share, parts[0][1] * share)
        matrices, biases = zip(*parts, strict=True)
        return np.concatenate(matrices, axis=1), np.concatenate(biases)

    def _norm(self, name: str) -> list[int]:
        return [
            self._keep(self._value(f"{name}.{part}", self._width).astype(np.float32)) for part in ("weight", "bias")
        ]

    def _dense(self, name: str, outputs: int = -1, inputs: int | None = None) -> tuple[Array, Array]:
        """A matrix (inputs, outputs) and a bias, in float32."""
        matrix = self._value(f"{name}.weight", outputs, inputs or self._width).astype(np.float32)
        return matrix.T, self._value(f"{name}.bias", len(matrix)).astype(np.float32)

    def _linear_part(self, topics: int) -> Ngrams:
        table = self._value("ngrams.table", -1, topics + 1).astype(np.float32)
        hashes = self._value("ngrams.hashes", -1, -1)
        if len(hashes) < self._vocabulary or not 0 <= hashes.min() <= hashes.max() < len(table):
            raise ModelError("The weights ngrams.hashes do not fit their table or the vocabulary: damaged model.")
        return Ngrams(
            np.ascontiguousarray(hashes, dtype=np.int32),
            np.ascontiguousarray(table),
            self._value("ngrams.bias", topics).astype(np.float32),
        )

    def _keep(self, values: Array) -> int:
        """Copy, and return the address."""
        self._kept.append(copied(values))
        return int(self._kept[-1].ctypes.data)

    def _value(self, name: str, *shape: int) -> Array:
        try:
            value = self._values[name]
        except KeyError as error:
            raise ModelError(f"The weights lack {name}: incomplete model, or no BERT.") from error
        if len(value.shape) != len(shape) or any(
            size not in (-1, had) for size, had in zip(shape, value.shape, strict=True)
        ):
            raise ModelError(f"The weights {name} have shape {value.shape}, not {shape}: damaged model.")
        return value


def ngram_logits(part: Ngrams, ids: npt.NDArray[np.int32], starts: npt.NDArray[np.int64]) -> Logits:
    """As `Ngrams.logits`, of packed texts."""
    sums = np.zeros((len(starts) - 1, part.table.shape[1]), dtype=np.float32)
    steps.ngrams(ids, starts, part.hashes, part.table, sums)
    return np.asarray(part.bias + sums[:, :-1] / np.sqrt(np.maximum(sums[:, -1:], 1)), dtype=np.float32)


class Buffers:
    """Memory for one batch at a time.

    Args:
        sizes: returns of each part how many bytes it has, for so many tokens, those behind the last one included, and
            the longest text of so many. Parts 0 to 5 are for one head of one text: keys, values, scores, shares, one
            over their sums and a block of products; the others for all tokens: states in float32, the same as products
            want them, queries, keys and values, contexts, the wide states of `block_rows` tokens, and whatever else
            there is.
        rows: tokens that are computed together.
        block_rows: tokens that go through the second half of a layer together.

    Attributes:
        addresses: of the parts, int64.
        block_rows: as given.
        room: tokens that there is room for, those behind the last one included.
    """

    def __init__(self, sizes: Callable[[int, int], list[int]], rows: int, block_rows: int) -> None:
        self._sizes, self._rows, self.block_rows = sizes, rows, block_rows
        self._tokens = self._longest = self.room = 0
        self._kept: list[Array] = []
        self.addresses = np.zeros(len(sizes(0, 0)), dtype=np.int64)

    def make_room(self, tokens: int, longest: int) -> None:
        """Take more memory if a batch of so many tokens, the longest text of so many, needs it."""
        if tokens <= self._tokens and longest <= self._longest:
            return
        tokens, line = (
            rounded_up(one, steps.BLOCK) for one in (max(self._tokens, tokens), max(self._longest, longest))
        )
        # What there was is given back before more is taken, and is gone if that fails.
        self._tokens, self._longest, self._kept = 0, 0, []
        # Blocks reach behind the last token, of all texts and of one.
        room = rounded_up(tokens, self._rows) + rounded_up(steps.BLOCK, self._rows)
        self._kept = [aligned(size) for size in self._sizes(room, line)]
        self._tokens, self._longest, self.room = tokens, line, room
        self.addresses[:] = [kept.ctypes.data for kept in self._kept]

    @property
    def states(self) -> npt.NDArray[np.float32]:
        """(room * width,)."""
        states: npt.NDArray[np.float32] = self._kept[6].view(np.float32)
        return states


def rounded_up(number: int, multiple: int) -> int:
    """Return the next multiple that is not below a number."""
    return -(-number // multiple) * multiple


def aligned(size: int) -> npt.NDArray[np.uint8]:
    """Return so many bytes of zeros, from where a line of the cache begins."""
    taken = np.zeros(size + 64, dtype=np.uint8)
    start = -taken.ctypes.data % 64
    return taken[start : start + size]


def copied(values: Array) -> npt.NDArray[np.uint8]:
    """Return the bytes of an array, from where a line of the cache begins."""
    kept = aligned(values.nbytes)
    kept[:] = np.ascontiguousarray(values).view(np.uint8).reshape(-1)
    return kept
