"""Posts a second of one arrangement, measured in a process of its own: `rubrika bench cpu` starts several at once.

    python -m ml.probe FOLDER BACKEND ARITHMETIC THREADS CACHE_DIR SECONDS

prints `ready` when the network is loaded, waits for a line, works for that many seconds, and prints the rate. Should
the arrangement not be possible, it prints `not possible` and why.
"""

import math
import random
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from ml.classifier import Classifier
from ml.errors import MlError
from ml.posts import Post

MEDIAN_WORDS = 57
SIGMA = 0.95
"""Of a log-normal: median 57 words, 90th percentile about 200, as real posts have."""

CHUNK = 64
"""Posts of the first chunk, which are sorted by length together: as few as a slow machine computes in a few seconds."""

CHUNK_SECONDS = 2.0
"""Every other chunk is about so much work, as a worker's claims are: the fewer posts, the longer do cores that are done
with them wait for the others, and the better would several processes look that wait by themselves."""

_SYLLABLES = re.findall(
    r"\S+",
    "ба ве ги до жу за ки ла мо ну по ра со та фу хо ца че ша ще эл ют как ст пр кр нов ский ние ость",
)


def made_up(shuffler: random.Random) -> Post:
    """Return a post of words that mean nothing, as long as posts are, spread over its fields as in posts."""
    words = max(2, min(1200, round(math.exp(shuffler.gauss(math.log(MEDIAN_WORDS), SIGMA)))))
    text = ["".join(shuffler.choices(_SYLLABLES, k=shuffler.randint(1, 4))) for _ in range(words)]
    picture = words // 4 if shuffler.random() < 0.57 else 0
    speech = words // 4 if shuffler.random() < 0.31 else 0
    rest = words - picture - speech
    return Post(" ".join(text[:rest]), " ".join(text[rest : rest + picture]), " ".join(text[rest + picture :]))


def rate(classifier: Classifier, posts: Sequence[Post], seconds: float) -> float:
    """Return posts a second, over the chunks that are begun within `seconds`."""
    started, done, took = time.perf_counter(), 0, 0.0
    while took < seconds:
        count = min(len(posts), max(CHUNK, round(done / took * CHUNK_SECONDS))) if done else CHUNK
        first = done % len(posts)
        done += len(classifier.predict([*posts[first:], *posts[:first]][:count]).truncated)
        took = time.perf_counter() - started
    return done / took


def main() -> None:
    """Measure the arrangement that the command line names."""
    folder, backend, arithmetic, threads, cache_dir, seconds = sys.argv[1:]
    try:
        classifier = Classifier.load(
            Path(folder),
            device="cpu",
            backend=backend,
            arithmetic=arithmetic,
            threads=int(threads),
            cache_dir=Path(cache_dir),
        )
        classifier.warm_up()
    except MlError as error:
        _say(f"not possible: {error}")
        return
    shuffler = random.Random(0)
    posts = [made_up(shuffler) for _ in range(8 * CHUNK)]
    classifier.predict(posts[:CHUNK])
    _say("ready")
    if not sys.stdin.readline():
        return  # Whoever wanted to know is gone.
    _say(f"{rate(classifier, posts, float(seconds)):.3f}")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
