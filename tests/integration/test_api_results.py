"""Pages of rows with filters, exports of a part, summaries before and after there is a model, and their tags."""

import json

import pytest
from flask.testing import FlaskClient

from api.context import Context
from api.represent import cursor
from jobs import fleet, reading, sorting
from jobs.database import run, transaction
from jobs.filtering import RowFilter, RowStatus
from jobs.records import Topic, parse_job_id
from tests.integration.api_support import V1, Worker, assert_problem, upload

POSTS = (
    'custom_id,text,image2text\na1,матч 100% победа,\na2,"  ",\nb3,тишина,ОГОНЬ и Вода\n'
    "b4,сломай,\nc5,матч_два,огонь\nc6,конец \\ здесь,\n"
).encode()


def rows_of(client: FlaskClient, url: str) -> list[int]:
    """The rows of all pages, following `next` as it is."""
    found: list[int] = []
    searched = 0
    while url:
        page = client.get(url).get_json()
        assert page["searched"]["from"] == searched + 1
        searched = page["searched"]["to"]
        found += [row["row"] for row in page["items"]]
        url = page.get("next", "")
    return found


@pytest.fixture
def done(client: FlaskClient, worker: Worker) -> str:
    """The address of the results of `POSTS`: sport 0.9 for rows 1 and 5, 0.1 for 3 and 6; ads 0.45 for all four."""
    job = upload(client, POSTS).get_json()
    worker.work()
    found: str = job["links"]["results"]
    return found


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("topic=sport", [1, 5]),
        ("topic=sport&thresholds=sport:0.05", [1, 3, 5, 6]),
        ("topic=sport&max_probability=0.5", [3, 6]),
        ("topic=ads&min_probability=0.45&max_probability=0.45", [1, 3, 5, 6]),
        ("topic=ads&min_probability=0.46", []),
        ("assigned=ads", [1, 3, 5, 6]),
        ("assigned=sport;ads", [1, 5]),
        ("assigned=sport,humour", []),
        ("assigned=none", []),
        ("assigned=none&thresholds=ads:0.5", [3, 6]),
        ("status=failed", [2, 4]),
        ("status=succeeded", [1, 3, 5, 6]),
        ("status=queued", []),
        ("q=МАТЧ", [1, 5]),
        ("q=огонь", [3, 5]),
        ("q=вода+тишина", [3]),
        ("q=100%25", [1]),
        ("q=%25", [1]),
        ("q=_", [5]),
        ("q=\\", [6]),
        ("q=B", [3, 4]),
        ("q=матч&topic=ads&status=succeeded&assigned=sport", [1, 5]),
        ("q=матч&status=failed", []),
    ],
)
def test_pages_and_exports_hold_the_rows_that_were_asked_for(
    client: FlaskClient, done: str, query: str, rows: list[int]
) -> None:
    assert rows_of(client, f"{done}?{query}") == rows
    assert rows_of(client, f"{done}?{query}&limit=1") == rows
    lines = client.get(f"{done}.ndjson?{query}").text.splitlines()
    assert [json.loads(line)["row"] for line in lines] == rows
    assert [row["row"] for row in client.get(f"{done}.json?{query}").get_json()] == rows
    assert len(client.get(f"{done}.csv?{query}").text.splitlines()) == 1 + len(rows)


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("sort=-sport", [1, 5, 3, 6]),
        ("sort=sport", [3, 6, 1, 5]),
        ("sort=-ads", [1, 3, 5, 6]),
        ("sort=sport&q=огонь", [3, 5]),
        ("sort=-sport&q=огонь", [5, 3]),
        ("sort=-sport&topic=sport&max_probability=0.5", [3, 6]),
        ("sort=-sport&assigned=none&thresholds=ads:0.5", [3, 6]),
        ("sort=sport&status=succeeded", [3, 6, 1, 5]),
        ("sort=sport&status=failed", []),
        ("sort=sport&status=queued", []),
        ("sort=sport&q=ничего", []),
    ],
)
def test_rows_are_sorted_by_the_probability_of_a_topic(
    client: FlaskClient, done: str, query: str, rows: list[int]
) -> None:
    assert rows_of(client, f"{done}?{query}") == rows
    assert rows_of(client, f"{done}?{query}&limit=1") == rows
    assert rows_of(client, f"{done}?{query}&limit={max(len(rows), 1)}") == rows
    assert "next" not in client.get(f"{done}?{query}&limit=4").get_json()


