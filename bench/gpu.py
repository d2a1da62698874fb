"""Everything there is to measure on a GPU, in one command.

    python -m bench.gpu [--data FOLDER] [--quick | --keep]

1. The packed network says what transformers says in float32, for the shipped network and for rubert-base's shape.
2. Nothing is compiled anew in steady state.
3. Arms in turns, five rounds: transformers' pipeline in float32 with 32 texts, sorted batches of transformers in
   float32 and bfloat16, torch padded, and ours; for both networks and all corpora; beside the ceiling of dense bfloat16
   products in the same run.
4. The network alone, texts tokenised before: real tokens a second, and its share of the ceiling.
5. A file through the whole service (read, tokenise, network, write) over the network alone.

Each result names the card, and of the figures that something is expected of (`EXPECTED`) it says what, and whether they
meet the least or the most that is asked for. Where one does not, that is said at the end, and the exit status is 1;
`--quick` asks for nothing. Results are printed; with `--keep` they also go to `bench/results/gpu-*.json`. What is
expected is that for a card of the H200 class (790 TFLOP/s of dense bfloat16 products, 4.3 TB/s) and real lengths:

| figure | network | expected | asked for |
|---|---|---|---|
| network alone, real tokens a second | rubert-base | 2.0 to 2.7 M | 2.0 M at least |
| network alone, share of the ceiling | rubert-base | 43 to 58 % | |
| ours over pipeline float32, batch 32 | rubert-base | 20 and more | 10 at least |
| service over network alone, 16 cores | rubert-base | 80 % and more | 80 % at least |
| largest difference of a probability to float32 | both | 0.02 at most | 0.05 at most |
| assignments changed | shipped | 0.1 % at most | 1 % at most |

An H100 computes as fast and copies 3.3 TB/s: expect about a tenth less. How the 2.7 M come about: 172 MFLOP a token at
75 % of 790 TFLOP/s are 0.29 microseconds, and 12 layers move about 350 KB a token, which is 0.08.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.ceiling import Shape, ceilings
from bench.engine import measure
from bench.harness import END_SECONDS, interleaved, run, say, started, summary
from bench.keeping import circumstances, keep, parsed, parser
from bench.networks import CORPORA, NETWORKS, lengths_of, model_of, network, texts_of
from jobs.cores import available_cores
from ml.artifact import ModelInfo
from ml.backends.torch_any import CUDA_TOKENS, TorchBackend
from ml.classifier import Classifier


@dataclass(frozen=True)
class Bar:
    """What a figure should be: between these, as far as there are such bounds, and in no case beyond the others."""

    expected: tuple[float | None, float | None]
    least: float | None = None
    most: float | None = None

    def judged(self, found: float | None) -> dict[str, Any]:
        """The figure beside what is expected; `met` where something is asked for, which no figure never meets."""
        asked = {name: bound for name, bound in (("least", self.least), ("most", self.most)) if bound is not None}
        told = {"found": found, "expected": list(self.expected), **asked}
        if not asked:
            return told
        low, high = asked.get("least", float("-inf")), asked.get("most", float("inf"))
        return told | {"met": found is not None and low <= found <= high}


EXPECTED: dict[tuple[str, str, str], dict[str, Bar]] = {
    ("alone", "rubert-base", "real"): {
        "tokens_per_second": Bar((2_000_000, 2_700_000), least=2_000_000),
        "share_of_ceiling": Bar((0.43, 0.58)),
    },
    ("arms", "rubert-base", "real"): {
        "over_pipeline": Bar((20, None), least=10),
        "largest_difference": Bar((None, 0.02), most=0.05),
    },
    ("arms", "shipped", "real"): {
        "largest_difference": Bar((None, 0.02), most=0.05),
        "assignments_changed_percent": Bar((None, 0.1), most=1),
    },
    ("service", "rubert-base", "real"): {"service_over_network": Bar((0.8, 1.0), least=0.8)},
}
"""By what is measured, network and corpus. Of anything else nothing is known beforehand."""

REFERENCE = "against transformers float32"


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--data", type=Path, help="folder of CSV files with posts; without it posts are made up")
    made.add_argument("--count", type=int, default=6000, help="posts for the arms that are compared")
    made.add_argument("--many", type=int, default=60_000, help="posts for the network alone, and for the service")
    made.add_argument("--rounds", type=int, default=5)
    made.add_argument("--quick", action="store_true", help="a tenth of the posts, one round: does it run at all?")
    made.add_argument("--without-service", action="store_true", help="no servers: the network alone")
    options = parsed(made)
    if options.quick:
        options.count, options.many, options.rounds = options.count // 10, options.many // 10, 1
    unmet: list[str] = []

    def judge(kind: str, name: str, corpus: str, found: dict[str, Any], model: ModelInfo) -> None:
        judged = judgement(kind, name, corpus, found)
        suffix = f"{name}-{corpus}" if kind == "arms" else f"{kind}-{name}"
        keep(f"gpu-{suffix}", {"card": card(), "judged": judged} | found, model, options)
        for figure, one in judged.items():
            met = {True: "met", False: "NOT MET", None: "told"}[one.get("met")]
            say(f"{met}: gpu-{suffix}: {figure} on {card()}: {one}")
            if met == "NOT MET":
                unmet.append(f"gpu-{suffix}: {figure}")

    for name in reversed(NETWORKS):
        judge("alone", name, "real", *alone(name, options))
    for name, corpus in itertools.product(reversed(NETWORKS), CORPORA):
        count = options.count if corpus != "512" else options.count // 4
        found = measure(name, corpus, options.data, count, options.rounds, "cuda", available_cores(), [""])
        judge("arms", name, corpus, *found)
    if not options.without_service:
        for name in reversed(NETWORKS):
            judge("service", name, "real", *through_service(name, options))
    if unmet and not options.quick:
        raise SystemExit(f"Less than is asked for on {card()}: {', '.join(unmet)}")


def card() -> str:
    """The GPU by its name."""
    import torch

    return str(torch.cuda.get_device_name())


def judgement(kind: str, name: str, corpus: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of a result beside what is expected of them."""
    figures: Mapping[str, Any]
    if kind == "alone":
        arm = found["arms"][f"{CUDA_TOKENS} tokens"]
        figures = arm | {"tokens_per_second": arm["tokens_per_second"]["median"]}
    elif kind == "arms":
        arm = found["arms"].get("ours", {})
        figures = arm | arm.get(REFERENCE, {})
    else:
        figures = {"service_over_network": found["service_over_network"]["median"]}
    return {figure: bar.judged(figures.get(figure)) for figure, bar in EXPECTED.get((kind, name, corpus), {}).items()}


