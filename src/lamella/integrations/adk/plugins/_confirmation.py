"""Approvals by the ADK's own confirmation: who approves, and of what.

The ADK takes a confirmation from the user's side of the session alone, for a call that stands in it as it was made. Lamella's
approval is for the exact input: the digest of what was to be run is kept with the request for confirmation, on the server's
side of the session, and compared when the call comes back. What a model says, or a tool's arguments hold, is no approval.
"""

from __future__ import annotations

from typing import Any

from lamella.core.params import Approval, digest_of
from lamella.types import Interrupt, ToolRequest

DIGEST = 'lamellaDigest'
WAITS = 'This tool call requires confirmation, please approve or reject.'
REJECTED = 'This tool call is rejected.'
OTHER_INPUT = 'The confirmation was given for another input: this call was not run.'


def ask(tool_context: Any, request: ToolRequest, interrupt: Interrupt) -> dict[str, Any]:
    """Ask for a confirmation through the ADK. The answer to the call until there is one; the run then waits for the user."""
    shown = {key: value for key, value in interrupt.metadata.items() if isinstance(value, (str, int, float, bool))}
    tool_context.request_confirmation(hint=interrupt.message, payload={**shown, DIGEST: digest_of(request)})
    tool_context.actions.skip_summarization = True
    return {'error': WAITS}


def decision(tool_context: Any, request: ToolRequest) -> Approval | str | None:
    """The approval that the user gave for this very call, why it is not run, or `None` while nobody has been asked."""
    given = tool_context.tool_confirmation
    if given is None:
        return None
    if given.confirmed is not True:
        return REJECTED
    wanted = _asked_for(tool_context, request)
    if wanted != digest_of(request):
        return OTHER_INPUT
    return Approval(str(request.ref), wanted, {'toolApproved': True})


def _asked_for(tool_context: Any, request: ToolRequest) -> str | None:
    """The digest of what the confirmation was asked for: kept with our own request, or that of the call itself where a tool's
    own `require_confirmation` asked."""
    made: str | None = None
    for event in reversed(tool_context.session.events):
        asked = (event.actions.requested_tool_confirmations or {}).get(request.ref)
        payload = getattr(asked, 'payload', None)
        if event.author != 'user' and isinstance(payload, dict) and isinstance(payload.get(DIGEST), str):
            return str(payload[DIGEST])
        for call in event.get_function_calls() if made is None else ():
            if call.id == request.ref and event.author != 'user':
                made = digest_of(ToolRequest(call.name, call.args or {}, call.id))
    return made
