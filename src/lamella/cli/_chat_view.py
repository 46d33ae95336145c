"""How a conversation is shown: answers on standard output as they come, or every event as a JSON object."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any, Protocol

import click
import msgspec

from lamella.cli._echo import echo
from lamella.cli._screen import can_show, clean, concealed, problem_of, spent, width
from lamella.cli._values import plain
from lamella.middleware._lines import one_line, shown
from lamella.types import (
    File,
    GenerateResponse,
    LamellaError,
    ReasoningDelta,
    Restarted,
    Source,
    StreamPart,
    TextDelta,
    ToolRequested,
    ToolRequestPart,
    ToolResponded,
)


def note_of(call: ToolRequestPart) -> Mapping[str, Any]:
    """What is said of a call that waits: why (`message`), and its `id`."""
    noted = (call.metadata or {}).get('interrupt')
    return noted if isinstance(noted, Mapping) else {}


class View(Protocol):
    """What a chat tells."""

    def begin(self, number: int) -> None:
        """A message is asked, the `number`th."""

    def part(self, part: StreamPart) -> None:
        """A piece of the answer."""

    def waits(self, call: ToolRequestPart) -> None:
        """A tool call waits for a decision."""

    def end(self, response: GenerateResponse) -> None:
        """The answer is whole."""

    def failed(self, error: BaseException) -> None:
        """There is none."""

    def stopped(self) -> None:
        """Somebody stopped it."""


class TextView:
    """Answers on standard output. What is said about them goes to standard error: tools, restarts, failures, tokens."""

    def __init__(self) -> None:
        self._open = False  # whether the cursor stands behind text
        self._arrows = ('→', '←', '↻') if can_show('→←↻', sys.stderr) else ('->', '<-', '**')

    def begin(self, number: int) -> None:
        self._open = False

    def part(self, part: StreamPart) -> None:
        if type(part) is TextDelta:
            self._text(clean(part.text))
        elif type(part) is ToolRequested:
            request = part.tool_request
            self._note(f'{self._arrows[0]} {one_line(request.name)}', request.input, 'cyan')
        elif type(part) is ToolResponded:
            answer = part.tool_response
            said = 'failed' if answer.is_error else 'answered'
            colour = 'red' if answer.is_error else 'cyan'
            self._note(f'{self._arrows[1]} {one_line(answer.name)} {said}', answer.output, colour)
        elif type(part) is Restarted:
            self._restarted(part)
        elif type(part) is Source:
            self._note('source', ' '.join(filter(None, (part.title, part.url))), None)
        elif type(part) is File:
            self._note('file', part.media.name or part.media.content_type or 'without a name', None)

    def waits(self, call: ToolRequestPart) -> None:
        self.fresh()

    def end(self, response: GenerateResponse) -> None:
        self.fresh()
        if response.stop_reason not in ('final', 'interrupted'):
            self.say(
                f'stopped ({response.stop_reason}): {one_line(response.stop_message or "")}'.rstrip(': '), 'yellow'
            )
        elif response.finish_reason not in ('stop', 'tool_calls'):
            why = one_line(response.finish_message or response.finish_reason)
            self.say(f'the answer ended early: {why}', 'yellow')
        if sys.stderr.isatty() and (told := spent(response.usage)):
            self.say(told)

    def failed(self, error: BaseException) -> None:
        self.fresh()
        self.say(f'failed: {problem_of(error)}', 'red')

    def stopped(self) -> None:
        self.fresh()
        self.say('stopped; this message is forgotten', 'yellow')

    def fresh(self) -> None:
        """Go to the beginning of a line."""
        if self._open:
            self._open = False
            echo()

    def say(self, text: str, colour: str | None = None) -> None:
        echo(click.style(text, fg=colour, dim=True if colour is None else None), err=True)

    def _text(self, text: str) -> None:
        if text:
            self._open = not text.endswith('\n')
            echo(text, nl=False)

    def _note(self, head: str, value: Any, colour: str | None) -> None:
        self.fresh()
        room = max(12, width() - len(head) - 2)
        self.say(f'{head} {shown(value, room)}', colour)

    def _restarted(self, part: Restarted) -> None:
        """On standard output too: what stands there already is void."""
        self.fresh()
        why = f': {one_line(part.reason)}' if part.reason else ''
        echo(click.style(f'{self._arrows[2]} what is above is void, the answer begins again{why}', fg='yellow'))


class JsonView:
    """One object a line for every event, each with the number of its message. Texts are escaped, so no control gets through."""

    def __init__(self) -> None:
        self._number = 0

    def begin(self, number: int) -> None:
        self._number = number

    def part(self, part: StreamPart) -> None:
        if type(part) is TextDelta:
            self._tell('text', text=part.text)
        elif type(part) is ReasoningDelta and part.text:
            self._tell('reasoning', text=part.text)
        elif type(part) is ToolRequested:
            request = part.tool_request
            self._tell('tool_call', name=request.name, input=concealed(plain(request.input)), ref=request.ref)
        elif type(part) is ToolResponded:
            answer = part.tool_response
            output = concealed(plain(answer.output))
            self._tell('tool_result', name=answer.name, output=output, ref=answer.ref, is_error=answer.is_error)
        elif type(part) is Restarted:
            self._tell('restarted', reason=part.reason)
        elif type(part) is Source:
            self._tell('source', url=part.url, title=part.title)

    def waits(self, call: ToolRequestPart) -> None:
        note, request = note_of(call), call.tool_request
        asked = {'name': request.name, 'input': concealed(plain(request.input)), 'ref': request.ref}
        self._tell('interrupt', **asked, message=note.get('message', ''), id=note.get('id'))

    def end(self, response: GenerateResponse) -> None:
        facts = {'stop_reason': response.stop_reason, 'finish_reason': response.finish_reason, 'model': response.model}
        usage = None if response.usage is None else msgspec.to_builtins(response.usage)
        self._tell('end', **facts, text=response.text, usage=usage)

    def failed(self, error: BaseException) -> None:
        status = error.status if isinstance(error, LamellaError) else 'INTERNAL'
        self._tell('error', status=status, message=problem_of(error))

    def stopped(self) -> None:
        self._tell('stopped')

    def _tell(self, kind: str, **facts: Any) -> None:
        echo(json.dumps({'type': kind, 'message_number': self._number, **facts}))
