"""The network in torch over packed texts: no token of padding is computed.

All tokens of a batch stand in one matrix (tokens, hidden), attention goes by cumulative lengths (FlashAttention's
variable-length form: Dao 2023, arXiv:2307.08691), and the last layer is computed only where it is read. The
arithmetic is that of transformers' `BertModel` and its RoBERTa kin, whose weights it takes; weights and states are in
the type that is asked for, pooling and logits in float32.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  (the name that torch's own documentation uses)

from ml.network import FAMILIES, NgramPart, TopicNetwork
from ml.packing import Level, Packed, Run

AFTER_PAD = FAMILIES[1:]
"""These number positions from the one after the padding id."""

HEAD_MULTIPLE = 8
"""FlashAttention reads heads in steps of eight numbers; narrower heads are filled with zeros, which change nothing."""

ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_new": lambda states: F.gelu(states, approximate="tanh"),
    "gelu_pytorch_tanh": lambda states: F.gelu(states, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
}

MOST_SIZES = 64
"""One piece of code serves all layers, and is compiled for more sizes than torch allows by itself."""

Step = Callable[..., Tensor]


def can_pack(config: Mapping[str, Any]) -> bool:
    """Say whether an encoder of this `config.json` can be computed here."""
    return (
        config.get("model_type") in FAMILIES
        and (config.get("position_embedding_type") or "absolute") == "absolute"
        and config.get("hidden_act", "gelu") in ACTIVATIONS
        and not config.get("is_decoder", False)
        and not config.get("add_cross_attention", False)
    )


class PackedNetwork(nn.Module):  # type: ignore[misc]  # torch is not followed by mypy
    """Packed token ids to logits, for inference alone.

    Args:
        network: the trained network, in float32; it is not changed.
        dtype: of weights and states.
    """

    def __init__(self, network: TopicNetwork, dtype: torch.dtype) -> None:
        super().__init__()
        encoder, config = network.encoder, network.encoder.config
        embeddings = encoder.embeddings
        self.words = _kept(embeddings.word_embeddings.weight, dtype)
        # A post is one segment, so the first row of the segment embeddings belongs to every position.
        places = embeddings.position_embeddings.weight + embeddings.token_type_embeddings.weight[0]
        self.places = _kept(places, dtype)
        self.norm = _Norm(embeddings.LayerNorm, dtype)
        heads, activation = int(config.num_attention_heads), ACTIVATIONS[config.hidden_act]
        self.layers = nn.ModuleList(_Layer(layer, heads, activation, dtype) for layer in encoder.encoder.layer)
        self.merge_after = network.merge_after
        self.pooling = network.pooling
        self.pooler = _linear(encoder.pooler.dense, torch.float32) if network.pooling == "pooler" else None
        self.head = _linear(network.head, torch.float32)
        self.ngrams: NgramPart | None = network.ngrams
        self._steps: tuple[Step, Step] = (embed, finish)

    def compile(self, backend: str) -> None:
        """Compile what stands between matrix products, once for each number of tokens (T) that comes.

        Attention is not among it: it takes lengths, which differ from batch to batch, and has a kernel of its own.
        """
        # torch's own configuration has the limit too, but there it holds for the thread alone that sets it.
        embedding, finishing = (
            torch.compile(step, dynamic=False, backend=backend, recompile_limit=MOST_SIZES) for step in (embed, finish)
        )
        self._steps = (embedding, finishing)

    def run_eagerly(self) -> None:
        """Undo `compile`."""
        self._steps = (embed, finish)

    def forward(self, numbers: Tensor, batch: Packed) -> Tensor:
        """Return logits, float32 (n, topics).

        Args:
            numbers: `batch.numbers`, on the device of the network.
            batch: the lengths, which the host knows.
        """
        parts = iter(numbers.split(batch.parts))
        ids, positions, all_starts = next(parts), next(parts), next(parts)
        embedding, finishing = self._steps
        states = embedding(self.words[ids], self.places[positions], *self.norm.parts())
        starts, level, levels = all_starts, cast(Level, batch), iter(batch.merged)
        counts: Tensor | None = None
        for number, layer in enumerate(self.layers):
            if number in self.merge_after:
                level, firsts, lasts, starts = next(levels), next(parts), next(parts), next(parts)
                states, counts = _merge(states, counts, firsts, lasts)
            if number == len(self.layers) - 1 and self.pooling != "mean":
                # Only the first token of each text is read: it looks at all, and the rest of the layer is for it alone.
                first = states[starts[:-1]]
                pooled = finish(layer.attend_first(first, states, starts, level), first, *layer.parts()).float()
            else:
                states = finishing(layer.attend(states, starts, level), states, *layer.parts())
        if self.pooling == "mean":
            summed = states[: level.tokens].float()
            if counts is not None:
                summed = summed * counts[: level.tokens].unsqueeze(1)
            pooled = _sums(summed, starts) / all_starts.diff().unsqueeze(1)
        if self.pooler is not None:
            pooled = torch.tanh(F.linear(pooled, *self.pooler))
        logits = F.linear(pooled, *self.head)
        if self.ngrams is not None:
            logits = logits + self._ngram_logits(self.ngrams, ids[: batch.tokens], all_starts, batch)
        return logits

    @staticmethod
    def _ngram_logits(part: NgramPart, ids: Tensor, starts: Tensor, batch: Packed) -> Tensor:
        """As `NgramPart.forward`: an n-gram is whole where its last token is in the text of its first."""
        ends = torch.repeat_interleave(starts[1:], starts.diff(), output_size=batch.tokens)
        here = torch.arange(batch.tokens, device=ids.device)
        rows = len(part.table)
        sums = torch.zeros(batch.tokens, dtype=torch.int64, device=ids.device)
        found = torch.zeros((batch.tokens, part.table.shape[1]), device=ids.device)
        for place in range(min(part.hashes.shape[1], batch.longest)):
            count = batch.tokens - place
            sums = sums[:count] + part.hashes[ids[place:], place]
            whole = (here[:count] + place < ends[:count]).unsqueeze(1)
            found[:count] += part.table[sums % rows].float() * whole
        total = _sums(found, starts)
        norm = total[:, -1:].clamp(min=1.0).sqrt()
        return cast(Tensor, part.bias.float() + total[:, :-1] / norm)


class _Layer(nn.Module):  # type: ignore[misc]  # torch is not followed by mypy
    """The weights of one layer of the encoder; query, key and value in one matrix."""

    def __init__(self, layer: Any, heads: int, activation: Callable[[Tensor], Tensor], dtype: torch.dtype) -> None:
        super().__init__()
        attention, output = layer.attention.self, layer.attention.output
        self._heads = heads
        self._head_size = attention.query.weight.shape[0] // heads
        self._activation = activation
        parts = (attention.query, attention.key, attention.value)
        self.into = nn.ParameterList(
            _kept(torch.cat([self._wide(values) for values in kind]), dtype)
            for kind in ([part.weight for part in parts], [part.bias for part in parts])
        )
        joined = self._wide(output.dense.weight.T).T
        self.joined = nn.ParameterList([_kept(joined, dtype), _kept(output.dense.bias, dtype)])
        self.norm = _Norm(output.LayerNorm, dtype)
        self.inner, self.outer = _linear(layer.intermediate.dense, dtype), _linear(layer.output.dense, dtype)
        self.last_norm = _Norm(layer.output.LayerNorm, dtype)

    def attend(self, states: Tensor, starts: Tensor, batch: Level) -> Tensor:
        """Return what each token sees of its text, (T, heads * width), for states (T, hidden)."""
        query, key, value = self._heads_of(F.linear(states, *self.into), 3)
        scale = self._head_size**-0.5
        if _has_kernel(states):
            seen = _by_lengths(query, key, value, starts, starts, (batch.longest, batch.longest), scale)
        else:
            seen = torch.zeros_like(query)
            _by_runs(seen, query, (key, value), batch.runs, scale)
        return cast(Tensor, seen.flatten(1))

    def attend_first(self, first: Tensor, states: Tensor, starts: Tensor, batch: Level) -> Tensor:
        """Return what the first token of each text sees, (n, heads * width), for states (n, hidden) and (T, hidden)."""
        weight, bias = self.into
        own = len(weight) // 3
        (query,) = self._heads_of(F.linear(first, weight[:own], bias[:own]), 1)
        key, value = self._heads_of(F.linear(states, weight[own:], bias[own:]), 2)
        scale = self._head_size**-0.5
        if _has_kernel(states):
            each = torch.arange(batch.texts + 1, dtype=torch.int32, device=states.device)
            seen = _by_lengths(query, key, value, each, starts, (1, batch.longest), scale)
        else:
            seen, text = torch.empty_like(query), 0
            for run in batch.runs:
                some = slice(text, text + run.texts)
                _by_runs(seen[some], query[some], (key, value), [run], scale, queries=1)
                text += run.texts
        return cast(Tensor, seen.flatten(1))

    def parts(self) -> tuple[Any, ...]:
        """Return what `finish` takes of this layer."""
        return *self.joined, *self.norm.parts(), *self.inner, *self.outer, *self.last_norm.parts(), self._activation

    def _heads_of(self, projected: Tensor, kinds: int) -> Sequence[Tensor]:
        return cast(Sequence[Tensor], projected.view(len(projected), kinds, self._heads, -1).unbind(1))

    def _wide(self, values: Tensor) -> Tensor:
        """Fill the heads of weights (heads * size, ...) with zeros, up to the next multiple."""
        lacking = -self._head_size % HEAD_MULTIPLE
        if not lacking:
            return values
        apart = values.reshape(self._heads, self._head_size, -1)
        return cast(Tensor, F.pad(apart, (0, 0, 0, lacking)).reshape(-1, *values.shape[1:]))


class _Norm(nn.Module):  # type: ignore[misc]  # torch is not followed by mypy
    """The weights of a layer normalisation."""

    def __init__(self, norm: Any, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight, self.bias = _kept(norm.weight, dtype), _kept(norm.bias, dtype)
        self._epsilon = float(norm.eps)

    def parts(self) -> tuple[Tensor, Tensor, float]:
        return self.weight, self.bias, self._epsilon


def embed(words: Tensor, places: Tensor, weight: Tensor, bias: Tensor, epsilon: float) -> Tensor:
    """Return the states before the first layer, (T, hidden), of looked up embeddings of the same shape."""
    return cast(Tensor, F.layer_norm(words + places, weight.shape, weight, bias, epsilon))


def finish(
    seen: Tensor,
    states: Tensor,
    joined: Tensor,
    joined_bias: Tensor,
    norm: Tensor,
    norm_bias: Tensor,
    epsilon: float,
    inner: Tensor,
    inner_bias: Tensor,
    outer: Tensor,
    outer_bias: Tensor,
    last: Tensor,
    last_bias: Tensor,
    last_epsilon: float,
    activation: Callable[[Tensor], Tensor],
) -> Tensor:
    """Return the states after a layer, (T, hidden), of what attention saw and the states before."""
    states = F.layer_norm(F.linear(seen, joined, joined_bias) + states, norm.shape, norm, norm_bias, epsilon)
    wide = activation(F.linear(states, inner, inner_bias))
    return cast(
        Tensor, F.layer_norm(F.linear(wide, outer, outer_bias) + states, last.shape, last, last_bias, last_epsilon)
    )


def _has_kernel(states: Tensor) -> bool:
    """Say whether there is a kernel for texts of different lengths where these states are."""
    return bool(states.is_cuda)


def _by_lengths(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    query_starts: Tensor,
    key_starts: Tensor,
    longest: tuple[int, int],
    scale: float,
) -> Tensor:
    """Return attention within each text, (rows, heads, width), by one kernel for all lengths.

    Args:
        query, key, value: (rows, heads, width), the width a multiple of `HEAD_MULTIPLE`.
        query_starts, key_starts: int32 (n + 1,), where each text begins among the rows of queries and of keys, with
            their number at the end. What stands behind that is not attended to, and what is returned there is nothing.
        longest: most queries and most keys of a text.
        scale: of the products.
    """
    from torch.nn.attention.varlen import varlen_attn

    return cast(Tensor, varlen_attn(query, key, value, query_starts, key_starts, *longest, scale=scale))


def _by_runs(
    seen: Tensor,
    query: Tensor,
    key_and_value: tuple[Tensor, Tensor],
    runs: Sequence[Run],
    scale: float,
    queries: int | None = None,
) -> None:
    """Write attention within each text into `seen`, (rows, heads, width), by one product for each run of equal lengths.

    Nothing is padded, so nothing is masked. `queries` is how many tokens of each text ask; None: all.
    """
    for run in runs:
        keys = slice(run.start, run.start + run.texts * run.length)
        asking = keys if queries is None else slice(0, run.texts * queries)
        shape = (run.texts, queries or run.length)
        asked = query[asking].unflatten(0, shape).transpose(1, 2)
        key, value = (one[keys].unflatten(0, (run.texts, run.length)).transpose(1, 2) for one in key_and_value)
        mixed = F.scaled_dot_product_attention(asked, key, value, scale=scale)
        seen[asking] = mixed.transpose(1, 2).flatten(0, 1)


def _merge(states: Tensor, counts: Tensor | None, firsts: Tensor, lasts: Tensor) -> tuple[Tensor, Tensor]:
    """Make one of each two neighbouring tokens, as `ml.network.merge_pairs`.

    Args:
        states: (T, hidden).
        counts: float32 (T,), how many tokens each state stands for; None: one.
        firsts, lasts: int32 (S,), the two of each pair, or one token twice.

    Returns:
        Both for S tokens.
    """
    first = torch.ones(len(firsts), device=states.device) if counts is None else counts[firsts]
    last = (firsts != lasts) * (1.0 if counts is None else counts[lasts])
    total = first + last
    share = (first / total).to(states.dtype).unsqueeze(1)
    return states[firsts] * share + states[lasts] * (1 - share), total


def _sums(rows: Tensor, starts: Tensor) -> Tensor:
    """Return the sum over the tokens of each text, float32 (n, columns), for (t, columns); always in the same order."""
    # Lengths are those that `pack` has counted: checking them again would wait for the device.
    return cast(Tensor, torch.segment_reduce(rows.float(), "sum", offsets=starts, unsafe=True))


def _kept(values: Tensor, dtype: torch.dtype) -> nn.Parameter:
    return nn.Parameter(values.detach().to(dtype).contiguous(), requires_grad=False)


def _linear(layer: Any, dtype: torch.dtype) -> nn.ParameterList:
    return nn.ParameterList([_kept(layer.weight, dtype), _kept(layer.bias, dtype)])
