"""The contract: what a layer is, which hooks it has, and how its settings are checked."""

from __future__ import annotations

import inspect
import re
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, ClassVar, Generic, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel

from lamella.core.config import build_config
from lamella.core.context import GenerateMiddlewareContext
from lamella.core.order import Order
from lamella.core.params import EmbedHookParams, GenerateHookParams, ModelHookParams, RunHookParams, ToolHookParams
from lamella.core.tools import Tool
from lamella.types import (
    ConfigError,
    EmbeddingResponse,
    GenerateResponse,
    ModelResponse,
    StreamPart,
    ToolResponse,
    did_you_mean,
)

Config = TypeVar('Config', bound=BaseModel, covariant=True)
Ctx = GenerateMiddlewareContext
NextModel = Callable[[ModelHookParams, Ctx], Coroutine[Any, Any, ModelResponse]]
NextStream = Callable[[ModelHookParams, Ctx], AsyncIterator[StreamPart]]
NextTool = Callable[[ToolHookParams, Ctx], Coroutine[Any, Any, ToolResponse]]
NextGenerate = Callable[[GenerateHookParams, Ctx], Coroutine[Any, Any, ModelResponse]]
NextEmbed = Callable[[EmbedHookParams, Ctx], Coroutine[Any, Any, EmbeddingResponse]]
# For a layer that treats both kinds of calls alike: `async def wrap_model(self, params: AnyParams, ctx: Ctx, next_fn:
# Next[AnyParams, AnyAnswer]) -> AnyAnswer`, and `wrap_embed = wrap_model`.
AnyParams = TypeVar('AnyParams', ModelHookParams, EmbedHookParams)
AnyAnswer = TypeVar('AnyAnswer', ModelResponse, EmbeddingResponse)
Next = Callable[[AnyParams, Ctx], Coroutine[Any, Any, AnyAnswer]]
NextRun = Callable[[RunHookParams, Ctx], Coroutine[Any, Any, GenerateResponse]]

HOOKS = (
    'tools',
    'wrap_run',
    'wrap_generate',
    'transform_params',
    'wrap_model',
    'wrap_stream',
    'wrap_tool',
    'wrap_embed',
)
_ARGUMENTS = {'tools': 1, 'transform_params': 2}
_LOOKS_LIKE_A_HOOK = re.compile(r'^(wrap|transform)')


class BaseMiddleware(Generic[Config]):
    """A layer. Override the hooks you need and leave the others: a hook that is not overridden costs nothing.

    Settings are a pydantic model named in brackets, `BaseMiddleware[BudgetConfig]`, given as keywords or as `config=`, and
    found in `self.config`; they never change. One instance serves all calls, also concurrent ones: what belongs to one call
    is a local variable or lives in `ctx.state(self)`.

    `order` says where the layer belongs among others. `commit='finish'` holds a stream back until its end, so that nothing
    of a failed attempt is ever seen.
    Raises ConfigError, with every problem, for unknown or wrong settings and for hooks that are misspelled or misshapen.
    """

    name: ClassVar[str] = 'base_middleware'
    commit: Literal['first', 'finish'] = 'first'
    order: ClassVar[Order] = Order()
    config: Config
    _config_class: ClassVar[type[BaseModel] | None] = None
    _problems: ClassVar[tuple[str, ...]] = ()
    _hooks: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if 'name' not in cls.__dict__:
            cls.name = snake_case(cls.__name__)
        cls._config_class = _config_class(cls) or cls._config_class
        cls._hooks = frozenset(hook for hook in HOOKS if getattr(cls, hook) is not getattr(BaseMiddleware, hook))
        cls._problems = tuple(_hook_problems(cls))

    def __new__(cls, *args: Any, **keywords: Any) -> BaseMiddleware[Config]:
        if cls._problems:
            raise ConfigError(f'{cls.__name__}: ' + '; '.join(cls._problems))
        return super().__new__(cls)

    def __init__(self, config: Config | None = None, **options: Any) -> None:
        self.config = build_config(type(self).__name__, self._config_class, config, options)

    def __repr__(self) -> str:
        config = getattr(self, 'config', None)
        shown = ', '.join(f'{k}={getattr(config, k)!r}' for k in sorted(config.model_fields_set)) if config else ''
        return f'{type(self).__name__}({shown})'

    def tools(self, ctx: Ctx) -> Sequence[Tool | Callable[..., Any]]:
        """Tools that this layer adds to every run it wraps."""
        return ()

    async def wrap_run(self, params: RunHookParams, ctx: Ctx, next_fn: NextRun) -> GenerateResponse:
        """Around one whole `generate()`."""
        return await next_fn(params, ctx)

    async def wrap_generate(self, params: GenerateHookParams, ctx: Ctx, next_fn: NextGenerate) -> ModelResponse:
        """Around one turn: the model call and the tools it asks for."""
        return await next_fn(params, ctx)

    async def transform_params(self, params: ModelHookParams, ctx: Ctx) -> ModelHookParams:
        """Change the request before each model call, streamed or not."""
        return params

    async def wrap_model(self, params: ModelHookParams, ctx: Ctx, next_fn: NextModel) -> ModelResponse:
        """Around each raw model call."""
        return await next_fn(params, ctx)

    async def wrap_stream(self, params: ModelHookParams, ctx: Ctx, next_fn: NextStream) -> AsyncIterator[StreamPart]:
        """Around each raw model call, part by part: an async generator over `next_fn(params, ctx)`."""
        async for part in next_fn(params, ctx):
            yield part

    async def wrap_tool(self, params: ToolHookParams, ctx: Ctx, next_fn: NextTool) -> ToolResponse:
        """Around each tool execution."""
        return await next_fn(params, ctx)

    async def wrap_embed(self, params: EmbedHookParams, ctx: Ctx, next_fn: NextEmbed) -> EmbeddingResponse:
        """Around each call of an embedding model."""
        return await next_fn(params, ctx)


