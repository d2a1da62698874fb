"""A look between two batches: what it sees, and what becomes of its connection."""

from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, event, text

from jobs.database import make_engine, run
from jobs.errors import UnavailableError
from jobs.settings import Settings
from tests.integration.api_support import CSV, V1, Worker, upload
from tests.support import wait_until
from worker import drain as drain_module
from worker.drain import Drain
from worker.lookout import NOBODY, Lookout, Waiting


@pytest.fixture
def alone(settings: Settings) -> Iterator[Engine]:
    """A pool from which nobody else takes."""
    made = make_engine(settings.database_url, pool_size=1, application="lookout")
    yield made
    made.dispose()


@pytest.fixture
def lookout(alone: Engine, worker: Worker) -> Iterator[Lookout]:
    made = Lookout(alone, worker.model, named_only=False)
    yield made
    made.close()


def taken(engine: Engine) -> int:
    return engine.pool.checkedout()  # type: ignore[attr-defined, no-any-return]


def test_it_sees_requests_and_explanations_of_its_model_and_no_files(
    client: FlaskClient, worker: Worker, alone: Engine, lookout: Lookout
) -> None:
    job = upload(client, CSV).get_json()
    assert lookout.look() == NOBODY
    client.post(f"{V1}/classifications", json={"text": "матч"})
    assert lookout.look() == Waiting(requests=True, explanations=False)
    # On trial it looks for what names its model.
    with closing(Lookout(alone, worker.model, named_only=True)) as other:
        assert other.look() == NOBODY
    worker.work()
    assert lookout.look() == NOBODY
    assert client.post(f"{V1}/jobs/{job['id']}/rows/1/explanation").status_code == 202
    assert lookout.look() == Waiting(requests=False, explanations=True)
    with closing(Lookout(alone, worker.model + 1, named_only=False)) as other:
        assert other.look() == NOBODY


def lose(engine: Engine) -> None:
    """Postgres ends the connection of the lookout."""
    ended = text("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE application_name = 'lookout'")
    assert run(engine, lambda c: c.execute(ended).scalars().all()) == [True]


def test_a_connection_that_is_lost_unseen_is_given_back_all_the_same(
    engine: Engine, alone: Engine, lookout: Lookout
) -> None:
    # Of the first look at a connection nothing stays that would have to be told to the server; of later ones it might.
    for looks in (1, 2, 3):
        for _ in range(looks):
            lookout.close()
            assert lookout.look() == NOBODY
        lose(engine)
        lookout.close()
        assert taken(alone) == 0


def test_a_connection_that_is_lost_is_replaced(engine: Engine, alone: Engine, lookout: Lookout) -> None:
    assert lookout.look() == NOBODY
    lose(engine)
    with pytest.raises(UnavailableError):
        lookout.look()
    assert taken(alone) == 0
    assert lookout.look() == NOBODY


def test_looks_take_one_connection_and_no_transaction(engine: Engine, alone: Engine, lookout: Lookout) -> None:
    connected = []
    event.listen(alone, "checkout", lambda *_: connected.append(1))
    assert [lookout.look() for _ in range(3)] == [NOBODY] * 3
    assert (connected, taken(alone)) == ([1], 1)
    asked = text("SELECT state FROM pg_stat_activity WHERE application_name = 'lookout'")
    assert run(engine, lambda c: c.execute(asked).scalars().all()) == ["idle"]
    lookout.close()
    assert taken(alone) == 0
    # Who takes the connection next has transactions as usual.
    with alone.begin() as connection:
        isolation = connection.execute(text("SHOW transaction_isolation")).scalar_one()
        assert isolation == "read committed"
        moments = [connection.execute(text("SELECT now()")).scalar_one() for _ in range(2)]
    assert all(one == other for one, other in pairwise(moments))


def test_a_drain_that_is_over_holds_no_connection(
    client: FlaskClient, drain: Drain, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    look, held = drain._lookout.look, []

    def noting() -> Waiting:
        found = look()
        held.append(drain._lookout._lent is not None)
        return found

    monkeypatch.setattr(drain_module, "LOOK_SECONDS", 0)
    monkeypatch.setattr(drain._lookout, "look", noting)
    for file in range(2):
        rows = "".join(f"текст {row} файла {file}\n" for row in range(60))
        upload(client, f"doc_text\n{rows}".encode())
        drain.run()
        # The heart may have one in hand at this moment.
        wait_until(lambda: taken(engine) == 0, 5, what="the connection to be given back")
    assert held
    assert all(held)
