"""How a worker on trial finds its work: it looks for what names its model, and hears no bells.

A bell says that there is work and not for whom. One that is heard by a worker which leaves the work to others is lost
to these, and they would find new texts only when the sweeper rings again. What is rung for a rerun wakes the others for
nothing, and the worker on trial finds it a moment later.
"""

import logging
import signal
import threading
from queue import SimpleQueue
from types import FrameType

from worker.drain import Drain

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
"""So long an idle worker on trial waits between two looks: a few small queries each."""

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def look_for_work(drain: Drain) -> None:
    """Drain again and again until SIGTERM or SIGINT, then finish what is in hand and return.

    Call it from the main thread. The drains run in another one, so that a signal never comes while this one holds what
    stopping needs.
    """
    told: SimpleQueue[int] = SimpleQueue()
    stopping = threading.Event()

    def tell(number: int, _frame: FrameType | None) -> None:
        told.put(number)

    def look() -> None:
        while not stopping.is_set():
            try:
                drain.run()
            except Exception:
                # The next look may pass; a worker that ends would leave what names its model lying.
                log.exception("a drain failed")
            stopping.wait(LOOK_SECONDS)

    before = {number: signal.signal(number, tell) for number in STOP_SIGNALS}
    looking = threading.Thread(target=look, name="drain")
    looking.start()
    try:
        told.get()
    finally:
        stopping.set()
        drain.stop()
        looking.join()
        for number, handler in before.items():
            signal.signal(number, handler)
