"""What must be true of the demonstrated call: the scripted conversation, kept.

Owns the list of checks and their wording; each is judged from the `Account` and its `Figures` alone. The demonstration
succeeded if and only if every check passed.
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.demo.account import Account
from engine.demo.figures import Figures
from engine.demo.scene import AGENT_LINES, CALLER_LINES

# The design's bound for the error of heard milliseconds at a barge-in.
HEARD_ERROR_MS = 20
# A caller hears a short reply as whole even if its last frame was cut by the hang-up.
_CUT_MS = 40


@dataclass(frozen=True, kw_only=True)
class Check:
    """One claim about the call, whether it held, and what was found."""

    claim: str
    passed: bool
    found: str


def check_call(account: Account, figures: Figures) -> tuple[Check, ...]:
    """Judges one call; the order is the order in which things happen."""
    record, provider = account.record, account.provider
    return (
        _heard_whole(figures, index=0, claim="The greeting was heard to its end"),
        _script_kept(account, figures),
        _tool(account),
        _barge_in(figures),
        _heard_whole(figures, index=len(AGENT_LINES) - 1, claim="The goodbye was heard to its end"),
        Check(
            claim="Twilio saw no violation of its protocol",
            passed=not record.violations and not record.errors,
            found=_listed(
                [f"{one.code}: {one.reason}" for one in record.violations]
                + [f"{one.code}: {one.message}" for one in record.errors]
            ),
        ),
        Check(
            claim="The provider had nothing to complain about",
            passed=not provider.errors,
            found=_listed(list(provider.errors)),
        ),
        Check(
            claim="The caller's telephone never ran dry while the agent spoke",
            passed=not record.underruns,
            found=_listed([f"{gap.gap_ms:.0f} ms" for gap in record.underruns]),
        ),
        _ending(account),
    )


def _heard_whole(figures: Figures, *, index: int, claim: str) -> Check:
    if index >= len(figures.hearings):
        return Check(claim=claim, passed=False, found="it was not heard")
    hearing = figures.hearings[index]
    missing_ms = hearing.reply.audio_ms - hearing.heard_ms
    found = f"{hearing.heard_ms / 1000:.2f} of {hearing.reply.audio_ms / 1000:.2f} s"
    return Check(claim=claim, passed=missing_ms <= _CUT_MS, found=found)


def _script_kept(account: Account, figures: Figures) -> Check:
    """Everything was said, in time, and only the barge-in cut anything off."""
    said, heard = len(account.lines), len(figures.hearings)
    cut = sum(hearing.reply.audio_ms - hearing.heard_ms > _CUT_MS for hearing in figures.hearings)
    missed = account.record.cues_missed
    return Check(
        claim="Caller and agent kept to the script, and one reply was cut short",
        passed=(said, heard, cut, missed) == (len(CALLER_LINES), len(AGENT_LINES), 1, 0),
        found=f"{said} lines said, {heard} replies heard, {cut} cut" + (f", {missed} cues missed" if missed else ""),
    )


def _tool(account: Account) -> Check:
    uses = account.provider.tool_uses
    answered = sum(use.output is not None for use in uses)
    return Check(
        claim="The tool was called once and its answer came back",
        passed=len(uses) == answered == 1,
        found=f"{len(uses)} called, {answered} answered",
    )


def _barge_in(figures: Figures) -> Check:
    claim = f"At the barge-in the engine knew what was heard, within {HEARD_ERROR_MS} ms"
    if figures.barge_in is None:
        return Check(claim=claim, passed=False, found="no barge-in was seen")
    return Check(
        claim=claim,
        passed=abs(figures.barge_in.error_ms) <= HEARD_ERROR_MS,
        found=f"off by {figures.barge_in.error_ms:+.1f} ms",
    )


def _ending(account: Account) -> Check:
    closed = account.provider.closed_at_s is not None
    return Check(
        claim="The caller hung up and everything was closed behind the call",
        passed=account.record.ended_by == "caller_hung_up" and closed and account.ended,
        found="; ".join(
            (
                account.record.ended_by.replace("_", " ") or "never ended",
                "provider closed" if closed else "provider left open",
                "service stopped" if account.ended else "service did not stop cleanly",
            )
        ),
    )


def _listed(faults: list[str]) -> str:
    return "; ".join(faults) if faults else "none"
