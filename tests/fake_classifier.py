"""A classifier for tests in which the model is not the point: quick, predictable, and ill-behaved on request.

The probability of sport follows from the text alone, so that a test can tell whether every row got its own result.
Texts with a command in them misbehave: `!kill` ends the process, `!choke` ends it already while the text is prepared,
`!fail` fails alone, `!explode` fails the whole batch. Some misbehave only while they are explained, that is when words
of them are missing: without its word `слово`, `!brittle` ends the process and `!fragile` fails.
Run as a module it is a worker process with this classifier, which takes `FAKE_SECONDS` for a text.
"""

import hashlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jobs.settings import Settings
from ml.artifact import ModelInfo, Topic
from ml.classifier import Predictions
from ml.posts import Post

BATCH = 8
TOPICS = (Topic("sport", "Спорт", "Sport", 0.5), Topic("ads", "Реклама", "Ads", 0.5))


def expected(doc_text: str) -> float:
    """The probability of sport that the fake gives this text, with three digits."""
    return int.from_bytes(hashlib.sha256(doc_text.encode()).digest()[:2]) % 1000 / 1000


@dataclass(frozen=True)
class FakePrepared:
    """Posts, as they are."""

    posts: tuple[Post, ...]

    @property
    def truncated(self) -> npt.NDArray[np.bool_]:
        return np.zeros(len(self.posts), dtype=np.bool_)


class FakeClassifier:
    """Has the shape of `ml.classifier.Classifier`."""

    backend = "fake"
    info = ModelInfo("fake", "1.0.0", "f" * 64, TOPICS, {"base": "none"})

    def __init__(self, seconds: float = 0.0) -> None:
        self._pause = threading.Event()
        self.seconds = seconds

    def warm_up(self) -> None:
        """Nothing is cold."""

    def prepare(self, posts: Sequence[Post]) -> FakePrepared:
        if any("!choke" in post.doc_text for post in posts):
            os.kill(os.getpid(), signal.SIGKILL)
        return FakePrepared(tuple(posts))

    def compute(self, prepared: FakePrepared, between_batches: Callable[[], None] | None = None) -> Predictions:
        posts = prepared.posts
        failures = {}
        for start in range(0, len(posts), BATCH):
            if start and between_batches:
                between_batches()
            for number, post in enumerate(posts[start : start + BATCH], start):
                if "!kill" in post.doc_text:
                    os.kill(os.getpid(), signal.SIGKILL)
                if "!explode" in post.doc_text:
                    raise RuntimeError("the network broke")
                if "!brittle" in post.doc_text and "слово" not in post.doc_text:
                    os.kill(os.getpid(), signal.SIGKILL)
                if "!fragile" in post.doc_text and "слово" not in post.doc_text:
                    failures[number] = "a part of this text broke it"
                if "!fail" in post.doc_text:
                    failures[number] = "this text broke it"
            if self.seconds:
                self._pause.wait(self.seconds * len(posts[start : start + BATCH]))
        probabilities = np.array([[expected(post.doc_text), 0.25] for post in posts], dtype=np.float32)
        probabilities = probabilities.reshape(len(posts), len(TOPICS))
        return Predictions(
            probabilities=probabilities,
            truncated=prepared.truncated,
            failures=failures,
            logits=np.log(probabilities / (1 - probabilities)),
        )


def main() -> None:
    """Run a worker with the fake, as `rubrika worker` runs one with the model."""
    from worker.main import run_worker

    logging.basicConfig(level="INFO", stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    seconds = float(os.environ.get("FAKE_SECONDS", "0"))
    run_worker(Settings.from_env(), lambda _: FakeClassifier(seconds))  # type: ignore[arg-type,return-value]


if __name__ == "__main__":
    main()
