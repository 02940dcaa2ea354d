"""The HTTP routes: Twilio's webhooks, and the probes of whoever runs the service.

Every webhook is a small form, posted and signed by Twilio; anything else is refused before anyone acts on it. Answers
to Twilio are always TwiML that lets the caller go on, or nothing. Phone numbers are logged by their last four digits.
The media socket never comes here: the port keeps it (`engine.runtime.port`).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import parse_qsl

import trio
from quart import Response, abort, jsonify, request
from quart_trio import QuartTrio
from quart_trio.wrappers import TrioResponse
from werkzeug.datastructures import MultiDict

from engine.settings import MEDIA_PATH, Settings
from engine.version import engine_version
from engine.web.collaborators import (
    Admission,
    CallStatusReported,
    Health,
    OnCallStatus,
    OnStreamStatus,
    SmsHandler,
    StreamStatusReported,
    TextMessage,
)
from engine.web.signature import check_webhook_signature
from engine.wire import twiml

logger = logging.getLogger(__name__)

# A text message of 1600 characters, all percent-encoded, with its other fields, is under 20 KiB.
BODY_LIMIT_BYTES = 64 * 1024
BODY_TIMEOUT_S = 10
# Twilio sends some 30 and adds more without notice (protocols.md A.6).
FORM_LIMIT_FIELDS = 500
# Twilio waits 15 s in all (protocols.md A.6); an answer must leave before.
SMS_TIMEOUT_S = 10.0

_FORM_TYPE = "application/x-www-form-urlencoded"
# What the model side may know of the call, as `start.customParameters`, and the webhook's name for it.
_CALL_PARAMETERS: Final = {"from": "From", "to": "To", "caller_name": "CallerName", "forwarded_from": "ForwardedFrom"}

Form = MultiDict[str, str]
Webhook = Callable[[Form], Awaitable[Response]]


def create_app(
    settings: Settings,
    *,
    admission: Admission,
    health: Health,
    on_call_status: OnCallStatus,
    on_stream_status: OnStreamStatus,
    sms_handler: SmsHandler | None = None,
) -> QuartTrio:
    """Build the HTTP application.

    Args:
        settings: The public address, the auth token, and what callers are told.
        admission: Asked at each incoming call whether it can be taken.
        health: Asked by the probes.
        on_call_status: Told each call status.
        on_stream_status: Told each stream status.
        sms_handler: Answers text messages within `SMS_TIMEOUT_S`; None leaves them unanswered.

    Returns:
        An ASGI application for Trio.
    """
    app = QuartTrio(__name__, static_folder=None)
    app.config.update(MAX_CONTENT_LENGTH=BODY_LIMIT_BYTES, BODY_TIMEOUT=BODY_TIMEOUT_S)

    async def incoming_call(form: Form) -> Response:
        return _xml(_answer_call(settings, admission, form))

    async def incoming_sms(form: Form) -> Response:
        return _xml(twiml.reply_message(await _answer_message(sms_handler, form)))

    async def call_status(form: Form) -> Response:
        on_call_status(_read_call_status(form))
        return TrioResponse(status=204)

    async def stream_status(form: Form) -> Response:
        on_stream_status(_read_stream_status(form))
        return TrioResponse(status=204)

    _add_webhook(app, settings, "/incoming-call", incoming_call)
    _add_webhook(app, settings, "/incoming-sms", incoming_sms)
    _add_webhook(app, settings, "/call-status", call_status)
    _add_webhook(app, settings, "/stream-status", stream_status)
    _add_probes(app, health)
    return app


def _add_webhook(app: QuartTrio, settings: Settings, path: str, answer: Webhook) -> None:
    async def receive_webhook() -> Response:
        form = await _read_form()
        query = request.query_string.decode("latin-1")
        if not check_webhook_signature(settings, request.headers.items(), path=path, query=query, form=form):
            abort(403)
        return await answer(form)

    app.add_url_rule(path, endpoint=path, view_func=receive_webhook, methods=["POST"])


def _add_probes(app: QuartTrio, health: Health) -> None:
    async def healthz() -> Response:
        status = "draining" if health.draining else "ok"
        return jsonify(status=status, calls=health.calls, version=engine_version())

    async def readyz() -> Response:
        response = jsonify(ready=not health.draining)
        response.status_code = 503 if health.draining else 200
        return response

    async def media_without_upgrade() -> Response:
        return TrioResponse(
            "This is a WebSocket.\n", status=426, headers={"Upgrade": "websocket"}, mimetype="text/plain"
        )

    app.add_url_rule("/healthz", view_func=healthz, methods=["GET"])
    app.add_url_rule("/readyz", view_func=readyz, methods=["GET"])
    app.add_url_rule(MEDIA_PATH, view_func=media_without_upgrade, methods=["GET"])


async def _read_form() -> Form:
    """Read the body as a form; aborts with 413, 415 or 400 when it is too large, of another type, or damaged."""
    body = await request.get_data(False, False, False)
    if body and request.mimetype != _FORM_TYPE:
        abort(415)
    try:
        fields = parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=FORM_LIMIT_FIELDS)
    except ValueError:
        abort(400)
    return MultiDict(fields)


def _answer_call(settings: Settings, admission: Admission, form: Form) -> str:
    caller, call_sid = _mask(form.get("From", "")), form.get("CallSid", "")
    reason = admission.refuse_reason()
    if reason is not None:
        logger.warning("Refused call %s from %s: %s", call_sid, caller, reason)
        return twiml.refuse_call(settings.busy_message)
    logger.info("Took call %s from %s", call_sid, caller)
    parameters, dropped = twiml.fit_parameters({ours: form.get(name, "") for ours, name in _CALL_PARAMETERS.items()})
    if dropped:
        logger.warning("Call %s: left out stream parameters that are too long: %s", call_sid, ", ".join(dropped))
    return twiml.connect_stream(
        settings.media_url,
        status_callback_url=settings.webhook_url("/stream-status"),
        parameters=parameters,
        fallback_message=settings.fallback_message,
    )


async def _answer_message(handler: SmsHandler | None, form: Form) -> str:
    """Ask the handler for a reply; a handler that fails or is late leaves the message unanswered."""
    message = _read_message(form)
    if handler is None:
        logger.info("Message %s from %s: no handler is set", message.message_sid, _mask(message.from_number))
        return ""
    with trio.move_on_after(SMS_TIMEOUT_S):
        # The handler is the user's code and this is its root: whatever fails in it must not become an error page.
        try:
            return await handler(message)
        except Exception:
            logger.exception("Message %s: the handler failed", message.message_sid)
            return ""
    logger.error("Message %s: the handler took longer than %g s", message.message_sid, SMS_TIMEOUT_S)
    return ""


def _read_message(form: Form) -> TextMessage:
    count = form.get("NumMedia", "")
    return TextMessage(
        message_sid=form.get("MessageSid", ""),
        from_number=form.get("From", ""),
        to_number=form.get("To", ""),
        body=form.get("Body", ""),
        media_count=int(count) if count.isdecimal() and count.isascii() and len(count) < 4 else 0,
    )


def _read_call_status(form: Form) -> CallStatusReported:
    return CallStatusReported(
        call_sid=form.get("CallSid", ""), status=form.get("CallStatus", ""), parameters=form.to_dict()
    )


def _read_stream_status(form: Form) -> StreamStatusReported:
    return StreamStatusReported(
        call_sid=form.get("CallSid", ""),
        stream_sid=form.get("StreamSid", ""),
        event=form.get("StreamEvent", ""),
        error=form.get("StreamError", ""),
    )


def _xml(document: str) -> Response:
    return TrioResponse(document, mimetype="text/xml")


def _mask(number: str) -> str:
    """Show the last four digits of a phone number only."""
    return f"...{number[-4:]}" if len(number) > 4 else "(no number)"
