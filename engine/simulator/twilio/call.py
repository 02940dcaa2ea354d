"""A simulated call from dialing to hanging up: webhook, TwiML, media stream, status callbacks.

Owns the life of one call and nothing of the server under test. `place_call` runs a call to its end; `open_call` hands
out the live call. Every path ends in a complete `CallRecord`; no call lives longer than its time limit and the few
seconds that goodbyes may take.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import partial

import trio

from engine.simulator.record import CallEvent, CallRecord
from engine.simulator.twilio.config import CallConfig, new_sid
from engine.simulator.twilio.journal import Journal
from engine.simulator.twilio.script import Script, Step
from engine.simulator.twilio.stream import MediaStream
from engine.simulator.twilio.twiml import (
    SCHEMA_VIOLATION,
    Connect,
    Dial,
    Hangup,
    Pause,
    Play,
    Redirect,
    Reject,
    Say,
    TwimlError,
    Verb,
    check_media_url,
)
from engine.simulator.twilio.webhooks import Webhooks, voice_parameters

# A server that redirects in circles is stopped here; Twilio's limit is not documented.
MAX_DOCUMENTS = 50
_QUEUED_CALLBACKS = 64
# Endings after which nobody is left to follow more TwiML.
_FINAL_ENDINGS = frozenset({"caller_hung_up", "caller_dropped", "time_limit", "violation", "dialed", "hangup_verb"})


class SimulatedCall:
    """One call; made by `open_call` and `place_call`.

    Attributes:
        record: What has happened so far; complete once `wait_ended` returns.
        live: Events as they come (`CallEvent`), up to 1024 unread; ends with the call.
    """

    def __init__(self, config: CallConfig, scripts: Sequence[Script]) -> None:
        self._config = config
        self._scripts = scripts
        self._journal = Journal(config.call_sid or new_sid("CA"))
        self.record: CallRecord = self._journal.record
        self.live: trio.MemoryReceiveChannel[CallEvent] = self._journal.live
        self._webhooks = Webhooks(config, self._journal)
        self._deadline_s = trio.current_time() + config.time_limit_s
        self._stream: MediaStream | None = None
        self._answered_at_s: float | None = None
        self._documents = 0
        self._ended = trio.Event()
        # What the call is doing outside a stream; cancelled when the caller hangs up there.
        self._scope = trio.CancelScope()
        self._hung_up = False
        self._send_callback, self._callbacks = trio.open_memory_channel[tuple[str, str, Mapping[str, str]]](
            _QUEUED_CALLBACKS
        )
        self._callbacks_sent = 0

    def depth_ms(self) -> float:
        """Says how many milliseconds of the server's audio wait in the playout buffer now."""
        return self._stream.depth_ms(trio.current_time()) if self._stream is not None else 0.0

    def perform(self, step: Step) -> None:
        """Lets the caller do something beside its scripts; without effect unless a stream has started."""
        if self._stream is not None:
            self._stream.perform(step)

    def hang_up(self) -> None:
        """Lets the caller hang up now."""
        self._hung_up = True
        if self._stream is not None:
            self._stream.end("caller_hung_up")
        else:
            self._scope.cancel()

    async def wait_ended(self) -> CallRecord:
        """Waits for the end of the call, which its time limit bounds."""
        await self._ended.wait()
        return self.record

    async def run(self) -> None:
        """Runs the call to its end."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._deliver_callbacks)
                self._journal.note("dial", self._config.url)
                self._journal.end(await self._follow())
                self._report_status("completed")
                self._send_callback.close()
                nursery.cancel_scope.deadline = trio.current_time() + self._config.webhook_timeout_s
        finally:
            self._send_callback.close()
            self._callbacks.close()
            if not self.record.ended_by:
                self._journal.end("cancelled")
            self._journal.close()
            self._ended.set()

    async def _follow(self) -> str:
        with self._scope:
            try:
                return await self._follow_twiml()
            except TwimlError as error:
                self._journal.error(error.code, str(error))
                return "twiml_error"
        return "caller_hung_up"

    async def _follow_twiml(self) -> str:
        verbs = deque(await self._first_verbs())
        first = True
        while verbs:
            verb = verbs.popleft()
            if isinstance(verb, Reject):
                if not first:
                    raise TwimlError(SCHEMA_VIOLATION, "<Reject> must be the first verb of a call")
                self._journal.note("reject", verb.reason)
                return "rejected"
            first = first and isinstance(verb, Redirect)
            if not first:
                self._answer()
            outcome = await self._do(verb)
            if isinstance(outcome, str):
                if outcome in _FINAL_ENDINGS or not verbs:
                    return outcome
            elif outcome is not None:
                verbs = deque(outcome)
            if trio.current_time() >= self._deadline_s:
                return "time_limit"
        return "twiml_ended"

    async def _first_verbs(self) -> Sequence[Verb]:
        config = self._config
        if config.is_direct:
            check_media_url(config.url, allow_plain_loopback=config.allow_plain_loopback)
            callback = config.stream_status_callback
            return (Connect(url=config.url, parameters=config.parameters, status_callback=callback),)
        if config.direction == "inbound":
            self._report_status("ringing")
            return await self._fetch(config.url, config.method, "ringing")
        self._report_status("initiated")
        self._report_status("ringing")
        self._answer()
        return await self._fetch(config.url, config.method, "in-progress")

    def _answer(self) -> None:
        if self._answered_at_s is None:
            self._answered_at_s = trio.current_time()
            self._journal.note("answered")
            self._report_status("answered")

    async def _fetch(
        self, url: str, method: str, status: str, extra: Mapping[str, str] | None = None
    ) -> Sequence[Verb]:
        self._documents += 1
        if self._documents > MAX_DOCUMENTS:
            raise TwimlError(SCHEMA_VIOLATION, f"more than {MAX_DOCUMENTS} documents in one call")
        parameters = voice_parameters(self._config, self.record.call_sid, status) | dict(extra or {})
        return await self._webhooks.fetch_twiml(url, parameters, method=method)

    async def _do(self, verb: Verb) -> str | Sequence[Verb] | None:
        """Follows one verb.

        Returns:
            Why the call (or, if more verbs follow, only the stream) ended; or the verbs that replace the rest; or None
            to go on.
        """
        match verb:
            case Connect():
                return await self._connect(verb)
            case Say(text=text):
                self._journal.note("say", text)
            case Play(url=url, digits=digits):
                self._journal.note("play", digits or url)
            case Pause(length_s=length_s):
                self._journal.note("pause", f"{length_s} s")
                with trio.move_on_at(self._deadline_s):
                    await trio.sleep(length_s)
            case Redirect(url=url, method=method):
                self._journal.note("redirect", url)
                return await self._fetch(url, method, "in-progress" if self._answered_at_s is not None else "ringing")
            case Dial(target=target):
                self._journal.note("dial_out", target)
                return "dialed"
            case Hangup():
                self._journal.note("hangup")
                return "hangup_verb"
        return None

    async def _connect(self, verb: Connect) -> str | Sequence[Verb] | None:
        stream = MediaStream(
            verb, self._config, self._journal, scripts=self._scripts, announce=partial(self._report_stream, verb)
        )
        stream.deadline_s = self._deadline_s
        self._stream = stream
        try:
            ended_by = await stream.run()
        finally:
            self._stream = None
        if verb.action is None or ended_by in _FINAL_ENDINGS:
            return ended_by
        return await self._fetch(verb.action, verb.method, "in-progress", {"StreamSid": stream.stream_sid})

    # ---- callbacks --------------------------------------------------------------------------------------------------

    def _report_stream(self, verb: Connect, event: str, error: str) -> None:
        """Queues a stream status callback (protocols.md A.4)."""
        if verb.status_callback is None or self._stream is None:
            return
        parameters = {
            "AccountSid": self._config.account_sid,
            "CallSid": self.record.call_sid,
            "StreamSid": self._stream.stream_sid,
            "StreamName": verb.name or self._stream.stream_sid,
            "StreamEvent": event,
            "Timestamp": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        }
        if error:
            parameters["StreamError"] = error
        self._queue_callback(verb.status_callback, verb.status_callback_method, parameters)

    def _report_status(self, event: str) -> None:
        config = self._config
        if config.status_callback is None or event not in config.status_events:
            return
        status = {"answered": "in-progress", "completed": self._final_status()}.get(event, event)
        parameters = voice_parameters(config, self.record.call_sid, status) | {
            "CallbackSource": "call-progress-events",
            "SequenceNumber": str(self._callbacks_sent),
            "Timestamp": format_datetime(datetime.now(UTC)),
        }
        if event == "completed":
            lasted_s = trio.current_time() - (self._answered_at_s or trio.current_time())
            parameters |= {"CallDuration": str(round(lasted_s)), "SipResponseCode": "200"}
        self._callbacks_sent += 1
        self._queue_callback(config.status_callback, "POST", parameters)

    def _final_status(self) -> str:
        if self._answered_at_s is not None:
            return "completed"
        return "busy" if self.record.ended_by == "rejected" else "failed"

    def _queue_callback(self, url: str, method: str, parameters: Mapping[str, str]) -> None:
        try:
            self._send_callback.send_nowait((url, method, parameters))
        except trio.WouldBlock:
            self._journal.note("callback_failed", f"{url}: too many callbacks wait")

    async def _deliver_callbacks(self) -> None:
        async for url, method, parameters in self._callbacks:
            await self._webhooks.post_callback(url, parameters, method=method)


async def place_call(config: CallConfig, *scripts: Script) -> CallRecord:
    """Places a call and runs it to its end.

    Args:
        config: The call.
        scripts: What the caller does in the media stream, side by side; without any it listens until the server or the
            time limit ends the call.

    Returns:
        The complete record; failures of the server are in it, none is raised.
    """
    call = SimulatedCall(config, scripts)
    await call.run()
    return call.record


@asynccontextmanager
async def open_call(config: CallConfig, *scripts: Script) -> AsyncIterator[SimulatedCall]:
    """Places a call that can be watched and steered while it lives; on leaving, the caller hangs up if it has not.

    Yields:
        The live call.
    """
    call = SimulatedCall(config, scripts)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(call.run)
        yield call
        call.hang_up()
        await call.wait_ended()
