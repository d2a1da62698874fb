"""The process that turns CSV from Postgres on standard input into Parquet on standard output.

    parquet_child.main() with the argument SCHEMA: the number of an open file, which holds JSON:
    [[name, "text" | "int" | "float" | "bool"], ...]

It imports nothing of the rest of the project and starts in a few hundredths of a second.
"""

import json
import sys

from arro3.core import DataType, Field, Schema
from arro3.io import read_csv, write_parquet

BATCH_ROWS = 512
GROUP_ROWS = 16_384
"""Rows of a group; what of it is compressed already is all that is held in memory."""


def main() -> None:
    """Read, write, and end with status 0 only when the file is whole."""
    types = {"text": DataType.utf8(), "int": DataType.int64(), "float": DataType.float64(), "bool": DataType.bool()}
    with open(int(sys.argv[1]), "rb") as described:  # noqa: PTH123  (it is open already)
        schema = Schema([Field(name, types[kind], nullable=True) for name, kind in json.load(described)])
    write_parquet(
        read_csv("/dev/stdin", schema, has_header=False, batch_size=BATCH_ROWS),
        "/dev/stdout",
        compression="zstd(1)",
        max_row_group_size=GROUP_ROWS,
        created_by="Rubrika",
    )
