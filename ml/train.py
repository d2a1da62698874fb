"""Train a classifier: fine-tune a BERT-like encoder on labelled posts and write a model folder.

    rubrika train DATA_DIR --base FOLDER_OR_HUB_NAME -o MODEL_DIR

What happens, top to bottom: posts are read and split; teachers that have not seen a post (a plain TF-IDF model, or
networks by `ml.crossval`) soften its noisy labels; the encoder and a linear head learn them with AdamW, warm-up and
linear decay, on whole posts, on crops of two to thirty words and on counter-examples that belong to no topic;
probabilities are calibrated and thresholds chosen on the validation posts; everything is written as one folder, and
then the ranges that 8 bits take (`ml.ranging`). One seed gives one result on one machine.
"""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from ml import calibrate, card, crops, data, fitting, metrics, network, ngrams, ranging, reliable, start, teachers
from ml.artifact import check_writable, read
from ml.backends.torch_any import load_network
from ml.cleaning import Cleaning
from ml.counter_examples import CounterExamples
from ml.encoding import TextEncoder, pad
from ml.errors import BackendError, ModelError
from ml.posts import Fields, Post
from ml.runs import RunFolder

Floats = npt.NDArray[np.float32]
Say = Callable[[str], None]

CROSS_FIT_REPEATS = 20


@dataclass(frozen=True)
class TrainOptions:
    """Everything that a run depends on, besides its data."""

    base: str
    # Models whose weights are averaged with those of the base, which is a model then.
    average: tuple[str, ...] = ()
    # `(part, count)`: hold back this part of so many of what the base held back, and learn the rest of it.
    hold_back: tuple[int, int] | None = None
    name: str = "model"
    version: str = "1.0.0"
    base_name: str = ""
    base_licence: str = ""
    prefix: str = ""
    clean: str = ""
    fields: Fields = "marked"
    pooling: network.Pooling = "mean"
    # As for `network.TopicNetwork`; None: as the base does.
    merge_after: tuple[int, ...] | None = None
    max_tokens: int = 256
    epochs: int = 4
    batch: int = 16
    lr: float = 1e-4
    head_lr: float = 1e-3
    layer_decay: float = 1.0
    weight_decay: float = 0.01
    warmup: float = 0.1
    clip: float = 1.0
    attention_dropout: float = 0.0
    teacher_weight: float = 0.4
    # What the teacher `frozen` asks; empty: the base.
    teacher_base: str = ""
    # Set by `train` from the teachers that it is given.
    teacher_names: tuple[str, ...] = (teachers.TFIDF,)
    crop_share: float = 0.25
    patience: int = 0
    ngram_share: float = 0.4
    ngram_crops: int = 16
    validation_share: float = 0.12
    seed: int = 1
    threads: int = 0
    device: str = "auto"


@dataclass(frozen=True)
class Fitted:
    """A network that has learnt, with all that it takes to ask it; `options` are those with what its start brought."""

    net: network.TopicNetwork
    encoder: TextEncoder
    tokenizer: str
    max_tokens: int
    pad_id: int
    options: TrainOptions

    def logits(self, texts: Sequence[str]) -> Floats:
        """Return logits, float32 (texts, topics), of composed texts (`encoder.compose`)."""
        return predict_logits(self.net, self.encoder, texts, self.pad_id)


