"""The client when things go wrong: what is tried again and when, what is an error, and what is left behind."""

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest

from cli.classify_words import duration, sentence, size
from jobs.database import LONGEST_READ_SECONDS
from rubrika_client import (
    AsyncClient,
    BadAnswerError,
    BusyError,
    Client,
    ConflictError,
    InvalidError,
    KeyRefusedError,
    NoAnswerError,
    NotFoundError,
    Post,
    Retry,
    ServiceError,
    Topics,
    UnavailableError,
    calls,
    flows,
)
from rubrika_client.decoding import decode
from rubrika_client.flows import Answer, Lost, Pause

ROUNDS = Retry(attempts=3, first=1.0, longest=1.5, patience=60)
TOPICS = {"model": "m@1", "items": [{"id": "sport", "name": "Спорт", "name_en": "Sport", "threshold": 1}]}


def answer(status: int, body: Any = None, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, named, b"" if body is None else json.dumps(body).encode())


def problem(status: int, code: str = "a_code", **more: Any) -> dict[str, Any]:
    return {"type": "t", "title": "T", "status": status, "code": code, "detail": "A sentence.", **more}


def run(flow: flows.Flow[Any], *answers: Answer | Lost) -> tuple[Any, list[float]]:
    """The result of a flow that is given these answers, and the pauses that it makes."""
    left, pauses, given = iter(answers), [], None
    while True:
        try:
            step = flow.send(given)
        except StopIteration as end:
            assert next(left, None) is None, "it has not asked as often as that"
            return end.value, pauses
        if isinstance(step, Pause):
            pauses.append(step.seconds)
            given = None
        else:
            given = next(left)


def test_what_goes_away_is_tried_again_later_and_later() -> None:
    found, pauses = run(
        flows.ask(calls.topics(), ROUNDS), Lost("gone"), answer(503, problem(503)), answer(200, TOPICS)
    )  # fmt: skip
    assert found.items[0].threshold == 1.0
    assert 0.5 <= pauses[0] <= 1.0
    assert 0.75 <= pauses[1] <= 1.5
    with pytest.raises(NoAnswerError, match="gone"):
        run(flows.ask(calls.topics(), ROUNDS), Lost("gone"), Lost("gone"), Lost("gone"))
    with pytest.raises(UnavailableError):
        run(flows.ask(calls.topics(), ROUNDS), *[answer(503, problem(503))] * 3)


def test_a_retry_after_is_kept_to_unless_it_is_too_long() -> None:
    told: list[tuple[ServiceError, float]] = []
    retry = Retry(attempts=3, first=0.01, patience=60, notify=lambda error, seconds: told.append((error, seconds)))
    found, pauses = run(
        flows.ask(calls.topics(), retry), answer(429, problem(429), retry_after="7"), answer(200, TOPICS)
    )  # fmt: skip
    assert found.model == "m@1"
    assert pauses == [7.0]
    assert [(type(error), seconds) for error, seconds in told] == [(BusyError, 7.0)]
    with pytest.raises(BusyError) as caught:
        run(flows.ask(calls.topics(), retry), answer(429, problem(429), retry_after="61"))
    assert caught.value.retry_after == 61


def test_a_request_that_came_too_slowly_is_sent_again() -> None:
    assert run(flows.ask(calls.topics(), ROUNDS), answer(408, problem(408)), answer(200, TOPICS))[0].model == "m@1"


