"""Records as JSON, where that takes more than giving them names."""

from datetime import UTC, date, datetime
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from api.represent import job_resource
from jobs.records import Job
from jobs.states import JobKind, JobState

COUNTS = st.integers(1, 2**31 - 1).flatmap(lambda total: st.tuples(st.just(total), st.integers(0, total)))


def progress(total: int, done: int) -> float:
    moment = datetime(2026, 1, 31, tzinfo=UTC)
    job = Job(
        UUID(int=1), date(2026, 1, 31), "me", JobKind.FILE, JobState.RUNNING, "a.csv", {}, None,
        total, done, 0, moment, moment, None,
    )  # fmt: skip
    found: float = job_resource(job, None, None)["progress"]
    return found


@given(COUNTS)
def test_progress_is_1_when_no_row_is_left_and_never_before(counts: tuple[int, int]) -> None:
    total, done = counts
    shown = progress(total, done)
    assert (shown == 1) == (done == total)
    assert 0 <= shown <= done / total < shown + 0.000_101
    assert shown == round(shown, 4)
    assert done == 0 or progress(total, done - 1) <= shown


def test_progress_of_a_million_rows_but_one() -> None:
    assert progress(1_000_000, 999_999) == 0.9999