def train(
    folder: Path,
    out: Path,
    options: TrainOptions,
    none: CounterExamples | None = None,
    say: Say = lambda _: None,
    taught_by: Sequence[teachers.Teacher] = teachers.DEFAULT,
    run_folder: Path | None = None,
) -> dict[str, tuple[float, float]]:
    """Train on the CSV files of `folder` and write the model folder `out`.

    With a `run_folder` the run is written down there and, stopped, goes on from its last checkpoint.

    Returns:
        The validation figures, each with its spread over random halvings of the validation posts.

    Raises:
        DataError, ModelError: as `data.read_folder` and `network.from_base`; also if `out` is something else or cannot
            be written, which is found out before anything is learnt.
    """
    check_writable(out)
    # A mistake in a list is told before minutes are spent on reading.
    Cleaning.parse(options.clean)
    options = replace(options, teacher_names=teachers.names(taught_by) if options.teacher_weight else ())
    began = time.monotonic()
    posts = start.in_its_order(data.read_folder(folder), folder, options)
    judges = start.judges(posts, options)
    if judges:
        # Each of the networks has learnt what the others held back, and their mean all of it.
        learn, check, unseen = posts, posts.take(sorted(row for rows in judges.values() for row in rows)), True
    else:
        learn, check, unseen = start.split(posts, options)
    if not unseen:
        say("! The model to start from may have learnt from the validation posts: the figures flatter.")
    none_learn, none_check, unseen = start.split_none(none or CounterExamples(), options)
    if none_check and not unseen:
        say("! The model to start from may have learnt counter-examples that it is measured with.")
    say(
        f"{len(posts.posts)} distinct posts, {len(posts.topics)} topics: {len(learn.posts)} to learn from, "
        f"{len(check.posts)} for validation; {len(none_learn)} and {len(none_check)} counter-examples"
    )

    run_dir = None if run_folder is None else RunFolder(run_folder, asdict(options), _digest(posts, none_learn))
    fitted = fit_fold(learn, check, options, none_learn, say, taught_by, run_dir)
    fitted.net.round_weights()
    net, encoder, pad_id = fitted.net, fitted.encoder, fitted.pad_id
    logits, pieces = _judged(fitted, check, {folder: posts.take(rows) for folder, rows in judges.items()})
    calibration = calibrate.fit(logits, check.labels, pieces)
    honest = calibrate.cross_fit(logits, check.labels, metrics.summary, CROSS_FIT_REPEATS, options.seed, pieces)
    figures = card.Figures(
        honest=honest,
        per_topic=metrics.precision_recall_f1(calibration.probabilities(logits), check.labels, calibration.threshold),
        reliability=reliable.cross_fitted(
            logits, check.labels, pieces, [topic.id for topic in posts.topics], CROSS_FIT_REPEATS, options.seed
        ),
        crops=card.of_crops(logits, check.labels, pieces, CROSS_FIT_REPEATS, options.seed),
        off_topic=_off_topic(net, encoder, [encoder.compose(post) for post in none_check], calibration, pad_id),
        minutes=(time.monotonic() - began) / 60,
    )
    run = card.Run(
        options=fitted.options,
        max_tokens=fitted.max_tokens,
        topics=posts.topics,
        calibration=calibration,
        data_digest=posts.digest(),
        learn=len(learn.posts),
        none_learn=len(none_learn),
        validation=() if judges else tuple(data.text_key(post) for post in check.posts),
        judged=len(check.posts),
        none_validation=tuple(data.text_key(post) for post in none_check),
        figures=figures,
        start=start.history(options.base, options.average),
    )
    card.write_model(out, net, fitted.tokenizer, run)
    _add_ranges(out, learn, check, options.threads, say)
    if run_dir is not None:
        run_dir.finish()
    say(f"wrote {out}; " + ", ".join(f"{name} {mean:.3f} ± {spread:.3f}" for name, (mean, spread) in honest.items()))
    return honest


def _judged(fitted: Fitted, check: data.Dataset, judges: Mapping[str, data.Dataset]) -> tuple[Floats, Floats]:
    """Logits of the posts of `check`, float32 (n, topics), and of crops of them, float32 (crops.PIECES, n, topics).

    Where there are `judges`, models by folder, the posts that each of them has not learnt are asked of it alone.
    """
    texts = [fitted.encoder.compose(post) for post in check.posts]
    asked = np.array([*texts, *crops.pieces(texts, fitted.options.seed)], dtype=object).reshape(-1, len(texts))
    if not judges:
        found = fitted.logits(asked.ravel().tolist())
        found = found.reshape(*asked.shape, -1)
        return found[0], found[1:]
    row = {post: index for index, post in enumerate(check.posts)}
    found = np.zeros((*asked.shape, check.labels.shape[1]), dtype=np.float32)
    for folder, own in judges.items():
        rows = [row[post] for post in own.posts]
        net = load_network(read(Path(folder)))
        some = asked[:, rows]
        said = predict_logits(net, fitted.encoder, some.ravel().tolist(), fitted.pad_id)
        found[:, rows] = said.reshape(*some.shape, -1)
    return found[0], found[1:]


def _digest(posts: data.Dataset, none: Sequence[Post]) -> str:
    """The digest of all that is learnt from."""
    keys = "".join(f" {data.text_key(post)}" for post in none)
    return hashlib.sha256(f"{posts.digest()}{keys}".encode()).hexdigest() if none else posts.digest()


def _add_ranges(out: Path, learn: data.Dataset, check: data.Dataset, threads: int, say: Say) -> None:
    """Measure what fixed ranges of 8 bits take; a network that has none of OpenVINO's graphs runs without them."""
    try:
        found = ranging.add(out, learn.posts, check, threads)
    except (BackendError, ModelError) as error:
        say(f"! no ranges for 8 bits: {error}")
    else:
        say(f"ranges for 8 bits: {ranging.told(found)}")


