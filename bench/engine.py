"""The same network and the same posts through many engines, and how far each is from what the machine could do.

    python -m bench.engine [--network shipped] [--corpus real] [--data FOLDER] [--count 200] [--rounds 5] [--only NAME]
                           [--keep]

Arms: transformers' pipeline, one text and 32 at a time; transformers in batches of 32 sorted by length, which is what
sentence-transformers does; ONNX Runtime, OpenVINO and torch behind our own batches in every arithmetic that works here;
and ours, which is whatever `Classifier.load` chooses. All arms work on the same texts, in one process, in random order,
`--rounds` times. Beside them, in the same run, the ceiling: dense matrix products of the network's own shapes.
What cannot be loaded, because it is not installed or does not run here, is skipped and named in `not_measured`.
`--network all --corpus all` measures everything there is. `python -m bench.gpu` does this on a GPU.
"""

import itertools
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.ceiling import Shape, ceilings
from bench.harness import interleaved, run, say, summary
from bench.keeping import keep, parsed, parser
from bench.networks import (
    CORPORA,
    NETWORKS,
    inputs_of,
    lengths_of,
    model_of,
    network,
    reference_model,
    reference_tokenizer,
    texts_of,
)
from jobs.cores import available_cores
from ml.artifact import ModelFolder, ModelInfo
from ml.backends import BFLOAT16, Backend, processor_flags, suits_amx
from ml.backends.own_cpu import ByteBackend
from ml.batches import plan
from ml.classifier import Classifier, load_backend
from ml.posts import Post

Probabilities = npt.NDArray[np.float32]
Arm = Callable[[], Probabilities]

