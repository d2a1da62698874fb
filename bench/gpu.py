"""Everything there is to measure on a GPU, in one command.

    python -m bench.gpu [--data FOLDER] [--quick]

1. The packed network says what transformers says in float32, for the shipped network and for rubert-base's shape.
2. Nothing is compiled anew in steady state.
3. Arms in turns, five rounds: transformers' pipeline in float32 with 32 texts, sorted batches of transformers in
   float32 and bfloat16, torch padded, and ours; for both networks and all corpora; beside the ceiling of dense bfloat16
   products in the same run.
4. The network alone, texts tokenised before: real tokens a second, and its share of the ceiling.
5. A file through the whole service (read, tokenise, network, write) over the network alone.

Results go to `bench/results/gpu-*.json`, each beside what is expected. That is for a card of the H200 class
(790 TFLOP/s of dense bfloat16 products, 4.3 TB/s), real lengths, rubert-base:

| figure | expected | least |
|---|---|---|
| ceiling of dense products | 4.6 M tokens/s | |
| network alone | 2.0 to 2.7 M real tokens/s | 2.0 M |
| network alone, share of the ceiling | 43 to 58 % | |
| ours over pipeline float32, batch 32 | 20 and more | 10 |
| service over network alone, 16 cores | 80 % and more | 80 % |
| largest difference of a probability to float32 | 0.02 | 0.05 |
| assignments changed, shipped network | 0.1 % | 1 % |

An H100 computes as fast and copies 3.3 TB/s: expect about a tenth less. How the 2.7 M come about: 172 MFLOP a token at
75 % of 790 TFLOP/s are 0.29 microseconds, and 12 layers move about 350 KB a token, which is 0.08.
"""

import argparse
import itertools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.ceiling import Shape, ceilings
from bench.engine import measure
from bench.harness import interleaved, keep, summary
from bench.networks import CORPORA, NETWORKS, lengths_of, network, texts_of
from jobs.cores import available_cores
from jobs.settings import PROJECT_ROOT
from ml.backends.torch_any import CUDA_TOKENS, TorchBackend
from ml.classifier import Classifier

EXPECTED = {
    "tokens_per_second": {"expected": [2_000_000, 2_700_000], "least": 2_000_000},
    "share_of_ceiling": {"expected": [0.43, 0.58]},
    "over_pipeline": {"expected": [20, None], "least": 10},
    "service_over_network": {"expected": [0.8, 1.0], "least": 0.8},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of CSV files with posts; without it posts are made up")
    parser.add_argument("--count", type=int, default=6000, help="posts for the arms that are compared")
    parser.add_argument("--many", type=int, default=60_000, help="posts for the network alone, and for the service")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="a tenth of the posts, one round: does it run at all?")
    parser.add_argument("--without-service", action="store_true", help="no servers: the network alone")
    options = parser.parse_args()
    if options.quick:
        options.count, options.many, options.rounds = options.count // 10, options.many // 10, 1
    for name in reversed(NETWORKS):
        keep(f"gpu-alone-{name}", {"expected": EXPECTED, "network": name} | alone(name, options))
    for name, corpus in itertools.product(reversed(NETWORKS), CORPORA):
        count = options.count if corpus != "512" else options.count // 4
        found = measure(name, corpus, options.data, count, options.rounds, "cuda", available_cores(), [""])
        keep(f"gpu-{name}-{corpus}", {"expected": EXPECTED} | found)
    if not options.without_service:
        for name in reversed(NETWORKS):
            through_service(name, options)


def alone(name: str, options: argparse.Namespace) -> dict[str, Any]:
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
    # Equal texts are computed once.
    tokens = sum(map(len, texts.ids))
    work = shape.operations([len(one) for one in texts.ids])
    return {
        "card": torch.cuda.get_device_name(),
        "torch": torch.__version__,
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


def through_service(name: str, options: argparse.Namespace) -> None:
    """`bench.throughput` with the network on the GPU; a process of its own, as it needs the memory of the card."""
    with network(name, "real") as folder:
        folder.path.parent.chmod(0o755)
        command = [sys.executable, "-m", "bench.throughput", "--count", str(options.many)]
        command += ["--rounds", str(min(3, options.rounds)), "--name", f"gpu-service-{name}"]
        command += ["--data", str(options.data)] if options.data else []
        env = os.environ | {"RUBRIKA_DEVICE": "cuda", "RUBRIKA_MODEL": str(folder.path)}
        subprocess.run(command, cwd=PROJECT_ROOT, env=env, check=True)


if __name__ == "__main__":
    main()
