"""Whether the memory of a process is flat.

Sampled is the resident set (of Postgres what all its processes hold for themselves, without the buffers that they
share). After a warm-up the samples are drawn together into bins by their medians, and Theil and Sen's slope is laid
through these: the median of the slopes of all pairs, which a third of the bins may be wild without bending. A process
grows when two things hold. Even the lower end of the slope's interval (95 %), taken over the measured time, is more
than `ALLOWED_SHARE` of the median and more than `ALLOWED_BYTES`. And none of it was given back: what has leaked stays,
so even the least bin of the last quarter lies above the first quarter by half of that. (The caches of Postgres's
connections grow until these are dropped.)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from scipy.stats import theilslopes

ALLOWED_SHARE = 0.04
ALLOWED_BYTES = 6e6
BINS = 40
LEAST_BINS = 12

Sample = tuple[float, float]
"""Seconds since the beginning, and bytes."""


@dataclass(frozen=True)
class Trend:
    """Where the memory of a process goes.

    Attributes:
        middle: its median, in bytes.
        growth: over the measured time, by the slope; `least` and `most` by the ends of its interval.
        seconds: that were measured.
        course: the medians of the bins, in bytes.
    """

    name: str
    middle: float
    growth: float
    least: float
    most: float
    seconds: float
    course: tuple[float, ...]

    @property
    def grows(self) -> bool:
        """Whether that is more than noise and more than is allowed."""
        allowed = max(ALLOWED_SHARE * self.middle, ALLOWED_BYTES)
        quarter = len(self.course) // 4
        kept = min(self.course[-quarter:]) - median(self.course[:quarter])
        return bool(self.least > allowed and kept > allowed / 2)

    def __str__(self) -> str:
        numbers = " ".join(f"{value / 1e6:+.1f}" for value in (self.growth, self.least, self.most))
        course = " ".join(f"{size / 1e6:.0f}" for size in self.course[:: len(self.course) // 8])
        return f"{self.name}: {self.middle / 1e6:.0f} MB, {numbers} MB in {self.seconds / 60:.1f} min; {course}"


def trend(name: str, samples: Sequence[Sample], warm_up: float) -> Trend | None:
    """The trend of what came after `warm_up` seconds; None for a process that was there for too short a time."""
    kept = [sample for sample in samples if sample[0] >= warm_up]
    bins = [kept[len(kept) * n // BINS : len(kept) * (n + 1) // BINS] for n in range(BINS)]
    points = [(median(t for t, _ in one), median(size for _, size in one)) for one in bins if one]
    if len(points) < LEAST_BINS:
        return None
    times, sizes = zip(*points, strict=True)
    slope, _, low, high = theilslopes(sizes, times, alpha=0.95)
    seconds = times[-1] - times[0]
    return Trend(name, median(sizes), slope * seconds, low * seconds, high * seconds, seconds, sizes)
