"""What people said is right, as a folder that `rubrika train` reads.

OUT/<topic>.csv         posts of a topic; one with several topics stands in several files
OUT/names.json          what the topics are called
OUT/none/feedback.csv   posts that have none of the topics, with a column `category`, for `--none`
"""

import csv
import json
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ml import data
from ml.data import NAMES_FILE, TopicName
from ml.errors import DataError
from ml.posts import FIELDS, Post, compose, is_empty

NONE_FILE = Path("none") / "feedback.csv"
NONE_CATEGORY = "feedback"


@dataclass(frozen=True)
class Judged:
    """A post with the ids of the topics that a person gave it."""

    post: Post
    topics: frozenset[str]


@dataclass(frozen=True)
class Written:
    """What became of the judgements.

    Attributes:
        posts: distinct posts with a topic, those of `merge` included.
        none: distinct posts with none of the topics.
        replaced: judgements that a later one of an equal text replaced by other topics.
        corrected: posts of `merge` whose topics were replaced by a judgement.
    """

    posts: int
    none: int
    replaced: int
    corrected: int


def write_folder(out: Path, judged: Iterable[Judged], names: Sequence[TopicName], merge: Path | None = None) -> Written:
    """Write the folder `out`, which must not exist or be empty. Of equal texts the last judgement counts.

    Args:
        out: the folder.
        judged: the oldest first.
        names: what topics are called, in the order in which they are shown.
        merge: a folder of labelled posts; all of it is written too, and where it disagrees with a judgement on an
            equal text, the judgement is right.

    Raises:
        DataError: nothing was judged, `out` holds something or cannot be written, or `merge` cannot be read.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out} is there already: name a new folder.")
    latest: dict[str, Judged] = {}
    replaced = 0
    for one in judged:
        if is_empty(one.post):
            continue
        key = data.text_key(one.post)
        replaced += key in latest and latest[key].topics != one.topics
        latest[key] = one
    if not latest:
        raise DataError("Nobody has said yet what is right: there is no feedback to train with.")
    posts, corrected = dict(latest), 0
    known = {name.id: name for name in names}
    if merge is not None:
        given = data.read_folder(merge)
        known |= {name.id: name for name in given.topics}
        for post, row in zip(given.posts, given.labels, strict=True):
            topics = frozenset(name.id for name, on in zip(given.topics, row, strict=True) if on)
            mine = posts.setdefault(data.text_key(post), Judged(post, topics))
            corrected += mine.topics != topics
    by_topic: dict[str, list[Post]] = {}
    none = []
    for one in posts.values():
        for topic in one.topics:
            by_topic.setdefault(topic, []).append(one.post)
        if not one.topics:
            none.append(one.post)
    try:
        _write(out, by_topic, none, [name for id_, name in known.items() if id_ in by_topic])
    except OSError as error:
        raise DataError(f"{out} cannot be written: {error.strerror}.") from error
    return Written(len(posts) - len(none), len(none), replaced, corrected)


def _write(out: Path, by_topic: dict[str, list[Post]], none: list[Post], names: list[TopicName]) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        draft.chmod(0o755)
        for topic, posts in by_topic.items():
            _table(
                draft / f"{topic}.csv", FIELDS, [(post.doc_text, post.image2text, post.speech2text) for post in posts]
            )
        titles = {name.id: {"name": name.name, "name_en": name.name_en} for name in names}
        content = json.dumps(titles, ensure_ascii=False, indent=1)
        (draft / NAMES_FILE).write_text(content + "\n", encoding="utf-8")
        if none:
            (draft / NONE_FILE).parent.mkdir()
            # One column, because counter-examples have one: the fields stand in it as the network reads them.
            _table(draft / NONE_FILE, ("text", "category"), [(compose(post), NONE_CATEGORY) for post in none])
        if out.exists():
            out.rmdir()
        draft.rename(out)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def _table(file: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(header)
        writer.writerows(rows)
