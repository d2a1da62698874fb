"""Compare classifiers, and ways to prepare posts, by grouped cross-validation over seeds.

Each trial (candidate, preparation, seed, fold) is written down as one line of JSON when it is done, and is not done
again: a comparison that was killed goes on where it was. Calibration and thresholds are fitted on one random half of
the posts of a fold and measured on the other, both ways (`calibrate.cross_fit`): nothing is chosen on what is measured.
"""

import json
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ml import calibrate, data, metrics
from ml.candidates import Candidate, Floats
from ml.cleaning import NO_CLEANING, STEPS, Cleaning
from ml.errors import DataError
from ml.posts import Fields, compose

Say = Callable[[str], None]

TRIALS = "trials.jsonl"
HALVINGS = 5
# By this figure candidates are ranked; the others are told.
RANKED_BY = "micro_f1"


@dataclass(frozen=True)
class Preparation:
    """How a post becomes a text."""

    cleaning: Cleaning = NO_CLEANING
    fields: Fields = "marked"

    @property
    def label(self) -> str:
        steps = "+".join(self.cleaning.names) or "as it is"
        return steps if self.fields == "marked" else f"{steps}, no markers"


@dataclass(frozen=True)
class Trial:
    """What one candidate did in one fold.

    Attributes:
        data: digest of the posts.
        figures: of `metrics.summary`.
        fit_s: seconds to learn.
        posts_s: posts a second when asked about the fold at once.
        size: bytes that it must keep.
    """

    data: str
    candidate: str
    preparation: str
    folds: int
    seed: int
    fold: int
    figures: dict[str, float]
    fit_s: float
    posts_s: float
    size: int

    @property
    def key(self) -> tuple[object, ...]:
        return (self.data, self.candidate, self.preparation, self.folds, self.seed, self.fold)


@dataclass(frozen=True)
class Row:
    """A candidate over all its trials.

    Attributes:
        figures: for each the mean and the standard deviation over seeds and folds.
        fit_s, posts_s, size: medians, as of `Trial`.
        gain: where posts were prepared in several ways, what this one adds to the figure that ranks, over the first,
            fold by fold: the mean of the differences and its standard error; None for the first.
    """

    candidate: str
    preparation: str
    trials: int
    figures: dict[str, tuple[float, float]]
    fit_s: float
    posts_s: float
    size: int
    gain: tuple[float, float] | None = None

    @property
    def name(self) -> str:
        return self.candidate if self.preparation == "as it is" else f"{self.candidate} ({self.preparation})"

    @property
    def standard_error(self) -> float:
        """Of the figure that ranks. Folds share posts to learn from, so it is rather too small than too large."""
        return self.figures[RANKED_BY][1] / math.sqrt(max(1, self.trials))


@dataclass(frozen=True)
class Comparison:
    """The finished table, best first, and what is chosen."""

    data_digest: str
    posts: int
    folds: int
    seeds: tuple[int, ...]
    rows: tuple[Row, ...]
    chosen: Row
    reason: str


def ablation(start: Preparation) -> list[Preparation]:
    """Return `start`, the same with each step switched, with all steps, and with or without markers of fields."""
    other: Fields = "plain" if start.fields == "marked" else "marked"
    variants = [
        start,
        *(Preparation(start.cleaning.switched(step), start.fields) for step in STEPS),
        Preparation(Cleaning.of(STEPS), start.fields),
        Preparation(start.cleaning, other),
    ]
    return list(dict.fromkeys(variants))


def compare(
    folder: Path,
    out: Path,
    candidates: Sequence[Candidate],
    preparations: Sequence[Preparation],
    folds: int,
    seeds: Sequence[int],
    say: Say = lambda _: None,
) -> Comparison:
    """Try every candidate with every preparation on the posts of `folder`; trials are kept in the folder `out`.

    Raises:
        DataError: as `data.read_folder`; also if there are fewer groups of posts than folds, or `out` cannot be
            written.
        ModelError: an encoder cannot be loaded.
    """
    posts = data.read_folder(folder)
    digest = posts.digest()
    if len(set(posts.groups)) < 4 * folds:
        raise DataError(f"{folder} holds too few posts that differ for {folds} folds.")
    try:
        out.mkdir(parents=True, exist_ok=True)
        done = {trial.key: trial for trial in read_trials(out / TRIALS)}
    except OSError as error:
        raise DataError(f"{out} cannot be written: {error.strerror}.") from error
    # Seeds outermost: a comparison that is cut short has all candidates with fewer seeds, not fewer candidates.
    plan = [
        (seed, fold, candidate, preparation)
        for seed in seeds
        for fold in range(folds)
        for preparation in preparations
        for candidate in candidates
    ]
    texts = {one: [compose(post, None, one.cleaning, one.fields) for post in posts.posts] for one in preparations}
    parts = {seed: data.folds(posts, folds, seed) for seed in seeds}
    trials: list[Trial] = []
    began, ran = time.monotonic(), 0
    for number, (seed, fold, candidate, preparation) in enumerate(plan, start=1):
        key = (digest, candidate.label, preparation.label, folds, seed, fold)
        if key in done:
            trials.append(done[key])
            continue
        inside = np.flatnonzero(parts[seed] != fold)
        outside = np.flatnonzero(parts[seed] == fold)
        figures, fit_s, posts_s, size = _try(candidate, texts[preparation], posts.labels, inside, outside, seed)
        trial = Trial(digest, candidate.label, preparation.label, folds, seed, fold, figures, fit_s, posts_s, size)
        _append(out / TRIALS, trial)
        trials.append(trial)
        ran += 1
        left = (
            (time.monotonic() - began) / ran * sum(1 for one in plan[number:] if _key(digest, folds, one) not in done)
        )
        say(
            f"{number}/{len(plan)} {candidate.label}, {preparation.label}, seed {seed}, fold {fold + 1}: "
            f"micro-F1 {figures['micro_f1']:.3f}, {fit_s:.1f} s; about {left / 60:.0f} min left"
        )
    rows = tuple(sorted(_rows(trials), key=lambda row: -row.figures[RANKED_BY][0]))
    chosen, reason = choose(rows)
    return Comparison(digest, len(posts.posts), folds, tuple(seeds), rows, chosen, reason)


