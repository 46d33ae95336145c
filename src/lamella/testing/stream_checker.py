"""`StreamChecker`: a layer that holds every answer to the rules of stream parts, for tests of layers and models."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Annotated, Any, NoReturn, TypedDict, Unpack, get_args

from msgspec import ValidationError, convert, structs
from pydantic import BaseModel, Field

from lamella.core.calls import close
from lamella.core.context import GenerateMiddlewareContext
from lamella.core.middleware import BaseMiddleware, NextModel, NextStream
from lamella.core.params import ModelHookParams
from lamella.core.stack import Stack
from lamella.types import (
    STREAM_PARTS,
    Data,
    Finished,
    FinishReason,
    ModelResponse,
    ReasoningDelta,
    ResponseStarted,
    Restarted,
    StreamPart,
    ToolInputDelta,
    ToolRequested,
    ToolResponded,
    ToolResponsePart,
    is_content,
)

Ctx = GenerateMiddlewareContext
FINISH_REASONS: tuple[str, ...] = get_args(FinishReason)
_WHOLE_INPUT = ('stop', 'tool_calls')  # an answer that was cut off may leave a tool's input unfinished

RULES = {
    'known-part': 'a stream consists of the parts in lamella.types.STREAM_PARTS',
    'valid-types': 'every field holds what its type says',
    'started-first': 'the first part of a model call is its ResponseStarted',
    'one-start': 'after content a new ResponseStarted needs a Restarted before it',
    'start-after-restart': 'after a Restarted a new ResponseStarted follows, and nothing else',
    'finished-last': 'nothing follows the Finished, which comes once',
    'finished-missing': 'a stream that does not fail ends with a Finished',
    'finish-reason': f'a finish reason is one of {", ".join(FINISH_REASONS)}',
    'redacted-empty': 'a redacted piece of reasoning has no text',
    'tool-input-open': 'the input of a tool request is over once its ToolRequested has come',
    'tool-input-equal': 'a ToolRequested has the name and the ref that its ToolInputDeltas told',
    'tool-request-missing': 'a ToolRequested follows its ToolInputDeltas, unless the answer was cut off',
    'no-tool-response': 'a model does not answer tools: ToolResponded belongs to the stream of a run',
    'whole-answer': 'a model call returns a ModelResponse',
    'answer-role': 'the message of an answer has the role assistant',
}


class StreamCheckerConfig(BaseModel, frozen=True, extra='forbid'):
    """The settings of `StreamChecker`."""

    where: Annotated[str, Field(description='Which of several checkers this is; shown in its errors.')] = ''


class StreamCheckerOptions(TypedDict, total=False):
    """The keywords of `StreamChecker`."""

    where: str


class StreamChecker(BaseMiddleware[StreamCheckerConfig]):
    """Looks at what comes out of the layers and the model inside of it, and changes nothing.

    Raises AssertionError that names the rule (a key of `RULES`), the part and its position (from 1). A stream that fails or
    is left is only held to the rules as far as it came. See `checked` for one on each side of a layer.
    """

    def __init__(self, config: StreamCheckerConfig | None = None, **options: Unpack[StreamCheckerOptions]) -> None:
        super().__init__(config, **options)
        self._who = f'StreamChecker({self.config.where})'

    async def wrap_model(self, params: ModelHookParams, ctx: Ctx, next_fn: NextModel) -> ModelResponse:
        response = await next_fn(params, ctx)
        check_response(response, self._who)
        return response

    async def wrap_stream(self, params: ModelHookParams, ctx: Ctx, next_fn: NextStream) -> AsyncIterator[StreamPart]:
        rules, parts = StreamRules(self._who), next_fn(params, ctx)
        try:
            async for part in parts:
                rules.see(part)
                yield part
            rules.end()
        finally:
            await close(parts)


def checked(*layers: BaseMiddleware[Any] | Stack) -> Stack:
    """The layers with a checker before, between and after them: the outer ones see what a layer makes of its answers, the
    innermost what the model gave it. Use it wherever the layers would stand: `use=[checked(MyLayer())]`."""
    inside = [layer for stack in layers for layer in (stack.layers if isinstance(stack, Stack) else (stack,))]
    checkers = [StreamChecker(where=f'around {type(layer).__name__}') for layer in inside]
    pairs = [layer for pair in zip(checkers, inside, strict=True) for layer in pair]
    return Stack([*pairs, StreamChecker(where='around the model')])


def check_parts(parts: Iterable[StreamPart], who: str = 'check_parts') -> None:
    """The same rules for the parts of one model call that are there already, such as what a decoder gave."""
    rules = StreamRules(who)
    for part in parts:
        rules.see(part)
    rules.end()


def check_response(response: Any, who: str = 'check_response') -> None:
    """The rules of a whole answer of one model call."""
    if not isinstance(response, ModelResponse):
        _broken(who, 'whole-answer', f'{response!r:.200}')
    if problem := _wrong_types(response, 'ModelResponse'):
        _broken(who, 'valid-types', f'{response!r:.200}', problem)
    if response.message.role != 'assistant':
        _broken(who, 'answer-role', f'{response.message!r:.200}')
    for number, part in enumerate(response.message.content, 1):
        if type(part) is ToolResponsePart:
            _broken(who, 'no-tool-response', f'part {number}, {part!r:.200}')
    if response.tool_responses or response.interrupts:
        _broken(who, 'no-tool-response', f'{(*response.tool_responses, *response.interrupts)!r:.200}')


def _broken(who: str, rule: str, what: str, why: str = '') -> NoReturn:
    raise AssertionError(f'{who}: {what} breaks the rule {rule!r}: {RULES[rule]}' + (f' ({why})' if why else ''))


class _Call:
    """What has been told of one tool request: its name and ref, and whether its input is over."""

    __slots__ = ('name', 'ref', 'requested')

    def __init__(self, name: str | None, ref: str | None, requested: bool = False) -> None:
        self.name, self.ref, self.requested = name, ref, requested

    def differs(self, name: str | None, ref: str | None) -> bool:
        """Whether both sides told a name, or a ref, and not the same."""
        return (None not in (self.name, name) and self.name != name) or (
            None not in (self.ref, ref) and self.ref != ref
        )


class StreamRules:
    """The rules, held against the parts of one stream as far as it has come. Raises AssertionError."""

    __slots__ = ('_at', '_calls', '_content', '_finished', '_last', '_restarted', '_started', '_who')

    def __init__(self, who: str) -> None:
        self._who, self._at, self._last = who, 0, ''
        self._finished = self._restarted = False
        self._clear(started=False)

    def _clear(self, started: bool) -> None:
        self._started, self._content = started, False
        self._calls: dict[int, _Call] = {}

    def _fail(self, rule: str, why: str = '') -> NoReturn:
        _broken(self._who, rule, f'part {self._at}, {self._last},', why)

    def see(self, part: Any) -> None:
        """Look at the next part."""
        self._at += 1
        self._last = f'{part!r:.200}'
        kind = type(part)
        if kind not in STREAM_PARTS:
            self._fail('known-part')
        if self._finished:
            self._fail('finished-last')
        if problem := _wrong_types(part, kind.__name__):
            self._fail('valid-types', problem)
        if not self._started and kind is not ResponseStarted and not (self._restarted and kind is Restarted):
            self._fail('start-after-restart' if self._restarted else 'started-first')
        if check := _CHECKS.get(kind):
            check(self, part)
        self._content = self._content or is_content(part)

    def end(self) -> None:
        """The stream has ended without a failure."""
        if not self._finished:
            self._last = f'{self._last} is the last and' if self._at else 'of an empty stream'
            self._fail('finished-missing')

    def _start(self, part: ResponseStarted) -> None:
        if self._content:
            self._fail('one-start')
        self._restarted = False
        self._clear(started=True)

    def _restart(self, part: Restarted) -> None:
        self._restarted = True
        self._clear(started=False)

    def _reasoning(self, part: ReasoningDelta) -> None:
        if part.redacted and part.text:
            self._fail('redacted-empty')

    def _tool_input(self, part: ToolInputDelta) -> None:
        call = self._calls.get(part.index)
        if call is None or (call.requested and call.differs(part.name, part.ref)):
            self._calls[part.index] = _Call(part.name, part.ref)
            return
        if call.requested:
            self._fail('tool-input-open')
        if call.differs(part.name, part.ref):
            self._fail('tool-input-equal', f'so far {call.name!r}, {call.ref!r}')
        call.name, call.ref = call.name or part.name, call.ref or part.ref

    def _tool_request(self, part: ToolRequested) -> None:
        call, request = self._calls.get(part.index), part.tool_request
        if call is not None and not call.requested:
            told = (call.name or request.name, call.ref or request.ref)
            if told != (request.name, request.ref):
                self._fail('tool-input-equal', f'so far {call.name!r}, {call.ref!r}')
        self._calls[part.index] = _Call(request.name, request.ref, requested=True)

    def _tool_response(self, part: ToolResponded) -> None:
        self._fail('no-tool-response')

    def _finish(self, part: Finished) -> None:
        self._finished = True
        if part.finish_reason not in FINISH_REASONS:
            self._fail('finish-reason')
        waiting = [index for index, call in self._calls.items() if not call.requested]
        if waiting and part.finish_reason in _WHOLE_INPUT:
            self._fail('tool-request-missing', f'index {waiting[0]}')


_CHECKS: dict[type, Any] = {
    Finished: StreamRules._finish,
    ReasoningDelta: StreamRules._reasoning,
    ResponseStarted: StreamRules._start,
    Restarted: StreamRules._restart,
    ToolInputDelta: StreamRules._tool_input,
    ToolRequested: StreamRules._tool_request,
    ToolResponded: StreamRules._tool_response,
}


def _wrong_types(value: Data, path: str) -> str | None:
    """Where a field does not hold what its type says, or `None`. Structs do not check this when they are made."""
    fields = structs.asdict(value)
    try:
        right = convert(fields, type(value))
    except ValidationError as error:
        return f'{path}: {error}'
    for name, given in fields.items():
        wanted = getattr(right, name)
        if type(given) is not type(wanted) and not isinstance(given, (int, Data)):
            return f'{path}.{name} is a {type(given).__name__}, not a {type(wanted).__name__}'
        for index, item in enumerate(given if isinstance(given, tuple) else (given,)):
            where = f'{path}.{name}[{index}]' if isinstance(given, tuple) else f'{path}.{name}'
            if isinstance(item, Data) and (problem := _wrong_types(item, where)):
                return problem
    return None
