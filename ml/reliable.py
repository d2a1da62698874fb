"""How far the probabilities of a model can be taken at their word, as its card tells it: for plots on its page."""

from collections.abc import Sequence
from typing import Any

from ml import calibrate, metrics
from ml.calibrate import Floats

BINS = 12
METHOD = (
    "cross-fitted as the figures; of each topic bins of equally many posts, from the least probable on: the mean "
    "probability that the model gave (believed) and the share of posts that have the topic (true)"
)


def cross_fitted(
    logits: Floats, labels: Floats, pieces: Floats, topics: Sequence[str], repeats: int, seed: int
) -> dict[str, Any]:
    """Return the part `reliability` of a card, for logits and labels (n, topics) of posts that training did not see.

    Calibration comes from other posts than those whose probabilities are told, and from `pieces` of them, as in
    `calibrate.cross_fit`.
    """

    def measure(probabilities: Floats, labels: Floats, _: Floats) -> dict[str, float]:
        return {
            f"{column} {number} {name}": value
            for column in range(len(topics))
            for number, one in enumerate(metrics.reliability(probabilities[:, column], labels[:, column], BINS))
            for name, value in (("believed", one.believed), ("true", one.true))
        }

    found = calibrate.cross_fit(logits, labels, measure, repeats, seed, pieces)
    means = {name: round(mean, 4) for name, (mean, _) in found.items()}
    bins = min(BINS, len(labels))
    return {
        "method": METHOD,
        "posts": len(labels),
        "topics": {
            topic: [
                {name: means[f"{column} {number} {name}"] for name in ("believed", "true")} for number in range(bins)
            ]
            for column, topic in enumerate(topics)
        },
    }
