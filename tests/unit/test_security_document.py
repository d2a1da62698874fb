"""The audit table speaks of tests that exist."""

import ast
import re

from jobs.settings import PROJECT_ROOT

AUDIT = (PROJECT_ROOT / "docs" / "security.md").read_text()


def test_every_test_that_the_audit_names_is_there() -> None:
    named = set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", AUDIT))
    assert len(named) > 30
    for file in {file for file, _ in named}:
        tree = ast.parse((PROJECT_ROOT / file).read_text())
        there = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert {test for of, test in named if of == file} <= there, file


def test_every_row_of_the_audit_names_a_test_and_ids_that_are_ids() -> None:
    rows = [line.strip("| ").split(" | ") for line in AUDIT.splitlines() if line.startswith("| ") and "---" not in line]
    for row in rows:
        if row[0] == "attack":
            continue
        assert "::test_" in row[2], row[0]
        ids = row[3].strip(" |").split(", ") if len(row) > 3 and row[3].strip(" |") else []
        assert all(re.fullmatch(r"\d{1,2}\.\d{1,2}\.\d{1,2}", one) for one in ids), row