def alone(name: str, options: argparse.Namespace) -> tuple[dict[str, Any], ModelInfo]:
    """Texts are tokenised before: what the packed network does for budgets of 16, 32 and 64 thousand tokens."""
    import torch
    from torch._dynamo.utils import counters

    with network(name, "real") as folder:
        posts = texts_of(folder, options.data, "real", options.many)
        lengths = lengths_of(folder, posts)
        arms: dict[str, Callable[[], object]] = {}
        graphs: dict[str, int] = {}
        for tokens in (CUDA_TOKENS // 2, CUDA_TOKENS, 2 * CUDA_TOKENS):
            classifier = Classifier(folder, TorchBackend(folder, "cuda", tokens=tokens))
            classifier.warm_up()
            prepared = classifier.prepare(posts)
            arms[f"{tokens} tokens"] = lambda one=classifier, texts=prepared: one.compute(texts)  # type: ignore[misc]
        eager = Classifier(folder, TorchBackend(folder, "cuda", compiler=""))
        texts = eager.prepare(posts)
        arms[f"{CUDA_TOKENS} tokens, not compiled"] = lambda: eager.compute(texts)
        graphs["after the warm-up"] = counters["stats"]["unique_graphs"]
        shape = Shape.of(folder)
        top = ceilings(shape, "cuda", 0, CUDA_TOKENS)
        seconds, _ = interleaved(arms, options.rounds)
        graphs["at the end"] = counters["stats"]["unique_graphs"]
        model = model_of(name, folder)
    # Equal texts are computed once.
    tokens = sum(map(len, texts.ids))
    work = shape.operations([len(one) for one in texts.ids])
    result = {
        "network": name,
        "backend": eager.backend,
        "posts": len(lengths),
        "tokens_computed": tokens,
        "compiled_graphs": graphs,
        "ceiling_tflops": {kind: round(rate / 1e12, 1) for kind, rate in top.items()},
        "arms": {
            arm: {
                "tokens_per_second": {k: round(v) for k, v in summary([tokens / one for one in values]).items()},
                "share_of_ceiling": round(work / summary(values)["median"] / top["bfloat16"], 3),
            }
            for arm, values in seconds.items()
        },
        "peak_memory_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2),
    }
    return result, model


def through_service(name: str, options: argparse.Namespace) -> tuple[dict[str, Any], ModelInfo]:
    """`bench.throughput` with the network on the GPU; a process of its own, as it needs the memory of the card."""
    with network(name, "real") as folder:
        folder.path.parent.chmod(0o755)
        command = [sys.executable, "-m", "bench.throughput", "--count", str(options.many)]
        command += ["--rounds", str(min(3, options.rounds))]
        command += ["--data", str(options.data)] if options.data else []
        env = os.environ | {"RUBRIKA_DEVICE": "cuda", "RUBRIKA_MODEL": str(folder.path)}
        # It has a service to end before it ends itself.
        with started(command, env, stdout=subprocess.PIPE, seconds=2 * END_SECONDS) as process:
            assert process.stdout is not None
            printed = process.stdout.read()
            if code := process.wait():
                raise SystemExit(f"{' '.join(command)} has ended with {code}.")
        found: dict[str, Any] = json.loads(printed)
        model = model_of(name, folder)
        told = circumstances(model)
        return {"network": name} | {key: value for key, value in found.items() if key not in told}, model


if __name__ == "__main__":
    run(main)
