"""What tests of explanations share: a classifier that notes what it was asked, and words for requests."""

from collections.abc import Callable
from typing import Any

from flask.testing import FlaskClient
from sqlalchemy import Engine, text

from jobs import explaining, fleet
from jobs.database import run
from jobs.records import ExplanationClaim, Topic
from ml.classifier import Predictions
from tests.fake_classifier import FakeClassifier, FakePrepared
from tests.integration.api_support import V1

TEXT = "Наши забили гол 🔥 и выиграли"


class Recorder(FakeClassifier):
    """Remembers how many texts it was given at once, and what; `on_compute` is called before each time."""

    def __init__(self) -> None:
        super().__init__()
        self.computed: list[list[str]] = []
        self.on_compute: Callable[[], None] = lambda: None

    def compute(self, prepared: FakePrepared, between_batches: Callable[[], None] | None = None) -> Predictions:
        self.computed.append([post.doc_text for post in prepared.posts])
        self.on_compute()
        return super().compute(prepared, between_batches)


def register(engine: Engine, classifier: Any) -> int:
    info = classifier.info
    topics = [Topic(topic.id, topic.name, topic.name_en, topic.threshold) for topic in info.topics]
    return run(
        engine,
        lambda c: fleet.register_model(
            c, name=info.name, version=info.version, sha256=info.sha256, topics=topics, card={}
        ),
    )


def post(client: FlaskClient, body: Any, **headers: str) -> Any:
    response = client.post(f"{V1}/classifications", json=body, headers=headers)
    assert response.status_code in {200, 202}, response.text
    return response.get_json()


def get(client: FlaskClient, item: dict[str, Any], tail: str = "") -> Any:
    return client.get(f"{V1}/classifications/{item['id']}{tail}").get_json()


def said(resource: dict[str, Any], topic: str = "sport") -> list[str]:
    return [resource[one["field"]][one["start"] : one["end"]] for one in resource["explanation"][topic]]


def rows(engine: Engine, query: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in run(engine, lambda c: c.execute(text(query)).all())]


def take(engine: Engine, model: int, *, beside: bool = False, seconds: float = 30) -> ExplanationClaim | None:
    return run(engine, lambda c: explaining.claim(c, model_id=model, lease_seconds=seconds, beside_others=beside))