def fit_fold(
    learn: data.Dataset,
    check: data.Dataset,
    options: TrainOptions,
    none_learn: Sequence[Post] = (),
    say: Say = lambda _: None,
    taught_by: Sequence[teachers.Teacher] = teachers.DEFAULT,
    run: RunFolder | None = None,
    watch: Callable[[fitting.Glance], None] = lambda _: None,
) -> Fitted:
    """Fit one network to `learn`; the posts of `check` are only looked at, once an epoch, to say how it goes.

    Args:
        learn, check: posts with the same topics.
        options: as for `train`.
        none_learn: counter-examples to learn from.
        say: called with what there is to tell.
        taught_by: the teachers, which must not have learned from the post that they speak of.
        run: where to write epochs and checkpoints, and to go on from.
        watch: called with what the posts of `check` say after each epoch; what it raises ends the training.

    Raises:
        DataError, ModelError: as `teachers.soft_labels` and `network.from_base`.
    """
    if options.teacher_weight:
        say(f"soft targets by {', '.join(one.name for one in taught_by)} ...")
    if any(one.source == teachers.FROZEN for one in taught_by) and options.teacher_weight:
        start.check_knows_nothing(options.teacher_base or options.base)
    asked = options.teacher_base or options.base
    soft = teachers.soft_labels(learn, taught_by, options.teacher_weight, options.seed, (asked, options.prefix))
    device = _prepare_torch(options)
    begun = start.at(options, learn.topics)
    options, net = begun.options, begun.net.to(device)
    if begun.new_head and start.model_at(options.base) is not None:
        say("! The model to start from knows other topics: its network goes on, and its head begins anew.")
    max_tokens = min(options.max_tokens, network.longest_input(net.encoder.config))
    encoder = TextEncoder(begun.tokenizer, options.prefix, max_tokens, Cleaning.parse(options.clean), options.fields)
    fitted = Fitted(net, encoder, begun.tokenizer, max_tokens, net.encoder.config.pad_token_id or 0, options)
    examples = fitting.Examples(
        tuple(encoder.compose(post) for post in (*learn.posts, *none_learn)),
        np.concatenate([soft, np.zeros((len(none_learn), soft.shape[1]), dtype=np.float32)]),
    )
    check_texts = [encoder.compose(post) for post in check.posts]
    plan = fitting.Plan(**{one.name: getattr(options, one.name) for one in fields(fitting.Plan)})

    def look() -> fitting.Glance:
        glance = _glance(net, encoder, check, check_texts, fitted.pad_id)
        watch(glance)
        return glance

    if options.epochs:
        fitting.fit(net, encoder, examples, look, plan, fitted.pad_id, say, run, begun.new_head)
    if options.ngram_share:
        say("logistic regression on n-grams ...")
        hard = np.concatenate([learn.labels, np.zeros((len(none_learn), soft.shape[1]), dtype=np.float32)])
        _add_ngrams(fitted, examples.texts, hard, options)
    return fitted


def _add_ngrams(fitted: Fitted, texts: Sequence[str], labels: Floats, options: TrainOptions) -> None:
    # Crops of each text too: without them the linear part is lost on texts of a few words.
    rng = np.random.default_rng(options.seed)
    some = [crops.crop(text, rng) for _ in range(options.ngram_crops) for text in texts]
    ids = fitted.encoder.encode([*texts, *some]).ids
    linear = ngrams.fit(ids, np.tile(labels, (options.ngram_crops + 1, 1)), fitted.tokenizer, options.seed)
    fitted.net.add_ngrams(linear, options.ngram_share)


def predict_logits(
    net: network.TopicNetwork, encoder: TextEncoder, texts: Sequence[str], pad_id: int, batch: int = 16
) -> Floats:
    """Return logits, float32 (texts, topics), computed in float32 whatever the network was trained in."""
    net.eval()
    device = net.head.weight.device
    ids = encoder.encode(texts).ids
    result = np.zeros((len(ids), net.head.out_features), dtype=np.float32)
    order = np.argsort([len(one) for one in ids], kind="stable")
    with torch.inference_mode():
        for rows in np.array_split(order, -(-len(order) // batch)) if len(order) else ():
            input_ids, mask = (torch.from_numpy(one).to(device) for one in pad([ids[row] for row in rows], pad_id))
            result[rows] = net(input_ids, mask).float().cpu().numpy()
    return result


def _glance(
    net: network.TopicNetwork, encoder: TextEncoder, check: data.Dataset, texts: Sequence[str], pad_id: int
) -> fitting.Glance:
    logits = predict_logits(net, encoder, texts, pad_id)

    def measure(probabilities: Floats, labels: Floats, thresholds: Floats) -> dict[str, float]:
        f1 = metrics.precision_recall_f1(probabilities, labels, thresholds)[:, 2]
        topics = {f"f1/{topic.id}": float(one) for topic, one in zip(check.topics, f1, strict=True)}
        return {**metrics.summary(probabilities, labels, thresholds), **topics}

    figures = {name: mean for name, (mean, _) in calibrate.cross_fit(logits, check.labels, measure, 3, seed=0).items()}
    # Of all figures the one that no threshold makes jump.
    return fitting.Glance(figures, figures["mean_average_precision"])


def _off_topic(
    net: network.TopicNetwork,
    encoder: TextEncoder,
    texts: Sequence[str],
    calibration: calibrate.Calibration,
    pad_id: int,
) -> float | None:
    if not texts:
        return None
    probabilities = calibration.probabilities(predict_logits(net, encoder, texts, pad_id))
    return metrics.off_topic_share(probabilities, calibration.threshold)


def _prepare_torch(options: TrainOptions) -> torch.device:
    torch.manual_seed(options.seed)
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.device == "cuda" and not torch.cuda.is_available():
        raise ModelError("There is no CUDA device that torch can use: train with --device cpu.")
    return torch.device("cuda" if options.device != "cpu" and torch.cuda.is_available() else "cpu")
