"""A worker process: load the model, say so, and answer bells (or, on trial, look for work) until told to stop.

The Celery pool is `threads` with one thread: the main thread stays free for the broker and for signals, no process is
forked (so CUDA and the network's own threads are safe), and more workers are more processes.
"""

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from celery import Celery, signals
from sqlalchemy import Connection, Engine

from jobs import fleet
from jobs.bell import DRAIN_TASK, QUEUE, Bell, celery_app
from jobs.cores import available_cores
from jobs.database import make_engine, run
from jobs.errors import UnavailableError
from jobs.records import Topic
from jobs.settings import Settings
from jobs.traces import make_traces
from ml.classifier import Classifier
from ml.errors import MlError
from worker.drain import Drain
from worker.heart import Heart
from worker.succession import Choice, Succession, choose
from worker.trial import look_for_work

log = logging.getLogger(__name__)
T = TypeVar("T")

DATABASE_SECONDS = 60.0
"""For so long a starting worker waits for Postgres."""


def load_classifier(settings: Settings) -> Classifier:
    """The classifier that the settings name, warmed up. Raises `ml.errors.MlError` with one sentence."""
    if not log.isEnabledFor(logging.INFO):
        # By a line for each step `rubrika up` sees that a worker which compiles for minutes is at work.
        logging.getLogger("ml.backends").setLevel(logging.INFO)
    classifier = Classifier.load(
        settings.model,
        device=settings.device,
        backend=settings.backend,
        arithmetic=settings.arithmetic,
        threads=settings.threads or available_cores(),
        cache_dir=settings.data_dir / "cache",
    )
    classifier.warm_up()
    return classifier


def load_chosen(
    settings: Settings, choice: Choice, load: Callable[[Settings], Classifier]
) -> tuple[Classifier, Choice]:
    """The classifier of the chosen folder, or, where the active model cannot be loaded, that of the settings.

    A folder may be whole and of no use to this worker: it lacks what RUBRIKA_ARITHMETIC asks for, or needs a library
    that is not installed. A worker that ended over that would be started for the same again and again, and all workers
    of the kind with it. To try the model in a second process, before the running one is given up, would take the
    memory of two models at once, on a GPU above all. So this worker serves with the model of its settings, of itself
    alone, until another is activated. Raises what `load` raises when that cannot be loaded either.
    """
    try:
        return load(replace(settings, model=choice.folder)), choice
    except Exception as error:
        if choice.folder == settings.model:
            raise
        # Whatever the libraries below raise: each is a reason to go on with a model that is known to work.
        log.error(
            "the active model in %s cannot be loaded by this worker, which runs %s until another is activated: %s",
            choice.folder,
            settings.model,
            error,
            exc_info=not isinstance(error, MlError),
        )
    # Out of the clause, so that what was loaded of the other is not kept by its traceback.
    return load(settings), Choice(settings.model, activate=False, refused=choice.seen)


def run_worker(settings: Settings, load: Callable[[Settings], Classifier] = load_classifier) -> bool:
    """Work until SIGTERM or SIGINT, or until another model was activated; then finish the chunk in hand and return.

    True: another model is to be loaded, so start again. Never with RUBRIKA_MODEL set: that model stays.
    `load` makes the classifier; tests give one that misbehaves on purpose.
    """
    traces = make_traces(settings, "worker")
    engine = make_engine(settings.database_url, pool_size=4, application="rubrika worker", idle_seconds=10)
    choice = _patiently(engine, lambda connection: choose(connection, settings))
    classifier, choice = load_chosen(settings, choice, load)
    model_id = register(engine, settings, classifier, choice)
    heart = Heart(
        engine,
        worker=f"{socket.gethostname()}:{os.getpid()}:{int(time.time())}",
        model_id=model_id,
        device=classifier.backend,
        lease_seconds=settings.lease_seconds,
        trial=settings.trial,
    )
    heart.start()
    bell = Bell(settings)
    drain = Drain(settings, engine, bell, classifier, model_id, heart, traces)
    succession = Succession(
        engine, classifier.info.sha256, lambda: os.kill(os.getpid(), signal.SIGTERM), refused=choice.refused
    )
    how = f"{classifier.backend}, on trial" if settings.trial else classifier.backend
    log.info("worker is ready: %s@%s on %s", classifier.info.name, classifier.info.version, how)
    try:
        if settings.trial:
            look_for_work(drain)
        else:
            _answer_bells(settings, drain, bell, succession)
    finally:
        succession.stop()
        drain.close()
        heart.stop()
        bell.close()
        engine.dispose()
        traces.close()
    if succession.is_due:
        log.info("another model was activated: starting anew with it")
    return succession.is_due


def _answer_bells(settings: Settings, drain: Drain, bell: Bell, succession: Succession) -> None:
    """Drain whenever a bell is rung, until Celery has seen SIGTERM or SIGINT."""
    app = celery_app(settings)
    app.task(name=DRAIN_TASK, bind=False)(drain.run)

    def shutting_down(**_: Any) -> None:
        drain.stop()

    def is_ready(**_: Any) -> None:
        # Not sooner: before Celery handles signals, one would end the process in the middle of things.
        if not settings.model_is_given:
            succession.start()

    # Celery holds receivers weakly; the names keep these alive for as long as the worker runs.
    signals.worker_shutting_down.connect(shutting_down)
    signals.worker_ready.connect(is_ready)
    bell.ring()
    _celery_worker(app, settings).start()


def _celery_worker(app: Celery, settings: Settings) -> Any:
    return app.Worker(
        pool="threads",
        concurrency=1,
        queues=[QUEUE],
        loglevel=settings.log_level,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
    )


def register(engine: Engine, settings: Settings, classifier: Classifier, choice: Choice) -> int:
    """Make the loaded model known, and the active one where it was chosen to be that; return its id.

    Raises `UnavailableError` when Postgres is away for longer than a start is worth waiting.
    """
    info = classifier.info

    def step(connection: Connection) -> int:
        # Who has the active model itself, where it was looked for in vain elsewhere, says where it lies now.
        wanted = choice.activate or info.sha256 == choice.seen
        activate = wanted and (settings.model_is_given or fleet.is_still_active(connection, choice.seen))
        return fleet.register_model(
            connection,
            name=info.name,
            version=info.version,
            sha256=info.sha256,
            topics=[Topic(topic.id, topic.name, topic.name_en, topic.threshold) for topic in info.topics],
            card=info.card,
            folder=str(choice.folder),
            activate=activate,
        )

    return _patiently(engine, step)


def _patiently(engine: Engine, step: Callable[[Connection], T]) -> T:
    """Run a transaction, waiting for a Postgres that is still starting."""
    deadline = time.monotonic() + DATABASE_SECONDS
    pause = threading.Event()
    while True:
        try:
            return run(engine, step)
        except UnavailableError:
            if time.monotonic() > deadline:
                raise
            pause.wait(0.5)
