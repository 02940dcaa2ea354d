"""The OpenAI Realtime provider: keeps a session open for a call, and the conversation on it.

Owns the connection: connecting, the deadline of the session's set-up, keep-alive, and trying again. A session that is
lost is replaced within the call, with growing pauses; what was said is told to the new one. Gives up, by
:class:`~engine.errors.ProviderError`, when the attempts are used up or when another cannot help.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, quote, urlsplit, urlunsplit

import trio

from engine._codec import ffi
from engine.call.conversation import RealtimeConversation
from engine.call.ledger import HeardItem
from engine.call.pacer import Audio
from engine.call.transcript import Transcript
from engine.errors import ConnectionFailed, ProviderError, ProviderFatalError, RemoteProtocolError
from engine.runtime.handshake import connect
from engine.runtime.leg import copy_bytes
from engine.runtime.link import Link
from engine.runtime.provider import CallPort
from engine.runtime.tool_task import run_tool
from engine.settings import Settings
from engine.tools import Tool
from engine.wire import realtime
from engine.wire.realtime import AudioDelta, FunctionCalled, SessionConfig
from engine.wire.websocket import RefusedHandshake

if TYPE_CHECKING:  # a name of the type stub only
    from engine._codec import CData

# The caller waits in silence meanwhile, so the whole of it stays below what people take for a dead line.
RETRY_PAUSES_S: Final = (0.25, 0.5, 1.0, 2.0)
SETUP_LIMIT_S: Final = 8.0
# HTTP answers that another attempt will not change.
_FATAL_STATUSES: Final = frozenset({400, 401, 403, 404, 405})


class OpenAIProvider:
    """One call's voice.

    Args:
        port: The call.
        settings: Key, model, voice, audio, instructions, greeting.
        tools: What the model may call, by name.
        ssl_context: Trusts the service's certificate; by default, the system's authorities. Loading those takes
            milliseconds, so calls share one.
    """

    def __init__(
        self,
        port: CallPort,
        settings: Settings,
        tools: Mapping[str, Tool],
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._port = port
        self._settings = settings
        self._tools = tools
        self._ssl_context = ssl_context
        self._transcript = Transcript()
        self._link: Link | None = None
        self._now = port.mover.clock.now
        self._alarm = port.mover.alarm(self._advance, port.crash)
        self._ready = trio.Event()
        self._lost = trio.Event()
        self._loss: ProviderError | None = None
        self._conversation = self._new_conversation()
        # sessions that were set up, and events that could not be read
        self._sessions = 0
        self._malformed = 0
        self._past: list[RealtimeConversation] = []

    def _new_conversation(self) -> RealtimeConversation:
        settings = self._settings
        config = SessionConfig(
            instructions=settings.instructions,
            voice=settings.openai_voice,
            audio=settings.openai_audio,
            turn_detection=settings.turn_detection,
            tools=tuple((tool.name, tool.description, tool.parameters) for tool in self._tools.values()),
        )
        return RealtimeConversation(self, config, settings.greeting, self._transcript)

    # ------------------------------------------------------------------------------------------------ from the call

    def hear(self, payload: str, ulaw: bytes) -> None:
        """Passes the caller's voice on, or keeps it until the session is ready."""
        self._conversation.hear(payload, ulaw)

    def keys_pressed(self, digits: str) -> None:
        """Tells the model."""
        self._conversation.keys_pressed(digits, self._now())
        self._alarm.set(self._conversation.due_at())

    def figures(self) -> dict[str, Any]:
        """Counts of all sessions of the call."""
        counts = [asdict(conversation.counts) for conversation in (*self._past, self._conversation)]
        total = {name: sum(each[name] for each in counts) for name in counts[0]}
        dropped = 0 if self._link is None else self._link.dropped_messages
        return {"sessions": self._sessions, "malformed": self._malformed, "dropped_appends": dropped, **total}

    async def run(self) -> None:
        """Keeps a session until cancelled."""
        try:
            pauses = list(RETRY_PAUSES_S)
            while True:
                sessions_before = self._sessions
                error = await self._attempt()
                if self._sessions > sessions_before:
                    pauses = list(RETRY_PAUSES_S)
                if isinstance(error, ProviderFatalError) or not pauses:
                    raise error
                self._port.warn(f"provider lost, trying again: {error}")
                await trio.sleep(pauses.pop(0))
        finally:
            self._alarm.cancel()

    async def _attempt(self) -> ProviderError:
        """Holds one session; returns why it ended."""
        try:
            await self._hold_session()
        except RefusedHandshake as refused:
            kind = ProviderFatalError if refused.status in _FATAL_STATUSES else ProviderError
            return kind(str(refused))
        except (ConnectionFailed, RemoteProtocolError) as error:
            return ProviderError(str(error))
        finally:
            self._begin_anew()
        assert self._loss is not None
        loss, self._loss = self._loss, None
        return loss

    def _begin_anew(self) -> None:
        """The next session gets a conversation of its own; it keeps what the caller says until then."""
        self._conversation.abandon()
        self._past.append(self._conversation)
        self._conversation = self._new_conversation()
        self._ready, self._lost = trio.Event(), trio.Event()

    async def _hold_session(self) -> None:
        """Returns when the conversation reported its loss.

        Raises:
            ConnectionFailed: The connection could not be made or ended.
        """
        link = await connect(
            realtime_url(self._settings),
            headers=self._headers(),
            now=self._now,
            name="the Realtime service",
            ssl_context=self._ssl_context,
        )
        link.on_text = self._text_received
        link.on_delta = self._delta_received
        self._link = link
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(link.run_reader, self._port.mover)
                nursery.start_soon(link.run_writer)
                nursery.start_soon(link.run_keepalive)
                nursery.start_soon(self._watch_link, link)
                with trio.move_on_after(SETUP_LIMIT_S):
                    await self._ready.wait()
                if not self._ready.is_set() and self._loss is None:
                    self.session_lost(ProviderError("the session was not set up in time"))
                await self._lost.wait()
                nursery.cancel_scope.cancel()
        finally:
            await link.aclose()

    async def _watch_link(self, link: Link) -> None:
        closed = await link.wait_closed()
        self.session_lost(ProviderError(f"connection closed: {closed.code} {closed.reason}"))

    def _headers(self) -> list[tuple[str, str]]:
        key = self._settings.openai_api_key
        return [("Authorization", f"Bearer {key}")] if key else []

    # -------------------------------------------------------------------------------------------- from the provider

    def _text_received(self, text: str) -> None:
        try:
            event = realtime.parse_event(text)
        except RemoteProtocolError as error:
            self._malformed += 1
            if self._malformed == 1:
                self._port.warn(f"an event of the provider was ignored: {error}")
            return
        conversation = self._conversation
        conversation.receive(event, self._now())
        self._alarm.set(conversation.due_at())

    def _delta_received(self, event: CData) -> None:
        """Takes audio that the mover has decoded; it stays where it is, in memory of C."""
        delta = AudioDelta(
            copy_bytes(event.response_id, event.response_id_size).decode(),
            copy_bytes(event.item_id, event.item_id_size).decode(),
            event.content_index,
            memoryview(ffi.buffer(event.data, event.size)),
        )
        conversation = self._conversation
        conversation.receive(delta, self._now())
        self._alarm.set(conversation.due_at())

    def _advance(self, now: float) -> None:
        self._conversation.advance(now)
        self._alarm.set(self._conversation.due_at())

    # ---------------------------------------------------------------------------------------- what a conversation needs

    def send_event(self, event: bytes, *, audio: bool = False) -> None:
        """Sends a client event on the current connection."""
        if self._link is not None:
            self._link.send_nowait(event, audio=audio)

    def play(self, item_id: str, ulaw: Audio) -> None:
        """Passes audio on to the call."""
        self._port.play(item_id, ulaw)

    def complete(self) -> None:
        """Passes it on to the call."""
        self._port.complete()

    def interrupt(self) -> tuple[HeardItem, ...]:
        """Silences the call."""
        return self._port.interrupt().items

    def run_tool(self, call: FunctionCalled) -> None:
        """Runs the function in a task of the call."""
        self._port.start_soon(self._run_tool, call, self._conversation)

    async def _run_tool(self, call: FunctionCalled, conversation: RealtimeConversation) -> None:
        output = await run_tool(self._tools, call, self._settings.tool_timeout_s)
        conversation.tool_finished(call.call_id, output, self._now())
        self._alarm.set(conversation.due_at())

    def session_ready(self) -> None:
        """The session took our settings."""
        self._sessions += 1
        self._ready.set()
        if self._link is not None and self._link.leg is not None:
            self._link.leg.state.fast = 1
            self._port.carry_to(self._link.leg, self._conversation.voice.upsampler)

    def session_lost(self, error: ProviderError) -> None:
        """Ends this session; the first reason counts."""
        if self._loss is None:
            self._loss = error
        self._port.stop_carrying()
        self._ready.set()
        self._lost.set()

    def warn(self, text: str) -> None:
        """Logs with the call's id."""
        self._port.warn(text)


def realtime_url(settings: Settings) -> str:
    """Makes the session's address: the configured one, with the model in its query (protocols.md B.1)."""
    parts = urlsplit(settings.openai_realtime_url)
    if any(name == "model" for name, _ in parse_qsl(parts.query)):
        return settings.openai_realtime_url
    query = f"{parts.query}&" if parts.query else ""
    return urlunsplit(parts._replace(query=f"{query}model={quote(settings.openai_model)}"))
