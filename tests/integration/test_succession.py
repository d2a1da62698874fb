"""Which model a starting worker loads, and whether that becomes the active one."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Engine

from jobs import fleet
from jobs.database import run
from jobs.records import Topic
from jobs.settings import Settings
from ml import artifact
from tests.tiny_model import make_tiny_model
from worker.succession import Choice, choose


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    return make_tiny_model(tmp_path / "shipped")


@pytest.fixture
def settings(settings: Settings, shipped: Path) -> Settings:
    return replace(settings, model=shipped, model_is_given=False)


def activate(engine: Engine, folder: Path) -> None:
    info = artifact.read(folder).info
    topics = [Topic(one.id, one.name, one.name_en, one.threshold) for one in info.topics]
    known = {"name": info.name, "version": info.version, "sha256": info.sha256, "topics": topics, "card": {}}
    run(engine, lambda c: fleet.register_model(c, **known, folder=str(folder)))


def test_another_model_in_the_shipped_folder_takes_the_place_of_the_one_that_lay_there(
    engine: Engine, settings: Settings, shipped: Path
) -> None:
    assert run(engine, lambda c: choose(c, settings)) == Choice(shipped, activate=True)
    activate(engine, shipped)
    assert run(engine, lambda c: choose(c, settings)) == Choice(shipped, activate=True)
    content = json.loads((shipped / artifact.SETTINGS).read_text(encoding="utf-8"))
    artifact.write_json(shipped / artifact.SETTINGS, content | {"version": "9.9.9"})
    artifact.write_manifest(shipped)
    assert run(engine, lambda c: choose(c, settings)) == Choice(shipped, activate=True)


def test_a_model_of_ones_own_stays_active_where_it_cannot_be_loaded(
    engine: Engine, settings: Settings, shipped: Path, tmp_path: Path
) -> None:
    mine = make_tiny_model(tmp_path / "mine", seed=1)
    activate(engine, mine)
    assert run(engine, lambda c: choose(c, settings)) == Choice(mine, activate=True)
    shutil.rmtree(mine)
    # This worker takes the shipped one for the time being; others may have the folder.
    assert run(engine, lambda c: choose(c, settings)) == Choice(shipped, activate=False)
