"""A model folder on disk: everything that serving needs, in formats that execute nothing when they are read.

model.safetensors   weights, as `ml.weights` stores them: the encoder's, prefixed `encoder.`, its matrices in 8 bits and
                    the rest in float16; `head.weight`, `head.bias`; with a linear part `ngrams.table`, `ngrams.bias`
                    and, int32, `ngrams.hashes`
config.json         the encoder's configuration, as transformers writes it
tokenizer.json      the tokenizer
rubrika.json        name, version, topics in label order with thresholds and calibration, input settings
card.json           base, data digest, figures as measured, limits, licence: for programs
README.md           the same as a model card for people
ranges.json         between which numbers the inputs of the matrix products lie (`ml.ranges`), for 8 bits
                    with fixed ranges; older folders have none
validation.json     keys of the posts that training did not see, so that `rubrika evaluate` can find them again
MANIFEST            SHA-256 of each of these files, as `sha256sum` writes it
"""

import contextlib
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ml.calibrate import Calibration
from ml.cleaning import NO_CLEANING, Cleaning
from ml.errors import DataError, ModelError
from ml.posts import Fields, fields_named
from ml.ranges import Ranges, ranges_of

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
SETTINGS = "rubrika.json"
CARD = "card.json"
VALIDATION = "validation.json"
RANGES = "ranges.json"
README = "README.md"
MANIFEST = "MANIFEST"
REQUIRED = (WEIGHTS, CONFIG, TOKENIZER, SETTINGS, CARD)

FORMAT = 4
# Folders of format 1 have all weights in float16; those before 3 calibrate each topic by itself; those before 4 have a
# state for each token in all layers.
READABLE = (1, 2, 3, FORMAT)


@dataclass(frozen=True)
class Topic:
    """One topic of a model, with the probability from which on a post has it."""

    id: str
    name: str
    name_en: str
    threshold: float


@dataclass(frozen=True)
class ModelInfo:
    """What a model says of itself.

    Attributes:
        sha256: of the manifest, so of weights, thresholds and everything else together: two models that could answer
            differently never share it.
        topics: in label order.
        card: base, data, figures, limits and licence.
    """

    name: str
    version: str
    sha256: str
    topics: tuple[Topic, ...]
    card: dict[str, Any] = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class ModelFolder:
    """A model folder, read and verified; the weights themselves stay on disk."""

    path: Path
    info: ModelInfo
    calibration: Calibration
    config: dict[str, Any]
    pooling: str
    max_tokens: int
    prefix: str
    weights_sha256: str
    cleaning: Cleaning = NO_CLEANING
    fields: Fields = "marked"
    ranges: Ranges | None = None
    merge_after: tuple[int, ...] = ()

    @property
    def weights(self) -> Path:
        return self.path / WEIGHTS

    @property
    def pad_id(self) -> int:
        """The token id of padding."""
        return int(self.config.get("pad_token_id") or 0)

    def tokenizer(self) -> str:
        """Return the content of `tokenizer.json`."""
        return (self.path / TOKENIZER).read_text(encoding="utf-8")

    def fixed_ranges(self) -> Ranges:
        """Return the ranges, for an arithmetic that needs them.

        Raises:
            ModelError: there are none.
        """
        if self.ranges is None:
            raise ModelError(
                f"{self.path} has no ranges that this version of Rubrika knows: `rubrika ranges {self.path} POSTS` "
                "measures them, or choose another arithmetic (RUBRIKA_ARITHMETIC=auto)."
            )
        return self.ranges


def read(path: Path) -> ModelFolder:
    """Read a model folder and check every file against the manifest.

    Raises:
        ModelError: it is missing, incomplete, damaged or of a later format.
    """
    digests = verify(path)
    settings = _read_json(path / SETTINGS)
    if settings.get("format") not in READABLE:
        known = ", ".join(map(str, READABLE))
        raise ModelError(f"{path} has format {settings.get('format')!r}; this version of Rubrika reads {known}.")
    try:
        topics = tuple(
            Topic(str(topic["id"]), str(topic["name"]), str(topic["name_en"]), float(topic["threshold"]))
            for topic in settings["topics"]
        )
        platt = [topic["calibration"] for topic in settings["topics"]]
        calibration = Calibration(
            slope=np.array([one["slope"] for one in platt], dtype=np.float32),
            intercept=np.array([one["intercept"] for one in platt], dtype=np.float32),
            rivalry=np.array([one.get("rivalry", 0.0) for one in platt], dtype=np.float32),
            threshold=np.array([topic.threshold for topic in topics], dtype=np.float32),
        )
        config = _read_json(path / CONFIG)
        merge_after = tuple(int(one) for one in settings.get("merge_after", ()))
        if list(merge_after) != sorted(set(merge_after)) or not all(
            0 < one < int(config["num_hidden_layers"]) for one in merge_after
        ):
            raise ValueError(f"tokens cannot be merged after the layers {merge_after}")
        sha256 = hashlib.sha256((path / MANIFEST).read_bytes()).hexdigest()
        card = _read_json(path / CARD)
        return ModelFolder(
            path=path,
            info=ModelInfo(str(settings["name"]), str(settings["version"]), sha256, topics, card),
            calibration=calibration,
            config=config,
            pooling=str(settings["pooling"]),
            max_tokens=int(settings["max_tokens"]),
            prefix=str(settings["prefix"]),
            weights_sha256=digests[WEIGHTS],
            # Folders that say nothing of these were made before they could be chosen.
            cleaning=Cleaning.of(settings.get("cleaning", ())),
            fields=fields_named(settings.get("fields", "marked")),
            ranges=_ranges(path) if RANGES in digests else None,
            merge_after=merge_after,
        )
    except (KeyError, TypeError, ValueError, DataError) as error:
        raise ModelError(f"{path / SETTINGS} is damaged: {error!r}.") from error


