"""Teachers: what others think of each post, as soft targets for the network that learns.

A teacher is the plain TF-IDF model of `ml.targets`, logistic regression on what the base says before it has learned
anything of the topics (`frozen`), a file of out-of-fold logits that `rubrika train --folds`
wrote, or a table of probabilities by somebody who has read posts without their labels. Several are averaged as logits,
so that one that is sure counts for more than one that is not; the network learns from labels blended with the result
(Hinton et al. 2015, arXiv:1503.02531).
"""

import math
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ml import calibrate, targets
from ml.data import Dataset, table_rows, text_key
from ml.errors import DataError
from ml.posts import FIELDS, Post, compose

Floats = npt.NDArray[np.float32]

TFIDF = "tfidf"
FROZEN = "frozen"
BUILT_IN = (TFIDF, FROZEN)

# A linear model can be as good as certain; its logit must not drown what the others say.
SUREST = 1e-4

# Who reads says 0 and 100 per cent, and is wrong about one such post in a hundred.
SUREST_READER = 0.01

TABLES = (".tsv", ".csv")
KEY = "key"


@dataclass(frozen=True)
class Teacher:
    """A file of logits, a table, or one of `BUILT_IN`, and how much it counts among the teachers."""

    source: str
    weight: float = 1.0

    @classmethod
    def parse(cls, text: str) -> "Teacher":
        """Return the teacher that `FILE` or `FILE=WEIGHT` names.

        Raises:
            DataError: the weight is not a positive number.
        """
        source, sign, weight = text.rpartition("=")
        if not sign:
            return cls(text)
        try:
            teacher = cls(source, float(weight))
        except ValueError:
            # A name may have a sign of equality in it.
            return cls(text)
        if not 0 < teacher.weight < float("inf"):
            raise DataError(f"The weight of the teacher {source} must be a positive number, not {weight}.")
        return teacher

    @property
    def name(self) -> str:
        """The name for the card, which tells nothing of folders."""
        return Path(self.source).name


DEFAULT = (Teacher(TFIDF),)


def names(teachers: Sequence[Teacher]) -> tuple[str, ...]:
    """Return the names for the card; a weight other than 1 stands behind its name."""
    return tuple(one.name if one.weight == 1 else f"{one.name}={one.weight:g}" for one in teachers)


@dataclass(frozen=True)
class OutOfFold:
    """What networks that have not seen a post say of it.

    Attributes:
        keys: of n posts, as `ml.data.text_key`.
        topics: ids of the topics, in the order of the columns.
        whole: logits of the posts, float32 (n, topics).
        crops: logits of one crop of each post, float32 (n, topics).
    """

    keys: tuple[str, ...]
    topics: tuple[str, ...]
    whole: Floats
    crops: Floats

    def write(self, file: Path) -> None:
        """Write the file in one step; the folder is made where it is missing."""
        write_arrays(
            file,
            {
                "keys": np.array(self.keys),
                "topics": np.array(self.topics),
                "whole": self.whole,
                "crops": self.crops,
            },
        )

    def of(self, data: Dataset, file: str) -> Floats:
        """Return the logits of the posts of `data`, in its order of posts and topics.

        Raises:
            DataError: a post or a topic is missing.
        """
        column = {topic: index for index, topic in enumerate(self.topics)}
        missing = [topic.id for topic in data.topics if topic.id not in column]
        if missing:
            raise DataError(f"The teacher {file} does not know the topics {', '.join(missing)}.")
        row = {key: index for index, key in enumerate(self.keys)}
        keys = [text_key(post) for post in data.posts]
        unseen = sum(key not in row for key in keys)
        if unseen:
            raise DataError(
                f"The teacher {file} says nothing of {unseen} of the {len(keys)} posts to learn from: make it with "
                "the same data, --seed and --validation-share, or with --folds-of all."
            )
        return self.whole[[row[key] for key in keys]][:, [column[topic.id] for topic in data.topics]]


def read(file: Path) -> OutOfFold:
    """Read a file that `OutOfFold.write` wrote.

    Raises:
        DataError: it is missing or is something else.
    """
    arrays = read_arrays(file)
    try:
        keys, topics = tuple(map(str, arrays["keys"])), tuple(map(str, arrays["topics"]))
        whole, crops = (np.asarray(arrays[name], dtype=np.float32) for name in ("whole", "crops"))
    except (KeyError, ValueError) as error:
        raise DataError(f"{file} holds no out-of-fold logits: {error}.") from error
    if whole.shape != (len(keys), len(topics)) or crops.shape != whole.shape or not np.isfinite(whole).all():
        raise DataError(f"{file} is damaged: its logits do not fit its posts and topics.")
    return OutOfFold(keys, topics, whole, crops)


def read_arrays(file: Path) -> dict[str, npt.NDArray[np.generic]]:
    """Return all arrays of an .npz file, without ever running what a pickle in it would do.

    Raises:
        DataError: it is missing or no such file.
    """
    try:
        with np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError as error:
        raise DataError(f"There is no file {file}.") from error
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise DataError(f"{file} is no .npz file that can be read.") from error


