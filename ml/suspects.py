"""Labels that a model which has not seen them finds hard to believe: confident learning.

Northcutt, Jiang, Chuang (2021), "Confident Learning: Estimating Uncertainty in Dataset Labels", JAIR 70, applied to
each topic as a question of its own (has it, has it not), because a post may have several.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Suspect:
    """A post whose label for one topic is doubtful.

    Attributes:
        row: index of the post.
        topic: index of the topic.
        has_label: whether the post has the topic now; the suspicion is that it is the other way round.
        probability: that it has the topic, out of fold.
    """

    row: int
    topic: int
    has_label: bool
    probability: float

    @property
    def trust(self) -> float:
        """Probability of the label as it is; the list begins with the lowest."""
        return self.probability if self.has_label else 1 - self.probability


@dataclass(frozen=True)
class TopicNoise:
    """How many labels of a topic are suspected.

    Attributes:
        labelled: posts with the label.
        wrong: of these, suspected not to deserve it.
        missing: posts without the label, suspected to deserve it.
    """

    topic: str
    labelled: int
    wrong: int
    missing: int


def find_suspects(labels: npt.NDArray[np.float32], probabilities: npt.NDArray[np.float32]) -> list[Suspect]:
    """Return the doubtful labels, the least believable first.

    A label is doubtful where the probability of its opposite is as high as it is, on average, for posts that carry the
    opposite label, and its own is not. These averages are the thresholds of the paper: they allow for a model that is
    surer of one topic than of another.

    Args:
        labels: float32 (posts, topics), 0 or 1.
        probabilities: float32 (posts, topics), out of fold.
    """
    found: list[Suspect] = []
    for topic in range(labels.shape[1]):
        has, probability = labels[:, topic] > 0.5, probabilities[:, topic].astype(np.float64)
        if has.all() or not has.any():
            continue
        like_having, like_lacking = probability[has].mean(), (1 - probability[~has]).mean()
        is_like_having, is_like_lacking = probability >= like_having, 1 - probability >= like_lacking
        wrong = has & is_like_lacking & ~is_like_having
        missing = ~has & is_like_having & ~is_like_lacking
        found += [
            Suspect(row, topic, bool(has[row]), float(probability[row]))
            for row in np.flatnonzero(wrong | missing).tolist()
        ]
    return sorted(found, key=lambda one: (one.trust, one.row, one.topic))


def noise_of_topics(labels: npt.NDArray[np.float32], ids: list[str], suspects: list[Suspect]) -> tuple[TopicNoise, ...]:
    """Count the suspects of each topic, in label order."""
    return tuple(
        TopicNoise(
            topic,
            int(labels[:, index].sum()),
            sum(one.topic == index and one.has_label for one in suspects),
            sum(one.topic == index and not one.has_label for one in suspects),
        )
        for index, topic in enumerate(ids)
    )