def test_a_sorted_search_by_words_ends_when_its_time_is_over_and_goes_on_from_there(
    client: FlaskClient, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    posts = "text\n" + "".join(f"{'матч' if number % 3 else 'ковёр'} {number} \n" for number in range(1, 24))
    found = upload(client, posts.encode()).get_json()["links"]["results"]
    worker.work()
    wanted = [number for number in range(1, 24) if number % 3] + [number for number in range(1, 24) if not number % 3]
    assert rows_of(client, f"{found}?sort=-sport&limit=4") == wanted
    monkeypatch.setattr(sorting, "WINDOW", 3)
    monkeypatch.setattr(sorting, "TEXTS_OF_A_PASS", 5)
    monkeypatch.setattr(sorting, "SEARCH_SECONDS", 0)
    address = f"{found}?sort=-sport&q=1&limit=4"
    first = client.get(address).get_json()
    assert first["searched"]["to"] <= 5, "not all that there is"
    assert rows_of(client, address) == [number for number in wanted if "1" in str(number)]


@pytest.mark.parametrize("values", [(0.5,), (1e300, 1, 1), (-1.0, 1, 1), (float("nan"), 1, 1), (0.5, -1, 1), (1, 1, 1)])
def test_a_place_in_an_order_that_is_none_of_ours_is_refused(
    client: FlaskClient, done: str, values: tuple[float, ...]
) -> None:
    assert_problem(client.get(f"{done}?sort=sport&cursor={cursor(*values)}"), 422, "invalid_cursor")


@pytest.mark.parametrize("number", ["1e-50", "1e-40"])
def test_numbers_too_small_for_postgres_are_next_to_nothing(client: FlaskClient, done: str, number: str) -> None:
    rows = [1, 3, 5, 6]
    assert rows_of(client, f"{done}?topic=sport&min_probability={number}") == rows
    assert rows_of(client, f"{done}?topic=sport&thresholds=sport:{number}") == rows
    assert rows_of(client, f"{done}?topic=sport&max_probability={number}") == []
    assert len(client.get(f"{done}.csv?topic=sport&thresholds=sport:{number}").text.splitlines()) == 1 + len(rows)
    after = client.get(f"{done}?sort=sport&cursor={cursor(float(number), 0, 0)}")
    assert [row["row"] for row in after.get_json()["items"]] == [3, 6, 1, 5]


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("min_probability=0.5", "topic_missing"),
        ("max_probability=0.5", "topic_missing"),
        ("topic=weather", "unknown_topic"),
        ("assigned=sport;weather", "unknown_topic"),
        ("assigned=", None),
        ("assigned=sport;none", "unknown_topic"),
        ("topic=sport&min_probability=nan", None),
        ("topic=sport&min_probability=2", None),
        ("status=paused", None),
        ("q=a%00b", "invalid_characters"),
        ("word=a", None),
    ],
)
def test_filters_that_mean_nothing_are_refused(client: FlaskClient, done: str, query: str, code: str | None) -> None:
    for address in (done, f"{done}.csv"):
        assert_problem(client.get(f"{address}?{query}"), 422, code)


def test_an_order_by_what_is_no_topic_is_refused(client: FlaskClient, done: str) -> None:
    for sort in ("weather", "-weather", "--sport", ""):
        assert_problem(client.get(f"{done}?sort={sort}"), 422, "unknown_topic")
    assert_problem(client.get(f"{done}.csv?sort=sport"), 422)


def test_a_search_ends_when_its_time_is_over_and_goes_on_from_there(
    client: FlaskClient, worker: Worker, app_context: Context
) -> None:
    rows = reading.FIRST_WINDOW_TEXTS * 2 + 7
    posts = "text\n" + "".join("матч\n" if number == rows else f"текст {number}\n" for number in range(1, rows + 1))
    job_id = parse_job_id(upload(client, posts.encode()).get_json()["id"])
    worker.work()
    steps = []
    after = 0
    while after < rows:
        with transaction(app_context.engine) as connection:
            job = reading.get_job(connection, "local", job_id)
            found, after = reading.search_rows(
                connection, job, RowFilter(words=("матч",)), [], {}, after=after, limit=50, seconds=0
            )
        steps.append((after, [row.row_no for row in found]))
    window = reading.FIRST_WINDOW_TEXTS
    assert steps == [(window, []), (2 * window, []), (rows, [rows])]
    with transaction(app_context.engine) as connection:
        found, after = reading.search_rows(
            connection, job, RowFilter(status=RowStatus.SUCCEEDED), [], {}, after=3, limit=2, seconds=0
        )
    assert ([row.row_no for row in found], after) == ([4, 5], 5)


@pytest.fixture
def app_context(app: object) -> Context:
    found: Context = app.extensions["rubrika"]  # type: ignore[attr-defined]
    return found


def test_before_there_is_a_model_what_is_there_can_be_read(client: FlaskClient) -> None:
    links = upload(client, 'text,likes\nматч,1\n" ",2\n'.encode()).get_json()["links"]
    summary = client.get(links["summary"]).get_json()
    assert summary == {
        "model": None, "model_sha256": None, "computed": 0, "none_assigned": 0, "truncated": 0,
        "topics": [], "pairs": [], "other_models": [],
        "failures": [{"code": "empty_text", "rows": 1, "examples": [2]}],
    }  # fmt: skip
    lines = client.get(f"{links['csv']}?bom=0").text.splitlines()
    assert lines[:2] == ["text,likes,row,topics,truncated,error", 'матч,1,1,"",,']
    assert lines[2].startswith(' ,2,2,"",false,empty_text: ')
    first = json.loads(client.get(links["ndjson"]).text.splitlines()[0])
    assert first == {"text": "матч", "likes": "1", "row": 1, "topics": None, "truncated": None, "error": None}
    assert rows_of(client, f"{links['results']}?status=queued") == [1]
    assert_problem(client.get(f"{links['results']}?topic=sport"), 422, "unknown_topic")
    assert_problem(client.get(f"{links['summary']}?thresholds=sport:0.5"), 422, "invalid_thresholds")


