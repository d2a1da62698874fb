"""A comparison as a table for terminals, Markdown, CSV and JSON, as a page with a plot, and in the card of a model."""

import csv
import dataclasses
import io
import json
import shutil
from pathlib import Path
from typing import Any

from ml import artifact, report, svg
from ml.comparing import RANKED_BY, Comparison, Row

HEADS = ("candidate", "micro-F1", "macro-F1", "first right", "calibration error", "learn s", "posts/s", "MB")
SHOWN = ("micro_f1", "macro_f1", "first_choice_right", "calibration_error")

BEGIN, END = "## What it was compared with\n", "\n## "


def cells(row: Row) -> list[str]:
    """Return what stands in the table for a row, under `HEADS`."""
    figures = (f"{mean:.3f} ± {spread:.3f}" for mean, spread in (row.figures[name] for name in SHOWN))
    return [row.name, *figures, f"{row.fit_s:.1f}", f"{row.posts_s:.0f}", f"{row.size / 1e6:.1f}"]


def _table(found: Comparison) -> list[list[str]]:
    rows = [[*cells(row)] for row in found.rows]
    if not any(row.gain for row in found.rows):
        return [[*HEADS], *rows]
    gains = ["" if row.gain is None else f"{row.gain[0]:+.4f} ± {row.gain[1]:.4f}" for row in found.rows]
    return [[*HEADS, "gain"], *([*row, gain] for row, gain in zip(rows, gains, strict=True))]


def as_text(found: Comparison) -> str:
    """Return the table for a terminal, with the choice below it."""
    table = _table(found)
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    lines = [
        "  ".join(cell.rjust(width) if column else cell.ljust(width) for column, (cell, width) in enumerate(both))
        for both in (zip(line, widths, strict=True) for line in table)
    ]
    return "\n".join([*(line.rstrip() for line in lines), "", f"Chosen: {found.chosen.name}. {found.reason}"])


def as_markdown(found: Comparison) -> str:
    """Return the table in Markdown, with the choice below it."""
    head, *rows = _table(found)
    lines = [f"| {' | '.join(line)} |" for line in (head, ["---"] + ["---:"] * (len(head) - 1), *rows)]
    return "\n".join([*lines, "", f"Chosen: {found.chosen.name}. {found.reason}"]) + "\n"


def as_csv(found: Comparison) -> str:
    """Return all figures of all rows as CSV, numbers unrounded."""
    stream = io.StringIO()
    names = list(found.rows[0].figures)
    writer = csv.writer(stream, lineterminator="\n")
    pairs = [f"{name}_{what}" for name in names for what in ("mean", "spread")]
    writer.writerow(["candidate", "preparation", "trials", *pairs, "fit_s", "posts_s", "bytes", "gain", "gain_error"])
    for row in found.rows:
        values = [value for name in names for value in row.figures[name]]
        gain = row.gain or ("", "")
        writer.writerow([row.candidate, row.preparation, row.trials, *values, row.fit_s, row.posts_s, row.size, *gain])
    return stream.getvalue()


def as_json(found: Comparison) -> dict[str, Any]:
    """Return everything for programs."""
    return {
        "data_digest": found.data_digest,
        "posts": found.posts,
        "folds": found.folds,
        "seeds": list(found.seeds),
        "ranked_by": RANKED_BY,
        "rows": [dataclasses.asdict(row) | {"name": row.name} for row in found.rows],
        "chosen": found.chosen.name,
        "reason": found.reason,
    }


def page(found: Comparison) -> str:
    """Return the page with table and plot."""
    colours = {name: number for number, name in enumerate(dict.fromkeys(row.candidate for row in found.rows))}
    points = [(row.name, *row.figures[RANKED_BY], colours[row.candidate]) for row in found.rows]
    head, *rows = _table(found)
    plot = svg.intervals(points, "Micro-F1 of each candidate, mean and standard deviation")
    return report.render("compare.html", found=found, head=head, rows=rows, plot=plot)


def write(folder: Path, found: Comparison) -> None:
    """Write the table in all forms into `folder`: table.csv, table.json, table.md, report.html.

    Raises:
        DataError: they cannot be written.
    """
    report.write(folder / "table.csv", as_csv(found))
    report.write(folder / "table.json", json.dumps(as_json(found), ensure_ascii=False, indent=1) + "\n")
    report.write(folder / "table.md", as_markdown(found))
    report.write(folder / "report.html", page(found))


def write_into_card(model: Path, found: Comparison) -> None:
    """Tell in the card of a model folder what was compared and what was chosen; a second time replaces the first.

    The manifest is renewed, so the model gets another identity: a running service takes it for another model.

    Raises:
        ModelError: `model` is no whole model folder, or cannot be written.
    """
    artifact.read(model)
    rows = [
        {"name": row.name, "micro_f1": [round(value, 4) for value in row.figures["micro_f1"]],
         "macro_f1": [round(value, 4) for value in row.figures["macro_f1"]]}
        for row in found.rows
    ]  # fmt: skip
    method = (
        f"grouped {found.folds}-fold cross-validation, seeds {', '.join(map(str, found.seeds))}; mean and "
        "standard deviation over folds and seeds; calibration and thresholds cross-fitted inside each fold"
    )
    told = {
        "method": method,
        "data_digest": found.data_digest,
        "rows": rows,
        "chosen": found.chosen.name,
        "reason": found.reason,
    }
    section = f"{BEGIN}{method[0].upper()}{method[1:]}.\n\n{as_markdown(found)}"
    with artifact.replacing(model) as draft:
        for file in model.iterdir():
            if file.is_file() and file.name != artifact.MANIFEST:
                shutil.copy(file, draft / file.name)
        card = json.loads((draft / artifact.CARD).read_text(encoding="utf-8"))
        artifact.write_json(draft / artifact.CARD, {**card, "comparison": told})
        readme = draft / artifact.README
        before = readme.read_text(encoding="utf-8") if readme.exists() else ""
        readme.write_text(_with_section(before, section), encoding="utf-8")


def with_section_of(readme: str, other: str) -> str:
    """Return the card `readme` with what the card `other` tells of a comparison, if it does."""
    start = other.find(BEGIN)
    if start < 0:
        return readme
    end = other.find(END, start + len(BEGIN))
    section = other[start:] if end < 0 else other[start:end]
    return _with_section(readme, f"{section.rstrip()}\n")


def _with_section(readme: str, section: str) -> str:
    start = readme.find(BEGIN)
    if start >= 0:
        end = readme.find(END, start + len(BEGIN))
        return readme[:start] + section + (readme[end:] if end >= 0 else "")
    # Limits come last: they are what a reader should leave with.
    limits = readme.find("## Limits\n")
    if limits >= 0:
        return f"{readme[:limits]}{section}\n{readme[limits:]}"
    return f"{readme.rstrip()}\n\n{section}".lstrip()
