"""Holds the demonstration's conversation: the real service between two simulators, all on loopback.

Owns the order of things (provider, service, call, end) and their deadlines; every wait is bounded, and whatever happens the
service's process has ended when `hold_conversation` returns or raises.
"""

from __future__ import annotations

import secrets

import trio

from engine.demo.account import Account
from engine.demo.narration import Narrator, Tell
from engine.demo.scene import GREETING, caller_script, caller_words, model_script
from engine.demo.service_process import open_service
from engine.demo.testimony import caller_lines, provider_account
from engine.errors import ConnectionFailed
from engine.settings import Settings
from engine.simulator.openai import PeerConfig, RealtimePeer, SessionLog, open_realtime_peer
from engine.simulator.record import CallRecord
from engine.simulator.twilio import CallConfig, open_call

# The conversation takes about 30 s; a call that has lost its thread is ended.
_CALL_LIMIT_S = 55.0
_CLOSING_LIMIT_S = 5.0
_LOOK_EVERY_S = 0.02


async def hold_conversation(tell: Tell) -> tuple[Account, tuple[str, ...]]:
    """Starts everything, holds the call, and stops everything.

    Args:
        tell: Takes a line of text for each thing that happens.

    Returns:
        What happened, and the service's log.

    Raises:
        ConnectionFailed: The service did not start, or never reached the provider.
    """
    auth_token, api_key = secrets.token_hex(16), secrets.token_urlsafe(16)
    async with open_realtime_peer(PeerConfig(api_key=api_key), model_script()) as peer:
        tell(f"  simulated OpenAI Realtime listens on {peer.url}")
        settings = {
            "PROVIDER": "openai",
            "OPENAI_REALTIME_URL": peer.url,
            "TOOLS": "engine.demo.tools:TOOLS",
            "GREETING": GREETING,
            "LOG_LEVEL": "info",
        }
        async with open_service(settings, {"TWILIO_AUTH_TOKEN": auth_token, "OPENAI_API_KEY": api_key}) as service:
            tell(f"  the service answers on {service.url}\n")
            record = await _place_call(service.url, auth_token, peer, tell)
            summary = await service.call_summary(within_s=_CLOSING_LIMIT_S)
            log = await _closed_session(peer)
            status = await service.stop()
    return _account(record, log, summary, status), tuple(service.log)


async def _place_call(url: str, auth_token: str, peer: RealtimePeer, tell: Tell) -> CallRecord:
    config = CallConfig(
        url=f"{url}/incoming-call",
        auth_token=auth_token,
        status_callback=f"{url}/call-status",
        time_limit_s=_CALL_LIMIT_S,
    )
    narrator = Narrator(tell, caller_words(), trio.current_time())
    async with open_call(config, caller_script()) as call:
        await narrator.follow(call, peer)
        return await call.wait_ended()


async def _closed_session(peer: RealtimePeer) -> SessionLog:
    """The provider's session once its socket has closed, or as it is when that takes too long."""
    if not peer.sessions.count:
        raise ConnectionFailed("the service never opened a session with the provider")
    log = await peer.session()
    with trio.move_on_after(_CLOSING_LIMIT_S):
        while log.closed_at_s is None:  # noqa: ASYNC110 - a log has no one to wake
            await trio.sleep(_LOOK_EVERY_S)
    return log


def _account(record: CallRecord, log: SessionLog, summary: dict[str, object] | None, status: int | None) -> Account:
    return Account(
        record=record,
        provider=provider_account(log),
        lines=caller_lines(record, caller_words()),
        lead_ms=Settings().lead_ms,
        engine_summary=summary,
        ended=status == 0,
    )
