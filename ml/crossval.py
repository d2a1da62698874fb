"""Cross-validation of the fine-tuned network, and what its folds say of posts that they have not seen.

    rubrika train DATA_DIR --base BASE --folds 5 --oof FILE.npz

One network after another learns from all folds but one and is asked about that one. What they say is a teacher for
another network (`ml.teachers`), and their figures, with their spread over the folds, are an estimate that no post has
flattered: calibration and thresholds of a fold come from the other folds' logits. A run that was stopped goes on with
the fold that it was at; each fold starts from its own seed, so the result is that of a run that was not.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from ml import calibrate, data, metrics, start, teachers, train
from ml.crops import crop
from ml.errors import DataError
from ml.posts import Post

Figures = dict[str, tuple[float, float]]

# What changes nothing of what is learnt, and so may differ between a run and the one that goes on with it.
NOT_LEARNT = ("name", "version", "base_name", "base_licence")


def cross_validate(
    folder: Path,
    out: Path,
    options: train.TrainOptions,
    count: int,
    none: Sequence[Post] = (),
    whole_data: bool = False,
    say: train.Say = lambda _: None,
    taught_by: Sequence[teachers.Teacher] = teachers.DEFAULT,
) -> tuple[Figures, Figures]:
    """Fit `count` networks to the CSV files of `folder` and write their out-of-fold logits to the file `out`.

    Args:
        folder: a folder of CSV files, one per topic.
        out: an .npz file, as `ml.teachers.read` reads it. What is done of it waits beside it, in `OUT.parts`.
        options: as for `train.train`.
        count: number of folds, at least 2.
        none: counter-examples, all of which each network learns from.
        whole_data: take all posts; else only those that `train.train` learns from with these options, so that a network
            that is taught by the file is validated on posts that none of its teachers has seen.
        say: called with what there is to tell.
        taught_by: built-in teachers, made anew for each fold; a file of logits comes from networks that have learned
            from the very posts that a fold is asked about.

    Returns:
        Figures of whole posts and of crops, each with its mean and standard deviation over the folds.

    Raises:
        DataError, ModelError: as `train.train`; also if there are fewer posts than folds.
    """
    start.check_knows_nothing(options.base)
    options = replace(options, teacher_names=teachers.names(taught_by) if options.teacher_weight else ())
    posts = data.read_folder(folder)
    if not whole_data:
        posts = posts.take(data.split(posts, options.validation_share, options.seed)[0])
    parts = data.folds(posts, count, options.seed)
    if np.bincount(parts, minlength=count).min() == 0:
        raise DataError(f"{folder} holds too few posts for {count} folds.")
    say(f"{len(posts.posts)} distinct posts, {len(posts.topics)} topics, {count} folds; {len(none)} counter-examples")
    made_for = _made_for(posts, options, count, none)
    finished = out.with_name(f"{out.name}.parts")
    whole, crops = (np.zeros_like(posts.labels) for _ in range(2))
    fitted, began = 0, time.monotonic()
    for part in range(count):
        inside, outside = np.flatnonzero(parts != part), np.flatnonzero(parts == part)
        file = finished / f"{part + 1}.npz"
        found = _read_part(file, made_for)
        if found is None:
            say(f"fold {part + 1} of {count}: {len(inside)} posts to learn from, {len(outside)} to be asked about")
            found = _fit_part(posts.take(inside), posts.take(outside), options, none, say, taught_by)
            teachers.write_arrays(file, {"made_for": np.array(made_for), "whole": found[0], "crops": found[1]})
            fitted += 1
            left = (time.monotonic() - began) / fitted * (count - part - 1)
            say(f"fold {part + 1} of {count} is kept in {finished}; about {left / 60:.0f} min left")
        else:
            say(f"fold {part + 1} of {count}: as found in {finished}")
        whole[outside], crops[outside] = found
    keys = tuple(data.text_key(post) for post in posts.posts)
    teachers.OutOfFold(keys, tuple(topic.id for topic in posts.topics), whole, crops).write(out)
    shutil.rmtree(finished)
    of_whole, of_crops = (_figures(asked, posts.labels, parts, whole, crops) for asked in (whole, crops))
    say(table(of_whole, of_crops))
    say(f"wrote {out}")
    return of_whole, of_crops


def table(whole: Figures, crops: Figures) -> str:
    """Return the figures as lines for people."""
    lines = [f"{'':24}{'whole posts':>17}{'crops':>17}"]
    for name, (mean, spread) in whole.items():
        crop_mean, crop_spread = crops[name]
        lines.append(
            f"{name.replace('_', ' '):24}{f'{mean:.3f} ± {spread:.3f}':>17}{f'{crop_mean:.3f} ± {crop_spread:.3f}':>17}"
        )
    return "\n".join(lines)


def _fit_part(
    learn: data.Dataset,
    ask: data.Dataset,
    options: train.TrainOptions,
    none: Sequence[Post],
    say: train.Say,
    taught_by: Sequence[teachers.Teacher],
) -> tuple[train.Floats, train.Floats]:
    fitted = train.fit_fold(learn, ask, options, none, say, taught_by)
    texts = [fitted.encoder.compose(post) for post in ask.posts]
    whole = fitted.logits(texts)
    # A post's own generator: its crop is the same whatever fold it is in and whatever else there is.
    seeds = [(options.seed, int(data.text_key(post), 16)) for post in ask.posts]
    crops = fitted.logits([crop(text, np.random.default_rng(seed)) for text, seed in zip(texts, seeds, strict=True)])
    del fitted
    if torch.cuda.is_available():
        # The next network needs the room that this one leaves.
        torch.cuda.empty_cache()
    return whole, crops


def _figures(
    logits: train.Floats, labels: train.Floats, parts: npt.NDArray[np.int64], whole: train.Floats, crops: train.Floats
) -> Figures:
    rounds = []
    for part in range(int(parts.max()) + 1):
        inside, outside = parts != part, parts == part
        calibration = calibrate.fit(whole[inside], labels[inside], crops[None, inside])
        rounds.append(
            metrics.summary(calibration.probabilities(logits[outside]), labels[outside], calibration.threshold)
        )
    return {
        name: (float(np.mean([one[name] for one in rounds])), float(np.std([one[name] for one in rounds])))
        for name in rounds[0]
    }


def _made_for(posts: data.Dataset, options: train.TrainOptions, count: int, none: Sequence[Post]) -> str:
    learnt = {name: value for name, value in asdict(options).items() if name not in NOT_LEARNT}
    keys = [data.text_key(post) for post in (*posts.posts, *none)]
    content = json.dumps([posts.digest(), keys, learnt, count], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def _read_part(file: Path, made_for: str) -> tuple[train.Floats, train.Floats] | None:
    if not file.exists():
        return None
    arrays = teachers.read_arrays(file)
    if str(arrays.get("made_for")) != made_for:
        raise DataError(
            f"{file} comes from other data or other options: go on with those, or take the folder {file.parent} away."
        )
    return np.asarray(arrays["whole"], dtype=np.float32), np.asarray(arrays["crops"], dtype=np.float32)
