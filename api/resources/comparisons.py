"""`/jobs/<id>/compare/<other>`: how far two models agree on the same rows."""

from typing import Any

from flask import Response
from flask_openapi3 import APIBlueprint, Tag
from sqlalchemy import Connection

from api.callers import owner
from api.compare_shapes import ChangedRowsOut, ComparePath, CompareQuery, ComparisonOut
from api.context import Context, context
from api.held import hold
from api.problems import ProblemError
from api.represent import cursor, is_assigned, page, read_cursor
from api.resources.common import documented, json_response
from api.resources.jobs import PATH
from api.shapes import PageQuery
from jobs import comparing, reading
from jobs.comparing import Agreement, ChangedRow, Side, TopicAgreement
from jobs.database import long_read
from jobs.records import Model, parse_job_id

blueprint = APIBlueprint("comparisons", __name__, abp_tags=[Tag(name="Files", description="Files of posts")])


@blueprint.get(
    f"{PATH}/<id>/compare/<other>",
    summary="How far two jobs of the same rows agree, and the first rows on which they do not",
    description="For a job and its rerun with another model, or two uploads of one file; also while they run. Compared "
    "are the rows that both have computed, on the topics that both models know.",
    responses=documented(404, 409, s200=ComparisonOut),
)
def compare(path: ComparePath, query: CompareQuery) -> Response:
    ctx = context()
    hold()
    with long_read(ctx.engine) as connection:
        first, second = _sides(ctx, connection, path)
        comparing.require_same_rows(connection, first.job, second.job)
        found = comparing.agreement(connection, first, second)
        rows = comparing.changed_rows(connection, first, second, after=0, limit=query.limit + 1)
    return json_response(_comparison(first, second, found) | _page(path, first, second, rows, query.limit))


@blueprint.get(
    f"{PATH}/<id>/compare/<other>/rows",
    summary="The rows to which two jobs assign other topics",
    responses=documented(404, 409, s200=ChangedRowsOut),
)
def changed(path: ComparePath, query: PageQuery) -> Response:
    ctx = context()
    place = read_cursor(query.cursor, int)
    hold()
    with long_read(ctx.engine) as connection:
        first, second = _sides(ctx, connection, path)
        if place is None:  # A cursor comes from a page for which this was found out.
            comparing.require_same_rows(connection, first.job, second.job)
        after = place[0] if place else 0
        rows = comparing.changed_rows(connection, first, second, after=after, limit=query.limit + 1)
    return json_response(_page(path, first, second, rows, query.limit))


def _sides(ctx: Context, connection: Connection, path: ComparePath) -> tuple[Side, Side]:
    first, second = (_side(ctx, connection, job_id) for job_id in (path.id, path.other))
    return first, second


def _side(ctx: Context, connection: Connection, job_id: str) -> Side:
    job = reading.get_job(connection, owner(), parse_job_id(job_id))
    model = ctx.models.by_id(job.model_id)
    if model is None:
        raise ProblemError(409, "no_model", f"No worker has begun on {job_id} yet; there is nothing to compare.")
    return Side(job, model)


def _comparison(first: Side, second: Side, found: Agreement) -> dict[str, Any]:
    common = {topic.topic for topic in found.topics}
    return {
        "first": _side_resource(first),
        "second": _side_resource(second),
        "rows": {
            "total": first.job.rows_total,
            "compared": found.rows,
            "same": found.same,
            "changed": found.rows - found.same,
        },
        "agreement": _share(found.same, found.rows),
        "topics": [_topic(topic, found.rows, first.model) for topic in found.topics],
        "only_first": [topic.id for topic in first.model.topics if topic.id not in common],
        "only_second": [topic.id for topic in second.model.topics if topic.id not in common],
    }


def _side_resource(side: Side) -> dict[str, Any]:
    return {"id": side.job.id.hex, "status": side.job.state, "model": side.model.label}


def _topic(found: TopicAgreement, rows: int, model: Model) -> dict[str, Any]:
    [known] = [topic for topic in model.topics if topic.id == found.topic]
    return {
        "topic": found.topic,
        "name": known.name,
        "name_en": known.name_en,
        "agreement": _share(found.both + found.neither, rows),
        "both": found.both,
        "only_first": found.only_first,
        "only_second": found.only_second,
        "neither": found.neither,
        "mean_difference": _rounded(found.mean_difference),
        "correlation": _rounded(found.correlation),
    }


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 6) if whole else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def _page(path: ComparePath, first: Side, second: Side, rows: list[ChangedRow], limit: int) -> dict[str, Any]:
    following = None
    if len(rows) > limit:
        rows = rows[:limit]
        following = cursor(rows[-1].row_no)
    return page(
        [_row(row, first, second) for row in rows], f"{PATH}/{path.id}/compare/{path.other}/rows", following, limit
    )


def _row(row: ChangedRow, first: Side, second: Side) -> dict[str, Any]:
    return {
        "row": row.row_no,
        "custom_id": row.custom_id,
        "doc_text": row.doc_text,
        "image2text": row.image2text,
        "speech2text": row.speech2text,
        "first": _outcome(row.first, first.model),
        "second": _outcome(row.second, second.model),
    }


def _outcome(probabilities: tuple[float, ...], model: Model) -> dict[str, Any]:
    pairs = list(zip(model.topics, probabilities, strict=True))
    return {
        "assigned": [topic.id for topic, value in pairs if is_assigned(value, topic.threshold)],
        "probabilities": {topic.id: round(value, 6) for topic, value in pairs},
    }
