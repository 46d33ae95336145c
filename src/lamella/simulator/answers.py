"""Scripted answers: what the simulator says instead of following its rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import msgspec

from lamella.simulator.brain import response_of, text_response
from lamella.simulator.checks import Check, anything, one_of, text, texts, unknown_keys, whole, wrong_values
from lamella.simulator.material import material_of
from lamella.simulator.schedule import Moment, in_turn
from lamella.types import (
    ConfigError,
    Data,
    ModelRequest,
    ModelResponse,
    ToolRequest,
    ToolRequestPart,
    set_fields,
)

AnswerEnd = Literal['stop', 'length', 'tool_calls', 'blocked']


class Answer(Data, frozen=True, kw_only=True):
    """An answer to requests whose last user message holds `match` (any case; empty fits all) and whose model fits `model`.

    `text` is sent as it is, a list of strings piece by piece (one stream part each); `json` is any value, sent as JSON
    text; `tool` is called with `input`, and `tools` is a list of `{'name', 'input'}` for several calls at once. A rule with
    a tool is passed over while the conversation ends with a tool's result, so that its own `text` or `json`, another rule
    or the simulator's own rules can finish. `after`, `every` and `times` count the model's requests as they do for faults.
    `finish_reason` is reported as given.

    Raises ConfigError with every problem in it.
    """

    match: str = ''
    model: str = '*'
    text: str | Sequence[str] | None = None
    json: Any = msgspec.UNSET
    tool: str | None = None
    input: Any = None
    tools: Sequence[Mapping[str, Any]] = ()
    finish_reason: AnswerEnd | None = None
    times: int | None = None
    after: int = 0
    every: int | None = None

    def __post_init__(self) -> None:
        if problems := answer_problems(set_fields(self), 'Answer'):
            raise ConfigError('; '.join(problems))


def _calls(value: Any) -> str | None:
    wanted = 'give a list of tables, each with a name and, if need be, an input'
    if not isinstance(value, (list, tuple)):
        return wanted
    good = all(
        isinstance(call, Mapping) and isinstance(call.get('name'), str) and call.keys() <= {'name', 'input'}
        for call in value
    )
    return None if good else wanted


CHECKS: dict[str, Check] = {
    'match': text,
    'model': text,
    'text': texts,
    'json': anything,
    'tool': text,
    'input': anything,
    'tools': _calls,
    'finish_reason': one_of(get_args(AnswerEnd)),
    'times': whole(1),
    'after': whole(0),
    'every': whole(1),
}


def answer_problems(table: Mapping[str, Any], where: str) -> list[str]:
    """Everything that is wrong with the fields of a scripted answer."""
    problems = unknown_keys(where, table, tuple(CHECKS)) + wrong_values(where, table, CHECKS)
    if not any(key in table for key in ('text', 'json', 'tool', 'tools')):
        problems.append(f'{where}: say what to answer with text, json, tool or tools')
    if 'text' in table and 'json' in table:
        problems.append(f'{where}: use either text or json, not both')
    if 'input' in table and 'tool' not in table:
        problems.append(f'{where}.input is {table["input"]!r}: it needs tool, the name of what to call')
    return problems


class Reply(Data, frozen=True):
    """An answer, and the pieces in which its text must be streamed (`None`: word by word)."""

    response: ModelResponse
    pieces: tuple[str, ...] | None = None
    scripted: bool = False


def scripted(answers: Sequence[Answer], request: ModelRequest, moment: Moment) -> Reply | None:
    """What the first fitting rule says, if any fits."""
    if not answers:
        return None
    prompt = material_of(request).text.lower()
    after_tool = bool(request.messages) and request.messages[-1].role == 'tool'
    for answer in answers:
        fits = (
            in_turn(answer.model, answer.after, answer.every, answer.times, moment) and answer.match.lower() in prompt
        )
        if fits and (reply := _said(answer, request, after_tool=after_tool)) is not None:
            return reply
    return None


def _said(answer: Answer, request: ModelRequest, *, after_tool: bool) -> Reply | None:
    calls = [*([{'name': answer.tool, 'input': answer.input}] if answer.tool is not None else []), *answer.tools]
    if calls and not after_tool:
        parts = [
            ToolRequestPart(ToolRequest(call['name'], {} if call.get('input') is None else call['input'], f'call_{at}'))
            for at, call in enumerate(calls)
        ]
        return Reply(response_of(request, parts, answer.finish_reason or 'tool_calls'), scripted=True)
    if answer.json is not msgspec.UNSET:
        return _as_text(answer, request, (msgspec.json.encode(answer.json).decode(),))
    if answer.text is None:
        return None
    return _as_text(answer, request, (answer.text,) if isinstance(answer.text, str) else tuple(answer.text))


def _as_text(answer: Answer, request: ModelRequest, pieces: tuple[str, ...]) -> Reply:
    """The pieces keep their borders unless a stop sequence or the token limit has cut the text."""
    whole_text = ''.join(pieces)
    response = text_response(request, whole_text, answer.finish_reason or 'stop')
    told_in_pieces = answer.text is not None and not isinstance(answer.text, str) and response.text == whole_text
    return Reply(response, pieces if told_in_pieces else None, scripted=True)
