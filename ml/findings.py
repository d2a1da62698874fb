"""What a check of data finds: findings that a person can act on, and how they are written."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

SHOWN_PLACES = 3
KEPT_PLACES = 1000
EXAMPLE_CHARS = 90


class Severity(StrEnum):
    """How much a finding matters."""

    ERROR = "error"
    """Training would fail, or learn or measure something wrong without a word."""

    WARNING = "warning"
    """Training works, and most likely not as well as it could."""

    NOTE = "note"
    """Good to know; nothing has to be done."""


@dataclass(frozen=True)
class Place:
    """Where something is.

    Attributes:
        file: relative to the folder that is checked.
        row: from 1, the header not counted, as results of the service count; 0: the whole file.
        line: of the file, from 1, on which the row begins: cells may hold line breaks.
        example: the beginning of what stands there.
    """

    file: str
    row: int = 0
    line: int = 0
    example: str = ""

    def __str__(self) -> str:
        where = f"{self.file}, row {self.row} (line {self.line})" if self.row else self.file
        return f"{where}: {self.example}" if self.example else where


@dataclass(frozen=True)
class Finding:
    """One thing that was found, in one or many places.

    Attributes:
        code: a stable name, for programs.
        message: a sentence that says what is so.
        action: a sentence that says what to do about it.
        count: how often it is so.
        places: where, the first `KEPT_PLACES` of them.
    """

    severity: Severity
    code: str
    message: str
    action: str
    count: int = 1
    places: tuple[Place, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return what `json.dumps` takes."""
        return asdict(self)


def finding(severity: Severity, code: str, message: str, action: str, places: Sequence[Place]) -> Finding:
    """Return a finding that is so in each of `places`."""
    return Finding(severity, code, message, action, len(places), tuple(places[:KEPT_PLACES]))


def example(text: str) -> str:
    """Return the beginning of `text` on one line."""
    line = " ".join(text[: EXAMPLE_CHARS * 4].split())
    return line if len(line) <= EXAMPLE_CHARS else f"{line[: EXAMPLE_CHARS - 1]}…"


@dataclass(frozen=True)
class TopicCount:
    """How many posts a topic has.

    Attributes:
        posts: distinct texts in its file.
        alone: of these, in no other topic's file.
    """

    topic: str
    posts: int
    alone: int


@dataclass(frozen=True)
class PartReport:
    """A folder of CSV files, one per topic: a whole set of data, or one of its splits.

    Attributes:
        name: empty for the folder itself, else the name of the split.
        rows: rows of all files, those without a text included.
        distinct: different texts.
        groups: groups of near-equal texts, which a split never separates.
        topics: in the order of the files.
        label_sets: every set of topics that a text has, with the number of texts, most frequent first.
    """

    name: str
    rows: int
    distinct: int
    groups: int
    topics: tuple[TopicCount, ...]
    label_sets: tuple[tuple[tuple[str, ...], int], ...]


@dataclass(frozen=True)
class CheckReport:
    """All that a check found, the gravest first."""

    folder: str
    parts: tuple[PartReport, ...]
    findings: tuple[Finding, ...] = field(default=())

    def count(self, severity: Severity) -> int:
        """Return the number of findings of this severity."""
        return sum(found.severity is severity for found in self.findings)

    @property
    def verdict(self) -> str:
        """The whole in one sentence."""
        counts = [(self.count(severity), severity.value) for severity in Severity]
        listed = ", ".join(f"{number} {name}{'s' * (number != 1)}" for number, name in counts)
        return f"{listed}: {'something must be fixed.' if counts[0][0] else 'this data can be trained on.'}"

    def as_json(self) -> dict[str, Any]:
        """Return what `json.dumps` takes."""
        return {
            "folder": self.folder,
            "ok": not self.count(Severity.ERROR),
            "parts": [asdict(part) for part in self.parts],
            "findings": [found.as_json() for found in self.findings],
        }


def as_text(report: CheckReport) -> str:
    """Return the report as it is shown in a terminal."""
    lines: list[str] = []
    for part in report.parts:
        lines.append(f"{part.name or report.folder}: {part.rows} rows, {part.distinct} distinct texts,")
        lines[-1] += f" {part.groups} groups of near-equal ones"
        width = max([len(topic.topic) for topic in part.topics], default=0)
        lines += [
            f"  {topic.topic:{width}}  {topic.posts:6} texts, {topic.posts - topic.alone} of them in other topics too"
            for topic in part.topics
        ]
        several = [(topics, count) for topics, count in part.label_sets if len(topics) > 1]
        if several:
            lines.append(f"  with several topics: {sum(count for _, count in several)}; most often")
            lines += [f"    {' + '.join(topics)}: {count}" for topics, count in several[:5]]
    for found in report.findings:
        lines += ["", f"{found.severity.upper()} {found.code}: {found.message}", f"  do: {found.action}"]
        lines += [f"  at: {place}" for place in found.places[:SHOWN_PLACES]]
        if found.count > SHOWN_PLACES and found.places:
            lines.append(f"  and {found.count - SHOWN_PLACES} more places")
    return "\n".join([*lines, "", report.verdict])