@pytest.mark.parametrize(("status", "kind"), [(401, KeyRefusedError), (403, KeyRefusedError), (422, InvalidError)])
def test_what_does_not_go_away_is_an_error_at_once(status: int, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        run(flows.ask(calls.topics(), ROUNDS), answer(status, problem(status)))


def test_the_place_in_a_file_is_known() -> None:
    with pytest.raises(InvalidError) as caught:
        run(flows.ask(calls.topics(), ROUNDS), answer(422, problem(422, "open_quote", line=3, column="text")))
    assert (caught.value.code, caught.value.place) == ("open_quote", "line 3, column text")


def test_a_key_in_flight_is_waited_for_and_another_conflict_is_not() -> None:
    form = calls.Form(lambda: open("/dev/null", "rb"), "a.csv", {})  # noqa: SIM115, PTH123  (never opened)
    keyed: list[calls.Call[Any]] = [
        calls.classify([Post("a")], wait=0, explain=False, key="k"),
        calls.upload(form, key="k"),
        calls.retry("a", key=None),
        calls.rerun("a", None, key="k"),
    ]
    for call in keyed:
        with pytest.raises(ConflictError):
            run(flows.ask(call, ROUNDS), *[answer(409, problem(409, "key_in_flight"))] * 3)
        with pytest.raises(ConflictError):
            run(flows.ask(call, ROUNDS), answer(409, problem(409, "conflict")))
    with pytest.raises(ConflictError):
        run(flows.ask(calls.cancel("a"), ROUNDS), answer(409, problem(409, "key_in_flight")))


def test_what_copies_a_job_may_take_as_long_as_what_reads_one() -> None:
    assert {call.patience for call in (calls.retry("a", key=None), calls.rerun("a", None, key=None))} == {900.0}


def test_what_counts_or_sorts_rows_may_take_as_long_as_the_service_works_on_it() -> None:
    rows, changed = calls.results("a", sort="-sport"), calls.changed_rows("a", "b")
    following = [
        call.read({"items": [], "next": "/api/v1/jobs/a/results?cursor=x"}).following for call in (rows, changed)
    ]
    for call in (rows, changed, *following, calls.summary("a", {"sport": 0.5}), calls.compare("a", "b", 50)):
        assert call.patience > LONGEST_READ_SECONDS


def test_what_is_gone_after_a_lost_attempt_was_deleted_by_it() -> None:
    gone = answer(404, problem(404, "not_found"))
    for unheard in (Lost("reset"), answer(504)):
        assert run(flows.ask(calls.delete("a"), ROUNDS), unheard, gone)[0] is None
    for heard in ((), (answer(503, problem(503)),), (Lost("refused", sent=False),)):
        with pytest.raises(NotFoundError):
            run(flows.ask(calls.delete("a"), ROUNDS), *heard, gone)
    with pytest.raises(NotFoundError):
        run(flows.ask(calls.delete("a"), ROUNDS), Lost("reset"), answer(404, problem(404, "")))
    with pytest.raises(NotFoundError):
        run(flows.ask(calls.job("a"), ROUNDS), Lost("reset"), gone)


@pytest.mark.parametrize("status", [301, 302, 304, 307, 308])
def test_a_redirect_is_no_answer(status: int) -> None:
    for call in (calls.delete("a"), calls.topics()):
        with pytest.raises(BadAnswerError, match=r"https://elsewhere\.example"):
            run(flows.ask(call, ROUNDS), answer(status, location="https://elsewhere.example/api"))


@pytest.mark.parametrize(
    "body",
    [b"<html>", b"", b"[]", b'{"items": []}', b'{"model": "m@1", "items": [5]}', b'{"model": 5, "items": []}'],
)
def test_what_is_not_rubrika_is_no_answer(body: bytes) -> None:
    with pytest.raises(BadAnswerError):
        run(flows.ask(calls.topics(), ROUNDS), Answer(200, {}, body))


def test_an_error_of_something_in_between_is_understood() -> None:
    with pytest.raises(ServiceError, match="418"):
        run(flows.ask(calls.topics(), ROUNDS), Answer(418, {}, b"I am a teapot"))


def test_the_next_page_is_not_fetched_elsewhere() -> None:
    for following in ("http://elsewhere.example/api/v1/jobs", "//elsewhere.example/api/v1/jobs", "/other"):
        with pytest.raises(BadAnswerError, match="another service"):
            run(flows.ask(calls.jobs(), ROUNDS), answer(200, {"items": [], "next": following}))


def test_a_newer_service_may_say_more_and_an_older_one_less() -> None:
    assert decode(Topics, {**TOPICS, "new": 1}).model == "m@1"
    text = {
        "id": "a-1", "status": "queued", "custom_id": None, "doc_text": "", "image2text": "", "speech2text": "",
        "model": None, "created_at": "2026-01-31T12:00:00.000Z", "finished_at": None, "truncated": False, "topics": [],
        "assigned": [], "error": None, "feedback": None,
    }  # fmt: skip
    [found], pauses = run(flows.classify([Post("a")], 0, False, None, ROUNDS), answer(202, text))
    assert (found.explanation, found.created_at.utcoffset().total_seconds(), pauses) == (None, 0, [])


def parts(posts: int, *, explain: bool) -> list[calls.Call[Any]]:
    """The requests in which so many posts are sent."""
    flow = flows.classify([Post(str(number)) for number in range(posts)], 0, explain, "mine", ROUNDS)
    sent = [next(flow)]
    with suppress(StopIteration):
        while True:
            sent.append(flow.send(answer(202, {"items": []})))
    return sent


def test_many_posts_go_a_thousand_at_a_time_and_each_part_has_a_key_of_its_own() -> None:
    sent = parts(2500, explain=False)
    assert [len(call.body["items"]) for call in sent] == [1000, 1000, 500]
    assert [call.headers["Idempotency-Key"] for call in sent] == ["mine", "mine/1000", "mine/2000"]
    assert sent[0].body["items"][0] == {"doc_text": "0"}
    assert run(flows.classify([], 0, False, None, ROUNDS)) == ((), [])


def test_posts_to_be_explained_say_so_each_and_go_fifty_at_a_time() -> None:
    sent = parts(120, explain=True)
    assert [len(call.body["items"]) for call in sent] == [50, 50, 20]
    assert all(call.body.keys() == {"items"} for call in sent)
    assert all(item["explain"] is True for call in sent for item in call.body["items"])
    assert parts(1, explain=True)[0].body == {"doc_text": "0", "explain": True}


# --- over a network that a test makes -------------------------------------------------------------------------------


class Broken(httpx2.SyncByteStream):
    """A body whose connection breaks in its middle."""

    def __iter__(self) -> Iterator[bytes]:
        yield b"half of "
        raise httpx2.ReadError("reset")


CSV = {"Content-Type": "text/csv; charset=utf-8"}


def client_of(handler: Callable[[httpx2.Request], httpx2.Response], **more: Any) -> Client:
    quick = Retry(attempts=3, first=0.001)
    return Client("http://rubrika.test/", transport=httpx2.MockTransport(handler), **{"retry": quick, **more})


def test_a_download_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    answers = [httpx2.Response(200, stream=Broken(), headers=CSV), httpx2.Response(200, content=b"it all", headers=CSV)]
    with client_of(lambda _: answers.pop(0)) as client:
        assert client.download("a", tmp_path / "a.csv").read_bytes() == b"it all"
        answers += [httpx2.Response(200, stream=Broken(), headers=CSV) for _ in range(3)]
        (tmp_path / "b.csv").write_bytes(b"of yesterday")
        with pytest.raises(NoAnswerError, match="reset"):
            client.download("a", tmp_path / "b.csv")
    assert (tmp_path / "b.csv").read_bytes() == b"of yesterday"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "b.csv"]
    with client_of(lambda _: httpx2.Response(200)) as client, pytest.raises(ValueError, match="parquet"):
        client.download("a", tmp_path / "c.doc")


