"""What goes into Postgres by COPY comes out of it unchanged, whatever characters it has."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import Connection, text

from jobs.copying import copy_in, escaped, json_field, real_array
from jobs.database import make_engine
from jobs.settings import Settings

STORABLE = st.text(
    st.characters(exclude_characters="\x00", exclude_categories=["Cs"]) | st.sampled_from("\\\t\n\r\b\f\v")
)
EXTRA = st.dictionaries(STORABLE, STORABLE | st.integers(-(2**40), 2**40) | st.booleans() | st.none(), max_size=3)


@pytest.fixture
def connection(settings: Settings) -> Iterator[Connection]:
    engine = make_engine(settings.database_url, pool_size=1, application="tests")
    with engine.connect() as made:
        made.execute(text("CREATE TEMPORARY TABLE copied (place integer, written text, extra jsonb, numbers real[])"))
        yield made
    engine.dispose()


@given(
    rows=st.lists(
        st.tuples(
            st.none() | STORABLE,
            st.none() | EXTRA,
            st.none() | st.lists(st.floats(0, 1, width=32), min_size=1, max_size=6),
        ),
        max_size=20,
    ),
)
@hypothesis_settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_storable_value_comes_back(
    connection: Connection, rows: list[tuple[str | None, dict[str, object] | None, list[float] | None]]
) -> None:
    connection.execute(text("TRUNCATE copied"))
    lines = (
        f"{number}\t{escaped(value)}\t{json_field(extra)}\t{real_array(numbers)}\n"
        for number, (value, extra, numbers) in enumerate(rows)
    )
    copy_in(connection, "copied", ("place", "written", "extra", "numbers"), lines)
    found = connection.execute(text("SELECT written, extra, numbers FROM copied ORDER BY place")).all()
    assert [(row.written, row.extra) for row in found] == [row[:2] for row in rows]
    for row, (_, _, numbers) in zip(found, rows, strict=True):
        assert (row.numbers is None) == (numbers is None)
        assert np.array_equal(np.array(row.numbers or [], dtype="f4"), np.array(numbers or [], dtype="f4"))


def test_rows_of_many_blocks_arrive_whole(connection: Connection) -> None:
    values = ["я" * (number % 5000) + "\n\\" for number in range(3000)]
    copy_in(connection, "copied", ("place", "written"), (f"{n}\t{escaped(value)}\n" for n, value in enumerate(values)))
    assert list(connection.execute(text("SELECT written FROM copied ORDER BY place")).scalars()) == values


def test_an_error_of_the_source_comes_out_as_it_is(connection: Connection) -> None:
    def lines() -> Iterator[str]:
        yield "1\ta\n"
        raise LookupError("the source broke")

    with pytest.raises(LookupError, match="the source broke"):
        copy_in(connection, "copied", ("place", "written"), lines())
