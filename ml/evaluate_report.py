"""The report of `rubrika evaluate` as one page: figures, curves, and where the model errs."""

import numpy as np
from markupsafe import Markup

from ml import report, svg
from ml.artifact import ModelInfo
from ml.evaluate import Report, Slice


def page(found: Report, info: ModelInfo) -> str:
    """Return the page, HTML that needs nothing besides itself."""
    names = {topic.id: topic.name_en for topic in info.topics}
    topics = [(names[one.id], one, colour) for colour, one in enumerate(found.topics)]
    bins = {
        one.id: svg.unit_curves(
            [("of equally many posts", [(part.believed, part.true) for part in one.reliability], colour)],
            f"Reliability of {name}",
            ("probability", "share that has it"),
            diagonal=True,
            dots=True,
        )
        for name, one, colour in topics
    }
    return report.render(
        "evaluate.html",
        found=found,
        info=info,
        names=names,
        figures=[
            (
                name.replace("_", " "),
                value,
                found.intervals[name],
                found.crops[name],
                (found.cross_fitted or {}).get(name),
            )
            for name, value in found.figures.items()
        ],
        precision_recall=svg.unit_curves(
            [(f"{name} ({one.average_precision:.2f})", one.precision_recall, colour) for name, one, colour in topics],
            "Precision and recall",
            ("recall", "precision"),
        ),
        roc=svg.unit_curves(
            [(f"{name} ({one.roc_auc:.2f})", one.roc, colour) for name, one, colour in topics],
            "Receiver operating characteristic",
            ("false positive rate", "true positive rate"),
            diagonal=True,
        ),
        bins=bins,
        confusion=_confusion(found, names),
        slices=[("Words", _rows(found.by_length)), ("Fields", _rows(found.by_field))],
    )


def _confusion(found: Report, names: dict[str, str]) -> Markup:
    rows = [names[one.id] for one in found.topics]
    return svg.heatmap(rows, [*rows, "none"], np.array(found.confusion), "Assigned topics by label")


def _rows(slices: tuple[Slice, ...]) -> list[tuple[str, int, list[float]]]:
    shown = ("micro_f1", "macro_f1", "mean_average_precision", "first_choice_right", "calibration_error")
    return [(one.name, one.posts, [one.figures[name] for name in shown]) for one in slices]