def _ranges(path: Path) -> Ranges | None:
    try:
        return ranges_of(_read_json(path / RANGES))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"{path / RANGES} is damaged: {error!r}.") from error


def verify(path: Path) -> dict[str, str]:
    """Check every file of the folder against its manifest and return their SHA-256 by name.

    Raises:
        ModelError: the folder or a file is missing, or a file is not what the manifest says.
    """
    if not path.is_dir():
        raise ModelError(f"There is no model folder {path}.")
    try:
        lines = (path / MANIFEST).read_text(encoding="utf-8").split("\n")
    except FileNotFoundError as error:
        raise ModelError(f"{path} is no complete model folder: it has no {MANIFEST}.") from error
    digests = {name: digest for digest, _, name in (line.partition("  ") for line in lines if line)}
    for name in (*REQUIRED, *digests):
        if name not in digests:
            raise ModelError(f"{path} is no complete model folder: its {MANIFEST} does not list {name}.")
        if Path(name).name != name:
            raise ModelError(f"{path} has a damaged {MANIFEST}: {name!r} is not a name of a file beside it.")
        if not (path / name).is_file():
            raise ModelError(f"{path} is incomplete: {name} is missing.")
        if file_sha256(path / name) != digests[name]:
            raise ModelError(f"{path} is damaged: {name} is not the file that its {MANIFEST} describes.")
    return digests


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_manifest(path: Path) -> None:
    """Write the manifest of all files that lie in the folder now."""
    files = sorted(file for file in path.iterdir() if file.is_file() and file.name != MANIFEST)
    (path / MANIFEST).write_text("".join(f"{file_sha256(file)}  {file.name}\n" for file in files), encoding="utf-8")


def write_json(path: Path, content: object) -> None:
    """Write JSON for people: indented, Cyrillic as it is."""
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def check_replaceable(path: Path) -> None:
    """Refuse a target that would lose something other than a model.

    Raises:
        ModelError: the path exists and is neither an empty folder nor a model folder.
    """
    if path.exists() and not (path.is_dir() and (not any(path.iterdir()) or (path / SETTINGS).exists())):
        raise ModelError(f"{path} exists and is no model folder: choose another place to write to.")


def check_writable(path: Path) -> None:
    """Refuse a target that `replacing` would refuse: for who has long work to do before.

    Raises:
        ModelError: as `replacing`.
    """
    check_replaceable(path)
    with _told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent):
            pass


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ModelError(f"{path} cannot be written: {error.strerror or error}.") from error


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside `path` that takes its place, with a manifest, if the block ends well.

    Raises:
        ModelError: as `check_replaceable`, or something cannot be written.
    """
    check_replaceable(path)
    with _told(path), _draft(path) as draft:
        yield draft


@contextlib.contextmanager
def _draft(path: Path) -> Iterator[Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        yield draft
        draft.chmod(0o755)
        write_manifest(draft)
        former = draft.with_name(f"{draft.name}-former")
        if path.exists():
            path.rename(former)
        draft.rename(path)
        shutil.rmtree(former, ignore_errors=True)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def add_to_card(path: Path, more: Mapping[str, Any]) -> None:
    """Let the card of a model folder say `more` as well, as `put`."""
    put(path, CARD, _read_json(path / CARD) | dict(more))


def put(path: Path, name: str, content: object) -> None:
    """Write the JSON file `name` into a model folder in one step. The digest of the folder changes with it.

    Raises:
        ModelError: the folder is missing or damaged.
    """
    verify(path)
    with replacing(path) as draft:
        shutil.copytree(path, draft, ignore=shutil.ignore_patterns(MANIFEST), dirs_exist_ok=True)
        write_json(draft / name, content)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} is damaged: it is not JSON.") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} is damaged: it is not a JSON object.")
    return content
