"""The networks and texts that engines are measured with, and the same network in the layers of transformers."""

import importlib.util
import itertools
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.posts import different, stream_posts
from jobs.settings import SHIPPED_MODEL
from ml import artifact, ranging, weights
from ml.encoding import TextEncoder
from ml.posts import Post
from ml.ranges import Agreement

NETWORKS = ("shipped", "rubert-base")
RUBERT_BASE = {
    "hidden_size": 768,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "vocab_size": 119_547,
}
CORPORA = ("real", "60", "512")
REAL_CUT = 512
TRIES = 10
"""So many posts are looked at for each that is wanted, before there are too few that differ."""


@contextmanager
def network(name: str, corpus: str) -> Iterator[artifact.ModelFolder]:
    """A model folder with the named network, which cuts texts as the corpus asks for.

    `shipped` is the shipped one; `rubert-base` has the shape of rubert-base, random weights and the shipped tokenizer.
    """
    with tempfile.TemporaryDirectory(prefix="rubrika-bench-model-") as parent:
        folder = Path(parent) / name
        shutil.copytree(SHIPPED_MODEL, folder)
        settings = json.loads((folder / artifact.SETTINGS).read_text(encoding="utf-8"))
        settings["max_tokens"] = REAL_CUT if corpus == "real" else int(corpus)
        if name == "rubert-base":
            settings |= {"name": "rubert-base with random weights", "version": "0.0.0", "merge_after": []}
        artifact.write_json(folder / artifact.SETTINGS, settings)
        if name == "rubert-base":
            _enlarge(folder, len(settings["topics"]))
        artifact.write_manifest(folder)
        yield artifact.read(folder)


def model_of(name: str, folder: artifact.ModelFolder) -> artifact.ModelInfo:
    """What a result says of a network's model: of the shipped one what ships, although the copy is cut elsewhere."""
    return artifact.read(SHIPPED_MODEL).info if name == "shipped" else folder.info


def texts_of(folder: artifact.ModelFolder, data: Path | None, corpus: str, count: int) -> list[Post]:
    """`count` posts: as they are, or each so long that it is cut at the corpus' length.

    No two are one text for this network, which computes equal ones once.
    """
    encoder = _encoder(folder)
    looked_at = (Post(**post) for post in itertools.islice(stream_posts(data, seed=3), TRIES * count))
    posts = list(itertools.islice(different(looked_at, encoder.compose), count))
    if len(posts) < count:
        raise SystemExit(f"Of the posts no more than {len(posts)} differ for this network, and {count} are wanted.")
    if corpus == "real":
        return posts
    longer: dict[str, Post] = {}
    for number in range(count):
        text, following = "", number
        while not text or len(encoder.encode([text]).ids[0]) < folder.max_tokens:
            text += f" {posts[following % count].doc_text or 'ещё'}"
            following += 1
        if encoder.compose(Post(text)) in longer:
            text = f"{number} {text}"
        longer[encoder.compose(Post(text))] = Post(text)
    return list(longer.values())


def inputs_of(folder: artifact.ModelFolder, posts: Sequence[Post]) -> list[str]:
    """The texts that stand for the posts, as peers get them."""
    encoder = _encoder(folder)
    return [folder.prefix + encoder.compose(post) for post in posts]


def lengths_of(folder: artifact.ModelFolder, posts: Sequence[Post]) -> list[int]:
    """Tokens of each post."""
    encoder = _encoder(folder)
    return [len(ids) for ids in encoder.encode([encoder.compose(post) for post in posts]).ids]


def reference_model(folder: artifact.ModelFolder) -> Any:
    """The whole network, linear part included, as a model of transformers in float32: what `pipeline` takes."""
    from transformers import AutoConfig, PreTrainedModel
    from transformers.modeling_outputs import SequenceClassifierOutput

    from ml.backends.torch_any import load_network

    config = AutoConfig.from_pretrained(folder.path, num_labels=len(folder.info.topics))

    class Reference(PreTrainedModel):  # type: ignore[misc]
        """Has the shape of a model for text classification."""

        config_class = type(config)

        def __init__(self) -> None:
            super().__init__(config)
            self.net = load_network(folder)

        def forward(self, input_ids: Any, attention_mask: Any, **_: Any) -> Any:
            return SequenceClassifierOutput(logits=self.net(input_ids, attention_mask))

    return Reference().eval()


def reference_tokenizer(folder: artifact.ModelFolder) -> Any:
    """The tokenizer of the folder as transformers has it."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    pad = Tokenizer.from_str(folder.tokenizer()).id_to_token(folder.pad_id)
    return PreTrainedTokenizerFast(
        tokenizer_file=str(folder.path / artifact.TOKENIZER),
        pad_token=pad,
        model_max_length=folder.max_tokens,
        model_input_names=["input_ids", "attention_mask"],
    )


def _encoder(folder: artifact.ModelFolder) -> TextEncoder:
    return TextEncoder(folder.tokenizer(), folder.prefix, folder.max_tokens, folder.cleaning, folder.fields)


def _enlarge(folder: Path, topics: int) -> None:
    """Put a random network of rubert-base's shape into a folder, without a linear part."""
    import torch

    from ml import network as networks

    config = json.loads((folder / artifact.CONFIG).read_text(encoding="utf-8"))
    artifact.write_json(folder / artifact.CONFIG, config | RUBERT_BASE)
    torch.manual_seed(0)
    net = networks.from_config(folder, "mean", topics)
    weights.write(folder / artifact.WEIGHTS, {name: one.detach().numpy() for name, one in net.state_dict().items()})
    artifact.write_manifest(folder)
    if not importlib.util.find_spec("openvino"):
        return
    # As of a network that was trained and agrees: how far it does stands beside each rate.
    agreement = Agreement(posts=0, same=1.0, macro_f1_change=0.0)
    texts = [np.random.default_rng(seed).integers(5, config["vocab_size"], 64).astype(np.int32) for seed in range(8)]
    found = replace(ranging.over(artifact.read(folder), texts), agreement=agreement)
    artifact.put(folder, artifact.RANGES, found.content())
