"""One call: the nursery that holds its tasks, and the glue between Twilio, the call core, and the provider.

Owns the life of a call from an open media socket to its record. Whatever ends it (hang-up, a dropped socket, a lost
provider, a deadline, a failure of ours, the end of the service) cancels the nursery, and both sockets are closed. The
steady flow of frames runs through synchronous callbacks of the mover; the tasks wait for what needs deciding.
"""

from __future__ import annotations

import binascii
import logging
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import trio

from engine.call.hearing import Hearing
from engine.call.pacer import Audio
from engine.call.playout import Interruption, Playout, SendMedia
from engine.errors import ProviderError, RemoteProtocolError
from engine.runtime.leg import Leg
from engine.runtime.link import Link
from engine.runtime.mover import Mover
from engine.runtime.provider import MakeProvider, Provider
from engine.settings import Settings
from engine.wire import twilio
from engine.wire.twilio import TwilioStream

if TYPE_CHECKING:  # a name of the type stub only
    from engine._codec import CData

START_LIMIT_S: Final = 5.0
SILENCE_LIMIT_S: Final = 5.0
# Keys pressed with shorter pauses belong together; # ends an entry at once.
KEYS_PAUSE_S: Final = 1.5
KEYS_LIMIT: Final = 64

_log = logging.getLogger("engine.call")


