"""Posts to measure with: those of a folder of labelled CSVs, or made-up ones of the same lengths."""

import csv
import io
import itertools
import math
import random
import re
from pathlib import Path

FIELDS = ("doc_text", "image2text", "speech2text")
MEDIAN_WORDS = 57
SIGMA = 0.95
"""Of a log-normal: median 57 words, 90th percentile about 200, as real posts have."""

_SYLLABLES = re.findall(
    r"\S+",
    "ба ве ги до жу за ки ла мо ну по ра со та фу хо ца че ша ще эл ют как ст пр кр нов ский ние ость",
)


def read_posts(folder: Path | None, count: int, seed: int = 1) -> list[dict[str, str]]:
    """`count` posts, shuffled by `seed`: of `folder/*.csv`, repeated with a number should they not be enough, so that
    all that differed at first differ in the end."""
    shuffler = random.Random(seed)
    if folder is None:
        return [_made_up(shuffler) for _ in range(count)]
    posts = []
    for file in sorted(folder.glob("*.csv")):
        with file.open(encoding="utf-8-sig", newline="") as stream:
            posts += [{name: row.get(name) or "" for name in FIELDS} for row in csv.DictReader(stream)]
    if not posts:
        raise SystemExit(f"{folder} holds no posts.")
    shuffler.shuffle(posts)
    repeated = (
        post | {"doc_text": f"{post['doc_text']} {turn}" if turn else post["doc_text"]}
        for turn in range(-(-count // len(posts)))
        for post in posts
    )
    return list(itertools.islice(repeated, count))


def as_csv(posts: list[dict[str, str]]) -> bytes:
    """The posts as a CSV file in UTF-8."""
    text = io.StringIO()
    writer = csv.DictWriter(text, FIELDS)
    writer.writeheader()
    writer.writerows(posts)
    return text.getvalue().encode()


def _made_up(shuffler: random.Random) -> dict[str, str]:
    words = max(2, min(1200, round(math.exp(shuffler.gauss(math.log(MEDIAN_WORDS), SIGMA)))))
    text = ["".join(shuffler.choices(_SYLLABLES, k=shuffler.randint(1, 4))) for _ in range(words)]
    picture = words // 4 if shuffler.random() < 0.57 else 0
    speech = words // 4 if shuffler.random() < 0.31 else 0
    rest = words - picture - speech
    return {
        "doc_text": " ".join(text[:rest]),
        "image2text": " ".join(text[rest : rest + picture]),
        "speech2text": " ".join(text[rest + picture :]),
    }
