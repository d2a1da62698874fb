"""Topics and models, and whether the service is up and ready."""

from typing import Any

from flask import Response, request
from flask_openapi3 import APIBlueprint, Tag
from sqlalchemy import Connection

from api.context import Context, context
from api.represent import model_resource, topic
from api.resources.common import documented, json_response
from api.service_shapes import HealthOut, ModelOut, ModelsOut, ReadyOut, TopicsOut
from api.shapes import NamePath
from jobs import fleet, meters
from jobs.errors import NotFoundError, UnavailableError
from jobs.fleet import Load

PATH = "/api/v1"

SWEEPER_GONE_SECONDS = 30.0
"""Without a sweep for so long beyond its period, the sweeper is taken for gone."""

blueprint = APIBlueprint("service", __name__, abp_tags=[Tag(name="Service", description="Topics, models, health")])


@blueprint.get(f"{PATH}/topics", summary="The topics of the active model", responses=documented(404, s200=TopicsOut))
def topics() -> Response:
    model = context().models.active()
    return json_response({"model": model.label, "items": topic(model)})


@blueprint.get(f"{PATH}/models", summary="Registered models", responses=documented(s200=ModelsOut))
def list_models() -> Response:
    return json_response({"items": [model_resource(model) for model in context().models.all()]})


@blueprint.get(
    f"{PATH}/models/<name>",
    summary="A model with its card",
    description="By its name, as `name@version`, or by its `sha256`. Of several with the name that you give it is the "
    "active one, else the one that was registered last; a `sha256` is that of one model alone.",
    responses=documented(404, s200=ModelOut),
)
def read_model(path: NamePath) -> Response:
    for model in context().models.all():
        if model.is_called(path.name):
            return json_response(model_resource(model))
    raise NotFoundError("There is no such model.")


def healthz() -> Response:
    """The process is up."""
    return json_response({"status": "ok"})


def readyz() -> Response:
    """Whether a text that is posted now will be computed soon. That does not hang on the sweeper: it is told beside."""
    checks = _checks(context())
    ready = all(checks[name]["ok"] for name in ("postgres", "redis", "worker"))
    return json_response({"status": "ready" if ready else "not_ready", "checks": checks}, 200 if ready else 503)


@blueprint.get(
    "/metrics",
    summary="Counts for Prometheus",
    description="Requests, what waits, what was done, and who is alive; labels are routes, lanes, models and codes.",
    responses=documented(
        s200={
            "content": {
                media_type: {"schema": {"type": "string"}}
                for media_type in ("text/plain", "application/openmetrics-text")
            }
        }
    ),
)
def metrics() -> Response:
    ctx = context()
    body, media_type = ctx.metrics.exposition(ctx.glances, ctx.bell, request.headers.get("Accept", ""))
    return Response(body, content_type=media_type, headers={"Cache-Control": "no-store"})


# At the root for probes, and beside the other resources for clients.
for prefix, suffix in ((PATH, ""), ("", "_root")):
    blueprint.get(
        f"{prefix}/healthz",
        endpoint=f"healthz{suffix}",
        operation_id=f"healthz{suffix}",
        summary="The process is up",
        responses=documented(s200=HealthOut),
    )(healthz)
    blueprint.get(
        f"{prefix}/readyz",
        endpoint=f"readyz{suffix}",
        operation_id=f"readyz{suffix}",
        summary="Postgres, Redis and a worker are there",
        responses=documented(s200=ReadyOut) | {"503": ReadyOut},
    )(readyz)


def _standing(connection: Connection) -> tuple[int, float | None, float | None, Load]:
    """Live workers, seconds that the oldest chunk has waited, seconds since the last sweep, rows that wait or are in
    work."""
    return (
        fleet.workers_alive(connection),
        fleet.oldest_waiting_seconds(connection),
        meters.swept_seconds(connection),
        fleet.load(connection),
    )


def _checks(ctx: Context) -> dict[str, dict[str, Any]]:
    redis = {"ok": ctx.bell.is_there()}
    try:
        alive, oldest, swept, load = ctx.glances.take(_standing)
    except UnavailableError as error:
        return {"postgres": {"ok": False, "detail": str(error)}, "redis": redis, "worker": {"ok": False, "alive": 0}}
    return {
        "postgres": {"ok": True},
        "redis": redis,
        "worker": {"ok": alive > 0, "alive": alive},
        "queue": {
            "ok": True,
            "oldest_waiting_seconds": None if oldest is None else round(oldest, 1),
            "waiting_rows": load.waiting,
            "running_rows": load.running,
        },
        "sweeper": {
            "ok": swept is not None and swept < SWEEPER_GONE_SECONDS + ctx.settings.sweep_seconds,
            "last_sweep_seconds": None if swept is None else round(swept, 1),
        },
    }
