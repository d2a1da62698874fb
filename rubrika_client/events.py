"""What the server-sent events of a job say."""

import json
from dataclasses import dataclass

from httpx2 import ServerSentEvent

from rubrika_client.decoding import decode
from rubrika_client.errors import BadAnswerError
from rubrika_client.resources import Job

RECONNECT_SECONDS = 2.0
SILENT_SECONDS = 45.0
"""The service says something every ten seconds; a stream that has been silent for longer is dead."""


@dataclass
class Hearing:
    """How far a reader has heard a job.

    Attributes:
        last: the id of the last event, to be sent as `Last-Event-ID` when a stream has broken.
        is_over: the service has said that nothing more will come.
    """

    last: str = ""
    is_over: bool = False

    @property
    def headers(self) -> dict[str, str]:
        """The headers of a request for what has not been heard yet."""
        return {"Last-Event-ID": self.last} if self.last else {}

    def take(self, event: ServerSentEvent) -> Job | None:
        """Take an event; the job, if it is about one."""
        self.last = event.id or self.last
        if event.event == "end":
            self.is_over = True
        if event.event != "job":
            return None
        try:
            body = json.loads(event.data)
        except ValueError as error:
            raise BadAnswerError("An event is not JSON.") from error
        return decode(Job, body)
