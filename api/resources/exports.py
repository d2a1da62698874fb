"""The results of a file as a spreadsheet and as Parquet."""

from flask import Response
from flask_openapi3 import APIBlueprint, Tag

from api.problems import ProblemError
from api.resources.common import documented
from api.resources.jobs import PATH
from api.resources.results import exported, stream
from api.shapes import ExportQuery, IdPath
from jobs.exporting_parquet import export_parquet
from jobs.exporting_xlsx import TooLargeSheetError, TooManyRowsError, export_xlsx

XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
PARQUET = "application/vnd.apache.parquet"
_BINARY = {"schema": {"type": "string", "format": "binary"}}

blueprint = APIBlueprint("exports", __name__, abp_tags=[Tag(name="Files", description="Files of posts")])


@blueprint.get(
    f"{PATH}/<id>/results.xlsx",
    summary="All rows as an Excel sheet",
    description="At most 1,048,575 of them, which is what a sheet holds, and some 4 GiB; more are 422.",
    responses=documented(404, s200={"content": {XLSX: _BINARY}}),
)
def results_xlsx(path: IdPath, query: ExportQuery) -> Response:
    ctx, export = exported(path.id, query)
    try:
        return stream(export.job, "xlsx", XLSX, export_xlsx(ctx.engine, export))
    except TooManyRowsError as error:
        raise ProblemError(422, "too_many_rows_for_xlsx", str(error)) from error
    except TooLargeSheetError as error:
        raise ProblemError(422, "too_large_for_xlsx", str(error)) from error


@blueprint.get(
    f"{PATH}/<id>/results.parquet",
    summary="All rows as Parquet",
    responses=documented(404, s200={"content": {PARQUET: _BINARY}}),
)
def results_parquet(path: IdPath, query: ExportQuery) -> Response:
    ctx, export = exported(path.id, query)
    return stream(export.job, "parquet", PARQUET, export_parquet(ctx.engine, export))