ROWS = 32
"""Texts in a batch of the peers: the default of sentence-transformers."""


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--network", choices=(*NETWORKS, "all"), default="shipped")
    made.add_argument("--corpus", choices=(*CORPORA, "all"), default="real")
    made.add_argument("--data", type=Path, help="folder of CSV files with posts; without it posts are made up")
    made.add_argument("--count", type=int, default=200, help="posts; a quarter of them for the larger network")
    made.add_argument("--rounds", type=int, default=5)
    made.add_argument("--threads", type=int, default=0, help="0: all cores")
    made.add_argument("--only", action="append", help="measure the arms whose names hold this; may be repeated")
    options = parsed(made)
    networks = NETWORKS if options.network == "all" else (options.network,)
    corpora = CORPORA if options.corpus == "all" else (options.corpus,)
    for name, corpus in itertools.product(networks, corpora):
        count = options.count if name == "shipped" else max(20, options.count // 4)
        threads = options.threads or available_cores()
        found, model = measure(name, corpus, options.data, count, options.rounds, "cpu", threads, options.only or [""])
        keep(f"engine-{name}-{corpus}", found, model, options)


@dataclass
class Arms:
    """What runs, by name; and of what does not, the reason."""

    run: dict[str, Arm] = field(default_factory=dict)
    padding: dict[str, float] = field(default_factory=dict)
    backends: dict[str, str] = field(default_factory=dict)
    not_measured: dict[str, str] = field(default_factory=dict)

    def load(self, name: str, folder: ModelFolder, load: Callable[[], Backend], posts: Sequence[Post]) -> None:
        """Add one of our backends, ready to work, if it can be loaded here."""
        try:
            backend = load()
            classifier = Classifier(folder, backend)
            classifier.warm_up()
        except Exception as error:  # Whatever keeps one engine from running must not keep the others from it.
            self.skip(name, error)
            return
        self.run[name] = lambda: classifier.predict(posts).probabilities
        self.padding[name] = padding_of(backend, classifier, posts)
        self.backends[name] = backend.description

    def skip(self, name: str, error: Exception) -> None:
        """Note why there is nothing of this name."""
        self.not_measured[name] = f"{type(error).__name__}: {error}"[:500]
        say(f"not measured: {name}: {self.not_measured[name]}")


def measure(
    name: str,
    corpus: str,
    data: Path | None,
    count: int,
    rounds: int,
    device: str,
    threads: int,
    only: Sequence[str],
) -> tuple[dict[str, Any], ModelInfo]:
    """Run all arms of a device on one network and one corpus; also the model that the network is of."""
    with network(name, corpus) as folder, tempfile.TemporaryDirectory(prefix="rubrika-bench-cache-") as cache:
        posts = texts_of(folder, data, corpus, count)
        lengths = lengths_of(folder, posts)
        arms = Arms()
        for arm, load in our_arms(folder, device, threads, Path(cache)):
            if any(part in arm for part in only):
                arms.load(arm, folder, load, posts)
        try:
            for arm, peer, share in peer_arms(folder, posts, lengths, device):
                if any(part in arm for part in only):
                    arms.run[arm], arms.padding[arm] = peer, share
        except Exception as error:
            arms.skip("transformers", error)
        if not arms.run:
            raise SystemExit(f"Nothing can be measured: {arms.not_measured or f'no arm is named like {only}'}")
        tokens = 1024 if device == "cpu" else 32_768
        shape = Shape.of(folder)
        top = ceilings(shape, device, threads, tokens)
        seconds, returned = interleaved(arms.run, rounds)
        thresholds = [topic.threshold for topic in folder.info.topics]
        model = model_of(name, folder)
    result = {
        "network": name,
        "corpus": corpus,
        "posts": count,
        "source": "given" if data else "made up",
        "tokens": sum(lengths),
        "rounds": rounds,
        "threads": threads,
        "backends": arms.backends,
        "ceiling_gflops": {kind: round(rate / 1e9) for kind, rate in top.items()},
        "posts_per_second_at_the_ceiling": {
            kind: round(count * rate / shape.operations(lengths), 1) for kind, rate in top.items()
        },
        "arms": described(seconds, returned, arms.padding, lengths, shape, top, thresholds),
        "not_measured": arms.not_measured,
    }
    return result, model


def described(
    seconds: Mapping[str, Sequence[float]],
    returned: Mapping[str, Probabilities],
    padding: Mapping[str, float],
    lengths: Sequence[int],
    shape: Shape,
    top: Mapping[str, float],
    thresholds: Sequence[float],
) -> dict[str, Any]:
    """What was measured of each arm, fastest first."""
    count, work = len(lengths), shape.operations(lengths)
    exact = next((name for name in ("transformers float32", "OpenVINO float32") if name in returned), min(returned))
    pipelines = [name for name in seconds if name.startswith("pipeline")]
    best = max((summary([count / one for one in seconds[name]])["median"] for name in pipelines), default=None)
    arms: dict[str, dict[str, Any]] = {}
    for name, values in seconds.items():
        rate = summary([count / one for one in values])
        changed = (returned[name] >= thresholds) != (returned[exact] >= thresholds)
        arms[name] = {
            "posts_per_second": {key: round(value, 1) for key, value in rate.items()},
            "over_pipeline": round(rate["median"] / best, 2) if best else None,
            "tokens_per_second": round(rate["median"] * sum(lengths) / count),
            "padding_share": round(padding[name], 3),
            "share_of_ceiling": {kind: round(rate["median"] * work / count / most, 3) for kind, most in top.items()},
            f"against {exact}": {
                "assignments_changed_percent": round(100 * float(changed.mean()), 3),
                "largest_difference": round(float(np.abs(returned[name] - returned[exact]).max()), 5),
            },
        }
    return dict(sorted(arms.items(), key=lambda item: -item[1]["posts_per_second"]["median"]))


def padding_of(backend: Backend, classifier: Classifier, posts: Sequence[Post]) -> float:
    """The share of computed tokens that are none of any text."""
    ids, suited = classifier.prepare(posts).ids, backend.batching
    batches = plan(ids, suited.tokens, suited.multiple)
    computed = sum(suited.computed([len(ids[text]) for text in batch]) for batch in batches)
    return 1 - sum(map(len, ids)) / computed


# --- ours -----------------------------------------------------------------------------------------------------------


def our_arms(
    folder: ModelFolder, device: str, threads: int, cache: Path
) -> Iterator[tuple[str, Callable[[], Backend]]]:
    """Every backend and arithmetic behind our batches, and what `Classifier.load` takes by itself: what loads each."""
    if device == "cuda":
        choices = [("ours", "auto", "auto"), ("torch float32 padded", "torch", "float32")]
    else:
        choices = [("ours", "auto", "auto")]
        if processor_flags() & BFLOAT16:
            # Before float32, whose kernels of attention OpenVINO 2026.4 would take for these as well: with AMX it then
            # returns no numbers, or ends the process.
            choices.append(("OpenVINO bfloat16", "openvino", "bfloat16"))
        choices += [
            ("OpenVINO float32", "openvino", "float32"),
            ("OpenVINO int8 dynamic", "openvino", "int8"),
            ("ONNX Runtime float32", "onnxruntime", "float32"),
            ("torch float32 packed", "torch", "float32"),
        ]
        if folder.ranges is not None:
            choices += [
                ("OpenVINO int8 in fixed ranges", "openvino", "int8-static"),
                ("ONNX Runtime int8 in fixed ranges", "onnxruntime", "int8-static"),
            ]
        if suits_amx(processor_flags()):
            choices.append(("own kernels, bfloat16", "amx", "bfloat16"))
        if processor_flags() & BFLOAT16:
            choices.append(("torch bfloat16 packed", "torch", "bfloat16"))
    for name, backend, arithmetic in choices:
        yield name, partial(load_backend, folder, device, backend, threads, cache, arithmetic)
    if device == "cpu":
        if threads > 1:
            yield "OpenVINO int8 dynamic, one stream", partial(one_stream, folder, cache, threads)
        yield "ONNX Runtime int8 dynamic", partial(dynamic_onnxruntime, folder, cache, threads)
        if folder.ranges is not None:
            yield "own kernels, int8 in fixed ranges, no AMX", partial(ByteBackend, folder, threads, cache)


def one_stream(folder: ModelFolder, cache: Path, threads: int) -> Backend:
    """OpenVINO with all cores on one batch at a time."""
    from ml.backends.openvino_cpu import OpenVinoBackend

    return OpenVinoBackend(folder, cache, threads, "int8", streams=1)


def dynamic_onnxruntime(folder: ModelFolder, cache: Path, threads: int) -> Backend:
    """ONNX Runtime with the weights in 8 bits by its own tool, and activations rounded as they come."""
    import onnxruntime
    from onnxruntime.quantization import QuantType, quantize_dynamic

    from ml import graph
    from ml.backends.onnxruntime_cpu import OnnxRuntimeBackend

    whole, rounded = cache / "whole.onnx", cache / "rounded.onnx"
    options = onnxruntime.SessionOptions()
    # The graph has its weights in float16 and converts them; folded, they are what the tool looks for.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(whole)
    onnxruntime.InferenceSession(str(graph.cached(folder, cache)), options, providers=["CPUExecutionProvider"])
    quantize_dynamic(whole, rounded, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul"])
    return OnnxRuntimeBackend(folder, cache, threads, network=rounded)


# --- peers ----------------------------------------------------------------------------------------------------------


def peer_arms(
    folder: ModelFolder, posts: Sequence[Post], lengths: Sequence[int], device: str
) -> Iterator[tuple[str, Arm, float]]:
    """What a user would write: name, arm, and the share of padding."""
    import torch
    from transformers import pipeline
    from transformers.utils import logging

    # It warns that the network is none of its own, and lists hundreds that are.
    logging.set_verbosity(50)
    texts, topics = inputs_of(folder, posts), len(folder.info.topics)
    model, tokenizer = reference_model(folder).to(device), reference_tokenizer(folder)
    cut = {"truncation": True, "max_length": folder.max_tokens, "padding": True}
    pipe = pipeline("text-classification", model=model, tokenizer=tokenizer, device=device)

    def by_pipeline(rows: int) -> Probabilities:
        logits = np.empty((len(texts), topics), dtype=np.float32)
        for row, found in enumerate(pipe(texts, batch_size=rows, top_k=None, function_to_apply="none", **cut)):
            for one in found:
                logits[row, model.config.label2id[one["label"]]] = one["score"]
        return folder.calibration.probabilities(logits)

    def sorted_batches(dtype: Any) -> Probabilities:
        net = model if dtype == torch.float32 else halved
        order = sorted(range(len(texts)), key=lambda row: -len(texts[row]))
        logits = np.empty((len(texts), topics), dtype=np.float32)
        with torch.inference_mode():
            for start in range(0, len(order), ROWS):
                rows = order[start : start + ROWS]
                fed = tokenizer([texts[row] for row in rows], return_tensors="pt", **cut).to(device)
                logits[rows] = net(fed["input_ids"], fed["attention_mask"]).logits.float().cpu().numpy()
        return folder.calibration.probabilities(logits)

    by_length = sorted(range(len(texts)), key=lambda row: -len(texts[row]))
    as_they_come = _padding([lengths[row : row + ROWS] for row in range(0, len(texts), ROWS)])
    by_length_padding = _padding(
        [[lengths[row] for row in by_length[start : start + ROWS]] for start in range(0, len(texts), ROWS)]
    )
    if device == "cpu":
        yield "pipeline float32, batch 1", lambda: by_pipeline(1), 0.0
    yield f"pipeline float32, batch {ROWS}", lambda: by_pipeline(ROWS), as_they_come
    yield "transformers float32", lambda: sorted_batches(torch.float32), by_length_padding
    if device == "cuda":
        halved = reference_model(folder).to(device, torch.bfloat16)
        yield "transformers bfloat16", lambda: sorted_batches(torch.bfloat16), by_length_padding


def _padding(batches: Sequence[Sequence[int]]) -> float:
    computed = sum(len(batch) * max(batch) for batch in batches)
    return 1 - sum(sum(batch) for batch in batches) / computed


if __name__ == "__main__":
    run(main)
