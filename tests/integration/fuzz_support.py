"""What the fuzzers of the OpenAPI document share: all of its operations, asked in sound and in unsound ways."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from api.app import create_app
from api.files import FileCode
from jobs.settings import Settings
from jobs.states import RowError

MODES = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
PHASES = (Phase.explicit, Phase.generate, Phase.shrink)
MEANINGS = {
    *FileCode,
    *RowError,
    *("ambiguous", "not_alone", "too_many_items", "topic_missing", "unknown_topic", "unknown_model"),
    *("invalid_key", "idempotency_mismatch", "unknown_status"),
    *("invalid_cursor", "invalid_thresholds", "unknown_value", "unknown_field", "invalid_json"),
}
"""Codes of what a document can only say in words."""

METHODS = ("get", "post", "put", "patch", "delete")
FITS = frozenset({200, 202, 204, 304, 404, 409})
"""Answers that say nothing against what was asked."""


@dataclass(frozen=True)
class Asker:
    """Who asks: what is sent with each request, and what may be answered to that."""

    headers: Mapping[str, str] = field(default_factory=dict)
    cookies: Mapping[str, str] = field(default_factory=dict)
    judged: Callable[[Any, str, str], object] = lambda *_: None
    """Called with each answer, the path and the method."""
    refused: frozenset[int] = frozenset()
    """Statuses by which this one is refused, whatever it asks for."""


ANYBODY = Asker()


def operations() -> dict[tuple[str, str], dict[str, Any]]:
    """All of the document, by path and method. Nothing connects while the app is made."""
    nowhere = Settings.from_env({"DATABASE_URL": "postgresql://nowhere/x", "REDIS_URL": "redis://nowhere"})
    paths = create_app(nowhere).test_client().get("/openapi.json").get_json()["paths"]
    return {(path, method): item[method] for path, item in paths.items() for method in item if method in METHODS}


def fuzz(
    document: Any, path: str, method: str, places: Mapping[str, Any], asker: Asker = ANYBODY, **limits: Any
) -> None:
    """Ask one operation in sound and in unsound ways, for things that are there and for things that are not."""
    there = {
        "id": places["text" if "classifications" in path else "job"],
        **{name: places[name] for name in ("other", "name", "row")},
    }
    known = {name: value for name, value in there.items() if f"{{{name}}}" in path}
    operation = document[path][method]
    for mode in MODES:
        for named in (known, None) if known else (None,):

            @given(case=operation.as_strategy(mode, path_parameters=named), mode=st.just(mode))
            @settings(deadline=None, database=None, suppress_health_check=list(HealthCheck), **limits)
            def ask(case: Case, mode: GenerationMode) -> None:
                answer = case.call(headers=dict(asker.headers), cookies=dict(asker.cookies))
                case.validate_response(answer, excluded_checks=[positive_data_acceptance], headers=dict(asker.headers))
                asker.judged(answer, path, method)
                if mode is GenerationMode.POSITIVE and answer.status_code not in asker.refused:
                    assert_refused_for_its_meaning(answer)

            try:
                ask()
            except Unsatisfiable:
                # What takes no parameters, or texts of any kind, cannot be asked in an unsound way.
                assert mode is GenerationMode.NEGATIVE


def assert_refused_for_its_meaning(answer: Any) -> None:
    """What fits the document is refused, if at all, for a reason that no schema can say: each has a code of ours."""
    if answer.status_code in FITS:
        return
    problem = answer.json()
    codes = {error["code"] for error in problem.get("errors", [])} or {problem["code"]}
    assert codes <= MEANINGS, (answer.status_code, problem)