class Call:
    """One phone call.

    Args:
        link: The open media socket; the call closes it.
        settings: Frame length, lead.
        mover: Moves the frames of this process.
        make_provider: Makes the voice for this call, once the stream has started.
    """

    def __init__(self, link: Link, settings: Settings, mover: Mover, make_provider: MakeProvider) -> None:
        self._link = link
        self._mover = mover
        self._make_provider = make_provider
        self._now = mover.clock.now
        self._stream = TwilioStream()
        self._hearing = Hearing()
        self._playout = Playout(frame_ms=settings.frame_ms, lead_ms=settings.lead_ms)
        self._alarm = mover.alarm(self._send_due, self.crash)
        self._keys_alarm = mover.alarm(self._keys_complete, self.crash)
        self._keys = ""
        self._provider: Provider | None = None
        self._nursery: trio.Nursery | None = None
        self._started = trio.Event()
        self._ended = trio.Event()
        self._error: Exception | None = None
        # when audio last came from Twilio, in seconds
        self._media_at = self._now()
        self._begun_at = self._now()
        self._close_code = 1000
        # media that came here, and media that the mover carried past
        self._media_received = 0
        self._media_carried = 0
        # whether the mover was told how far the caller's voice has come
        self._pass_led = False
        self._malformed = 0
        self._unrecognised = 0
        # Twilio's ids, empty until the stream has started
        self.call_sid = ""
        self.parameters: dict[str, str] = {}
        # why the call ended, empty while it goes on
        self.end_reason = ""

    @property
    def mover(self) -> Mover:
        """Moves this process's frames."""
        return self._mover

    async def run(self) -> None:
        """Holds the call until it ends.

        Raises:
            Exception: Something of ours failed; the sockets are closed all the same.
        """
        self._link.on_text = self._text_received
        self._link.on_binary = self._binary_received
        self._link.on_drained = self._link.on_mark_wanted = lambda: self._send_due(self._now())
        self._link.on_attached = self._join_pass
        self._link.on_detached = self._leave_pass
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(self._link.run_reader, self._mover)
                nursery.start_soon(self._link.run_writer)
                nursery.start_soon(self._link.run_keepalive)
                nursery.start_soon(self._watch_link)
                nursery.start_soon(self._watch_silence)
                nursery.start_soon(self._run_provider)
                await self._ended.wait()
                nursery.cancel_scope.cancel()
        except BaseException as error:
            if isinstance(error, trio.Cancelled):
                self.end("the service ended", 1001)
            else:
                self.end("internal error", 1011)
            raise
        finally:
            self._nursery = None
            self._alarm.cancel()
            self._keys_alarm.cancel()
            await self._link.aclose(self._close_code, self.end_reason)
        if self._error is not None:
            raise self._error

    def end(self, reason: str, close_code: int = 1000) -> None:
        """Ends the call; the first reason counts.

        Args:
            reason: For the record.
            close_code: What Twilio's socket is closed with, if it is still open.
        """
        if not self.end_reason:
            self.end_reason = reason
            self._close_code = close_code
            self._ended.set()

    def crash(self, error: Exception) -> None:
        """Ends the call because a callback of ours raised; :meth:`run` raises it."""
        self._error = self._error or error
        self.end("internal error", 1011)

    def warn(self, text: str) -> None:
        """Logs with the call's id."""
        _log.warning("%s: %s", self.call_sid or "call", text)

    # ------------------------------------------------------------------------------------------------------- tasks

    async def _watch_link(self) -> None:
        closed = await self._link.wait_closed()
        if self._link.crashed:
            self.end("internal error", 1011)
        how = f"{closed.code} {closed.reason}".strip()
        self.end(f"Twilio's socket closed without stop ({how})")

    async def _watch_silence(self) -> None:
        """Ends a call that does not start, or from which no audio comes any more (design: five seconds each)."""
        with trio.move_on_after(START_LIMIT_S):
            await self._started.wait()
        if not self._started.is_set():
            self.end(f"no start within {START_LIMIT_S:g} s", 1002)
            return
        while True:
            quiet_s = self._now() - self._heard_media_at()
            if quiet_s >= SILENCE_LIMIT_S:
                self.end(f"no audio from Twilio for {SILENCE_LIMIT_S:g} s", 1002)
                return
            await trio.sleep(SILENCE_LIMIT_S - quiet_s)

    async def _run_provider(self) -> None:
        await self._started.wait()
        assert self._provider is not None
        try:
            await self._provider.run()
        except ProviderError as error:
            self.warn(f"the provider is given up: {error}")
            self.end(f"provider failed: {error}", 1011)

    # ------------------------------------------------------------------------------------------------- from Twilio

    def _text_received(self, text: str) -> None:
        self._follow_pass(self._link.leg)
        try:
            event = self._stream.receive(text)
            if type(event) is twilio.MediaReceived:
                self._hear(event)
            else:
                self._receive(event)
        except RemoteProtocolError as error:
            self._malformed_received(error)
        self._lead_pass()

    def _hear(self, media: twilio.MediaReceived) -> None:
        self._media_at = self._now()
        self._media_received += 1
        provider = self._provider
        if provider is None:
            return
        silence = self._hearing.missing_before(media.timestamp_ms, len(media.ulaw))
        if silence:
            provider.hear(binascii.b2a_base64(silence, newline=False).decode(), silence)
        provider.hear(media.payload, media.ulaw)

    def _receive(self, event: twilio.Event) -> None:
        match event:
            case twilio.MarkReturned(name):
                if self._link.round_trip_s is not None:
                    self._playout.ledger.round_trip(self._link.round_trip_s)
                self._playout.mark_returned(name, self._now())
            case twilio.DtmfReceived(digit):
                self._key_pressed(digit)
            case twilio.StreamStarted():
                self._start(event)
            case twilio.StreamStopped():
                self.stop_carrying()  # what may come behind it belongs to no stream
                self.end("hung up")
            case twilio.Unrecognised():
                self._unrecognised += 1
            case _:
                pass

    def _start(self, event: twilio.StreamStarted) -> None:
        self.call_sid = event.call_sid
        self.parameters = dict(event.parameters)
        self._media_at = self._now()
        self._provider = self._make_provider(self)
        self._join_pass()
        self._started.set()
        _log.info("%s: stream %s started", event.call_sid, event.stream_sid)

    def _malformed_received(self, error: RemoteProtocolError) -> None:
        self._malformed += 1
        if error.close_code is not None:
            self.end(str(error), error.close_code)
        elif self._malformed == 1:
            self.warn(f"a message of Twilio was ignored: {error}")

    def _binary_received(self) -> None:
        self._malformed_received(RemoteProtocolError("a binary message"))

    def _key_pressed(self, digit: str) -> None:
        self._keys = (self._keys + digit)[-KEYS_LIMIT:]
        if digit == "#":
            self._keys_complete(self._now())
        else:
            self._keys_alarm.cancel()
            self._keys_alarm.set(self._now() + KEYS_PAUSE_S)

    def _keys_complete(self, now: float) -> None:
        keys, self._keys = self._keys, ""
        self._keys_alarm.cancel()
        if keys and self._provider is not None:
            self._provider.keys_pressed(keys)

    # ------------------------------------------------------------------------------------------- with the mover's pass

    def _join_pass(self) -> None:
        """Lets the mover send what is due, once the link is watched and the stream has begun."""
        leg = self._link.leg
        if leg is not None and self._stream.media_head:
            leg.begin_stream(self._stream.stream_sid, self._stream.media_head, self._playout.pacer)
            self._mover.expect(self._playout.due_at())

    def carry_to(self, provider: Leg, upsampler: CData | None) -> None:
        """Lets the mover carry the caller's voice past this object."""
        if self._link.leg is not None and self._stream.media_head:
            self._lead_pass()
            self._link.leg.carry_to(provider, upsampler)

    def stop_carrying(self) -> None:
        """Takes the caller's voice back."""
        if self._link.leg is not None:
            self._link.leg.stop_carrying()

    def _heard_media_at(self) -> float:
        leg = self._link.leg
        return self._media_at if leg is None else max(self._media_at, leg.state.media_at)

    def _follow_pass(self, leg: Leg | None) -> None:
        """Learns how far the mover has come with the caller's voice."""
        if leg is not None and self._pass_led:
            self._stream.next_sequence = leg.state.next_sequence
            self._hearing.expected_bytes = leg.state.expected_bytes

    def _lead_pass(self) -> None:
        """Tells the mover how far this object has come."""
        leg, expected_bytes = self._link.leg, self._hearing.expected_bytes
        if leg is not None and expected_bytes is not None:
            leg.state.next_sequence, leg.state.expected_bytes = self._stream.next_sequence, expected_bytes
            self._pass_led = True

    def _leave_pass(self, leg: Leg) -> None:
        self._follow_pass(leg)
        self._pass_led = False
        self._media_at = max(self._media_at, leg.state.media_at)
        self._media_carried += leg.state.media_received

    # --------------------------------------------------------------------------------------------- for the provider

    def play(self, item_id: str, ulaw: Audio) -> None:
        """Queues audio; what is due leaves at once."""
        now = self._now()
        self._playout.play(item_id, ulaw, now)
        self._send_due(now)

    def complete(self) -> None:
        """Lets the last, partial frame leave."""
        now = self._now()
        self._playout.complete(now)
        self._send_due(now)

    def interrupt(self) -> Interruption:
        """Drops what the caller has not heard, here and at Twilio."""
        interruption = self._playout.interrupt(self._now())
        if interruption.clear:
            self._link.send_nowait(self._stream.send_clear())
        return interruption

    def start_soon(self, run: Callable[..., Awaitable[Any]], *arguments: Any) -> None:
        """Starts a task of this call."""
        if self._nursery is not None:
            self._nursery.start_soon(run, *arguments)

    def _send_due(self, now: float) -> None:
        """Sends the frames and marks that are due; waits with all of them while Twilio takes nothing."""
        leg = self._link.leg
        if self._link.is_blocked or not self._stream.media_head:
            return
        if leg is None:
            self._send_orders(now)
            self._alarm.set(self._playout.due_at())
            return
        while self._mover.send_due(self._link, leg, now):
            name = self._playout.take_mark()
            if name is not None:
                self._link.send_nowait(self._stream.send_mark(name))
        self._mover.expect(self._playout.due_at())

    def _send_orders(self, now: float) -> None:
        """The slow way, for a link that the mover cannot watch."""
        payloads: list[bytes] = []
        for order in self._playout.advance(now):
            if isinstance(order, SendMedia):
                payloads.append(self._stream.send_media(order.ulaw))
            else:
                payloads.append(self._stream.send_mark(order.name))
        if payloads:
            self._link.send_batch_nowait(payloads)

    # --------------------------------------------------------------------------------------------------- its record

    def figures(self) -> dict[str, Any]:
        """What happened, for the log and for whoever measures."""
        pacer, ledger, hearing = self._playout.pacer.counts, self._playout.ledger.counts, self._hearing.counts
        lateness = self._playout.pacer.lateness
        return {
            "call_sid": self.call_sid,
            "reason": self.end_reason,
            "seconds": round(self._now() - self._begun_at, 3),
            "media_received": self._media_received + self._media_carried,
            "media_sent": pacer.frames,
            "messages_missed": self._stream.messages_missed,
            "malformed": self._malformed,
            "unrecognised": self._unrecognised,
            "late_ms_p50": round(lateness.percentile_s(50) * 1000, 3),
            "late_ms_p99": round(lateness.percentile_s(99) * 1000, 3),
            "late_ms_worst": round(lateness.worst_s * 1000, 3),
            "round_trip_ms": None if self._link.round_trip_s is None else round(self._link.round_trip_s * 1000, 3),
            "pacer": asdict(pacer),
            "ledger": asdict(ledger),
            "hearing": asdict(hearing),
            "provider": {} if self._provider is None else self._provider.figures(),
        }
