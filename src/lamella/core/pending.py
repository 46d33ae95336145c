"""Tool requests at the end of a conversation that nobody has answered yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lamella.types import Data, Message, ToolRequestPart, ToolResponsePart


class Pending(Data, frozen=True):
    """The open end of a conversation: the last requests, and those answers that are already there.

    `head` is everything up to and with the assistant's message; `behind`, what is said once all requests are answered.
    """

    head: tuple[Message, ...]
    requests: tuple[ToolRequestPart, ...]
    answers: Mapping[str, ToolResponsePart]
    behind: tuple[Message, ...] = ()

    @property
    def open(self) -> tuple[ToolRequestPart, ...]:
        return tuple(part for part in self.requests if part.tool_request.ref not in self.answers)


def pending_of(messages: Sequence[Message]) -> Pending | None:
    """What waits for an answer at the end of these messages, or `None`."""
    end = len(messages)
    while end and messages[end - 1].role == 'tool':
        end -= 1
    if not end or messages[end - 1].role != 'assistant':
        return None
    requests = messages[end - 1].tool_requests
    answers = {
        part.tool_response.ref: part
        for message in messages[end:]
        for part in message.tool_responses
        if part.tool_response.ref is not None
    }
    pending = Pending(tuple(messages[:end]), requests, answers)
    return pending if pending.open else None
