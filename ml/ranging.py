"""Measure the ranges of a network on posts, and how well the network agrees with float32 when it keeps to them.

Ranges come from posts to learn from, from short pieces of them, and from texts unlike any post. Agreement is measured
on other posts. Only numbers are written into the model folder, never a text.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ml import artifact, evaluate, graph, metrics, ranges
from ml.artifact import ModelFolder
from ml.backends import Arithmetic, usable_cores
from ml.backends.openvino_cpu import core_of_openvino
from ml.batches import Ids
from ml.classifier import Classifier, load_backend
from ml.crops import crop
from ml.data import Dataset
from ml.encoding import TextEncoder
from ml.posts import Post, compose

POSTS = 256
"""Posts that ranges are measured on, and as many pieces of them: some have seen what most of all posts reach."""

SEED = 1

CHECK_SHARE = 0.12
"""Of the posts so many are compared with float32, where a model has held back none of them."""

ARITHMETICS: tuple[Arithmetic, Arithmetic] = ("float32", "int8-static")
"""What is compared: the exact one first."""

ODD = (
    "",
    ".",
    "я",
    "Привет",
    "1234567890 " * 40,
    "8 800 555-35-35, 12.05.2024, 100500 руб., 50% = 1/2; https://example.org/?a=1&b=2",
    "ВНИМАНИЕ! СРОЧНО! ТОЛЬКО СЕГОДНЯ! " * 10,
    "The quick brown fox jumps over the lazy dog. Breaking news from around the world. " * 6,
    "😂😂😂🔥🔥❤️👍🏻🎉 " * 8,
    "!!! ??? ... ((( ))) — «» №; @#$%^&*_+=<>[]{}|\\/~` " * 6,
    "аааааааааааа хахахахахаха ббббб " * 8,
    "да " * 600,
    "中文测试 日本語 العربية ελληνικά עברית ქართული " * 4,
)
"""Texts unlike any post: what a range has not seen it cuts off, so it had better see them."""


def add(path: Path, learn: Sequence[Post], check: Dataset, threads: int = 0) -> ranges.Ranges:
    """Measure the ranges of a model folder and write them into it; its digest changes with them.

    Args:
        path: the model folder.
        learn: posts to measure ranges on; some of them are taken.
        check: other posts, with the topics in the order of the model, to compare with float32.
        threads: cores to use; 0: all.

    Raises:
        ModelError: as `graph.watching`.
        BackendError: OpenVINO is not installed.
        DataError: a post cannot be read.
    """
    folder = artifact.read(path)
    rng = np.random.default_rng(SEED)
    chosen = [learn[row] for row in rng.permutation(len(learn))[:POSTS]]
    pieces = [Post(doc_text=crop(compose(post), rng)) for post in chosen]
    found = measured(folder, [*chosen, *pieces, *map(Post, ODD)], threads)
    found = replace(found, agreement=agreement(replace(folder, ranges=found), check, threads))
    artifact.put(path, artifact.RANGES, found.content())
    return found


def renew_agreement(path: Path, check: Dataset, threads: int = 0) -> None:
    """Compare a model folder that has ranges with float32 again: thresholds have changed; without ranges do nothing.

    Raises:
        as `add`.
    """
    folder = artifact.read(path)
    if folder.ranges is not None:
        found = replace(folder.ranges, agreement=agreement(folder, check, threads))
        artifact.put(path, artifact.RANGES, found.content())


def measured(folder: ModelFolder, posts: Sequence[Post], threads: int = 0) -> ranges.Ranges:
    """Return the ranges of all inputs of products over `posts`, by OpenVINO in float32.

    Raises:
        ModelError, BackendError: as `add`.
    """
    encoder = encoder_of(folder)
    # One text at a time: padding would be seen as well, and nobody reads what it computes.
    return over(folder, encoder.encode([encoder.compose(post) for post in posts]).ids, threads)


def over(folder: ModelFolder, texts: Sequence[Ids], threads: int = 0) -> ranges.Ranges:
    """As `measured`, of token ids."""
    core = core_of_openvino()
    model = core.read_model(graph.watching(folder).SerializeToString())
    options = {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": threads or usable_cores()}
    request = core.compile_model(model, "CPU", options).create_infer_request()
    names = [output.get_any_name() for output in model.outputs]
    lowest: dict[str, npt.NDArray[np.float32]] = {}
    for ids in texts:
        request.infer({"input_ids": ids[None].astype(np.int64), "attention_mask": np.ones((1, len(ids)), np.int64)})
        for index, name in enumerate(names):
            if name.endswith((graph.LOW, graph.HIGH)):
                # The highest is the lowest of the negatives.
                values = request.get_output_tensor(index).data * (1 if name.endswith(graph.LOW) else -1)
                lowest[name] = np.minimum(lowest.get(name, np.inf), values)
    places = [name.removesuffix(graph.LOW) for name in lowest if name.endswith(graph.LOW)]
    inputs = {place: ranges.holding(lowest[place + graph.LOW], -lowest[place + graph.HIGH]) for place in places}
    return ranges.Ranges(inputs, len(texts))


def encoder_of(folder: ModelFolder) -> TextEncoder:
    """Return the tokenizer of a model with its input settings."""
    return TextEncoder(folder.tokenizer(), folder.prefix, folder.max_tokens, folder.cleaning, folder.fields)


def agreement(folder: ModelFolder, check: Dataset, threads: int = 0) -> ranges.Agreement:
    """Compare the network of `folder` within its ranges with float32, at its own thresholds and by the engines that
    this machine would take.

    Raises:
        ModelError, BackendError, DataError: as `add`.
    """
    threshold = folder.calibration.threshold
    found = []
    with tempfile.TemporaryDirectory(prefix="rubrika-ranges-") as cache:
        for arithmetic in ARITHMETICS:
            classifier = Classifier(folder, load_backend(folder, "cpu", "auto", threads, Path(cache), arithmetic))
            probabilities = evaluate.predictions(classifier, check.posts).probabilities
            macro_f1 = metrics.f1_scores(probabilities, check.labels, threshold)[1]
            found.append((probabilities >= threshold, macro_f1))
    (exact, exact_f1), (rounded, rounded_f1) = found
    return ranges.Agreement(
        len(check.posts), round(float((exact == rounded).mean()), 6), round(float(rounded_f1 - exact_f1), 6)
    )


def told(found: ranges.Ranges) -> str:
    """Say in a line how well ranges that were measured agree with float32."""
    one = found.agreement
    if one is None:
        return "not compared with float32"
    return (
        f"{one.same:.2%} of the assignments as in float32, macro-F1 {one.macro_f1_change:+.4f}, on {one.posts} posts"
        + ("" if one.suffices else "; that is too few for `auto` to take them")
    )
