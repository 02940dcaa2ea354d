"""The service: one process that answers webhooks and holds calls.

Owns what its calls share (clock, mover, HTTP application, port), the count of calls, and the order of shutting down:
first no new calls, then the running ones may end within ``DRAIN_S``, then they are ended. A call that fails is
recorded here, at its root, and concerns no other.
"""

from __future__ import annotations

import json
import logging
import signal
import socket
from collections.abc import Mapping, Sequence
from functools import partial
from http import HTTPStatus

import trio

from engine.errors import ConnectionFailed
from engine.runtime.call import Call
from engine.runtime.clock import open_clock
from engine.runtime.collector import CollectorCounts, run_collector
from engine.runtime.extensions import load_sms_handler, load_tools
from engine.runtime.handshake import accept
from engine.runtime.link import Link
from engine.runtime.listeners import open_listeners
from engine.runtime.mover import Mover
from engine.runtime.port import serve_port
from engine.runtime.provider import MakeProvider
from engine.runtime.provider_choice import choose_provider
from engine.runtime.transport import SocketTransport, Transport
from engine.settings import MEDIA_PATH, Settings
from engine.tools import Tool
from engine.web.app import create_app
from engine.web.collaborators import CallStatusReported, SmsHandler, StreamStatusReported
from engine.web.signature import check_media_signature

_log = logging.getLogger("engine.service")


class Service:
    """The calls of one process.

    Args:
        settings: All of them; port and ``public_url`` are those really bound.
        mover: Moves the frames; its task is the caller's.
        make_provider: Makes the voice of each call.
    """

    def __init__(self, settings: Settings, mover: Mover, make_provider: MakeProvider) -> None:
        self.settings = settings
        self._mover = mover
        self._make_provider = make_provider
        self._running: set[Call] = set()
        self._idle = trio.Event()
        self.draining = False
        # what garbage collection cost
        self.collections = CollectorCounts()
        # calls that ended, and those of them that ended by a failure of ours
        self.calls_ended = 0
        self.calls_crashed = 0

    @property
    def calls(self) -> int:
        """How many calls are running."""
        return len(self._running)

    def refuse_reason(self) -> str | None:
        """Why a call that comes now is refused; None admits it."""
        limit = self.settings.max_calls
        if self.draining:
            return "the service is ending"
        if limit is not None and len(self._running) >= limit:
            return f"{limit} calls are running"
        return None

    async def serve_socket(self, sock: socket.socket) -> None:
        """Holds the call of one media connection; for the port."""
        await self.serve_transport(SocketTransport(sock))

    async def serve_transport(self, transport: Transport) -> None:
        """Holds the call on one connection, from the WebSocket handshake to the record. Raises nothing."""
        try:
            link = await accept(transport, self._judge, now=self._mover.clock.now, name="Twilio")
        except ConnectionFailed as error:
            _log.warning("a media connection did not become a call: %s", error)
            return
        if link is not None:
            await self._hold_call(link)

    async def _hold_call(self, link: Link) -> None:
        call = Call(link, self.settings, self._mover, self._make_provider)
        self._running.add(call)
        # The root of a call: whatever fails in it is recorded, and the other calls go on.
        try:
            await call.run()
        except Exception:  # noqa: BLE001 - the root of a call
            self.calls_crashed += 1
            _log.exception("%s: the call failed", call.call_sid or "call")
        finally:
            self._running.discard(call)
            self.calls_ended += 1
            _log.info("call ended %s", json.dumps(call.figures()))
            if not self._running:
                self._idle.set()

    def _judge(self, headers: Mapping[str, str]) -> tuple[HTTPStatus, str] | None:
        if not check_media_signature(self.settings, headers.items()):
            return HTTPStatus.FORBIDDEN, "the signature is missing or wrong"
        reason = self.refuse_reason() if not self.draining else None  # its webhook was answered before the drain began
        if reason is not None:
            _log.warning("a media connection was refused: %s", reason)
            return HTTPStatus.SERVICE_UNAVAILABLE, reason
        return None

    def end_calls(self, reason: str) -> None:
        """Ends the running calls."""
        for call in list(self._running):
            call.end(reason, 1001)

    async def drain(self, drain_s: float) -> None:
        """Takes no new calls and waits until the running ones have ended, at most ``drain_s``; then ends them."""
        self.draining = True
        with trio.move_on_after(drain_s):
            while self._running:
                self._idle = trio.Event()
                await self._idle.wait()
        self.end_calls("the service ended")


