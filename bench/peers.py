"""The same network served over HTTP by others, against our service, for the same posts.

    python -m bench.peers [--data FOLDER] [--count 2000] [--rounds 5] [--only NAME] [--keep]

LitServe, mosec and infinity come from PyPI into an environment of their own, made on first use in the folder for
temporary files, so that nothing here changes its version. Each serves the float32 network in the way its documentation
shows, with batches of 32; 64 requests with one text each are in flight. infinity embeds: it has no head to compute, and
cannot merge tokens. Ours is `rubrika up` as it comes: the posts are uploaded as a file, and the time ends when its last
row is recorded. A peer that cannot be installed or does not start is named with the reason.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench.harness import in_turns, run, say, service, started, summary
from bench.keeping import keep, parsed, parser
from bench.networks import inputs_of, model_of, network, reference_tokenizer
from bench.posts import as_csv, read_posts
from bench.throughput import through_service
from jobs.cores import available_cores
from ml.artifact import ModelFolder
from ml.posts import Post
from tests.support import free_port, wait_until

PEERS = {
    "LitServe": ("litserve",),
    "mosec": ("mosec",),
    "infinity": ("infinity-emb[server,torch]",),
}
SHARED = ("transformers>=5.20,<6", "safetensors", "numpy")
IN_FLIGHT = 64
START_SECONDS = 180.0


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--data", type=Path, help="folder of CSV files with posts; without it posts are made up")
    made.add_argument("--count", type=int, default=2000)
    made.add_argument("--rounds", type=int, default=5)
    made.add_argument("--only", action="append", choices=sorted(PEERS), help="may be repeated")
    options = parsed(made)
    posts = read_posts(options.data, options.count)
    problems: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(network("shipped", "real"))
        texts = inputs_of(folder, [Post(**post) for post in posts])
        running = stack.enter_context(service(RUBRIKA_CACHE_ROWS="0", RUBRIKA_MODEL=str(_readable(folder))))
        data = as_csv(posts)
        arms: dict[str, Callable[[], float]] = {
            "ours": lambda: through_service(running.host, running.port, data, options.count)
        }
        for name in options.only or PEERS:
            try:
                ask = stack.enter_context(peer(name, folder))
            except (subprocess.CalledProcessError, AssertionError, OSError) as error:
                problems[name] = f"{type(error).__name__}: {error}"[:500]
                continue
            arms[name] = lambda ask=ask: through_peer(ask, texts)  # type: ignore[misc]
        seconds = in_turns(arms, options.rounds)
        rates = {name: summary([options.count / one for one in values]) for name, values in seconds.items()}
        best = max((rate["median"] for name, rate in rates.items() if name != "ours"), default=None)
        result = {
            "posts": options.count,
            "source": "given" if options.data else "made up",
            "rounds": options.rounds,
            "posts_per_second": {name: {k: round(v, 1) for k, v in rate.items()} for name, rate in rates.items()},
            "ours_over_the_best_peer": round(rates["ours"]["median"] / best, 2) if best else None,
            "not_measured": problems,
        }
        # Before the servers end: who does not wait for that loses nothing.
        keep("peers", result, model_of("shipped", folder), options)


def through_peer(ask: Callable[[str], object], texts: Sequence[str]) -> float:
    """Seconds from the first text sent to the last answer, `IN_FLIGHT` at a time."""
    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        begun = time.perf_counter()
        for _ in pool.map(ask, texts):
            pass
        return time.perf_counter() - begun


@contextlib.contextmanager
def peer(name: str, folder: ModelFolder) -> Iterator[Callable[[str], object]]:
    """A running server of a peer, and what asks it for one text."""
    python = installed(name)
    port = free_port()
    body: Callable[[str], dict[str, Any]]
    with tempfile.TemporaryDirectory(prefix="rubrika-bench-peer-") as place:
        if name == "infinity":
            model = _as_hub_folder(folder, Path(place))
            command = [str(python.parent / "infinity_emb"), "v2", "--model-id", str(model), "--engine", "torch"]
            command += ["--device", "cpu", "--dtype", "float32", "--batch-size", "32", "--port", str(port)]
            url, body = f"http://127.0.0.1:{port}/embeddings", lambda text: {"model": str(model), "input": [text]}
        else:
            command = [str(python), "-m", f"bench.peer_{name.lower()}", str(port)]
            path = "predict" if name == "LitServe" else "inference"
            url, body = f"http://127.0.0.1:{port}/{path}", lambda text: {"text": text}
        env = os.environ | {
            "OMP_NUM_THREADS": str(available_cores()),
            "HF_HUB_OFFLINE": "1",
            "PEER_FOLDER": str(folder.path),
        }
        with started(command, env, stderr=subprocess.DEVNULL) as process:

            def ask(text: str) -> Any:
                sent = urllib.request.Request(
                    url, json.dumps(body(text)).encode(), {"Content-Type": "application/json"}
                )
                with urllib.request.urlopen(sent, timeout=600) as response:
                    return json.load(response)

            def answers() -> bool:
                if process.poll() is not None:
                    raise AssertionError(f"{name} ended with {process.returncode}")
                with contextlib.suppress(OSError):
                    return bool(ask("Привет"))
                return False

            wait_until(answers, START_SECONDS, f"{name} to answer", every=0.5)
            yield ask


def installed(name: str) -> Path:
    """The Python of a peer's own environment, made on first use."""
    place = Path(tempfile.gettempdir()) / f"rubrika-bench-{name.lower()}"
    python = place / "bin" / "python"
    if not (place / "complete").exists():
        begun = time.monotonic()
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(place)], check=True)
        pip = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
        # torch goes first, under exactly this name.
        subprocess.run([*pip, "torch==2.13.0"], check=True)
        shared = SHARED if name != "infinity" else ()
        subprocess.run([*pip, "torch==2.13.0", *PEERS[name], *shared, "tokenizers", "onnx"], check=True)
        (place / "complete").touch()
        say(f"installed {name} in {time.monotonic() - begun:.0f} s")
    return python


def _as_hub_folder(folder: ModelFolder, place: Path) -> Path:
    """The encoder as transformers keeps one: infinity loads nothing else."""
    from ml.backends.torch_any import load_network

    model = place / "model"
    load_network(folder).encoder.save_pretrained(model)
    reference_tokenizer(folder).save_pretrained(model)
    # infinity has a transformers of before version 5, which knows the class by its name of then.
    settings = model / "tokenizer_config.json"
    content = json.loads(settings.read_text(encoding="utf-8"))
    settings.write_text(json.dumps(content | {"tokenizer_class": "PreTrainedTokenizerFast"}), encoding="utf-8")
    return model


def _readable(folder: ModelFolder) -> Path:
    """The folder, in a place that the service's user may enter."""
    folder.path.parent.chmod(0o755)
    return folder.path


if __name__ == "__main__":
    run(main)
