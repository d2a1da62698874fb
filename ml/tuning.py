"""Search for the options with which a network learns best: one training after another, poor ones ended early.

Each trial takes its options from a tree-structured Parzen estimator (Bergstra et al. 2011, "Algorithms for
Hyper-Parameter Optimization"), learns from a part of the posts and is measured by the mean average precision on the
rest, which no threshold makes jump. One that is worse after an epoch than the median of those before it is ended there.
The posts that `ml.train` keeps for validation with the same seed are never looked at: a model that is trained with the
options found is validated on posts that had no part in finding them.
"""

import csv
import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import optuna
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from ml import data, fitting, report, start, svg, teachers, train
from ml.errors import DataError
from ml.posts import Post

JOURNAL, TRIALS, REPORT = "trials.journal", "trials.csv", "report.html"

# Until so many trials are done there is no median worth the name, and nothing is ended early.
STARTUP = 4

Value = str | int | float

COMPLETE, PRUNED = TrialState.COMPLETE, TrialState.PRUNED


@dataclass(frozen=True)
class Range:
    """Values that an option may take: `choices`, or all from `low` to `high`, by `step` or by orders of magnitude.

    Attributes:
        choices: the values; where there are any, the rest is not looked at.
        low, high: both are among the values. Whole numbers if both are.
        step: distance of the values; None: none for fractions, 1 for whole numbers.
        log: each order of magnitude is as likely as another.
    """

    choices: tuple[Value, ...] = ()
    low: float = 0.0
    high: float = 0.0
    step: float | None = None
    log: bool = False

    def suggest(self, trial: optuna.Trial, name: str) -> Value:
        """Let the study choose a value."""
        if self.choices:
            return cast(Value, trial.suggest_categorical(name, self.choices))
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(name, self.low, self.high, step=int(self.step or 1), log=self.log)
        return trial.suggest_float(name, self.low, self.high, step=self.step, log=self.log)


@dataclass(frozen=True)
class Found:
    """What a search came to: the best options, what they reached, and how many trials were made and ended early."""

    best: dict[str, Value]
    figures: dict[str, float]
    trials: int
    pruned: int


def tune(
    folder: Path,
    out: Path,
    options: train.TrainOptions,
    ranges: Mapping[str, Range],
    trials: int,
    none: Sequence[Post] = (),
    say: train.Say = lambda _: None,
    taught_by: Sequence[teachers.Teacher] = teachers.DEFAULT,
) -> Found:
    """Try options until `trials` are done, those of earlier calls with the same `out` among them.

    Args:
        folder: a folder of CSV files, one per topic.
        out: where trials are kept; a search that was stopped goes on there, with the trial that it was at.
        options: what all trials have in common.
        ranges: by the names of `TrainOptions`.
        trials: how many to have in the end.
        none: counter-examples to learn from.
        say: called with what there is to tell.
        taught_by: the teachers of all trials; asked once.

    Raises:
        DataError: too few posts, or `out` holds another search.
        ModelError: as `train.fit_fold`.
    """
    start.check_knows_nothing(options.base)
    start.check_knows_nothing(options.teacher_base or options.base)
    posts = data.read_folder(folder)
    posts = posts.take(data.split(posts, options.validation_share, options.seed)[0])
    learn_rows, check_rows = data.split(posts, options.validation_share, options.seed)
    learn, check = posts.take(learn_rows), posts.take(check_rows)
    if not len(learn.posts) or not len(check.posts):
        raise DataError(f"{folder} holds too few posts to learn from some and check with others.")
    options = replace(options, teacher_names=teachers.names(taught_by))
    out.mkdir(parents=True, exist_ok=True)
    study = _study(out, _made_for(posts, options, ranges, none))
    say(f"{len(learn.posts)} posts to learn from, {len(check.posts)} to measure with; {trials} trials")
    asked = _ask_once(out, learn, options, taught_by, say)
    began, made = time.monotonic(), 0
    while (done := len(_finished(study))) < trials:
        # A seed for each trial, so that a search that goes on tries what an undisturbed one would have tried.
        study.sampler = optuna.samplers.TPESampler(seed=options.seed + done, n_startup_trials=STARTUP)
        trial = study.ask()
        _try(study, trial, options, ranges, (learn, check), none, asked)
        made += 1
        left = (time.monotonic() - began) / made * (trials - done - 1)
        told = f"{_told(study.trials[trial.number])}; {_best_so_far(study)}"
        say(f"{done + 1}/{trials} {told}; about {left / 60:.0f} min left")
        _write(out, study, ranges)
    complete = study.get_trials(states=(COMPLETE,))
    if not complete:
        raise DataError("Every trial failed or was ended early: there is nothing to choose from.")
    _write(out, study, ranges)
    best = study.best_trial
    return Found(dict(best.params), dict(best.user_attrs["figures"]), trials, len(_finished(study)) - len(complete))


