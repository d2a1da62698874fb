"""Records as the JSON of the interface. The shape of a resource never depends on what came in."""

import base64
import binascii
import json
import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from api.problems import bad_input
from jobs.filtering import float32
from jobs.records import Explanation, Job, Model, Row, text_id
from jobs.states import TERMINAL_STATES, ExplanationState, JobState
from jobs.summing import Summary


def when(value: datetime | None) -> str | None:
    """RFC 3339 in UTC, to the millisecond."""
    return None if value is None else value.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def topic(model: Model) -> list[dict[str, Any]]:
    """The topics of a model, in its own order."""
    return [
        {"id": item.id, "name": item.name, "name_en": item.name_en, "threshold": round(item.threshold, 6)}
        for item in model.topics
    ]


def classification(job: Job, row: Row, model: Model | None) -> dict[str, Any]:
    """One posted text, with all topics, most probable first, once it is computed."""
    topics: list[dict[str, Any]] = []
    if row.probabilities is not None and model is not None:
        topics = [
            {
                "topic": item.id,
                "name": item.name,
                "name_en": item.name_en,
                "probability": round(probability, 6),
                "threshold": round(item.threshold, 6),
                "assigned": is_assigned(probability, item.threshold),
            }
            for item, probability in zip(model.topics, row.probabilities, strict=True)
        ]
        topics.sort(key=lambda item: -item["probability"])
    return {
        "id": text_id(row.job_id, row.row_no),
        "status": row_status(row, job),
        "custom_id": row.custom_id,
        "doc_text": row.doc_text,
        "image2text": row.image2text,
        "speech2text": row.speech2text,
        "model": model.label if model else None,
        "created_at": when(job.created_at),
        "finished_at": when(job.finished_at),
        "truncated": row.truncated,
        "topics": topics,
        "assigned": [item["topic"] for item in topics if item["assigned"]],
        "error": row_error(row),
        "feedback": None if row.feedback is None else list(row.feedback),
        "explanation": explained(row, model),
        "explanation_error": explanation_error(row),
    }


def explanation(row: Row, asked: Explanation, model: Model | None) -> dict[str, Any]:
    """What has become of the wish for an explanation; a text that is not classified yet counts as waiting."""
    failed = asked.error_code is not None
    status = "failed" if failed else "succeeded" if asked.state is ExplanationState.DONE else "queued"
    return {
        "id": text_id(row.job_id, row.row_no),
        "status": "running" if asked.state is ExplanationState.RUNNING else status,
        "model": model.label if model else None,
        "asked_at": when(asked.asked_at),
        "finished_at": when(asked.finished_at),
        "explanation": explained(row, model),
        "error": explanation_error(row),
    }


def explained(row: Row, model: Model | None) -> dict[str, Any] | None:
    """By topic, the pieces of a text with their weights, in the order of the text; None while there are none."""
    found = row.explanation
    if found is None or found.pieces is None or found.weights is None or model is None:
        return None
    weights = found.weights if found.pieces else ((),) * len(model.topics)
    return {
        topic.id: [
            {"field": piece.field, "start": piece.start, "end": piece.end, "weight": round(weight, 4)}
            for piece, weight in zip(found.pieces, of_topic, strict=True)
        ]
        for topic, of_topic in zip(model.topics, weights, strict=True)
    }


def explanation_error(row: Row) -> dict[str, Any] | None:
    """Why an explanation that was asked for is not there; None when it is, or will be."""
    found = row.explanation
    if found is None or found.error_code is None:
        return None
    return {"code": found.error_code, "message": found.error_message}


def row_status(row: Row, job: Job) -> str:
    """What has become of one text: queued, running, succeeded, failed or cancelled.

    With probabilities it is still running while an explanation is to come that was asked for together with it."""
    if row.error_code is not None:
        return "failed"
    if row.probabilities is not None:
        return "succeeded" if row.is_settled else "running"
    if job.state in {JobState.RUNNING, JobState.CANCELLING}:
        return "running"
    return "cancelled" if job.state is JobState.CANCELLED else "queued"


def row_error(row: Row) -> dict[str, Any] | None:
    """Why a row has no probabilities; None when it has, or will have."""
    if row.error_code is None:
        return None
    return {"code": row.error_code, "message": row.error_message, "column": row.error_column}


def is_assigned(probability: float, threshold: float) -> bool:
    """Compared as float32, which both are in Postgres: a page must not differ from an export by the last digit."""
    return float32(probability) >= float32(threshold)


