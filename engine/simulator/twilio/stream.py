"""One two-way media stream: frames out on time, audio into the playout buffer, marks back when played.

Owns the tasks of a stream and the order of its messages. What always holds: `connected`, `start`, then media every 20
ms on an absolute schedule; a mark goes back when everything before it has truly played; `stop` is the last message of
every stream that is not broken off; both directions end together and the socket is closed on every path.

The queue to the socket is bounded. When the server reads too slowly the caller's frames are dropped (31930) and
counted, marks and keys are not; when even those pile up the stream ends as `server_stalled`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from itertools import count

import trio

from engine.simulator.record import Chunk, Violation
from engine.simulator.twilio import caller as actions
from engine.simulator.twilio.caller import Caller
from engine.simulator.twilio.config import CallConfig, new_sid
from engine.simulator.twilio.faults import FaultyLine, hostile_messages
from engine.simulator.twilio.journal import Journal
from engine.simulator.twilio.messages import (
    FIRST_TIMESTAMP_MS,
    FRAME_MS,
    ClearReceived,
    MarkReceived,
    MediaReceived,
    MessageWriter,
    ServerMessage,
    read_message,
)
from engine.simulator.twilio.playout import MarkDue, PlayoutBuffer
from engine.simulator.twilio.schedule import FrameSchedule
from engine.simulator.twilio.script import Script, Step
from engine.simulator.twilio.socket import (
    FRAMING_VIOLATION,
    HANDSHAKE_ERRORS,
    SERVER_CLOSED,
    MediaSocket,
    StreamFailed,
    connect_media_socket,
    failed_handshake,
)
from engine.simulator.twilio.twiml import Connect

CONGESTED = 31930

# Two seconds of the caller's voice wait for a slow server before frames are dropped; Twilio's own limit is not
# documented.
MAX_WAITING_FRAMES = 100
MAX_WAITING_MESSAGES = 4096
# Chunks of continuous playout are joined up to this length: the record of an hour's call stays small.
_CHUNK_BYTES = 1600

# stream event (started, stopped, error) and its error text
Announce = Callable[[str, str], None]


class MediaStream:
    """One media stream of a call."""

    def __init__(
        self, verb: Connect, config: CallConfig, journal: Journal, *, scripts: Sequence[Script], announce: Announce
    ) -> None:
        """Prepares a stream; `run` opens it.

        Args:
            verb: What the TwiML asked for.
            config: The call.
            journal: Where everything is written down.
            scripts: What the caller does.
            announce: Called with `stream-started`, `stream-stopped` or `stream-error` and the error's text.
        """
        self.stream_sid = new_sid("MZ")
        self.ended_by: str | None = None
        self.deadline_s = trio.current_time() + config.time_limit_s
        self._verb = verb
        self._config = config
        self._journal = journal
        self._record = journal.record
        self._scripts = scripts
        self._announce = announce
        self._writer = MessageWriter(
            account_sid=config.account_sid, call_sid=journal.record.call_sid, stream_sid=self.stream_sid
        )
        self._buffer = PlayoutBuffer(playout_start_ms=config.faults.draw_playout_start_ms())
        self._line = FaultyLine(config.faults)
        self._hostile = hostile_messages(self.stream_sid)
        self._caller: Caller | None = None
        # The sid that the server may use: none before `start` was sent.
        self._live_sid = ""
        # Marks whose return a fault delays, with the time at which they go.
        self._late_marks: deque[tuple[float, MarkDue]] = deque()
        # Wakes the playout task: its next event has come closer.
        self._sooner = trio.Event()
        self._talk_scope = trio.CancelScope()
        self._outgoing, self._to_send = trio.open_memory_channel[str | bytes](MAX_WAITING_MESSAGES)
        # Everything that was queued has been sent, or cannot be.
        self._written = trio.Event()
        # Twilio warns of each kind of thing once per stream.
        self._warned: set[int] = set()

    def depth_ms(self, now: float) -> float:
        """Says how much audio waits in the playout buffer."""
        return self._buffer.depth_ms(now)

    def perform(self, step: Step) -> None:
        """Lets the caller do something beside its scripts."""
        if self._caller is not None:
            self._caller.perform(step, trio.current_time())

    def end(self, reason: str) -> None:
        """Ends the stream; the first reason stays."""
        if self.ended_by is None:
            self.ended_by = reason
            self._talk_scope.cancel()

    async def run(self) -> str:
        """Opens the stream and keeps it until it ends.

        Returns:
            Why it ended: `server_closed`, `server_vanished`, `server_stalled`, `framing_violation`, `violation`,
            `caller_hung_up`, `caller_dropped`, `time_limit`, or `stream_failed` if it could not be opened.
        """
        failures: list[StreamFailed] = []
        try:
            async with trio.open_nursery() as nursery:
                socket = await connect_media_socket(nursery, self._verb.url, self._config)
                await self._converse(socket)
                nursery.cancel_scope.cancel()
        except* HANDSHAKE_ERRORS as group:
            failures += map(failed_handshake, group.exceptions)
        except* StreamFailed as group:
            failures += [error for error in group.exceptions if isinstance(error, StreamFailed)]
        if failures:
            self._fail(failures[0])
            self.ended_by = "stream_failed"
        elif self._live_sid:
            self._announce("stream-stopped", "")
        return self.ended_by or "server_closed"

    async def _converse(self, socket: MediaSocket) -> None:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write, socket)
                with self._talk_scope:
                    async with trio.open_nursery() as talk:
                        talk.start_soon(self._read, socket)
                        await self._introduce(socket)
                        talk.start_soon(self._speak)
                        talk.start_soon(self._play)
                nursery.cancel_scope.deadline = trio.current_time() + self._config.connect_timeout_s
                await self._part(socket)
        finally:
            self._outgoing.close()
            self._to_send.close()
            await socket.abort()

    async def _introduce(self, socket: MediaSocket) -> None:
        await socket.send(self._writer.connected())
        self._journal.note("connected")
        await socket.send(self._writer.start(self._verb.parameters))
        now = trio.current_time()
        self._live_sid = self._record.stream_sid = self.stream_sid
        self._record.started_at_s = now
        self._caller = Caller(self._scripts, now)
        self._journal.note("start", self.stream_sid)
        self._announce("stream-started", "")

    async def _part(self, socket: MediaSocket) -> None:
        """Says goodbye as the reason demands: `stop` and a closing handshake, or nothing at all."""
        self._look(trio.current_time())
        if self.ended_by == "caller_dropped":
            self._journal.note("drop")
            await socket.abort()
        elif self.ended_by in ("caller_hung_up", "time_limit", "violation"):
            if self._live_sid:
                self._send(self._writer.stop())
                self._journal.note("stop", self.ended_by)
            self._outgoing.close()
            await self._written.wait()
            await socket.aclose()
            self._journal.note("closed", "by us")
        self._outgoing.close()

    async def _write(self, socket: MediaSocket) -> None:
        async for message in self._to_send:
            if not await socket.send(message):
                break
        self._written.set()

    def _send(self, message: str | bytes) -> None:
        try:
            self._outgoing.send_nowait(message)
        except trio.WouldBlock:
            self.end("server_stalled")
        except (trio.BrokenResourceError, trio.ClosedResourceError):  # the reading task knows why, and ends the stream
            pass

    # ---- what comes from the server ---------------------------------------------------------------------------------

    async def _read(self, socket: MediaSocket) -> None:
        while True:
            try:
                message = await socket.receive()
            except StreamFailed as failure:
                self._journal.note("closed", str(failure))
                self._fail(failure)
                reasons = {SERVER_CLOSED: "server_closed", FRAMING_VIOLATION: "framing_violation"}
                self.end(reasons.get(failure.code, "server_vanished"))
                return
            now = trio.current_time()
            read = read_message(now, message, self._live_sid)
            if isinstance(read, Violation):
                self._complain(read)
            else:
                self._take(read, now)

    def _complain(self, violation: Violation) -> None:
        self._journal.violation(violation)
        self._warn(violation.code, violation.reason)
        if self._config.strict:
            self.end("violation")

    def _take(self, message: ServerMessage, now: float) -> None:
        due_s = self._next_due()
        match message:
            case MediaReceived(ulaw=ulaw):
                if not self._record.received:
                    self._journal.note("first_media", f"{len(ulaw)} bytes", at_s=now)
                self._record.received.append((now, len(ulaw)))
                self._buffer.receive(now, ulaw)
            case MarkReceived(name=name):
                self._record.marks_received += 1
                self._journal.note("mark_received", name, at_s=now)
                self._buffer.mark(now, name)
            case ClearReceived():
                self._record.clears += 1
                self._journal.note("clear", f"{self._buffer.depth_ms(now):.1f} ms flushed", at_s=now)
                self._buffer.clear(now)
        self._look(now)
        sooner_s = self._next_due()
        if sooner_s is not None and (due_s is None or sooner_s < due_s):
            self._sooner.set()

    # ---- what the caller hears --------------------------------------------------------------------------------------

    async def _play(self) -> None:
        while True:
            self._sooner = trio.Event()
            due_s = self._next_due()
            with trio.move_on_at(trio.current_time() + 1.0 if due_s is None else due_s):
                await self._sooner.wait()
            self._look(trio.current_time())

    def _next_due(self) -> float | None:
        times = [self._late_marks[0][0]] if self._late_marks else []
        if (due_s := self._buffer.next_due()) is not None:
            times.append(due_s)
        return min(times, default=None)

    def _look(self, now: float) -> None:
        """Plays until now, writes down what was heard, and returns the marks that are due."""
        news = self._buffer.advance(now)
        for chunk in news.played:
            self._keep_played(chunk)
        if self._caller is not None:
            self._caller.hear(news.played)
        self._record.depth += news.depth
        self._record.surplus_bytes = self._buffer.surplus_bytes
        for gap in news.gaps:
            self._record.gaps.append(gap)
            self._journal.note("gap" if gap.after_mark else "underrun", f"{gap.gap_ms:.1f} ms", at_s=gap.at_s)
        delay_s = self._config.faults.mark_delay_ms / 1000
        self._late_marks.extend((mark.at_s + delay_s, mark) for mark in news.marks)
        while self._late_marks and self._late_marks[0][0] <= now:
            self._return_mark(self._late_marks.popleft()[1])

    def _return_mark(self, mark: MarkDue) -> None:
        self._record.marks_returned += 1
        self._journal.note("mark_flushed" if mark.flushed else "mark_returned", mark.name)
        self._send(self._writer.mark(mark.name))

    def _keep_played(self, chunk: Chunk) -> None:
        played = self._record.played
        if played and abs(played[-1].end_s - chunk.at_s) < 1e-6 and len(played[-1].ulaw) < _CHUNK_BYTES:
            chunk = Chunk(played[-1].at_s, played.pop().ulaw + chunk.ulaw)
        played.append(chunk)

    # ---- what the caller says ---------------------------------------------------------------------------------------

    async def _speak(self) -> None:
        schedule = FrameSchedule(self._record.started_at_s + FIRST_TIMESTAMP_MS / 1000, interval_ms=FRAME_MS)
        for frame_number in count():
            await trio.sleep_until(schedule.next_due_s)
            now = trio.current_time()
            schedule.leave(now)
            self._record.frames_late, self._record.late_max_ms = schedule.frames_late, schedule.late_max_ms
            self._look(now)
            self._tick(frame_number * FRAME_MS, now)
            if now >= self.deadline_s:
                self.end("time_limit")
            if self._line.drops(frame_number * FRAME_MS):
                self.end("caller_dropped")
            if self.ended_by is not None:
                return

    def _tick(self, at_ms: int, now: float) -> None:
        assert self._caller is not None
        frame, todo = self._caller.next_frame(now)
        for action in todo:
            self._act(action)
            if self.ended_by is not None:
                return
        self._record.caller.append(Chunk(now, frame))
        for passed in self._line.carry(at_ms, frame):
            self._send_frame(passed)
        hostile_every_ms = self._config.faults.hostile_every_ms
        if hostile_every_ms is not None and at_ms and at_ms % hostile_every_ms < FRAME_MS:
            self._act(actions.SendMessage(next(self._hostile)))

    def _send_frame(self, frame: bytes | None) -> None:
        if frame is None:
            self._record.frames_lost += 1
            self._writer.lose_frame()
        elif self._to_send.statistics().current_buffer_used >= MAX_WAITING_FRAMES:
            self._record.frames_congested += 1
            self._writer.lose_frame()
            self._warn(CONGESTED, "the server reads too slowly: audio is dropped")
        else:
            self._record.frames_sent += 1
            self._send(self._writer.media(frame))

    def _act(self, action: actions.Action) -> None:
        match action:
            case actions.PressKey(digit=digit):
                self._journal.note("dtmf", digit)
                self._send(self._writer.dtmf(digit))
            case actions.SendMessage(message=message):
                self._journal.note(
                    "raw_sent", f"{len(message)} {'bytes' if isinstance(message, bytes) else 'characters'}"
                )
                self._send(message)
            case actions.SpeechBegan():
                self._journal.note("speech_began")
            case actions.SpeechEnded():
                self._journal.note("speech_ended")
            case actions.CueMissed(step=step):
                self._record.cues_missed += 1
                self._journal.note("cue_missed", step)
            case actions.EndCall():
                self.end("caller_hung_up")
            case actions.DropSocket():
                self.end("caller_dropped")

    # ---- complaints -------------------------------------------------------------------------------------------------

    def _warn(self, code: int, reason: str) -> None:
        if code not in self._warned:
            self._warned.add(code)
            self._journal.note("warning", f"{code} {reason}")
            self._announce("stream-error", f"{code} {reason}")

    def _fail(self, failure: StreamFailed) -> None:
        self._journal.error(failure.code, str(failure))
        self._announce("stream-error", f"{failure.code} {failure}")
