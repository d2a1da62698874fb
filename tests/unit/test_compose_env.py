"""What `.env` says about the containers holds for every `docker compose up`, and is what operators are told."""

import re
from pathlib import Path

import pytest

from jobs.settings import PROJECT_ROOT
from tests.unit.test_deployment import SERVICES, SUBSTITUTION

COMPOSE = PROJECT_ROOT / "docker-compose.yml"
TOLD = [COMPOSE, PROJECT_ROOT / "README.md", PROJECT_ROOT / "docs" / "operations.md"]
# Compose reads this one itself, and the others are put in where the file names them.
KNOWN = {"COMPOSE_PROFILES"} | {match[1] for match in SUBSTITUTION.finditer(COMPOSE.read_text()) if match[1].isupper()}
BOUNDS = re.compile(r"\b(?:WORKERS|COMPOSE_[A-Z]+|(?:POSTGRES|API|WORKER|GPU_WORKER)_(?:MEMORY|CPUS|CONNECTIONS))\b")


def given(value: object, **env: str) -> str:
    """A value of the file with what `.env` says, or else its default."""
    return SUBSTITUTION.sub(lambda found: env.get(found[1]) or found[3], str(value))


def test_as_many_workers_run_as_env_says() -> None:
    """And by nothing else: the next `up` without the same option would take away what `up --scale` has added."""
    scale = SERVICES["worker"]["scale"]
    assert [given(scale), given(scale, WORKERS=""), given(scale, WORKERS="3")] == ["1", "1", "3"]
    # They are workers on the CPU: that on the GPU stays one.
    assert SERVICES["worker-gpu"]["scale"] == 1
    assert given(SERVICES["worker-gpu"]["cpus"], WORKER_CPUS="2") == "0"
    assert "replicas" not in str(SERVICES), "which would have to say the same"


def test_services_can_be_scaled() -> None:
    assert not [name for name, service in SERVICES.items() if "container_name" in service]


@pytest.mark.parametrize("document", TOLD, ids=lambda path: path.name)
def test_every_up_is_one_that_changes_nothing_when_it_is_repeated(document: Path) -> None:
    commands = re.findall(r"docker compose [^`#\n]*", document.read_text())
    assert [command for command in commands if " up" in command]
    for command in commands:
        assert "--scale" not in command
        assert "--profile" not in command


@pytest.mark.parametrize("document", TOLD, ids=lambda path: path.name)
def test_every_variable_of_env_that_is_named_is_read(document: Path) -> None:
    assert {"WORKERS", "COMPOSE_PROFILES"} <= set(BOUNDS.findall(document.read_text())) <= KNOWN


def test_every_variable_of_env_is_named_at_the_head_of_the_file() -> None:
    # Which port is published is said where it is.
    assert set(BOUNDS.findall(COMPOSE.read_text().split("\nname:")[0])) == KNOWN - {"PUBLISH"}
