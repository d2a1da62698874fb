"""What a worker has in hand: the texts of a claim, what is known of them already, and what is left to compute."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from jobs.answers import Answer
from jobs.records import Claim, ClaimedText, Outcome
from jobs.states import RowError
from ml.classifier import Predictions, Prepared
from ml.posts import Post
from worker.memo import Memo


@dataclass(frozen=True)
class Work:
    """A claim with its texts, ready for the network.

    `known` are the answers that were there before, by position; `fresh` the positions of the texts that are `prepared`
    for the network; `awaited` those of texts that the claim before has in work, and so need not be computed again.
    Moments are nanoseconds since 1970.
    """

    claim: Claim
    texts: Sequence[ClaimedText]
    keys: Sequence[bytes]
    known: dict[int, Answer]
    fresh: Sequence[int]
    awaited: Sequence[int]
    prepared: Prepared
    begun: bool
    claimed_at: int = field(default_factory=time.time_ns)
    prepared_at: int = field(default_factory=time.time_ns)

    @property
    def about(self) -> dict[str, str]:
        """What lines of the log about it shall name: ids alone."""
        jobs = sorted({chunk.job_id.hex for chunk in self.claim.chunks})
        return {"lease": self.claim.lease.hex, "job": ",".join(jobs)}


@dataclass
class Done:
    """What was found out of a claim: an outcome for each text, and the answers that nobody knew before."""

    outcomes: list[Outcome]
    learned: dict[bytes, Answer] = field(default_factory=dict)
    stale: list[bytes] = field(default_factory=list)
    """Keys of answers that were used today for the first time."""
    computed_at: int = field(default_factory=time.time_ns)


def post_of(text: ClaimedText) -> Post:
    """A text as the classifier takes it."""
    return Post(text.doc_text, text.image2text, text.speech2text)


def done(work: Work, computed: Sequence[tuple[Sequence[int], Predictions]], memo: Memo) -> Done:
    """Put together what was known and what was `computed` (positions, and predictions for the texts there).

    What is learned is put into `memo`. An error is an outcome, and never an answer for another text.
    """
    outcomes: dict[int, Outcome] = {
        position: Outcome(work.texts[position], answer.probabilities, answer.truncated, cached=True)
        for position, answer in work.known.items()
    }
    learned: dict[bytes, Answer] = {}
    for positions, predictions in computed:
        rows = zip(positions, predictions.probabilities.tolist(), predictions.truncated.tolist(), strict=True)
        failures = predictions.failures
        for number, (position, probabilities, truncated) in enumerate(rows):
            if failures and number in failures:
                code, message = RowError.MODEL_FAILED, failures[number]
                outcomes[position] = Outcome(work.texts[position], None, truncated, code, message)
                continue
            outcomes[position] = Outcome(work.texts[position], probabilities, truncated)
            answer = Answer(probabilities, truncated)
            learned[work.keys[position]] = answer
            memo.put(work.keys[position], answer)
    return Done(
        [outcomes[position] for position in range(len(work.texts))],
        learned,
        [work.keys[position] for position, answer in work.known.items() if answer.stale],
    )
