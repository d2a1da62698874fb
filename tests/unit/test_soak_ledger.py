"""The soak test notices what it is there for: a text that has another result than before, or than it must have."""

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.e2e.soak import ledger as ledgers
from tests.e2e.soak.clients import Person
from tests.e2e.soak.ledger import Ledger
from tests.fake_classifier import expected


def rows_of(results: Mapping[str, float | None]) -> list[dict[str, Any]]:
    return [
        {"row": number, "text": text, "sport": sport, "error": None if sport is not None else "model_failed"}
        for number, (text, sport) in enumerate(results.items(), 1)
    ]


def test_a_known_text_is_compared_also_when_no_more_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledgers, "MOST_KNOWN", 3)
    ledger = Ledger(fake=False)
    for number in range(10):
        ledger.check_text(f"пост {number}", 0.5, None)
    ledger.check_text("пост 1", 0.51, None)
    assert ledger.problems == []
    for number in (0, 2, 9):
        ledger.check_text(f"пост {number}", 0.9, None)
    assert ledger.problems == ["'пост 0' has 0.9 and had 0.5", "'пост 2' has 0.9 and had 0.5"]


def test_with_the_fake_each_result_is_compared_with_what_it_must_be() -> None:
    ledger = Ledger(fake=True)
    ledger.check_rows(["раз", "два"], rows_of({text: expected(text) for text in ("раз", "два")}), whole=True)
    assert ledger.problems == []
    ledger.check_rows(["раз", "два"], rows_of({"раз": expected("раз"), "два": expected("раз")}), whole=True)
    ledger.check_text("раз", None, "model_failed")
    assert len(ledger.problems) == 2


@pytest.mark.parametrize(
    ("again", "problems"),
    [
        ({"раз": 0.21, "два": 0.79}, 0),
        ({"раз": 0.3, "два": 0.8}, 1),
        ({"раз": 0.2, "два": None}, 1),
        ({"раз": 0.2}, 1),
        ({"два": 0.2, "раз": 0.8}, 1),
    ],
)
def test_a_file_that_is_computed_again_must_agree_with_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: dict[str, float | None], problems: int
) -> None:
    # Nothing is remembered, so that the two are compared with each other.
    monkeypatch.setattr(ledgers, "MOST_KNOWN", 0)
    first = {"раз": 0.2, "два": 0.8}
    results = {"first": first, "again": again}
    job, other = (SimpleNamespace(id=name, status="succeeded", rows=SimpleNamespace(succeeded=2)) for name in results)

    def download(job_id: str, path: Path) -> Path:
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows_of(results[job_id])))
        return path

    ledger = Ledger(fake=False)
    person = Person("http://nowhere", ledger, threading.Event(), seed=1, rows=2, may_break=False)
    person._client.close()
    person._folder = tmp_path
    person._upload = lambda: (job, list(first))  # type: ignore[method-assign,assignment,return-value]
    person._client = SimpleNamespace(  # type: ignore[assignment]
        wait=lambda job_id, **_: {"first": job, "again": other}[job_id],
        rerun=lambda _: other,
        compare=lambda *_: SimpleNamespace(rows=SimpleNamespace(compared=2)),
        download=download,
        summary=lambda _: SimpleNamespace(computed=2),
        results=lambda _: [SimpleNamespace(row=1), SimpleNamespace(row=2)],
        delete=lambda _: None,
    )
    person.rerun()
    assert len(ledger.problems) == problems, ledger.problems
