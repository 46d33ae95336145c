"""What a hook is given: frozen, complete, changed by copying."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any, ClassVar

from lamella.core.context import GenerateMiddlewareContext
from lamella.core.embedding import EmbeddingModel
from lamella.core.metering import Account
from lamella.core.model import Model
from lamella.core.tools import Tool
from lamella.types import (
    ConfigError,
    Data,
    EmbeddingRequest,
    Message,
    ModelRequest,
    ModelResponse,
    StreamPart,
    ToolRequest,
    ToolRequestPart,
)


class Channel:
    """The engine's own: where a coroutine hook hands parts to the reader of a stream. Carried along, never looked into.

    `stepping` is true while that reader's own step runs the hook: parts of calls made from other tasks are not handed on.
    `seen` is the last answer whose parts were handed on; `handed`, whether content of it was.
    """

    __slots__ = ('handed', 'seen', 'stepping')

    def __init__(self) -> None:
        self.stepping = False
        self.handed = False
        self.seen: ModelResponse | None = None


class Continuing:
    """Leave for one answer to go on from text that has already reached the reader, and that is in the request.

    Used up by the first content that comes of it: whoever then wants to go on again asks with a new one. A `Restarted` that
    reaches the reader makes it new.
    """

    __slots__ = ('_used_after',)

    def __init__(self) -> None:
        self._used_after: int | None = None

    def is_left(self, restarts: int) -> bool:
        """Whether nothing has come of it since the reader's last restart."""
        return self._used_after != restarts

    def use(self, restarts: int) -> None:
        self._used_after = restarts


class Escort:
    """What a layer sends along with a call to the model itself, past all layers between, which hand it on unseen.

    `before` is asked before each request to a model and raises to refuse it: so a layer outside of a retry sees each attempt.
    Where `listens` is true, `heard` is told of each part as it arrives from the model, whatever layers hold back; a whole call
    is then made as a stream.
    Into a model with layers fixed on it they go along as well.
    """

    __slots__ = ()
    listens: ClassVar[bool] = False

    async def before(self, params: ModelHookParams | EmbedHookParams, ctx: GenerateMiddlewareContext) -> None:
        """Raise to refuse this request."""

    async def before_wait(self, params: ModelHookParams | EmbedHookParams, ctx: GenerateMiddlewareContext) -> None:
        """Raise to refuse this request already before a layer waits to send it. `before` is asked all the same."""

    def heard(self, part: StreamPart) -> None:
        """A part has come."""


class ModelHookParams(Data, frozen=True):
    """One model call. Hand on `params.replace(model=other)` to ask another model.

    `attempt` counts from 1. `continues` is the leave to go on from text that has already reached the reader: without it, a
    call after the first text is refused. `account` says who prices and counts it, `escorts` who goes along with it.
    """

    request: ModelRequest
    model: Model
    attempt: int = 1
    continues: Continuing | None = None
    channel: Channel | None = None
    account: Account | None = None
    escorts: tuple[Escort, ...] = ()

    def escorted(self, escort: Escort) -> ModelHookParams:
        """The same call with one escort more."""
        return self.replace(escorts=(*self.escorts, escort))


class EmbedHookParams(Data, frozen=True):
    """One call of an embedding model, with no more texts than it takes at once. `attempt` counts from 1."""

    request: EmbeddingRequest
    model: EmbeddingModel
    attempt: int = 1
    escorts: tuple[Escort, ...] = ()

    def escorted(self, escort: Escort) -> EmbedHookParams:
        """The same call with one escort more."""
        return self.replace(escorts=(*self.escorts, escort))


class Approval(Data, frozen=True):
    """A decision to run one interrupted tool call, given in the call's own arguments and never read from a message.

    Bound to the request's id and to the digest of its exact input; used once.
    """

    ref: str
    digest: str
    metadata: Mapping[str, Any] = {}

    def covers(self, request: ToolRequest) -> bool:
        """Whether it was given for this very request: its id, its tool and its exact input."""
        return self.ref == request.ref and self.digest == digest_of(request)


def digest_of(request: ToolRequest) -> str:
    """SHA-256 of the tool's name and input; the order of keys does not matter, and no two inputs look alike.

    Raises ConfigError for input that is nested too deeply to be read, or that is no JSON value.
    """
    try:
        said = repr([request.name, _ordered(request.input)])
    except (RecursionError, TypeError) as error:
        raise ConfigError(f'the input of tool {request.name!r} cannot be compared: {type(error).__name__}') from error
    return sha256(said.encode('utf-8', 'backslashreplace')).hexdigest()


def _ordered(value: Any) -> Any:
    """The same value with the keys of every object in order."""
    if isinstance(value, (list, tuple)):
        return [_ordered(item) for item in value]
    return {key: _ordered(value[key]) for key in sorted(value)} if isinstance(value, Mapping) else value


class ToolHookParams(Data, frozen=True):
    """One tool execution. `approval` is set when a person or a program resumed this very call.

    The metadata of `tool_request_part` is the approval's: what messages claim is left out.
    """

    tool_request_part: ToolRequestPart
    tool: Tool
    approval: Approval | None = None
    attempt: int = 1

    @property
    def tool_request(self) -> ToolRequest:
        return self.tool_request_part.tool_request


class GenerateHookParams(Data, frozen=True):
    """One turn: a model call and the tools it asks for. `iteration` counts turns from 0."""

    request: ModelRequest
    model: Model
    iteration: int = 0
    channel: Channel | None = None


class RunHookParams(Data, frozen=True):
    """One run, as the caller asked for it. `messages` are what the run starts with.

    `tools` are what layers add to the run's own when they have to wait for them (a server's, say):
    `params.replace(tools=(*params.tools, *more))`. What is known before goes into the hook `tools`.
    """

    request: ModelRequest
    model: Model
    max_turns: int
    channel: Channel | None = None
    tools: tuple[Tool, ...] = ()

    @property
    def messages(self) -> tuple[Message, ...]:
        return self.request.messages
