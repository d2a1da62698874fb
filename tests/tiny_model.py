"""A complete model folder in a fraction of a second and without torch: a random BERT of two thin layers."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from ml import artifact, weights
from ml.data import DEFAULT_NAMES
from ml.ngrams import LONGEST

HIDDEN, LAYERS, HEADS, WIDE, POSITIONS = 16, 2, 4, 32, 64
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
TEXTS = (
    "Сборная выиграла матч и вышла в финал чемпионата по футболу",
    "Смешной анекдот про кота и собаку, все смеются до слёз",
    "Скидка на всё, купите сейчас, промокод на доставку в подарок",
    "Подпишитесь на канал, ставьте лайки, новый блогер в сети",
    "Президент подписал закон, выборы в парламент и министр",
    "Моя семья и дети гуляют, день рождения мамы, люблю вас",
)


def make_tiny_model(
    folder: Path,
    *,
    seed: int = 0,
    max_tokens: int = 32,
    pooling: str = "mean",
    layers: int = LAYERS,
    merge_after: Sequence[int] = (),
    sizes: tuple[int, int, int] = (HIDDEN, HEADS, WIDE),
    ngrams: bool = False,
) -> Path:
    """Write a model folder with the default topics and random weights to `folder` and return it.

    `sizes`: of the states, the number of heads, and of the wide states.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    tokenizer = make_wordpiece()
    names = ("hidden_size", "num_attention_heads", "intermediate_size")
    config = make_config(tokenizer.get_vocab_size()) | {"num_hidden_layers": layers}
    config |= dict(zip(names, sizes, strict=True))
    values = _weights(config, len(DEFAULT_NAMES), rng)
    if ngrams:
        values |= _linear_part(config["vocab_size"], len(DEFAULT_NAMES), rng)
    weights.write(folder / artifact.WEIGHTS, values)
    artifact.write_json(folder / artifact.CONFIG, config)
    tokenizer.save(str(folder / artifact.TOKENIZER))
    topics = [
        {
            "id": topic,
            "name": ru,
            "name_en": en,
            "threshold": 0.5,
            "calibration": {"slope": 1.0, "rivalry": 0.0, "intercept": 0.0},
        }
        for topic, (ru, en) in DEFAULT_NAMES.items()
    ]
    settings = {"name": "tiny", "version": "0.0.1", "topics": topics, "pooling": pooling, "max_tokens": max_tokens}
    more = {"format": artifact.FORMAT, "prefix": "", "merge_after": list(merge_after)}
    artifact.write_json(folder / artifact.SETTINGS, {**more, **settings})
    artifact.write_json(folder / artifact.CARD, {"base": "random", "limits": ["for tests"]})
    artifact.write_manifest(folder)
    return folder


def make_wordpiece() -> Tokenizer:
    """Return a WordPiece tokenizer, as rubert-like checkpoints have: the words of `TEXTS` and their letters."""
    words = sorted({word for text in TEXTS for word in re.findall(r"\w+", text)})
    letters = sorted({letter for word in words for letter in word.casefold() + word})
    pieces = dict.fromkeys([*SPECIAL, ",", ".", "!", ":", *letters, *(f"##{letter}" for letter in letters), *words])
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")],
    )
    return tokenizer


def make_config(vocabulary: int) -> dict[str, Any]:
    """Return the `config.json` of the tiny BERT."""
    return {
        "model_type": "bert",
        "architectures": ["BertModel"],
        "vocab_size": vocabulary,
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": WIDE,
        "max_position_embeddings": POSITIONS,
        "type_vocab_size": 2,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "pad_token_id": 0,
    }


def make_base(folder: Path) -> Path:
    """Write a base to train from, tokenizer and configuration with random weights, as a hub folder looks."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = make_wordpiece()
    config = make_config(tokenizer.get_vocab_size())
    values = _weights(config, 1, np.random.default_rng(0))
    prefix = "encoder."
    encoder = {name.removeprefix(prefix): array for name, array in values.items() if name.startswith(prefix)}
    save_file(encoder, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    tokenizer.save(str(folder / "tokenizer.json"))
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": POSITIONS, **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


def _weights(config: dict[str, Any], topics: int, rng: np.random.Generator) -> dict[str, np.ndarray[Any, Any]]:
    values: dict[str, np.ndarray[Any, Any]] = {}
    hidden, wide = config["hidden_size"], config["intermediate_size"]

    def matrix(name: str, *shape: int) -> None:
        values[name] = (rng.standard_normal(shape) * 0.3 * (HIDDEN / hidden) ** 0.5).astype(np.float16)

    def linear(name: str, outputs: int, inputs: int) -> None:
        matrix(f"{name}.weight", outputs, inputs)
        matrix(f"{name}.bias", outputs)

    def norm(name: str) -> None:
        values[f"{name}.weight"] = (1 + rng.standard_normal(hidden) * 0.1).astype(np.float16)
        matrix(f"{name}.bias", hidden)

    matrix("encoder.embeddings.word_embeddings.weight", config["vocab_size"], hidden)
    matrix("encoder.embeddings.position_embeddings.weight", POSITIONS, hidden)
    matrix("encoder.embeddings.token_type_embeddings.weight", 2, hidden)
    norm("encoder.embeddings.LayerNorm")
    for layer in range(config["num_hidden_layers"]):
        name = f"encoder.encoder.layer.{layer}"
        for part in ("query", "key", "value"):
            linear(f"{name}.attention.self.{part}", hidden, hidden)
        linear(f"{name}.attention.output.dense", hidden, hidden)
        norm(f"{name}.attention.output.LayerNorm")
        linear(f"{name}.intermediate.dense", wide, hidden)
        linear(f"{name}.output.dense", hidden, wide)
        norm(f"{name}.output.LayerNorm")
    linear("encoder.pooler.dense", hidden, hidden)
    linear("head", topics, hidden)
    return values


def _linear_part(vocabulary: int, topics: int, rng: np.random.Generator) -> dict[str, np.ndarray[Any, Any]]:
    rows = 101
    return {
        "ngrams.hashes": rng.integers(0, rows, (vocabulary, LONGEST), dtype=np.int32),
        "ngrams.table": rng.random((rows, topics + 1)).astype(np.float16),
        "ngrams.bias": rng.random(topics).astype(np.float16),
    }