def test_a_failed_row_tells_row_column_code_and_message(client: FlaskClient, worker: Worker) -> None:
    data = '{"text": "матч"}\n{"text": ["no"]}\n'.encode()
    job = client.post(f"{V1}/jobs?filename=a.ndjson", data=data, content_type="application/x-ndjson").get_json()
    worker.work()
    [failed] = client.get(f"{job['links']['results']}?status=failed").get_json()["items"]
    error = failed["error"]
    assert (failed["row"], error["code"], error["column"]) == (2, "not_text", "text")
    exported = [json.loads(line) for line in client.get(job["links"]["ndjson"]).text.splitlines()]
    assert exported[1]["error"] == f"not_text (text): {error['message']}"


def test_finished_files_answer_304_until_thresholds_change(client: FlaskClient, worker: Worker) -> None:
    job = upload(client, POSTS).get_json()
    addresses = [job["links"]["summary"], f"{job['links']['results']}?limit=2", f"{job['links']['results']}?q=матч"]
    assert all("ETag" not in client.get(address).headers for address in addresses)
    worker.work()
    tags = {address: client.get(address).headers["ETag"] for address in addresses}
    assert len(set(tags.values())) == 3
    for address, tag in tags.items():
        answer = client.get(address, headers={"If-None-Match": tag})
        assert (answer.status_code, answer.data, answer.headers["ETag"]) == (304, b"", tag)
        assert client.get(address, headers={"If-None-Match": '"another"'}).status_code == 200
    changed = (
        Topic("sport", "Спорт", "Sport", 0.95),
        Topic("humour", "Юмор", "Humour", 0.5),
        Topic("ads", "Р", "A", 0.4),
    )
    [model] = client.get(f"{V1}/models").get_json()["items"]
    same = run(
        worker._engine,
        lambda c: fleet.register_model(c, name="t", version="1", sha256=model["sha256"], topics=changed, card={}),
    )
    assert same == worker.model
    client.application.extensions["rubrika"].models._read_at = float("-inf")
    again = client.get(addresses[0], headers={"If-None-Match": tags[addresses[0]]})
    assert (again.status_code, again.get_json()["topics"][0]["assigned"]) == (200, 0)


def test_rows_of_another_model_stand_under_their_own_topics(client: FlaskClient, worker: Worker) -> None:
    """A second model has its topics in another order and one of its own; each row is read with the model it names."""
    job = upload(client, ("text\n" + "матч\n" * 2).encode()).get_json()
    worker.work()
    other = (Topic("ads", "Реклама", "Ads", 0.3), Topic("sport", "Спорт", "Sport", 0.95), Topic("new", "Н", "N", 0.1))
    second = run(
        worker._engine,
        lambda c: fleet.register_model(c, name="other", version="2", sha256="1" * 64, topics=other, card={}),
    )
    with transaction(worker._engine) as connection:
        connection.exec_driver_sql("UPDATE results SET model_id = %s WHERE row_no = 2", (second,))
    client.application.extensions["rubrika"].models._read_at = float("-inf")
    lines = client.get(f"{job['links']['csv']}?bom=0").text.splitlines()
    assert lines[0] == "text,row,sport,humour,ads,topics,truncated,error"
    assert lines[1:] == [
        "матч,1,0.900000,0.200000,0.450000,sport;ads,false,",
        "матч,2,0.200000,,0.900000,ads;new,false,",
    ]
    assert rows_of(client, f"{job['links']['results']}?topic=ads&min_probability=0.8") == [2]
    assert rows_of(client, f"{job['links']['results']}?assigned=sport") == [1]


@pytest.mark.parametrize(("word", "rows"), [("ёлка", [1, 2, 3]), ("елка", [1, 2, 3]), ("ЁЛКА", [1, 2, 3]), ("ёж", [])])
def test_search_takes_one_letter_for_the_other_that_is_mostly_written_for_it(
    client: FlaskClient, worker: Worker, word: str, rows: list[int]
) -> None:
    job = upload(client, "text\nНаша ёлка\nнаша елка\nНАША ЁЛКА\nдуб\n".encode()).get_json()
    worker.work()
    assert rows_of(client, f"{job['links']['results']}?q={word}") == rows
    assert len(client.get(f"{job['links']['csv']}?q={word}").text.splitlines()) == 1 + len(rows)
