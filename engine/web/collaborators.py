"""What the webhooks report, and what they need from their host. Interfaces and values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class CallStatusReported:
    """Twilio reported how a call stands (protocols.md A.5).

    Attributes:
        call_sid: The call.
        status: `ringing`, `in-progress`, `completed`, `busy`, `failed`, `no-answer`, `canceled` or a newer word.
        parameters: Everything that was reported, first value of each name.
    """

    call_sid: str
    status: str
    parameters: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class StreamStatusReported:
    """Twilio reported how a media stream stands (protocols.md A.4).

    Attributes:
        call_sid: The call.
        stream_sid: The stream.
        event: `stream-started`, `stream-stopped` or `stream-error`.
        error: The text of a `stream-error`, else empty. It is reported nowhere else.
    """

    call_sid: str
    stream_sid: str
    event: str
    error: str


@dataclass(frozen=True, kw_only=True)
class TextMessage:
    """A text message arrived.

    Attributes:
        message_sid: Its sid.
        from_number: Who sent it.
        to_number: Our number.
        body: Its text, at most 1600 characters; may be empty when there are pictures only.
        media_count: How many attachments it has.
    """

    message_sid: str
    from_number: str
    to_number: str
    body: str
    media_count: int = 0


class Admission(Protocol):
    """Decides whether one more call can be taken."""

    def refuse_reason(self) -> str | None:
        """Say why a call that comes now is refused, in a word or two for the log; None admits it."""
        ...


class Health(Protocol):
    """Knows how the process stands."""

    @property
    def calls(self) -> int:
        """How many calls are running."""
        ...

    @property
    def draining(self) -> bool:
        """Whether the process is about to end and takes no more calls."""
        ...


class SmsHandler(Protocol):
    """Answers text messages."""

    async def __call__(self, message: TextMessage) -> str:
        """Give the reply, or an empty text for none."""
        ...


class OnCallStatus(Protocol):
    """Takes note of a call's status; must not block."""

    def __call__(self, event: CallStatusReported) -> None:
        """Take note of `event`."""
        ...


class OnStreamStatus(Protocol):
    """Takes note of a stream's status; must not block."""

    def __call__(self, event: StreamStatusReported) -> None:
        """Take note of `event`."""
        ...
