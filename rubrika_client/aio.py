"""The client of programs that do other things meanwhile: `rubrika_client.sync` with `await`."""

import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar, Unpack, overload

import anyio
import httpx2
from anyio import to_thread

from rubrika_client import calls, flows, resources
from rubrika_client.calls import Call, Decimal, Delimiter, Page, Sink
from rubrika_client.events import RECONNECT_SECONDS, SILENT_SECONDS, Hearing
from rubrika_client.flows import Answer, Flow, Lost, Pause, Retry
from rubrika_client.resources import Classification, Job, Post, Row
from rubrika_client.transport import (
    LOCAL,
    Filters,
    Options,
    PartFile,
    Source,
    address_of,
    form_of,
    format_of,
    headers_of,
    lost,
    request_of,
)

T = TypeVar("T")


class AsyncClient:
    """A service of Rubrika, for asyncio and trio; to be closed, or used as a context.

    Every method raises `ServiceError` and its kinds (`rubrika_client.errors`). Every request is repeated as `retry`
    says: those that make something new carry an `Idempotency-Key`, so that nothing is made twice.

    Args:
        url: where the service is; without: `RUBRIKA_URL` of the environment, else port 8000 of this machine.
        key: a key of the service, where it asks for one; without: `RUBRIKA_KEY` of the environment.
        retry: how often requests are tried again.
        transport: of httpx, for proxies, certificates and tests.
    """

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        retry: Retry | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self.url = address_of(url or os.environ.get("RUBRIKA_URL") or LOCAL)
        self._retry = retry or Retry()
        self._http = httpx2.AsyncClient(
            base_url=self.url, headers=headers_of(key or os.environ.get("RUBRIKA_KEY")), transport=transport
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        await self.close()

    # --- texts --------------------------------------------------------------------------------------------------------

    @overload  # A str is a sequence of texts as well, and counts as one text.
    async def classify(  # type: ignore[overload-overlap]
        self, posts: str | Post, *, wait: float = 30.0, explain: bool = False, key: str | None = None
    ) -> Classification: ...

    @overload
    async def classify(
        self, posts: Sequence[str | Post], *, wait: float = 30.0, explain: bool = False, key: str | None = None
    ) -> list[Classification]: ...

    async def classify(
        self, posts: str | Post | Sequence[str | Post], *, wait: float = 30.0, explain: bool = False,
        key: str | None = None,
    ) -> Classification | list[Classification]:  # fmt: skip
        """Classify a text, a post, or any number of them, which come back in their order.

        What is not computed after `wait` seconds (0: do not wait) comes back as it is then; `classification` asks
        again. `explain` asks for the pieces of text that speak for each topic. The same `key` with the same posts gives
        what is there already.
        """
        done = await self._run(flows.classify(flows.as_posts(posts), wait, explain, key, self._retry))
        return done[0] if isinstance(posts, str | Post) else list(done)

    async def classification(self, text_id: str) -> Classification:
        """A posted text and what became of it."""
        return await self._ask(calls.classification(text_id))

    def classifications(
        self, *, q: str | None = None, status: str | None = None, since: str | None = None, until: str | None = None
    ) -> AsyncIterator[Classification]:
        """Posted texts, newest first."""
        return self._pages(calls.classifications(q=q, status=status, since=since, until=until, limit=500))

    # --- files --------------------------------------------------------------------------------------------------------

    async def upload(
        self, file: Source, *, filename: str | None = None, key: str | None = None,
        sent: Callable[[int], object] | None = None, **options: Unpack[Options],
    ) -> Job:  # fmt: skip
        """Send a file of posts; it is read piece by piece. `sent` is told the bytes that have gone."""
        form = form_of(file, filename, calls.options(**options), sent)
        return await self._ask(calls.upload(form, key=key))

    async def preview(
        self, file: Source, *, filename: str | None = None, **options: Unpack[Options]
    ) -> resources.Preview:
        """What would be read of a file. Nothing is stored."""
        return await self._ask(calls.preview(form_of(file, filename, calls.options(**options), None)))

    async def job(self, job: str) -> Job:
        """How far a file is."""
        return await self._ask(calls.job(job))

    def jobs(
        self, *, q: str | None = None, status: str | None = None, since: str | None = None, until: str | None = None
    ) -> AsyncIterator[Job]:
        """Files, newest first."""
        return self._pages(calls.jobs(q=q, status=status, since=since, until=until, limit=500))

    async def wait(
        self, job: str, *, timeout: float | None = None, progress: Callable[[Job], object] | None = None
    ) -> Job:  # fmt: skip
        """Wait until a job is finished, whatever its status is then. Raises `TimeoutError` after `timeout` seconds."""
        return await self._run(flows.wait(job, timeout, progress, self._retry))

    async def events(self, job: str) -> AsyncIterator[Job]:
        """The job each time that something has changed, until it is finished or deleted."""
        call, hearing, attempt = calls.events(job), Hearing(), 0
        while True:
            found: Answer | Lost = Lost("The stream of events ended early.")
            try:
                async with self._http.sse(
                    call.path, headers=hearing.headers, timeout=httpx2.Timeout(SILENT_SECONDS)
                ) as source:
                    answer = Answer(source.response.status_code, source.response.headers, b"")
                    if answer.status == 204:
                        return
                    if flows.failure(answer, call) is not None:
                        found = replace(answer, body=await source.response.aread())
                    else:
                        async for event in source:
                            attempt = 0
                            if (seen := hearing.take(event)) is not None:
                                yield seen
                            if hearing.is_over:
                                return
            except httpx2.TransportError as error:
                found = lost(error, self.url)
            attempt += 1
            await anyio.sleep(max(flows.pause_after(found, call, attempt, self._retry), RECONNECT_SECONDS))

    def results(
        self, job: str, *, thresholds: Mapping[str, float] | None = None, **filters: Unpack[Filters]
    ) -> AsyncIterator[Row]:
        """The rows of a file in their order, page after page; also while the job runs."""
        assigned = calls.thresholds_text(thresholds)
        return self._pages(calls.results(job, limit=1000, thresholds=assigned, **filters))

    async def download(
        self, job: str, path: str | PathLike[str], *, form: str | None = None,
        thresholds: Mapping[str, float] | None = None, received: Callable[[int], object] | None = None,
        bom: bool | None = None, raw: bool | None = None, delimiter: Delimiter | None = None,
        decimal: Decimal | None = None, **filters: Unpack[Filters],
    ) -> Path:  # fmt: skip
        """Write all rows to a file, as csv, ndjson, json, xlsx or parquet by its ending or by `form`.

        It is written beside its place and moved there when it is whole; a pipe or a device is given it then, which
        cannot be cancelled before somebody reads it. `bom`, `raw`, `delimiter` (comma, semicolon, tab) and `decimal`
        (point, comma) are of CSV alone.
        """
        target = Path(path)
        chosen = format_of(target, form)
        wanted = {"delimiter": delimiter, "decimal": decimal, "thresholds": calls.thresholds_text(thresholds)} | filters
        wanted |= {name: None if value is None else int(value) for name, value in (("bom", bom), ("raw", raw))}
        part = PartFile(target)
        # Whoever reads the pipe may be in this very loop.
        file = await to_thread.run_sync(part.open)
        try:
            await self._ask(calls.export(job, chosen, Sink(file, received), **wanted))
            await to_thread.run_sync(part.keep)
        except BaseException:
            part.drop()
            raise
        return target

    async def cancel(self, job: str) -> Job:
        """Stop a file; finished rows stay. Raises `ConflictError` when it is finished already."""
        return await self._ask(calls.cancel(job))

    async def retry(self, job: str, *, key: str | None = None) -> Job:
        """A new job of the rows that failed in the hands of workers."""
        return await self._ask(calls.retry(job, key=key))

    async def rerun(self, job: str, model: str | None = None, *, key: str | None = None) -> Job:
        """A new job of the same rows by `model` (name, `name@version` or sha256), else by the active one."""
        return await self._ask(calls.rerun(job, model, key=key))

    async def delete(self, job: str) -> None:
        """Remove a file, its texts and its results."""
        return await self._ask(calls.delete(job))

    async def summary(self, job: str, *, thresholds: Mapping[str, float] | None = None) -> resources.Summary:
        """A file as a whole: shares of topics, histograms, pairs, failures."""
        return await self._ask(calls.summary(job, thresholds))

    async def compare(self, first: str, second: str, *, limit: int = 50) -> resources.Comparison:
        """How far two jobs of the same rows agree, and the first rows on which they do not."""
        return await self._ask(calls.compare(first, second, limit))

    def changed_rows(self, first: str, second: str) -> AsyncIterator[resources.ChangedRow]:
        """All rows to which two jobs assign other topics."""
        return self._pages(calls.changed_rows(first, second))

    # --- what is right ------------------------------------------------------------------------------------------------

    @overload
    async def feedback(self, of: str, topics: Sequence[str]) -> Classification: ...

    @overload
    async def feedback(self, of: str, topics: Sequence[str], *, row: int) -> Row: ...

    async def feedback(self, of: str, topics: Sequence[str], *, row: int | None = None) -> Classification | Row:
        """Say which topics are right (none: an empty list), for a posted text or for a `row` of a job, from 1."""
        if row is None:
            return await self._ask(calls.judge_text(of, topics))
        return await self._ask(calls.judge_row(of, row, topics))

    # --- the service --------------------------------------------------------------------------------------------------

    async def topics(self) -> resources.Topics:
        """The topics of the active model."""
        return await self._ask(calls.topics())

    async def models(self) -> list[resources.Model]:
        """All registered models, the active one first."""
        return [model async for model in self._pages(calls.models())]

    async def model(self, name: str) -> resources.Model:
        """A model by its `name`, `name@version` or `sha256`."""
        return await self._ask(calls.model(name))

    async def ready(self) -> resources.Readiness:
        """Whether a text that is posted now will be computed soon; what is missing if not."""
        return await self._ask(calls.ready())

    async def ping(self) -> None:
        """Raise an error if the service cannot be reached."""
        await self._ask(calls.health())

    # --- how ----------------------------------------------------------------------------------------------------------

    async def _ask(self, call: Call[T]) -> T:
        return await self._run(flows.ask(call, self._retry))

    async def _pages(self, first: Call[Page[T]]) -> AsyncIterator[T]:
        call: Call[Page[T]] | None = first
        while call is not None:
            page = await self._ask(call)
            for item in page.items:
                yield item
            call = page.following

    async def _run(self, flow: Flow[T]) -> T:
        answer: Answer | Lost | None = None
        while True:
            try:
                step = flow.send(answer)
            except StopIteration as end:
                done: T = end.value
                return done
            if isinstance(step, Pause):
                await anyio.sleep(step.seconds)
                answer = None
            else:
                answer = await self._send(step)

    async def _send(self, call: Call[Any]) -> Answer | Lost:
        async with AsyncExitStack() as stack:
            file = stack.enter_context(call.form.open()) if call.form else None
            try:
                response = await self._http.send(request_of(self._http, call, file), stream=True)
                stack.push_async_callback(response.aclose)
                answer = Answer(response.status_code, response.headers, b"")
                if call.sink is None or flows.failure(answer, call) is not None:
                    return replace(answer, body=await response.aread())
                writing = call.sink.begin()
                async for block in response.aiter_bytes():
                    writing(block)
                return answer
            except httpx2.TransportError as error:
                return lost(error, self.url)
