"""What is written for people is held to the code: settings, links, commands, codes, addresses, states."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.app import create_app
from api.files import FileCode
from cli.main import main
from jobs.settings import PROJECT_ROOT, SETTINGS_TABLE, Settings
from jobs.states import ChunkState, ExplanationError, ExplanationState, JobState, RowError

README = PROJECT_ROOT / "README.md"
DOCUMENTS = [README, *sorted((PROJECT_ROOT / "docs").rglob("*.md"))]
API_GUIDE = PROJECT_ROOT / "docs" / "api.md"
STATES = PROJECT_ROOT / "docs" / "states.md"

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCED = re.compile(r"^```\w*\n.*?^```$", re.DOTALL | re.MULTILINE)

documents = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(PROJECT_ROOT)))


def prose(document: Path) -> str:
    """A document without its blocks of code."""
    return FENCED.sub("", document.read_text())


def tables(document: Path) -> Iterator[list[list[str]]]:
    """The tables of a document as rows of cells; the header comes first."""
    for block in re.findall(r"(?:^\|.*\|\n)+", prose(document), flags=re.MULTILINE):
        rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in block.splitlines()]
        yield [rows[0], *rows[2:]]


# --- settings -------------------------------------------------------------------------------------------------------


def test_the_table_of_settings_is_that_of_the_code() -> None:
    [rows] = [rows for rows in tables(README) if rows[0][0] == "variable"]
    assert rows[0] == ["variable", "default", "meaning"]
    written = {name.strip("`"): (default.strip("`"), meaning) for name, default, meaning in rows[1:]}
    assert len(written) == len(rows) - 1, "a variable stands there twice"
    assert written == SETTINGS_TABLE


@documents
def test_every_variable_that_is_named_is_a_setting(document: Path) -> None:
    named = set(re.findall(r"RUBRIKA_[A-Z_]*[A-Z]", document.read_text()))
    assert named <= set(SETTINGS_TABLE), f"{named - set(SETTINGS_TABLE)} are not settings"


# --- links and commands ---------------------------------------------------------------------------------------------


@documents
def test_every_relative_link_leads_to_a_file(document: Path) -> None:
    targets = [target.partition("#")[0] for target in LINK.findall(prose(document)) if "://" not in target]
    missing = [target for target in targets if not (document.parent / target).exists()]
    assert not missing


def test_every_decision_is_linked_from_the_readme() -> None:
    linked = set(LINK.findall(prose(README)))
    decisions = sorted((PROJECT_ROOT / "docs" / "decisions").glob("*.md"))
    assert decisions
    assert [path.name for path in decisions if f"docs/decisions/{path.name}" not in linked] == []


@pytest.mark.parametrize("name", [path.name for path in sorted((PROJECT_ROOT / "docs" / "decisions").glob("*.md"))])
def test_a_decision_begins_with_its_number(name: str) -> None:
    first = (PROJECT_ROOT / "docs" / "decisions" / name).read_text().splitlines()[0]
    assert first.startswith(f"# {int(name[:4])}. ")


@documents
def test_every_command_that_is_named_exists(document: Path) -> None:
    text = document.read_text()
    named = set(re.findall(r"(?:`|^|&& |bin/)rubrika ([a-z]+)\b", text, flags=re.MULTILINE))
    assert named <= set(main.commands)
    targets = set(re.findall(r"^([a-z-]+):", (PROJECT_ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert set(re.findall(r"(?:`|^|\bFOLDER )make ([a-z-]+)\b", text, flags=re.MULTILINE)) <= targets


def test_every_command_stands_in_the_readme() -> None:
    [rows] = [rows for rows in tables(README) if rows[0][0] == "command"]
    assert {row[0].strip("`").split()[1] for row in rows[1:]} == set(main.commands)


# --- the guide to the interface -------------------------------------------------------------------------------------


def test_the_guide_has_a_heading_and_an_example_for_every_address() -> None:
    sections = re.split(r"^### ", API_GUIDE.read_text(), flags=re.MULTILINE)[1:]
    described = {section.splitlines()[0].replace("&lt;", "<").replace("&gt;", ">"): section for section in sections}
    # Nothing connects while the app is made.
    settings = Settings.from_env({"DATABASE_URL": "postgresql://nowhere/x", "REDIS_URL": "redis://nowhere"})
    served = {
        f"{method} {rule.rule}"
        for rule in create_app(settings).url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if rule.rule.startswith("/api/")
    }
    assert {heading for heading in described if "/api/" in heading} == served
    assert [heading for heading in served if "curl -s" not in described[heading]] == []


@pytest.mark.parametrize("code", [*FileCode, *RowError, *ExplanationError])
def test_every_code_is_explained(code: str) -> None:
    explained = {row[-2].strip("`") for rows in tables(API_GUIDE) for row in rows[1:]}
    assert code in explained


def test_every_code_of_a_problem_is_in_the_guide() -> None:
    sources = [path.read_text() for path in (PROJECT_ROOT / "api").rglob("*.py")]
    found: set[str] = set()
    for source in sources:
        found |= set(re.findall(r"ProblemError\(\s*\d{3},\s*\"([a-z_]+)\"", source))
        found |= set(re.findall(r"bad_input\(\s*\"[^\"]*\",\s*\"([a-z_]+)\"", source))
    assert len(found) > 10
    named = set(re.findall(r"`([a-z_]+)`", API_GUIDE.read_text()))
    assert found <= named, f"{found - named} are not explained"


# --- states ---------------------------------------------------------------------------------------------------------


def test_the_diagrams_show_exactly_the_states_of_the_code() -> None:
    chunk, job, explanation = re.findall(r"```mermaid\n(.*?)```", STATES.read_text(), flags=re.DOTALL)
    arrow = re.compile(r"^ +(\S+) --> (\S+?)(?::.*)?$", re.MULTILINE)
    assert {end for ends in arrow.findall(chunk) for end in ends} - {"[*]", "split"} == set(ChunkState)
    assert {end for ends in arrow.findall(job) for end in ends} - {"[*]", "settled"} == set(JobState)
    assert {end for ends in arrow.findall(explanation) for end in ends} - {"[*]"} == set(ExplanationState)
