"""Rows of a Parquet file as JSON, by arro3 (the parser of the Rust implementation of Arrow).

What Arrow writes as JSON is what is kept: times and dates in ISO 8601, bytes as hexadecimal digits, lists and
structures as they are, numbers that are not finite as null. Decimals become text, which loses no digit of them.
"""

import io
from typing import Any

from arro3.core import Array, DataType, RecordBatch
from arro3.io import read_parquet, write_ndjson

from api.sandbox.child import Parsed, RefusedError, allow

BATCH_ROWS = 512
BATCH_SECONDS = 30


def parse(descriptor: int, parameters: dict[str, Any]) -> Parsed:
    """Describe the columns, then yield the rows: objects whose keys are the places of the columns."""
    reader = read_parquet(f"/dev/fd/{descriptor}", batch_size=BATCH_ROWS)
    schema = reader.schema
    fields = [schema.field(place) for place in range(len(schema))]
    if len(fields) > parameters["max_columns"]:
        message = f"The file has {len(fields)} columns; the limit is {parameters['max_columns']}."
        raise RefusedError("too_many_columns", message)
    nested = any(DataType.is_nested(field.type) for field in fields)
    yield {
        "columns": [field.name for field in fields],
        "types": [_called(field.type) for field in fields],
        "nested": nested,
    }
    names = [str(place) for place in range(len(fields))]
    for batch in reader:
        lines = io.BytesIO()
        exact = RecordBatch.from_arrays([_exact(column) for column in batch.columns], names=names)
        # Nulls are left out where that says the same: within structures it would not.
        write_ndjson(exact, lines, explicit_nulls=nested)
        yield lines.getvalue()
        allow(BATCH_SECONDS)


def _exact(column: Array) -> Array:
    return column.cast(DataType.utf8()) if DataType.is_decimal(column.type) else column


def _called(kind: DataType) -> str:
    """`text` for whatever holds texts, and Arrow's own word for anything else."""
    values = kind.value_type if DataType.is_dictionary(kind) else kind
    if values is not None and _is_text(values):
        return "text"
    return repr(kind).removeprefix("arro3.core.DataType<").rstrip().removesuffix(">")[:60]


def _is_text(kind: DataType) -> bool:
    return any(test(kind) for test in (DataType.is_string, DataType.is_large_string, DataType.is_string_view))