def snake_case(name: str) -> str:
    """`PIIRedaction` becomes `pii_redaction`."""
    return re.sub(r'(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])', '_', name).lower()


def _config_class(cls: type) -> type[BaseModel] | None:
    for base in getattr(cls, '__orig_bases__', ()):
        origin = get_origin(base)
        if isinstance(origin, type) and issubclass(origin, BaseMiddleware):
            (argument,) = get_args(base)
            if isinstance(argument, type) and issubclass(argument, BaseModel):
                return argument
    return None


def _hook_problems(cls: type[BaseMiddleware[Any]]) -> list[str]:
    problems = [
        f'{name!r} is not a hook{did_you_mean(name, HOOKS)}'
        for name, value in _members(cls).items()
        if _LOOKS_LIKE_A_HOOK.match(name) and name not in HOOKS and callable(value)
    ]
    problems += [problem for hook in sorted(cls._hooks) if (problem := _shape_problem(cls, hook))]
    if cls.commit not in ('first', 'finish'):
        problems.append(f"commit is {cls.commit!r}: use 'first' or 'finish'")
    return problems


def _members(cls: type[BaseMiddleware[Any]]) -> dict[str, Any]:
    """What the class and its parents and mixins define beside the base."""
    members: dict[str, Any] = {}
    for owner in reversed(cls.__mro__):
        if owner not in BaseMiddleware.__mro__:
            members.update(owner.__dict__)
    return members


def _shape_problem(cls: type[BaseMiddleware[Any]], hook: str) -> str | None:
    """Why this hook cannot work, or `None`. Decorated functions are judged by what they wrap."""
    declared = inspect.getattr_static(cls, hook)
    if not callable(getattr(cls, hook)):
        return f'{hook} is {declared!r}: a hook is a method'
    function = inspect.unwrap(getattr(cls, hook))
    bound = 0 if isinstance(declared, (staticmethod, classmethod)) else 1
    wanted = _ARGUMENTS.get(hook, 3)
    names = {1: '(self, ctx)', 2: '(self, params, ctx)', 3: '(self, params, ctx, next_fn)'}[wanted]
    try:
        inspect.signature(function).bind(*range(wanted + bound))
    except TypeError:
        return f'{hook}{inspect.signature(function)} must take {names}'
    if hook == 'tools':
        return 'tools must be a plain function, not async' if inspect.iscoroutinefunction(function) else None
    if hook == 'wrap_stream':
        if inspect.isasyncgenfunction(function):
            return None
        return 'wrap_stream must be an async generator: `async def` with `yield`'
    return None if inspect.iscoroutinefunction(function) else f'{hook} must be `async def` (and not yield)'
