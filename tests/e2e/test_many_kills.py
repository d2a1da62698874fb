"""Workers killed again and again at random moments of a large file, and Redis wiped: every row has one result."""

import os
import random
from collections import Counter
from time import monotonic

import pytest

from local.valkey import EmbeddedValkey
from tests.e2e.chaos import flush, kill_redis, sql
from tests.e2e.crew import Crew
from tests.e2e.rows import assert_whole, digest, posts
from tests.e2e.service import Service
from tests.support import wait_until


def kill_and_wipe(service: Service, server: EmbeddedValkey, *, rows: int, kills: int, crew: Crew, seed: int) -> None:
    """Kill `kills` workers, each when a random number of rows is recorded, and wipe Redis after a third and after two
    thirds of the kills. Every worker is started again at once."""
    dice = random.Random(seed)
    texts, data = posts(rows)
    job = service.upload(data)
    wipes = {kills // 3, 2 * kills // 3}
    # The last tenth of the file is left, so that every kill meets a file in work.
    for number, least in enumerate(sorted(dice.sample(range(rows * 9 // 10), kills))):
        assert wait_for_more(service, least) < rows
        place = dice.choice(crew.taken())
        crew.kill(place)
        crew.start(place)
        if number in wipes:
            flush(server)
            kill_redis(server)
            server.start()
    killed = monotonic()
    left = rows - recorded(service)
    finished = service.wait_finished(job, 240)
    print(f"{kills} kills: done {monotonic() - killed:.1f} s after the last, with {left} rows left to do")  # noqa: T201
    assert (finished["status"], finished["rows"]["succeeded"]) == ("succeeded", rows)
    assert_whole(service.rows(job), texts)
    dsn = service.settings.database_url
    counted = Counter(dict(sql(dsn, "SELECT row_no, count(*) FROM results GROUP BY 1")))
    assert counted == Counter(range(1, rows + 1))
    stored = sql(dsn, "SELECT row_no, encode(sha256(convert_to(doc_text, 'UTF8')), 'hex') FROM texts")
    assert Counter(stored) == Counter((number, digest(text)) for number, text in enumerate(texts, 1))
    [(repeated,)] = sql(dsn, "SELECT count(*) FROM chunks WHERE attempts > 1")
    assert repeated, "no kill has met a chunk in work"


def wait_for_more(service: Service, least: int) -> int:
    """Until more rows than that are recorded; how many are."""
    return wait_until(lambda: max(0, recorded(service) - least), 120, what="the file to go on") + least


def recorded(service: Service) -> int:
    [(count,)] = sql(service.settings.database_url, "SELECT coalesce(max(rows_succeeded), 0) FROM jobs")
    return int(count)


def test_a_few_kills(service: Service, own_valkey: EmbeddedValkey) -> None:
    service.start("api")
    service.start("sweeper")
    crew = Crew(service, 2, FAKE_SECONDS="0.001")
    service.wait_ready()
    kill_and_wipe(service, own_valkey, rows=5000, kills=8, crew=crew, seed=7)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_fifty_kills_over_a_hundred_thousand_rows(service: Service, own_valkey: EmbeddedValkey) -> None:
    service.env |= {"RUBRIKA_CHUNK_ROWS": "256"}
    service.start("api")
    service.start("sweeper")
    crew = Crew(service, 3, FAKE_SECONDS="0.001")
    service.wait_ready()
    seed = int(os.environ.get("SEED", "0"))
    kill_and_wipe(service, own_valkey, rows=100_000, kills=50, crew=crew, seed=seed)