def _try(
    study: optuna.Study,
    trial: optuna.Trial,
    options: train.TrainOptions,
    ranges: Mapping[str, Range],
    posts: tuple[data.Dataset, data.Dataset],
    none: Sequence[Post],
    taught_by: Sequence[teachers.Teacher],
) -> None:
    chosen: dict[str, Any] = {name: one.suggest(trial, name) for name, one in ranges.items()}
    # The linear part comes after all that is measured here.
    tried = replace(options, ngram_share=0.0, **chosen)
    began, glances = time.monotonic(), list[fitting.Glance]()

    def watch(glance: fitting.Glance) -> None:
        glances.append(glance)
        trial.report(glance.watched, len(glances))
        if trial.should_prune():
            raise optuna.TrialPruned

    try:
        train.fit_fold(*posts, tried, none, taught_by=taught_by, watch=watch)
    except optuna.TrialPruned:
        state = PRUNED
    else:
        state = COMPLETE
    # With patience the weights of the best epoch are taken, else those of the last.
    kept = max(glances, key=lambda one: one.watched) if tried.patience else glances[-1]
    trial.set_user_attr("figures", kept.figures)
    trial.set_user_attr("seconds", round(time.monotonic() - began, 1))
    ended = state is PRUNED
    study.tell(trial, None if ended else kept.watched, state=state)


def _study(out: Path, made_for: str) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    backend = JournalFileBackend(str(out / JOURNAL))
    try:
        study = optuna.create_study(
            storage=optuna.storages.JournalStorage(backend),
            study_name="rubrika",
            direction="maximize",
            pruner=optuna.pruners.MedianPruner(n_startup_trials=STARTUP),
            load_if_exists=True,
        )
        before = study.user_attrs.get("made_for")
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{out / JOURNAL} is damaged: take the folder away to begin anew.") from error
    if before is None:
        study.set_user_attr("made_for", made_for)
    elif before != made_for:
        raise DataError(f"{out} holds a search with other data, options or ranges: choose another folder.")
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        # What a kill left half done is tried again: the next trial has the same seed and the same trials before it.
        study.tell(trial.number, state=TrialState.FAIL)
    return study


def _ask_once(
    out: Path, learn: data.Dataset, options: train.TrainOptions, taught_by: Sequence[teachers.Teacher], say: train.Say
) -> tuple[teachers.Teacher, ...]:
    file = out / "teachers.npz"
    if not file.exists():
        say(f"asking {', '.join(one.name for one in taught_by)} ...")
        asked = (options.teacher_base or options.base, options.prefix)
        logits = teachers.together(learn, taught_by, options.seed, asked)
        keys = tuple(data.text_key(post) for post in learn.posts)
        teachers.OutOfFold(keys, tuple(topic.id for topic in learn.topics), logits, logits).write(file)
    return (teachers.Teacher(str(file)),)


def _made_for(
    posts: data.Dataset, options: train.TrainOptions, ranges: Mapping[str, Range], none: Sequence[Post]
) -> str:
    fixed = {name: value for name, value in asdict(options).items() if name not in ("device", "threads", *ranges)}
    keys = [data.text_key(post) for post in (*posts.posts, *none)]
    spans = {name: asdict(one) for name, one in ranges.items()}
    content = json.dumps([posts.digest(), keys, fixed, spans], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def _finished(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    return study.get_trials(states=(COMPLETE, PRUNED))


def _told(trial: optuna.trial.FrozenTrial) -> str:
    params = ", ".join(f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
                       for name, value in trial.params.items())  # fmt: skip
    if trial.state is not COMPLETE:
        return f"{params}: ended after epoch {trial.last_step}"
    return f"{params}: mean average precision {trial.value:.4f}"


def _best_so_far(study: optuna.Study) -> str:
    complete = study.get_trials(states=(COMPLETE,))
    return f"best {max(one.value or 0.0 for one in complete):.4f}" if complete else "none is finished yet"


def _write(out: Path, study: optuna.Study, ranges: Mapping[str, Range]) -> None:
    finished = _finished(study)
    names = sorted({name for one in finished for name in one.user_attrs["figures"]})
    rows = [
        [
            str(number),
            "finished" if one.state is COMPLETE else "ended early",
            *(
                f"{one.params[name]:g}" if isinstance(one.params[name], float) else str(one.params[name])
                for name in ranges
            ),
            *(f"{one.user_attrs['figures'][name]:.4f}" for name in names),
            f"{one.user_attrs['seconds']:g}",
        ]
        for number, one in enumerate(finished, 1)
    ]
    head = ["trial", "state", *ranges, *names, "seconds"]
    with (out / TRIALS).open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows([head, *rows])
    values = [one.user_attrs["figures"]["mean_average_precision"] for one in finished]
    reached = [value if one.state is COMPLETE else 0.0 for one, value in zip(finished, values, strict=True)]
    best = [max(reached[: number + 1]) for number in range(len(reached))]
    plot = svg.lines(range(1, len(values) + 1), [("this trial", values), ("best so far", best)], "Trials")
    shown = [head.index(name) for name in ("trial", "state", *ranges, "mean_average_precision", "micro_f1", "macro_f1")]
    ranked = sorted(rows, key=lambda row: (row[1] != "finished", -float(row[head.index("mean_average_precision")])))
    table = [[row[column].replace("_", " ") for column in shown] for row in [head, *ranked]]
    report.write(out / REPORT, report.render("tune.html", plot=plot, head=table[0], rows=table[1:]))
