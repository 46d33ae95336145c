"""What the simulator thinks before it answers: two honest sentences about its own rule, counted like any other tokens."""

from __future__ import annotations

from lamella.simulator.answers import Reply
from lamella.simulator.brain import NOTE, TOOL_NOTE
from lamella.simulator.tokens import count_request, count_text, truncated, usage_of
from lamella.types import Message, ModelRequest, Part, ReasoningPart, TextPart

SELF = 'I am the simulator, and no model.'


def thought_of(request: ModelRequest, reply: Reply) -> str:
    """What led to this reply; the same for the same request."""
    text = f'{SELF} I read {count_request(request)} tokens, and {_plan(reply)}.'
    limit = request.config.max_output_tokens
    return text if limit is None else truncated(text, limit)


def _plan(reply: Reply) -> str:
    if reply.scripted:
        return 'I say what my script says'
    if calls := reply.response.tool_requests:
        names = ', '.join(dict.fromkeys(call.tool_request.name for call in calls))
        return f'I call {names} with what the prompt says'
    if reply.response.text.startswith(TOOL_NOTE):
        return 'I quote what the tools answered'
    if reply.response.text.startswith(NOTE):
        return 'I pick the sentences of the prompt that say most'
    return 'I fill the wanted schema from the prompt'


def after(thought: str, request: ModelRequest, reply: Reply) -> Reply:
    """The reply that follows the thought: both within the token limit, both counted.

    A limit that the thought uses up leaves no answer, as with the vendors.
    """
    limit, cost = request.config.max_output_tokens, count_text(thought)
    left = None if limit is None else limit - cost
    content = reply.response.message.content
    kept = tuple(_cut(part, left) for part in content) if left is None or left > 0 else ()
    usage = usage_of(request, Message('assistant', (ReasoningPart(thought), *kept))).replace(reasoning_tokens=cost)
    response = reply.response.replace(message=Message('assistant', kept), usage=usage)
    if kept == content:
        return reply.replace(response=response)
    return reply.replace(response=response.replace(finish_reason='length'), pieces=None)


def _cut(part: Part, left: int | None) -> Part:
    if left is None or not isinstance(part, TextPart) or count_text(part.text) <= left:
        return part
    return part.replace(text=truncated(part.text, left))
