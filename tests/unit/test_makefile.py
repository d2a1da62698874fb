"""`make up` notices an environment that is of another Python or another place, and `make clean up` mends it.

`make install` does the same and starts nothing. What is installed here are stubs; the environment around them is a real
one, in a folder whose name has a space.
"""

import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from jobs.settings import PROJECT_ROOT

SENTENCE = "The environment in .venv is of another Python or another place: make clean up (your data stays)."

# Makes an environment as `python -m venv .venv` does, with a pip that installs nothing.
PYTHON = f"""#!/bin/sh
case "$1" in
    -m) {sys.executable} -c 'from tests.unit.test_makefile import furnish; furnish()' ;;
esac
"""


def furnish() -> None:
    """An environment in the folder of this process, in which its `cli` is installed and `rubrika up` says so."""
    here = Path.cwd()
    venv.create(here / ".venv")
    [packages] = (here / ".venv").glob("lib/python*/site-packages")
    (packages / "checkout.pth").write_text(f"{here}\n")
    for name, line in {"pip": "true", "rubrika": 'echo "started: $1"'}.items():
        (here / ".venv" / "bin" / name).write_text(f"#!/bin/sh\n{line}\n")
        (here / ".venv" / "bin" / name).chmod(0o755)


def make(folder: Path, *goals: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["make", "--no-print-directory", *goals, "PYTHON=./python"],
        cwd=folder,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "PYTHONPATH": str(PROJECT_ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder in which `make up` has run once."""
    folder = tmp_path / "a checkout"
    (folder / "cli").mkdir(parents=True)
    (folder / "cli" / "__init__.py").touch()
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(PROJECT_ROOT / name, folder)
    (folder / "python").write_text(PYTHON)
    (folder / "python").chmod(0o755)
    assert make(folder, "up").stdout == "started: up\n"
    return folder


def moved(checkout: Path) -> Path:
    return checkout.rename(checkout.with_name("another place"))


def copied(checkout: Path) -> Path:
    return shutil.copytree(checkout, checkout.with_name("a copy"), symlinks=True)


def of_another_python(checkout: Path) -> Path:
    [library] = (checkout / ".venv" / "lib").glob("python*")
    library.rename(library.with_name("python3.0"))
    return checkout


def of_a_python_that_is_gone(checkout: Path) -> Path:
    python = checkout / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to("/nowhere/python3")
    return checkout


@pytest.mark.parametrize("change", [moved, copied, of_another_python, of_a_python_that_is_gone])
def test_a_broken_environment_is_a_sentence_and_is_mended_as_it_says(checkout: Path, change: object) -> None:
    assert make(checkout, "up").stdout == "started: up\n"
    assert callable(change)
    folder = change(checkout)
    # Also when there is something to install, which would fail in words of its own.
    (folder / "pyproject.toml").touch()
    refused = make(folder, "up")
    assert (refused.returncode, refused.stdout) == (2, "")
    sentence, by_make = refused.stderr.splitlines()
    assert sentence == SENTENCE
    assert by_make.endswith("Error 1")
    (folder / "data").mkdir()
    (folder / "data" / "kept").touch()
    mended = make(folder, "clean", "up")
    assert mended.stdout == "started: up\n", mended.stderr
    assert (folder / "data" / "kept").exists()
    assert make(folder, "up").stdout == "started: up\n"


def test_a_machine_that_is_one_of_several_is_installed_without_starting_anything(checkout: Path) -> None:
    assert make(checkout, "clean", "install").stdout == ""
    assert (checkout / ".venv" / ".default").exists()
    assert make(checkout, "up").stdout == "started: up\n"
    refused = make(of_another_python(checkout), "install")
    assert refused.stderr.splitlines()[0] == SENTENCE.replace("clean up", "clean install")


def test_tests_do_not_begin_in_a_broken_environment(checkout: Path) -> None:
    refused = make(of_another_python(checkout), "test")
    assert refused.stderr.splitlines()[0] == SENTENCE.replace("clean up", "clean test")


def test_what_a_half_made_environment_lacks_is_installed(checkout: Path) -> None:
    of_another_python(checkout)
    (checkout / ".venv" / ".default").unlink()
    assert make(checkout, "up").stdout == "started: up\n"