def run(settings: Settings) -> int:
    """Runs the service until SIGTERM or SIGINT.

    Returns:
        The exit status: 0 after SIGTERM, 130 after SIGINT.

    Raises:
        ConfigurationError: The port, the tools or the message handler named in the settings cannot be had.
    """
    tools = load_tools(settings.tools)
    sms_handler = load_sms_handler(settings.sms_handler)
    return trio.run(_run_until_signal, settings, tools, sms_handler)


async def _run_until_signal(settings: Settings, tools: Sequence[Tool], sms_handler: SmsHandler | None) -> int:
    stop = trio.Event()
    status = 0
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_serve_and_cancel, settings, tools, sms_handler, stop, nursery.cancel_scope)
            async for number in signals:
                if stop.is_set():
                    _log.warning("%s again: ending at once", signal.Signals(number).name)
                    nursery.cancel_scope.cancel()
                else:
                    _log.info("%s: draining for at most %g s", signal.Signals(number).name, settings.drain_s)
                    status = 130 if number == signal.SIGINT else 0
                    stop.set()
    return status


async def _serve_and_cancel(
    settings: Settings,
    tools: Sequence[Tool],
    sms_handler: SmsHandler | None,
    stop: trio.Event,
    scope: trio.CancelScope,
) -> None:
    await serve(settings, tools=tools, sms_handler=sms_handler, stop=stop)
    scope.cancel()


async def serve(
    settings: Settings,
    *,
    tools: Sequence[Tool] = (),
    sms_handler: SmsHandler | None = None,
    stop: trio.Event,
    task_status: trio.TaskStatus[Service] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serves until ``stop`` is set and the calls have ended or were ended.

    Args:
        settings: All of them.
        tools: What the model may call.
        sms_handler: Answers text messages.
        stop: Begins the end.
        task_status: Started with the :class:`Service` once connections are accepted.

    Raises:
        ConfigurationError: The port cannot be listened on.
    """
    listeners = await open_listeners(settings.host, settings.port, reuse_port=settings.port_shared)
    settings = settings.bound_to(listeners[0].socket.getsockname()[1])
    clock = open_clock()
    try:
        mover = Mover(clock)
        service = Service(settings, mover, choose_provider(settings, tools))
        app = create_app(
            settings,
            admission=service,
            health=service,
            on_call_status=_log_call_status,
            on_stream_status=_log_stream_status,
            sms_handler=sms_handler,
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mover.run)
            nursery.start_soon(run_collector, lambda: service.calls, service.collections)
            closing = trio.Event()
            nursery.start_soon(_drain_then_close, service, stop, closing, settings.drain_s)
            start_port = partial(
                serve_port,
                listeners,
                route_media=service.serve_socket,
                app=app,
                media_path=MEDIA_PATH,
                stop=closing,
            )
            async with trio.open_nursery() as port:
                await port.start(start_port)
                _log.info("listening on %s port %d, provider %s", settings.host, settings.port, settings.provider)
                task_status.started(service)
            nursery.cancel_scope.cancel()
    finally:
        clock.close()


async def _drain_then_close(service: Service, stop: trio.Event, closing: trio.Event, drain_s: float) -> None:
    await stop.wait()
    await service.drain(drain_s)
    closing.set()


def _log_call_status(event: CallStatusReported) -> None:
    _log.info("%s: Twilio says the call is %s", event.call_sid, event.status)


def _log_stream_status(event: StreamStatusReported) -> None:
    level = logging.WARNING if event.event == "stream-error" else logging.INFO
    _log.log(level, "%s: Twilio says %s %s", event.call_sid, event.event, event.error)
