"""What tests of the REST interface share: a worker that computes at once, and words for answers."""

import io
import threading
from collections.abc import Callable, Sequence
from typing import Any

from flask.testing import FlaskClient
from sqlalchemy import Connection
from werkzeug.test import TestResponse

from api.context import Context
from jobs import fleet, store
from jobs.database import make_engine, run
from jobs.records import Outcome, Topic
from jobs.settings import Settings
from jobs.states import Lane, RowError

V1 = "/api/v1"
TOPICS = (
    Topic("sport", "Спорт", "Sport", 0.5),
    Topic("humour", "Юмор", "Humour", 0.5),
    Topic("ads", "Реклама", "Ads", 0.4),
)


def judge(doc_text: str) -> list[float]:
    """Sport is likely where the text says «матч», everything else is not."""
    return [0.9 if "матч" in doc_text else 0.1, 0.2, 0.45]


class Worker:
    """Computes what waits for its model, by `judge` unless told otherwise; on `trial` only what names it."""

    def __init__(
        self,
        settings: Settings,
        context: Context,
        *,
        name: str = "tiny",
        topics: Sequence[Topic] = TOPICS,
        judge: Callable[[str], list[float]] = judge,
        trial: bool = False,
        sha256: str | None = None,
    ) -> None:
        self._judge = judge
        self._trial = trial
        self._engine = make_engine(settings.database_url, pool_size=2, application="tests worker")
        self._context = context
        self._stopping = threading.Event()
        self.model = run(
            self._engine,
            lambda c: fleet.register_model(
                c,
                name=name,
                version="1.0.0",
                sha256=sha256 or f"{name:0<64}",
                topics=topics,
                card={"base": "none"},
                activate=not trial,
            ),
        )
        run(self._engine, lambda c: fleet.worker_seen(c, sha256 or name, self.model, "cpu", trial=trial))

    def work(self) -> int:
        """Do everything that waits; the number of texts."""
        done = 0
        for lane in Lane:
            while (count := run(self._engine, lambda c, lane=lane: self._one(c, lane))) is not None:
                done += count
        return done

    def work_chunk(self) -> int | None:
        """Do one chunk of a file; the number of texts, or None when nothing waits."""
        return run(self._engine, lambda c: self._one(c, Lane.BULK, limit=1))

    def _one(self, connection: Connection, lane: Lane, limit: int = 8) -> int | None:
        claimed = store.claim(
            connection, lane=lane, limit=limit, lease_seconds=30, model_id=self.model, named_only=self._trial
        )
        if claimed is None:
            return None
        store.begin(connection, claimed.lease)
        texts = store.read_texts(connection, claimed)
        outcomes = [
            Outcome(text, None, False, RowError.MODEL_FAILED, "it broke")
            if "сломай" in text.doc_text
            else Outcome(text, self._judge(text.doc_text), "длин" in text.doc_text)
            for text in texts
        ]
        settled = store.finish(connection, claimed.lease, self.model, outcomes)
        self._context.bell.wake(settled)
        return len(texts)

    def run(self) -> None:
        while not self._stopping.wait(0.01):
            self.work()

    def close(self) -> None:
        self._stopping.set()
        self._engine.dispose()


def assert_problem(response: TestResponse, status: int, code: str | None = None) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.content_type == "application/problem+json"
    body: dict[str, Any] = response.get_json()
    assert body["status"] == status
    assert body["type"] == f"urn:rubrika:problem:{body['code']}"
    assert body["title"]
    assert body["detail"]
    if code:
        assert code in {body["code"], *(error["code"] for error in body.get("errors", []))}, body
    return body


def upload(client: FlaskClient, data: bytes, filename: str = "posts.csv", **fields: str) -> TestResponse:
    return client.post(f"{V1}/jobs", data={"file": (io.BytesIO(data), filename), **fields})


CSV = 'id,text,image2text\n1,"Сегодня матч, все на стадион",\n2,Купите слона,скидка\n3,=1+1,\n'.encode()
