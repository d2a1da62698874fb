"""How many explanations of one owner may wait, however they are asked for; over a real database and a real drain."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Connection, Engine

from jobs import accepting, asking
from jobs.database import run
from jobs.records import NewJob, NewText, parse_text_id
from jobs.settings import Settings
from jobs.states import JobKind, Lane
from jobs.waiting import TooManyExplanationsError, require_room_to_explain, waiting_explanations
from tests.integration.api_support import V1, assert_problem
from tests.integration.explain_support import TEXT, rows
from tests.integration.keys_support import SECRET, Keyed
from tests.support import wait_until
from worker.drain import Drain

MOST = 3
TEXTS = f"{V1}/classifications"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return replace(settings, auth="keys", secret_key=SECRET, max_waiting_explanations=MOST)


def asking_texts(count: int) -> dict[str, Any]:
    return {"items": [{"text": f"{TEXT} {n}", "explain": True} for n in range(count)]}


def classified(who: Keyed, drain: Drain, count: int) -> list[str]:
    """The addresses of the explanations of so many texts that are classified and that nobody has asked about."""
    posted = who.post(TEXTS, json={"items": [{"text": f"{TEXT} {n}"} for n in range(count)]}).get_json()["items"]
    drain.run()
    return [f"{TEXTS}/{item['id']}/explanation" for item in posted]


def test_more_explanations_than_may_wait_are_429_until_there_is_room(anna: Keyed, boris: Keyed, drain: Drain) -> None:
    assert anna.post(TEXTS, json=asking_texts(2)).status_code == 202
    refused = anna.post(TEXTS, json=asking_texts(2))
    problem = assert_problem(refused, 429, "too_many_waiting_explanations")
    assert problem["detail"].startswith("2 explanations are waiting already, and 3 may; here are 2 more.")
    assert refused.headers["Retry-After"] == "10"
    assert len(anna.get(TEXTS).get_json()["items"]) == 2, "nothing of it is stored"
    assert anna.post(TEXTS, json={"text": TEXT}).status_code == 202, "texts that do not ask are none of this"
    assert boris.post(TEXTS, json=asking_texts(MOST)).status_code == 202
    drain.run()
    assert anna.post(TEXTS, json=asking_texts(MOST)).status_code == 202


def test_asking_later_is_counted_with_the_rest_and_asking_twice_is_asking_once(anna: Keyed, drain: Drain) -> None:
    first, second, third, fourth = classified(anna, drain, 4)
    assert anna.post(TEXTS, json=asking_texts(1)).status_code == 202
    assert [anna.post(one).status_code for one in (first, second)] == [202, 202]
    refused = anna.post(third)
    assert_problem(refused, 429, "too_many_waiting_explanations")
    assert refused.headers["Retry-After"] == "10"
    assert_problem(anna.get(third), 404)
    assert anna.post(first).status_code == 202, "it waits already"
    drain.run()
    assert anna.post(first).status_code == 200, "it is there"
    assert [anna.post(one).status_code for one in (third, fourth)] == [202, 202]


def test_what_was_stopped_waits_no_more(anna: Keyed, drain: Drain, engine: Engine) -> None:
    later, _ = classified(anna, drain, 2)
    posted = anna.post(TEXTS, json=asking_texts(MOST)).get_json()["items"]
    assert_problem(anna.post(later), 429)
    job, _ = parse_text_id(posted[0]["id"])
    run(engine, lambda connection: asking.stop(connection, job))
    assert run(engine, lambda connection: waiting_explanations(connection, "anna")) == 0
    assert anna.post(later).status_code == 202


def test_a_repeated_request_is_not_refused_for_what_it_has_added_itself(anna: Keyed, drain: Drain) -> None:
    once = {"headers": {"Idempotency-Key": "once"}}
    first = anna.post(TEXTS, json=asking_texts(MOST), **once)
    again = anna.post(TEXTS, json=asking_texts(MOST), **once)
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.get_json() == again.get_json()


def test_more_than_may_wait_at_all_are_refused_and_leave_nothing(anna: Keyed, drain: Drain, engine: Engine) -> None:
    assert_problem(anna.post(TEXTS, json=asking_texts(MOST + 1)), 429, "too_many_waiting_explanations")
    for table in ("jobs", "texts", "chunks", "explanations"):
        assert rows(engine, f"SELECT count(*) FROM {table}") == [(0,)]


def test_of_twenty_that_ask_at_once_as_many_pass_as_may_wait(anna: Keyed, drain: Drain, engine: Engine) -> None:
    """Half of them bring their text, half ask about one that is there."""
    known = [parse_text_id(address.split("/")[-2]) for address in classified(anna, drain, 10)]

    def bring() -> None:
        job = NewJob("anna", JobKind.TEXTS, max_explanations=MOST)
        texts = [NewText(TEXT, "", "", None, explain=True)]
        accepting.add_job(engine, job, texts, lane=Lane.INTERACTIVE, chunk_rows=1)

    def ask(number: int) -> bool:
        try:
            if number % 2:
                bring()
            else:
                assert asking.ask(engine, "anna", JobKind.TEXTS, *known[number // 2], max_waiting=MOST)
        except TooManyExplanationsError:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        passed = sum(threads.map(ask, range(20)))
    assert passed == MOST
    assert run(engine, lambda connection: waiting_explanations(connection, "anna")) == MOST
    drain.run()
    assert run(engine, lambda connection: waiting_explanations(connection, "anna")) == 0


def test_who_asks_while_another_wish_is_being_recorded_is_counted_with_it(
    anna: Keyed, drain: Drain, engine: Engine
) -> None:
    job, _ = parse_text_id(classified(anna, drain, 1)[0].split("/")[-2])
    new = NewJob("anna", JobKind.TEXTS, max_explanations=MOST)
    text = NewText(TEXT, "", "", None, explain=True)
    with ThreadPoolExecutor(1) as threads:
        with engine.begin() as first:
            found = first.exec_driver_sql("SELECT day FROM jobs").scalar_one()
            first.exec_driver_sql(
                "INSERT INTO explanations (job_id, row_no, day, with_text, state) "
                f"SELECT '{job}', n, '{found}', true, 'waiting' FROM generate_series(2, {MOST + 1}) AS n"
            )
            require_room_to_explain(first, "anna", MOST, MOST)
            second = threads.submit(accepting.add_job, engine, new, [text], lane=Lane.INTERACTIVE, chunk_rows=1)
            wait_until(lambda: waits_for_a_lock(engine) or second.done(), what="the second wish")
        with pytest.raises(TooManyExplanationsError, match=r"^3 explanations are waiting already"):
            second.result()


def waits_for_a_lock(engine: Engine) -> bool:
    return rows(engine, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted") == [(1,)]


def test_counting_looks_at_what_is_open_alone(engine: Engine, anna: Keyed, drain: Drain) -> None:
    """The table keeps every explanation for as long as its job: counting must not read those that are done."""
    for _ in range(2):
        anna.post(TEXTS, json=asking_texts(MOST))
        drain.run()
    job = rows(engine, "SELECT job_id FROM explanations LIMIT 1")[0][0]
    statement = f"""
        INSERT INTO explanations (job_id, row_no, day, with_text, state, finished_at, error_code, error_message)
        SELECT '{job}', n, now(), false, 'done', now(), 'stopped', 'x' FROM generate_series(1000, 20000) AS n
    """
    run(engine, lambda connection: connection.exec_driver_sql(statement))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM ANALYZE explanations")

    def read(connection: Connection) -> int:
        """The pages of the table that counting asks for."""
        pages = "SELECT pg_stat_get_xact_blocks_fetched('explanations'::regclass)"
        before = connection.exec_driver_sql(pages).scalar_one()
        waiting_explanations(connection, "anna")
        return int(connection.exec_driver_sql(pages).scalar_one() - before)

    assert run(engine, read) < 20