def test_a_download_asks_for_the_csv_that_was_chosen(tmp_path: Path) -> None:
    asked: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.url.query.decode())
        return httpx2.Response(200, content=b"a;b", headers=CSV)

    with client_of(answer) as client:
        client.download("a", tmp_path / "a.csv")
        client.download("a", tmp_path / "a.csv", bom=False, delimiter="semicolon", decimal="comma")
    assert asked == ["", "delimiter=semicolon&decimal=comma&bom=0"]


def test_an_upload_is_sent_whole_each_time_under_one_key(tmp_path: Path) -> None:
    data = b"text\n" + b"a post\n" * 50_000
    (tmp_path / "посты.csv").write_bytes(data)
    seen: list[tuple[str, bool, str]] = []
    told: list[int] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        body = request.read()
        assert int(request.headers["content-length"]) == len(body)
        seen.append((request.headers["idempotency-key"], data in body, request.headers.get("authorization", "")))
        assert body.index(b'name="encoding"') < body.index(b'name="file"')
        return httpx2.Response(503, json=problem(503)) if len(seen) == 1 else httpx2.Response(422, json=problem(422))

    with client_of(handler, key="secret") as client, pytest.raises(InvalidError):
        client.upload(tmp_path / "посты.csv", encoding="utf-8", sent=told.append)
    assert [whole for _, whole, _ in seen] == [True, True]
    assert len({key for key, _, _ in seen}) == 1
    assert {shown for _, _, shown in seen} == {"Bearer secret"}
    assert told.count(len(data)) >= 2
    assert max(step - before for before, step in pairwise(told)) < len(data) // 4


def test_a_file_of_the_callers_stays_open(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"text\na\n")
    refused = client_of(lambda _: httpx2.Response(422, json=problem(422)))
    with refused as client, (tmp_path / "a.csv").open("rb") as file:
        with pytest.raises(InvalidError):
            client.upload(file)
        assert not file.closed


async def _topics() -> Topics:
    answers = [httpx2.Response(503, json=problem(503)), httpx2.Response(200, json=TOPICS)]
    transport = httpx2.MockTransport(lambda _: answers.pop(0))
    async with AsyncClient("http://rubrika.test", retry=Retry(first=0.001), transport=transport) as client:
        return await client.topics()


def test_the_async_client_goes_the_same_ways() -> None:
    assert anyio.run(_topics).items[0].id == "sport"


# --- words ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "has_key", "words"),
    [
        (NoAnswerError("Nobody answers at http://x: refused."), False, "RUBRIKA_URL"),
        (KeyRefusedError(401, "unauthorized", "No."), False, "RUBRIKA_KEY"),
        (KeyRefusedError(401, "unauthorized", "No."), True, "does not accept this key"),
        (KeyRefusedError(403, "forbidden", "Only for admins."), True, "Only for admins"),
        (InvalidError(422, "open_quote", "A quote.", more={"line": 3}), False, "(at line 3): A quote."),
        (BusyError(429, "too_many", "Too many.", retry_after=90), False, "Try again in 1 min 30 s"),
        (UnavailableError(503, "unavailable", "Away."), False, "The same command goes on"),
    ],
)
def test_errors_say_what_to_do(error: ServiceError, has_key: bool, words: str) -> None:
    assert words in sentence(error, "http://x", has_key=has_key)


def test_numbers_in_words() -> None:
    assert [size(count) for count in (0, 999, 1000, 5_400_000, 2_000_000_000)] == [
        "0 B", "999 B", "1 kB", "5 MB", "2.0 GB",
    ]  # fmt: skip
    assert [duration(seconds) for seconds in (0, 59.4, 61, 3600, 7260)] == [
        "0 s", "59 s", "1 min 1 s", "1 h 0 min", "2 h 1 min",
    ]  # fmt: skip
