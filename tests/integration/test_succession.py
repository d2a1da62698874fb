"""Which model a starting worker loads, and whether that becomes the active one; what it does when it cannot."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import Engine

from jobs import fleet
from jobs.database import run
from jobs.records import Topic
from jobs.settings import Settings
from ml import artifact
from ml.classifier import Classifier
from ml.errors import ModelError
from tests.tiny_model import make_tiny_model
from worker.main import load_chosen, register
from worker.succession import Choice, Succession, choose


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


def active(engine: Engine) -> str:
    return run(engine, fleet.active_model).sha256


def loaded(folder: Path) -> Classifier:
    """As far as registering it goes."""
    return SimpleNamespace(info=artifact.read(folder).info)  # type: ignore[return-value]


def test_another_model_in_the_shipped_folder_takes_the_place_of_the_one_that_lay_there(
    engine: Engine, settings: Settings, shipped: Path
) -> None:
    assert run(engine, lambda c: choose(c, settings)) == Choice(shipped, activate=True)
    activate(engine, shipped)
    before = artifact.read(shipped).info.sha256
    assert run(engine, lambda c: choose(c, settings)) == Choice(shipped, activate=False, seen=before)
    content = json.loads((shipped / artifact.SETTINGS).read_text(encoding="utf-8"))
    artifact.write_json(shipped / artifact.SETTINGS, content | {"version": "9.9.9"})
    artifact.write_manifest(shipped)
    choice = run(engine, lambda c: choose(c, settings))
    assert choice == Choice(shipped, activate=True, seen=before)
    after = loaded(shipped)
    register(engine, settings, after, choice)
    assert active(engine) == after.info.sha256 != before


def test_a_model_of_ones_own_stays_active_where_it_cannot_be_loaded(
    engine: Engine, settings: Settings, shipped: Path, tmp_path: Path
) -> None:
    mine = make_tiny_model(tmp_path / "mine", seed=1)
    activate(engine, mine)
    sha256 = artifact.read(mine).info.sha256
    assert run(engine, lambda c: choose(c, settings)) == Choice(mine, activate=False, seen=sha256)
    shutil.rmtree(mine)
    # This worker takes the shipped one for the time being; others may have the folder.
    assert run(engine, lambda c: choose(c, settings)) == Choice(shipped, activate=False, seen=sha256)


def test_a_checkout_that_has_moved_says_where_the_active_model_lies_now(
    engine: Engine, settings: Settings, shipped: Path, tmp_path: Path
) -> None:
    """Else the next version of it in this folder would be nobody's successor."""
    elsewhere = tmp_path / "old" / "shipped"
    shutil.copytree(shipped, elsewhere)
    activate(engine, elsewhere)
    sha256 = artifact.read(shipped).info.sha256
    shutil.rmtree(elsewhere)
    choice = run(engine, lambda c: choose(c, settings))
    assert choice == Choice(shipped, activate=False, seen=sha256)
    register(engine, settings, loaded(shipped), choice)
    assert run(engine, fleet.active_folder) == fleet.ActiveFolder(sha256, str(shipped))


@pytest.mark.parametrize("before", ["nothing", "shipped", "mine", "an earlier one in the folder of the shipped one"])
def test_what_is_activated_while_a_worker_loads_stays_active(
    engine: Engine, settings: Settings, shipped: Path, tmp_path: Path, before: str
) -> None:
    """A rollback above all: the model that was active a minute ago is on its way, and no more wanted."""
    folder = make_tiny_model(tmp_path / "mine", seed=1) if before == "mine" else shipped
    if before != "nothing":
        activate(engine, folder)
    if before.startswith("an earlier one"):
        make_tiny_model(shipped, seed=2)
    choice = run(engine, lambda c: choose(c, settings))
    assert choice.folder == folder
    wanted = make_tiny_model(tmp_path / "wanted", seed=3)
    activate(engine, wanted)
    register(engine, settings, loaded(folder), choice)
    assert active(engine) == artifact.read(wanted).info.sha256
    # Only who names a model to a worker has the last word.
    pinned = replace(settings, model_is_given=True)
    register(engine, pinned, loaded(shipped), run(engine, lambda c: choose(c, pinned)))
    assert active(engine) == artifact.read(shipped).info.sha256


@pytest.mark.parametrize("before", ["nothing", "another", "itself"])
def test_a_worker_on_trial_makes_its_model_known_and_nothing_else(
    engine: Engine, settings: Settings, shipped: Path, tmp_path: Path, before: str
) -> None:
    tried = make_tiny_model(tmp_path / "tried", seed=1)
    if before == "itself":
        shutil.copytree(tried, tmp_path / "elsewhere")
    folder = {"nothing": None, "another": shipped, "itself": tmp_path / "elsewhere"}[before]
    if folder:
        activate(engine, folder)
    trial = replace(settings, model=tried, model_is_given=True, trial=True)
    choice = run(engine, lambda c: choose(c, trial))
    assert choice == Choice(tried, activate=False)
    model = register(engine, trial, loaded(tried), choice)
    known = {one.id: one for one in run(engine, fleet.models)}
    assert known[model].sha256 == artifact.read(tried).info.sha256
    found = [(one.sha256, one.folder) for one in known.values() if one.active]
    # Others load the active model from its folder: that stays as it was as well.
    assert found == ([(artifact.read(folder).info.sha256, str(folder))] if folder else [])
    # A worker that takes new texts makes its own the active one, where there is none.
    assert run(engine, lambda c: choose(c, settings)).activate is (before == "nothing")


def test_a_worker_goes_on_with_the_model_of_its_settings_where_the_active_one_cannot_be_loaded(
    engine: Engine, settings: Settings, shipped: Path, tmp_path: Path
) -> None:
    """Its folder is whole: only loading it shows that something is lacking here."""
    mine = make_tiny_model(tmp_path / "mine", seed=1)
    activate(engine, mine)

    def load(asked: Settings) -> Classifier:
        if asked.model == mine:
            raise ModelError("it has no ranges")
        return loaded(asked.model)

    sha256 = artifact.read(mine).info.sha256
    classifier, choice = load_chosen(settings, run(engine, lambda c: choose(c, settings)), load)
    assert choice == Choice(shipped, activate=False, refused=sha256)
    register(engine, settings, classifier, choice)
    assert active(engine) == sha256, "others may be able to run it"
    succession = Succession(engine, classifier.info.sha256, lambda: None, refused=choice.refused)
    assert not succession._look(), "or it would start anew every two seconds"
    activate(engine, make_tiny_model(tmp_path / "other", seed=2))
    assert succession._look()
    with pytest.raises(ModelError, match="it has no ranges"):
        load_chosen(replace(settings, model=mine), Choice(mine, activate=True), load)