def result_row(row: Row, job: Job, model: Model | None, thresholds: Mapping[str, float]) -> dict[str, Any]:
    """A row of a file with its results; `thresholds` replaces those of the model, by topic."""
    probabilities = None
    assigned: list[str] = []
    if row.probabilities is not None and model is not None:
        pairs = list(zip(model.topics, row.probabilities, strict=True))
        probabilities = {item.id: round(probability, 6) for item, probability in pairs}
        assigned = [item.id for item, value in pairs if is_assigned(value, thresholds.get(item.id, item.threshold))]
    return {
        "row": row.row_no,
        "custom_id": row.custom_id,
        "doc_text": row.doc_text,
        "image2text": row.image2text,
        "speech2text": row.speech2text,
        "columns": row.extra,
        "status": row_status(row, job),
        "model": model.label if model else None,
        "probabilities": probabilities,
        "assigned": assigned,
        "truncated": row.truncated,
        "error": row_error(row),
        "feedback": None if row.feedback is None else list(row.feedback),
    }


def job_resource(job: Job, model: Model | None, expires_at: str | None) -> dict[str, Any]:
    """A file's job. `progress` goes from 0 to 1, which it is when no row is left; `eta_seconds` is null while nothing
    is known of the rate."""
    done = job.rows_succeeded + job.rows_failed
    terminal = job.state in TERMINAL_STATES
    left = job.rows_total - done
    rate = job.rows_per_second
    base = f"/api/v1/jobs/{job.id.hex}"
    return {
        "id": job.id.hex,
        "status": job.state,
        "filename": job.filename,
        "model": model.label if model else None,
        "model_sha256": model.sha256 if model else None,
        "rows": {
            "total": job.rows_total,
            "succeeded": job.rows_succeeded,
            "failed": job.rows_failed,
            "queued": left,
            "cached": job.rows_cached,
        },
        "progress": done * 10_000 // job.rows_total / 10_000 if left else 1.0,
        "rows_per_second": None if rate is None else round(rate, 1),
        "eta_seconds": 0 if terminal else math.ceil(left / rate) if rate else None,
        "queue_position": job.queue_position,
        "layout": dict(job.layout),
        "created_at": when(job.created_at),
        "started_at": when(job.started_at),
        "finished_at": when(job.finished_at),
        "expires_at": expires_at,
        "links": {
            "self": base,
            "results": f"{base}/results",
            "summary": f"{base}/summary",
            "csv": f"{base}/results.csv",
            "ndjson": f"{base}/results.ndjson",
            "json": f"{base}/results.json",
            "xlsx": f"{base}/results.xlsx",
            "parquet": f"{base}/results.parquet",
            "cancel": f"{base}/cancel",
            "retry": f"{base}/retry",
            "rerun": f"{base}/rerun",
            "events": f"{base}/events",
        },
    }


def summary_resource(
    found: Summary, model: Model | None, others: Sequence[tuple[Model | None, int]] = ()
) -> dict[str, Any]:
    """A file as a whole, as far as `model` has computed it, and how many rows `others` have. Without a model there are
    no topics."""
    return {
        "model": model.label if model else None,
        "model_sha256": model.sha256 if model else None,
        "computed": found.computed,
        "none_assigned": found.none_assigned,
        "truncated": found.truncated,
        "topics": [
            {
                "topic": topic.topic,
                "name": its.name,
                "name_en": its.name_en,
                "threshold": round(its.threshold, 6),
                "assigned": topic.assigned,
                "mean_probability": None if topic.mean_probability is None else round(topic.mean_probability, 6),
                "histogram": list(topic.histogram),
            }
            for its, topic in zip(model.topics if model else (), found.topics, strict=True)
        ],
        "pairs": [{"topics": list(pair), "rows": rows} for pair, rows in found.pairs.items()],
        "failures": [
            {"code": code, "rows": failed.rows, "examples": list(failed.examples)}
            for code, failed in found.failures.items()
        ],
        "other_models": [
            {"model": other.label, "model_sha256": other.sha256, "rows": rows} for other, rows in others if other
        ],
    }


def model_resource(model: Model) -> dict[str, Any]:
    """A registered model with its card."""
    return {
        "name": model.name,
        "version": model.version,
        "sha256": model.sha256,
        "active": model.active,
        "registered_at": when(model.registered_at),
        "topics": topic(model),
        "card": dict(model.card),
    }


def cursor(*values: str | float) -> str:
    """An opaque place in a list."""
    return base64.urlsafe_b64encode(json.dumps(values).encode()).decode().rstrip("=")


def read_cursor(text: str | None, *kinds: type) -> list[Any] | None:
    """The values of a cursor, which must be of these types; None for none. Raises a problem for anything else."""
    if text is None:
        return None
    try:
        values = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (binascii.Error, ValueError, RecursionError) as error:
        raise bad_input("cursor", "invalid_cursor", "The cursor is none of ours.") from error
    valid = isinstance(values, list) and [type(value) for value in values] == list(kinds)
    if not valid or any(isinstance(value, int) and not 0 <= value < 2**31 for value in values):
        raise bad_input("cursor", "invalid_cursor", "The cursor is none of ours.")
    return list(values)


def page(items: list[Any], path: str, following: str | None, limit: int, more: str = "") -> dict[str, Any]:
    """A list with a link to its next page; on the last one there is no `next`."""
    if following is None:
        return {"items": items}
    return {"items": items, "next": f"{path}?cursor={following}&limit={limit}{more}"}
