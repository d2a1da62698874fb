"""A run folder: what a training was, how it went, and where it was when it stopped.

run.json         options, digest of the data, versions of what computes; a run goes on only where these agree
epochs.jsonl     one object an epoch: the loss and the validation figures, per topic too
curves.html      the same as a picture
checkpoint.pt    where the run is, until it ends; read without running anything that a file could bring
"""

import json
import platform
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from ml import report, svg
from ml.errors import DataError

RUN, EPOCHS, CURVES, CHECKPOINT = "run.json", "epochs.jsonl", "curves.html", "checkpoint.pt"

CHECKPOINT_EVERY_S = 120.0
PACKAGES = ("torch", "transformers", "tokenizers", "scikit-learn", "numpy")

# What changes nothing of what is learnt, and so may differ between a run and the one that goes on with it.
NOT_LEARNT = ("name", "version", "base_name", "base_licence", "threads", "device")


class RunFolder:
    """The folder of one run.

    Args:
        path: made where it is missing.
        options: everything that the run depends on besides its data, as JSON can hold it.
        data_digest: of the data.
        every_s: seconds between two checkpoints within an epoch.

    Raises:
        DataError: the folder holds a run with other options or data, or something that is no run.
    """

    def __init__(
        self, path: Path, options: Mapping[str, Any], data_digest: str, every_s: float = CHECKPOINT_EVERY_S
    ) -> None:
        self.path = path
        self._every_s, self._written = every_s, time.monotonic()
        made_for = json.loads(json.dumps({"options": dict(options), "data": data_digest}))
        if (path / RUN).exists():
            self._check(made_for)
            return
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise DataError(f"{path} exists and is no folder of a run: choose another place.")
        path.mkdir(parents=True, exist_ok=True)
        versions = {name: metadata.version(name) for name in PACKAGES}
        environment = {"python": platform.python_version(), "machine": platform.machine(), **versions}
        _replace(path / RUN, json.dumps({**made_for, "environment": environment}, ensure_ascii=False, indent=1) + "\n")

    def is_time(self) -> bool:
        """Say whether the last checkpoint is old enough for another."""
        return time.monotonic() - self._written >= self._every_s

    def checkpoint(self, device: torch.device) -> dict[str, Any] | None:
        """Return the state that `write_checkpoint` was given last; None without one.

        Raises:
            DataError: the file is damaged.
        """
        file = self.path / CHECKPOINT
        if not file.exists():
            # A run that came to its end is made anew, and so are its figures.
            for name in (EPOCHS, CURVES):
                (self.path / name).unlink(missing_ok=True)
            return None
        try:
            state: dict[str, Any] = torch.load(file, map_location=device, weights_only=True)
        except (OSError, RuntimeError, EOFError, UnpicklingError) as error:
            raise DataError(f"{file} cannot be read: take it away to begin the run anew.") from error
        # An epoch that was written down and not reached again by the checkpoint is made once more.
        done = [line for line in self.epochs() if line["epoch"] < state["place"][0]]
        self._write_epochs(done)
        return state

    def write_checkpoint(self, state: Mapping[str, Any]) -> None:
        """Write the state in one step: a kill leaves the one before."""
        draft = self.path / f".{CHECKPOINT}"
        torch.save(dict(state), draft)
        draft.replace(self.path / CHECKPOINT)
        self._written = time.monotonic()

    def write_epoch(self, epoch: int, figures: Mapping[str, float]) -> None:
        """Add what an epoch came to, and draw the curves anew."""
        self._write_epochs([*self.epochs(), {"epoch": epoch, **figures}])

    def epochs(self) -> list[dict[str, Any]]:
        """Return what was written of the epochs, in their order."""
        file = self.path / EPOCHS
        if not file.exists():
            return []
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]

    def finish(self) -> None:
        """Take the checkpoint away: the run has come to its end, and its weights lie in a model folder."""
        (self.path / CHECKPOINT).unlink(missing_ok=True)

    def _write_epochs(self, lines: list[dict[str, Any]]) -> None:
        _replace(self.path / EPOCHS, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
        _replace(self.path / CURVES, curves(lines))

    def _check(self, made_for: Mapping[str, Any]) -> None:
        try:
            before = json.loads((self.path / RUN).read_text(encoding="utf-8"))
            options = before["options"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{self.path / RUN} is damaged: take the folder away to begin anew.") from error
        wanted = made_for["options"]
        other = sorted(
            name for name in {*options, *wanted} if name not in NOT_LEARNT and options.get(name) != wanted.get(name)
        )
        if before.get("data") != made_for["data"]:
            other.append("the data")
        if other:
            raise DataError(
                f"{self.path} holds a run that differs in {', '.join(other)}: go on with what it began with, or choose "
                "another folder."
            )


def curves(lines: list[dict[str, Any]]) -> str:
    """Return a page with the figures of each epoch as curves and as tables, those of each topic apart."""
    names = [name for name in (lines[0] if lines else {}) if name != "epoch"]
    parts = []
    for title, some in (
        ("All topics together", [name for name in names if "/" not in name]),
        ("F1 of each topic", [name for name in names if "/" in name]),
    ):
        labels = [name.partition("/")[2] or name.replace("_", " ") for name in some]
        plot = svg.lines(
            [line["epoch"] for line in lines],
            [(label, [line[name] for line in lines]) for label, name in zip(labels, some, strict=True)],
            title,
        )
        rows = [(line["epoch"], [f"{line[name]:.4f}" for name in some]) for line in lines]
        parts.append((title, plot, labels, rows))
    return report.render("run.html", parts=parts)


def _replace(file: Path, content: str) -> None:
    draft = file.with_name(f".{file.name}")
    draft.write_text(content, encoding="utf-8")
    draft.replace(file)
