"""Parameters that say which rows of a file are asked for, and assignments anew, as they stand in the address."""

from datetime import UTC, datetime
from urllib.parse import urlencode

from api.problems import bad_input
from api.shapes import JobsFilter, PageQuery, RowsQuery, TextsFilter
from jobs.filtering import RowFilter, RowStatus
from jobs.history import Wanted
from jobs.records import Model
from jobs.sorting import Order
from jobs.states import JobState

NONE = "none"
"""`assigned=none`: the rows that are on none of the topics."""

EARLIEST, LATEST = datetime(2000, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)


def read_filter(query: RowsQuery, model: Model | None) -> RowFilter:
    """The filter of a request. `model` is that of the job, whose topics may be named; None before it has one.

    Raises a problem (422) for a topic that is not known, a range without a topic, and words that no text can hold.
    """
    if query.topic is None and (query.min_probability is not None or query.max_probability is not None):
        name = "min_probability" if query.min_probability is not None else "max_probability"
        raise bad_input(name, "topic_missing", "A range of probabilities needs the topic that it is meant for: topic=.")
    if query.topic is not None:
        _check("topic", query.topic, model)
    assigned = None
    if query.assigned is not None:
        names = [name.strip() for name in query.assigned.replace(",", ";").split(";")]
        assigned = () if names == [NONE] else tuple(dict.fromkeys(names))
        for name in assigned:
            _check("assigned", name, model)
    return RowFilter(
        topic=query.topic,
        min_probability=query.min_probability,
        max_probability=query.max_probability,
        assigned=assigned,
        words=_words(query.q),
        status=RowStatus(query.status) if query.status else None,
    )


def read_order(sort: str | None, model: Model | None) -> Order | None:
    """The order of a request, none for that of the file. Raises a problem (422) for a topic that is not known."""
    if sort is None:
        return None
    descending = sort.startswith("-")
    topic = sort.removeprefix("-")
    _check("sort", topic, model)
    return Order(topic, descending)


def wanted_texts(query: TextsFilter) -> Wanted:
    """Which texts of the history are asked for."""
    status = RowStatus(query.status) if query.status else None
    return Wanted(_words(query.q), _aware(query.since), _aware(query.until), status=status)


def wanted_files(query: JobsFilter) -> Wanted:
    """Which files of the history are asked for. Raises a problem (422) for a status that there is not."""
    try:
        states = tuple(JobState(part.strip()) for part in query.status.split(",")) if query.status else ()
    except ValueError as error:
        raise bad_input("status", "unknown_status", f"A status is one of {', '.join(JobState)}.") from error
    return Wanted(_words(query.q), _aware(query.since), _aware(query.until), states=states)


def repeated(query: PageQuery) -> str:
    """The parameters of `query` but its place, to be added to the address of the next page."""
    given = query.model_dump(exclude={"cursor", "limit"}, exclude_none=True, mode="json")
    return "&" + urlencode(given) if given else ""


def _words(q: str | None) -> tuple[str, ...]:
    if q is not None and "\x00" in q:
        raise bad_input("q", "invalid_characters", "No text holds a NUL character.")
    return tuple((q or "").split())


def _aware(moment: datetime | None) -> datetime | None:
    """A time in UTC; one without a zone, as a date alone is, counts in UTC like all times of the interface.

    Nothing was sent before `EARLIEST` or will be after `LATEST`, and Postgres knows neither all years nor all zones.
    """
    if moment is None:
        return None
    known = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return min(max(known, EARLIEST), LATEST).astimezone(UTC)


def _check(pointer: str, topic: str, model: Model | None) -> None:
    known = [item.id for item in model.topics] if model else []
    if topic in known:
        return
    listed = f"Its topics are {', '.join(known)}." if known else "No model has begun on this file yet, so it has none."
    raise bad_input(pointer, "unknown_topic", f"The file has no topic {topic!r}. {listed}")