def choose(rows: Sequence[Row]) -> tuple[Row, str]:
    """Return the row to take and why: the quickest to answer of those within one standard error of the best mean.

    The rule of one standard error is Breiman's et al. (Classification and Regression Trees, 1984).
    """
    best = max(rows, key=lambda row: row.figures[RANKED_BY][0])
    floor = best.figures[RANKED_BY][0] - best.standard_error
    near = [row for row in rows if row.figures[RANKED_BY][0] >= floor]
    chosen = max(near, key=lambda row: row.posts_s)
    mean = f"{best.name} has the best mean micro-F1, {best.figures[RANKED_BY][0]:.3f}"
    if chosen is best:
        others = "no other is within one standard error" if len(near) == 1 else "none as good is quicker to answer"
        return best, f"{mean} (standard error {best.standard_error:.3f}), and {others}."
    return chosen, (
        f"{mean}; {chosen.name} has {chosen.figures[RANKED_BY][0]:.3f}, within one standard error "
        f"({best.standard_error:.3f}), and answers {chosen.posts_s:.0f} posts/s instead of {best.posts_s:.0f}."
    )


def read_trials(file: Path) -> list[Trial]:
    """Return the trials that were written down; a last line that was cut off by a kill does not count."""
    if not file.exists():
        return []
    found = []
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            found.append(Trial(**json.loads(line)))
        except (ValueError, TypeError):
            continue
    return found


def _key(digest: str, folds: int, planned: tuple[int, int, Candidate, Preparation]) -> tuple[object, ...]:
    seed, fold, candidate, preparation = planned
    return (digest, candidate.label, preparation.label, folds, seed, fold)


def _try(
    candidate: Candidate,
    texts: Sequence[str],
    labels: Floats,
    inside: npt.NDArray[np.int64],
    outside: npt.NDArray[np.int64],
    seed: int,
) -> tuple[dict[str, float], float, float, int]:
    start = time.perf_counter()
    fitted = candidate.fit([texts[row] for row in inside], labels[inside], seed)
    fit_s = time.perf_counter() - start
    ask = [texts[row] for row in outside]
    start = time.perf_counter()
    scores = fitted.scores(ask)
    posts_s = len(ask) / (time.perf_counter() - start)
    measure = only_first if candidate.variant == "single" else metrics.summary
    figures = calibrate.cross_fit(scores, labels[outside], measure, HALVINGS, seed)
    return {name: mean for name, (mean, _) in figures.items()}, fit_s, posts_s, fitted.size


def only_first(probabilities: Floats, labels: Floats, _thresholds: Floats) -> dict[str, float]:
    """Return `metrics.summary` where each post gets its most probable topic and no other."""
    return metrics.summary(probabilities, labels, probabilities.max(axis=1, keepdims=True))


def _rows(trials: Sequence[Trial]) -> list[Row]:
    by_name: dict[tuple[str, str], list[Trial]] = {}
    for trial in trials:
        by_name.setdefault((trial.candidate, trial.preparation), []).append(trial)
    rows = []
    for (candidate, preparation), some in by_name.items():
        figures = {
            name: (
                float(np.mean([one.figures[name] for one in some])),
                float(np.std([one.figures[name] for one in some], ddof=min(1, len(some) - 1))),
            )
            for name in some[0].figures
        }
        fit_s, posts_s, size = (
            float(np.median([getattr(one, what) for one in some])) for what in ("fit_s", "posts_s", "size")
        )
        first = next(other for name, other in by_name if name == candidate)
        gain = None if preparation == first else _gain(some, by_name[candidate, first])
        rows.append(Row(candidate, preparation, len(some), figures, fit_s, posts_s, round(size), gain))
    return rows


def _gain(some: Sequence[Trial], first: Sequence[Trial]) -> tuple[float, float]:
    before = {(one.seed, one.fold): one.figures[RANKED_BY] for one in first}
    # The same posts were asked about in both, so the difference varies less from fold to fold than the figures.
    differences = [one.figures[RANKED_BY] - before[one.seed, one.fold] for one in some]
    error = float(np.std(differences, ddof=min(1, len(differences) - 1))) / math.sqrt(len(differences))
    return float(np.mean(differences)), error


def _append(file: Path, trial: Trial) -> None:
    # A cut line of an earlier run must not swallow this one, so each starts on a new line of its own.
    torn = file.exists() and file.stat().st_size and not file.read_bytes().endswith(b"\n")
    with file.open("a", encoding="utf-8") as stream:
        stream.write(("\n" if torn else "") + json.dumps(asdict(trial), ensure_ascii=False) + "\n")
        stream.flush()
        os.fsync(stream.fileno())
