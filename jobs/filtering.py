"""Which rows of a job somebody asks for, as conditions in SQL; and where in a row the probability of a topic stands.

Conditions speak of `t` (texts) and `r` (results) and use psycopg2's `%(name)s` for what a caller may have written.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from jobs.records import Model


class RowStatus(StrEnum):
    """What has become of a row, as far as it can be asked for."""

    SUCCEEDED = "succeeded"
    """It has probabilities."""

    FAILED = "failed"
    """It has an error."""

    QUEUED = "queued"
    """Nothing is recorded of it: it waits, is in work, or was left out when its job was cancelled."""


@dataclass(frozen=True)
class RowFilter:
    """What the rows must have in common; what is not given is not asked.

    `topic` alone asks for the rows that it is assigned to, with a probability for those within the range. `assigned`
    asks for all of these topics at once, and, when empty, for none of any. `words` must all stand in the texts or in
    `custom_id`, wherever and in whatever case, with «е» and «ё» as one letter.
    """

    topic: str | None = None
    min_probability: float | None = None
    max_probability: float | None = None
    assigned: tuple[str, ...] | None = None
    words: tuple[str, ...] = ()
    status: RowStatus | None = None

    @property
    def reads_texts(self) -> bool:
        """Whether the texts must be read to tell; otherwise the results alone, which are much smaller, can."""
        return bool(self.words) or self.status is RowStatus.QUEUED

    def __bool__(self) -> bool:
        return self != RowFilter()

    def conditions(self, models: Sequence[Model], thresholds: Mapping[str, float]) -> tuple[str, dict[str, Any]]:
        """A condition in SQL (`true` for an empty filter) and the values that it refers to."""
        found = []
        values: dict[str, Any] = {}
        if self.status is RowStatus.QUEUED:
            found.append("r.job_id IS NULL")
        elif self.status is not None:
            found.append(f"r.error_code IS {'NOT NULL' if self.status is RowStatus.FAILED else 'NULL'}")
            found.append("r.job_id IS NOT NULL")
        if self.topic is not None:
            probability = probability_of(self.topic, models)
            if self.min_probability is None and self.max_probability is None:
                found.append(is_assigned(self.topic, models, thresholds))
            if self.min_probability is not None:
                found.append(f"{probability} >= {real(self.min_probability)}")
            if self.max_probability is not None:
                found.append(f"{probability} <= {real(self.max_probability)}")
        if self.assigned is not None:
            found += [is_assigned(topic, models, thresholds) for topic in self.assigned]
        if self.assigned == ():
            every = {topic.id: None for model in models for topic in model.topics}
            found.append("r.probabilities IS NOT NULL")
            found += [f"({is_assigned(topic, models, thresholds)}) IS NOT TRUE" for topic in every]
        if self.words:
            condition, values = all_words(self.words)
            found.append(condition)
        return " AND ".join(found) or "true", values


TEXTS = "concat_ws(E'\\n', t.doc_text, t.image2text, t.speech2text, t.custom_id)"


def all_words(words: Sequence[str], where: str = TEXTS) -> tuple[str, dict[str, Any]]:
    """Whether all words stand somewhere in `where`, in any case, and the values that this refers to.

    `where` is one string for that reason: it is lowered once and searched for every word. Most who write Russian write
    е for ё, so neither is told from the other.
    """
    values = {"words": [f"%{_literal(word)}%" for word in words]}
    # For one letter `replace` takes two thirds of the time of `translate`, which looks up each character of a text.
    folded = "replace(lower({}), 'ё', 'е')".format
    return f"{folded(where)} LIKE ALL (ARRAY(SELECT {folded('unnest(%(words)s::text[])')}))", values


def probability_of(topic: str, models: Sequence[Model]) -> str:
    """The probability of a topic in a row of `r`, whichever of `models` made it; null for a model without it."""
    cases = [
        f"WHEN {model.id} THEN r.probabilities[{number}]"
        for model in models
        for number, its in enumerate(model.topics, 1)
        if its.id == topic
    ]
    return f"CASE r.model_id {' '.join(cases)} END" if cases else "NULL::real"


def is_assigned(topic: str, models: Sequence[Model], thresholds: Mapping[str, float]) -> str:
    """Whether a row of `r` is assigned a topic; `thresholds` replaces those of its model. Compared as float32."""
    cases = [
        f"WHEN {model.id} THEN r.probabilities[{number}] >= {real(thresholds.get(topic, its.threshold))}"
        for model in models
        for number, its in enumerate(model.topics, 1)
        if its.id == topic
    ]
    return f"CASE r.model_id {' '.join(cases)} END" if cases else "false"


_SINGLE = struct.Struct("f")


def float32(value: float) -> float:
    """The float32 that is nearest, which is what Postgres keeps of a probability and of a threshold."""
    found: float = _SINGLE.unpack(_SINGLE.pack(value))[0]
    return found


def real(value: float) -> str:
    """A number as a literal of type `real`.

    It is made a float32 here: Postgres refuses to round a number to 0 that is too small for one.
    """
    return f"'{float32(value)!r}'::real"


def _literal(word: str) -> str:
    """A word as LIKE takes it literally."""
    return word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
