"""The network in torch: a BERT-like encoder, pooling, and one linear output per topic. For training and for GPUs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast, get_args

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from ml import artifact, ngrams, weights
from ml.backends import BFLOAT16, processor_flags
from ml.errors import ModelError

Pooling = Literal["mean", "cls", "pooler"]
POOLINGS: Sequence[Pooling] = get_args(Pooling)

ENCODER_PREFIX = "encoder."

FAMILIES = ("bert", "roberta", "xlm-roberta", "camembert")
"""BERT and its kin: embeddings, and layers that are alike."""


def pooling_named(name: str) -> Pooling:
    """Return the pooling of this name, or raise ModelError."""
    for pooling in POOLINGS:
        if pooling == name:
            return pooling
    raise ModelError(f"The pooling {name!r} is not known: it must be one of {', '.join(POOLINGS)}.")


class TopicNetwork(nn.Module):  # type: ignore[misc]  # torch is not followed by mypy
    """Token ids to logits.

    Args:
        encoder: a model of transformers that returns `last_hidden_state` (batch, length, hidden).
        pooling: `mean` over the real tokens, `cls` for the first token's vector, or `pooler` for the encoder's own
            dense layer with tanh on top of it.
        topics: number of outputs.
        dropout: before the last layer, while training.
        merge_after: after how many layers neighbouring tokens become one, two by two (`merge_pairs`): the layers that
            follow have half as many to compute. Only BERT and its kin can do so.

    Raises:
        ModelError: the encoder lacks what is asked of it.
    """

    def __init__(
        self, encoder: Any, pooling: Pooling, topics: int, dropout: float = 0.1, merge_after: Sequence[int] = ()
    ) -> None:
        super().__init__()
        self.merge_after = tuple(merge_after)
        if self.merge_after:
            check_merging(encoder.config.to_dict(), self.merge_after)
            # What says where there is padding is made for it.
            encoder.set_attn_implementation("sdpa")
        if pooling == "pooler":
            if getattr(encoder, "pooler", None) is None:
                raise ModelError("This base has no pooler: choose --pooling mean or --pooling cls.")
        elif hasattr(encoder, "pooler"):
            # An unused layer would be carried in every model folder, and untrained where the base lacks it.
            encoder.pooler = None
        self.encoder = encoder
        self.pooling = pooling
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(int(encoder.config.hidden_size), topics)

        self.ngrams: NgramPart | None = None

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return logits, float (batch, topics), for int64 arrays (batch, length)."""
        if self.merge_after:
            states, counts = self._merging(input_ids, attention_mask)
            pooler_output = self.encoder.pooler(states) if self.pooling == "pooler" else None
        else:
            output = self.encoder(input_ids=input_ids, attention_mask=attention_mask)
            states, counts = output.last_hidden_state, attention_mask
            pooler_output = output.pooler_output if self.pooling == "pooler" else None
        pooled = self._pool(states, counts, pooler_output).to(self.head.weight.dtype)
        logits = cast(Tensor, self.head(self.dropout(pooled)))
        return logits if self.ngrams is None else logits + self.ngrams(input_ids, attention_mask).to(logits.dtype)

    def add_ngrams(self, linear: ngrams.Ngrams, share: float) -> None:
        """Make the logits `1 - share` times what they are now and `share` times those of `linear`."""
        part = linear.scaled(share)
        self.ngrams = NgramPart(len(part.hashes), len(part.table), len(part.bias))
        for buffer, values in (
            (self.ngrams.hashes, part.hashes),
            (self.ngrams.table, part.table),
            (self.ngrams.bias, part.bias),
        ):
            buffer.copy_(torch.from_numpy(values))
        self.ngrams.to(self.head.weight.device)
        with torch.no_grad():
            self.head.weight.mul_(1 - share)
            self.head.bias.mul_(1 - share)

    def round_weights(self) -> None:
        """Make the weights what a model folder will keep of them, so that what is measured now is what will serve."""
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if weights.is_rounded(name, tuple(parameter.shape)):
                    parameter.copy_(torch.from_numpy(weights.rounded(parameter.detach().cpu().numpy())))

    def _merging(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the last states, (batch, shorter, hidden), and how many tokens each stands for, (batch, shorter)."""
        states: Tensor = self.encoder.embeddings(input_ids=input_ids)
        counts = attention_mask
        for number, layer in enumerate(self.encoder.encoder.layer):
            if number in self.merge_after:
                states, counts = merge_pairs(states, counts)
            # As the kernels of torch want it: true where there is something to attend to.
            states = layer(states, (counts > 0)[:, None, None, :])
        return states, counts

    def _pool(self, states: Tensor, counts: Tensor, pooler_output: Tensor | None) -> Tensor:
        if pooler_output is not None:
            return pooler_output
        if self.pooling == "cls":
            return states[:, 0]
        weights = counts.unsqueeze(-1).to(states.dtype)
        return (states * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1.0)


def merge_pairs(states: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Make one of each two neighbouring tokens: their mean, in which each counts as often as it stands for tokens.

    After some layers neighbours know nearly the same, and what is asked of the text needs no state for each token
    (Funnel-Transformer: Dai et al. 2020, arXiv:2006.03236).

    Args:
        states: (batch, length, hidden).
        counts: (batch, length), how many tokens each state stands for, 0 for padding.

    Returns:
        Both for half the length, rounded up.
    """
    if states.shape[1] % 2:
        states, counts = nn.functional.pad(states, (0, 0, 0, 1)), nn.functional.pad(counts, (0, 1))
    pairs, weights = states.unflatten(1, (-1, 2)), counts.unflatten(1, (-1, 2))
    total = weights.sum(dim=2)
    shares = weights / total.clamp(min=1).unsqueeze(2)
    return (pairs * shares.unsqueeze(3).to(states.dtype)).sum(dim=2), total


def check_merging(config: Mapping[str, Any], merge_after: Sequence[int]) -> None:
    """Check that the encoder of this configuration can merge tokens after these layers.

    Raises:
        ModelError: it cannot, or there are no such layers.
    """
    layers = int(config.get("num_hidden_layers", 0))
    if config.get("model_type") not in FAMILIES or config.get("is_decoder"):
        raise ModelError(f"Only encoders of the kinds {', '.join(FAMILIES)} can merge tokens: leave --merge-after out.")
    if list(merge_after) != sorted(set(merge_after)) or not all(0 < one < layers for one in merge_after):
        raise ModelError(
            f"--merge-after {','.join(map(str, merge_after))} must name layers in rising order, from 1 to {layers - 1}."
        )


class NgramPart(nn.Module):  # type: ignore[misc]  # torch is not followed by mypy
    """The linear part of a model (`ml.ngrams`), for padded ids; nothing of it is learnt by descent.

    Args:
        vocabulary: number of tokens.
        rows: of the table.
        topics: number of outputs.
    """

    def __init__(self, vocabulary: int, rows: int, topics: int) -> None:
        super().__init__()
        self.register_buffer("hashes", torch.zeros((vocabulary, ngrams.LONGEST), dtype=torch.int32))
        self.register_buffer("table", torch.zeros((rows, topics + 1)))
        self.register_buffer("bias", torch.zeros(topics))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return logits, float32 (batch, topics), for int64 arrays (batch, length)."""
        rows, length = len(self.table), input_ids.shape[1]
        sums = torch.zeros_like(input_ids)
        total = torch.zeros((len(input_ids), self.table.shape[1]), device=self.table.device)
        for place in range(min(ngrams.LONGEST, length)):
            here = self.hashes[:, place][input_ids[:, place:]].long()
            sums = sums[:, : length - place] + here
            # Padding stands at the end: an n-gram is whole where its last token is none.
            whole = attention_mask[:, place:].unsqueeze(-1)
            total = total + (self.table[sums % rows].float() * whole).sum(dim=1)
        norm = total[:, -1:].clamp(min=1.0).sqrt()
        return cast(Tensor, self.bias.float() + total[:, :-1] / norm)


def from_base(
    base: str, pooling: Pooling, topics: int, attention_dropout: float, merge_after: Sequence[int] = ()
) -> TopicNetwork:
    """Load the pretrained encoder `base`, a folder or a hub name, and put an untrained head on it.

    Raises:
        ModelError: transformers cannot load it.
    """
    from transformers import AutoConfig, AutoModel
    from transformers.utils import logging

    if (Path(base) / artifact.SETTINGS).is_file():
        raise ModelError(f"{base} is a model of Rubrika and no encoder.")
    # Its bars and its report of layers that are not used here would drown what training has to say.
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        config = AutoConfig.from_pretrained(base)
        # Dropout inside attention costs as much as the rest of the step on a CPU, and keeps the fast kernels away.
        if hasattr(config, "attention_probs_dropout_prob"):
            config.attention_probs_dropout_prob = attention_dropout
        encoder = AutoModel.from_pretrained(base, config=config, dtype=torch.float32)
    except (OSError, ValueError, SafetensorError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ModelError(f"transformers cannot load {base!r} as an encoder: {reason}") from error
    return TopicNetwork(encoder, pooling, topics, merge_after=merge_after)


def from_config(
    config_folder: Path,
    pooling: Pooling,
    topics: int,
    ngram_shape: tuple[int, int] | None = None,
    merge_after: Sequence[int] = (),
) -> TopicNetwork:
    """Build the network that `config.json` in the folder describes, with weights still to be loaded.

    `ngram_shape` is (vocabulary, rows) of its linear part; None: it has none.
    """
    from transformers import AutoConfig, AutoModel

    config = AutoConfig.from_pretrained(config_folder)
    with torch.device("cpu"):
        encoder = AutoModel.from_config(config, dtype=torch.float32)
        net = TopicNetwork(encoder, pooling, topics, merge_after=merge_after)
        if ngram_shape is not None:
            net.ngrams = NgramPart(*ngram_shape, topics)
        return net


def longest_input(config: Any) -> int:
    """Return the number of tokens, special ones included, that an encoder of this configuration can read."""
    positions = int(getattr(config, "max_position_embeddings", 512))
    # RoBERTa and its kin number positions from the one after the padding id.
    return positions - config.pad_token_id - 1 if "roberta" in config.model_type else positions


def has_fast_bfloat16(device: torch.device) -> bool:
    """Say whether bf16 is a gain here: on CUDA from Ampere on, on a CPU with AMX or AVX-512 BF16 instructions."""
    if device.type == "cuda":
        # Older cards have it too, by emulation.
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(processor_flags() & BFLOAT16)