def write_arrays(file: Path, arrays: dict[str, npt.NDArray[np.generic]]) -> None:
    """Write arrays as an .npz file in one step: it is there whole, or as it was before."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=file.parent, prefix=f".{file.name}-", delete=False) as draft:
        path = Path(draft.name)
        try:
            np.savez(draft, **arrays)  # type: ignore[arg-type]  # its stub takes allow_pickle for one of the arrays
            draft.flush()
            path.chmod(0o644)
            path.replace(file)
        finally:
            path.unlink(missing_ok=True)


def soft_labels(
    data: Dataset, teachers: Sequence[Teacher], weight: float, seed: int, base: tuple[str, str] = ("", "")
) -> Floats:
    """Return `(1 - weight) * labels + weight * what the teachers say together`, float32 (posts, topics).

    What they say is calibrated: teachers of other kinds are not equally sure of themselves, and know nothing of what
    speaks for the other topics of a post (`ml.calibrate`). A dozen numbers for thousands of posts give no label away.
    `base` is the encoder that the teacher `FROZEN` asks, and what it puts before each text.

    Raises:
        DataError: as `read` and `OutOfFold.of`.
    """
    if not weight:
        return data.labels
    said = together(data, teachers, seed, base)
    return targets.blend(data.labels, calibrate.fit(said, data.labels).probabilities(said), weight)


def together(data: Dataset, teachers: Sequence[Teacher], seed: int, base: tuple[str, str] = ("", "")) -> Floats:
    """Return the mean of the teachers' logits by their weights, float32 (posts, topics).

    Raises:
        DataError: as `read` and `OutOfFold.of`.
    """
    total, weights = np.zeros(data.labels.shape), np.zeros((len(data.posts), 1))
    for teacher in teachers:
        said = _logits(teacher, data, seed, base)
        silent = np.isnan(said).any(axis=1, keepdims=True)
        total += teacher.weight * np.where(silent, 0, said)
        weights += teacher.weight * ~silent
    if not weights.all():
        raise DataError(
            f"No teacher says anything of {np.count_nonzero(weights == 0)} of the {len(data.posts)} posts to learn "
            f"from: let there be another one beside the table, such as {TFIDF}."
        )
    return np.asarray(total / weights, dtype=np.float32)


def _logits(teacher: Teacher, data: Dataset, seed: int, base: tuple[str, str]) -> npt.NDArray[np.float64]:
    if teacher.source == TFIDF:
        found = targets.out_of_fold(data, seed)
    elif teacher.source == FROZEN:
        # Only who trains has torch, and only this teacher needs it.
        from ml.embedding import encoder_vectors

        vectors = encoder_vectors(base[0], [compose(post) for post in data.posts], base[1], middle=True)
        found = targets.out_of_fold_of_vectors(data, vectors, seed)
    elif Path(teacher.source).suffix.lower() in TABLES:
        return _as_logits(read_table(Path(teacher.source), data), SUREST_READER)
    else:
        return read(Path(teacher.source)).of(data, teacher.source).astype(np.float64)
    return _as_logits(found, SUREST)


def _as_logits(probabilities: npt.NDArray[np.float32], surest: float) -> npt.NDArray[np.float64]:
    clipped = np.clip(probabilities.astype(np.float64), surest, 1 - surest)
    return np.log(clipped / (1 - clipped))


def read_table(file: Path, data: Dataset) -> Floats:
    """Return what a table says of the posts of `data`, float32 (posts, topics): probabilities, NaN where nothing.

    A table is TSV or CSV with a column for each topic, named by its id, that holds per cent. Its rows name their posts
    by the three fields, or by a column `key` (`ml.data.text_key`). It need not have all posts, and may have others.

    Raises:
        DataError: the file or a column is missing, or a cell is no number from 0 to 100.
    """
    rows = table_rows(file, delimiter="\t" if file.suffix.lower() == ".tsv" else ",")
    columns = rows[0].keys() if rows else ()
    missing = [topic.id for topic in data.topics if topic.id not in columns]
    if missing or not {KEY, FIELDS[0]} & set(columns):
        missing = missing or [f"{KEY}` or `{FIELDS[0]}"]
        raise DataError(f"The table {file} lacks the column `{'`, `'.join(missing)}`.")
    place = {text_key(post): index for index, post in enumerate(data.posts)}
    found = np.full(data.labels.shape, np.nan, dtype=np.float32)
    for number, row in enumerate(rows, start=1):
        key = row[KEY] if KEY in columns else text_key(Post(*(row.get(field) or "" for field in FIELDS)))
        try:
            said = [float(row[topic.id] or "nan") for topic in data.topics]
        except (TypeError, ValueError):
            said = [math.nan]
        if not all(0 <= one <= 100 for one in said):
            raise DataError(f"Row {number} of {file} must have per cent, 0 to 100, for every topic.")
        if key in place:
            found[place[key]] = np.array(said) / 100
    return found
