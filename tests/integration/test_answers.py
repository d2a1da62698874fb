"""The cache of answers in the database: what it gives back, how it is kept within bounds, and that nobody waits."""

import threading
from collections.abc import Iterator
from hashlib import blake2b

import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from jobs import answers, fleet
from jobs.answers import Answer
from jobs.database import make_engine, run
from jobs.records import Topic


@pytest.fixture
def engine(database: str) -> Iterator[Engine]:
    made = make_engine(database, pool_size=8, application="tests")
    yield made
    made.dispose()


@pytest.fixture
def model(engine: Engine) -> int:
    topics = (Topic("sport", "Спорт", "Sport", 0.5), Topic("ads", "Реклама", "Ads", 0.4))
    return run(
        engine, lambda c: fleet.register_model(c, name="m", version="1", sha256="0" * 64, topics=topics, card={})
    )


def digest(number: int) -> bytes:
    return blake2b(str(number).encode(), digest_size=answers.DIGEST_BYTES).digest()


def keep(engine: Engine, model: int, numbers: range) -> None:
    learned = {digest(number): Answer([number / 1000, 1e-30], number % 2 == 1) for number in numbers}
    run(engine, lambda c: answers.remember(c, model, learned))


def known(engine: Engine, model: int, numbers: range) -> list[int]:
    digests = [digest(number) for number in numbers]
    found = run(engine, lambda c: answers.look_up(c, model, digests))
    return [number for number in numbers if digest(number) in found]


def age(engine: Engine, days: int, numbers: range) -> None:
    run(
        engine,
        lambda c: c.execute(
            text("UPDATE answers SET used_on = current_date - :days WHERE digest = ANY(:digests)"),
            {"days": days, "digests": [digest(number) for number in numbers]},
        ),
    )


def test_what_was_kept_comes_back_to_the_same_model_alone(engine: Engine, model: int) -> None:
    keep(engine, model, range(10))
    found = run(engine, lambda c: answers.look_up(c, model, [digest(3), digest(99), digest(4)]))
    assert sorted(found) == sorted([digest(3), digest(4)])
    assert list(found[digest(3)].probabilities) == pytest.approx([0.003, 1e-30])
    assert [found[digest(number)].truncated for number in (3, 4)] == [True, False]
    assert not any(answer.stale for answer in found.values())
    assert known(engine, model + 1, range(10)) == []
    assert run(engine, lambda c: answers.look_up(c, model, [])) == {}


def test_what_is_there_stays_as_it_is(engine: Engine, model: int) -> None:
    keep(engine, model, range(3))
    other = {digest(number): Answer([0.9, 0.9], True) for number in range(5)}
    run(engine, lambda c: answers.remember(c, model, other))
    found = run(engine, lambda c: answers.look_up(c, model, [digest(0), digest(4)]))
    assert [found[digest(number)].probabilities[1] for number in (0, 4)] == pytest.approx([1e-30, 0.9])


def test_an_answer_that_is_used_again_is_kept_longer(engine: Engine, model: int) -> None:
    keep(engine, model, range(6))
    age(engine, 5, range(6))
    found = run(engine, lambda c: answers.look_up(c, model, [digest(0), digest(5)]))
    assert all(answer.stale for answer in found.values())
    run(engine, lambda c: answers.refresh(c, model, list(found)))
    assert run(engine, lambda c: answers.trim(c, 2)) == 4
    assert known(engine, model, range(6)) == [0, 5]


def test_trimming_takes_small_steps_oldest_first_and_stops_at_the_bound(engine: Engine, model: int) -> None:
    keep(engine, model, range(10))
    age(engine, 3, range(4, 7))
    assert run(engine, lambda c: answers.trim(c, 5, at_once=3)) == 3
    assert known(engine, model, range(10)) == [0, 1, 2, 3, 7, 8, 9]
    assert run(engine, lambda c: answers.trim(c, 5, at_once=3)) == 2
    assert run(engine, lambda c: answers.trim(c, 5, at_once=3)) == 0
    assert len(known(engine, model, range(10))) == 5
    assert run(engine, lambda c: answers.trim(c, 0)) == 5


def test_only_one_sweeper_trims_and_it_waits_for_nobody(engine: Engine, model: int) -> None:
    keep(engine, model, range(4))

    def meanwhile(connection: Connection) -> list[int]:
        first = answers.trim(connection, 3)
        return [first, run(engine, lambda c: answers.trim(c, 0))]

    assert run(engine, meanwhile) == [1, 0]

    def beside(connection: Connection) -> int:
        connection.execute(text("SELECT 1 FROM answers WHERE digest = :one FOR UPDATE"), {"one": digest(known_now[0])})
        return run(engine, lambda c: answers.trim(c, 0))

    known_now = known(engine, model, range(4))
    assert run(engine, beside) == 2


def test_workers_that_learn_the_same_texts_at_once_do_not_wait_for_each_other_in_a_circle(
    engine: Engine, model: int
) -> None:
    failed: list[Exception] = []
    together = threading.Barrier(4)

    def worker(step: int) -> None:
        try:
            for start in range(0, 2000, 500):
                together.wait(30)
                keep(engine, model, range(start, start + 500)[::step])
        except Exception as error:
            failed.append(error)
            together.abort()

    threads = [threading.Thread(target=worker, args=(step,)) for step in (1, -1, 1, -1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failed == []
    assert len(known(engine, model, range(2000))) == 2000


def test_a_worker_that_hangs_while_it_learns_holds_nobody_up(engine: Engine, model: int) -> None:
    def hanging(connection: Connection) -> None:
        answers.remember(connection, model, {digest(1): Answer([0.1, 0.2], False)})
        with pytest.raises(DBAPIError, match="lock timeout"):
            keep(engine, model, range(3))

    run(engine, hanging)
    assert known(engine, model, range(3)) == [1]
