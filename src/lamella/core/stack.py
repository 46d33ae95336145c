"""The only fold: a list of layers becomes one callable for each kind of call, once, and never changes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import Any

from lamella.core.bridge import bridge, collector, held, out_of_order
from lamella.core.calls import call_model, may_go_on, params_of, stream_model
from lamella.core.context import GenerateMiddlewareContext
from lamella.core.middleware import BaseMiddleware
from lamella.core.params import Continuing, ModelHookParams
from lamella.types import ConfigError, Finished, Folder, ModelResponse, StreamPart, unfold

Ctx = GenerateMiddlewareContext
Layer = BaseMiddleware[Any]
ModelCall = Callable[[ModelHookParams, Ctx], Coroutine[Any, Any, ModelResponse]]
ModelStream = Callable[[ModelHookParams, Ctx], AsyncGenerator[StreamPart, None]]
AnyCall = Callable[[Any, Ctx], Coroutine[Any, Any, Any]]


class Stack:
    """Layers in order, the first outermost. Immutable; a stack inside a stack is its layers.

    Raises ConfigError for anything in the list that is not a layer; `field` is what the error calls the list.
    """

    __slots__ = ('_folded', '_model', '_stream', 'hooks', 'layers')

    def __init__(self, layers: Iterable[Layer | Stack] = (), *, field: str = 'use') -> None:
        self.layers: tuple[Layer, ...] = _flat(layers, field)
        self.hooks: frozenset[str] = frozenset().union(*(layer._hooks for layer in self.layers))
        self._model: ModelCall | None = None
        self._stream: ModelStream | None = None
        self._folded: dict[tuple[str, AnyCall], AnyCall] = {}

    def __repr__(self) -> str:
        return f'Stack([{", ".join(map(repr, self.layers))}])'

    def __len__(self) -> int:
        return len(self.layers)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stack) and other.layers == self.layers

    def __hash__(self) -> int:
        return hash(self.layers)

    @property
    def model(self) -> ModelCall:
        """One raw model call through all layers."""
        if self._model is None:
            self._model = fold_model(self.layers)
        return self._model

    @property
    def stream(self) -> ModelStream:
        """One raw model call through all layers, part by part."""
        if self._stream is None:
            self._stream = _fold_stream(self.layers)
        return self._stream

    def around(self, hook: str, innermost: AnyCall) -> AnyCall:
        """`innermost` in every layer's `wrap_run`, `wrap_generate`, `wrap_tool` or `wrap_embed`; itself when there is none."""
        if hook not in self.hooks:
            return innermost
        key = (hook, innermost)
        if key not in self._folded:
            call = innermost
            for layer in reversed(self.layers):
                if hook in layer._hooks:
                    call = _link(getattr(layer, hook), call)
            self._folded[key] = call
        return self._folded[key]

    def explain(self) -> str:
        """The onion as text: each layer with its hooks, the outermost first, the model call in the middle."""
        lines = []
        for depth, layer in enumerate(self.layers):
            hooks = ', '.join(sorted(layer._hooks)) or 'no hooks'
            lines.append(f'{"  " * depth}{layer!r}  [{hooks}]')
        return '\n'.join([*lines, f'{"  " * len(self.layers)}model call'])


def _flat(layers: Iterable[Layer | Stack], field: str) -> tuple[Layer, ...]:
    if isinstance(layers, (str, BaseMiddleware, Stack)) or not isinstance(layers, Iterable):
        raise ConfigError(f'{field}= takes a list of layers, not {_named(layers)}: write {field}=[…]')
    flat: list[Layer] = []
    for index, layer in enumerate(layers):
        if isinstance(layer, BaseMiddleware):
            flat.append(layer)
        elif isinstance(layer, Stack):
            flat.extend(layer.layers)
        else:
            raise ConfigError(f'{field}[{index}] is {_named(layer)}, not a layer{_advice(layer)}')
    return tuple(flat)


def _named(value: object) -> str:
    return f'the class {value.__name__}' if isinstance(value, type) else f'{type(value).__name__} {value!r}'[:120]


def _advice(value: object) -> str:
    if isinstance(value, type):
        return f': give an instance, {value.__name__}()'
    if isinstance(value, str):
        return ': give an instance, such as Retry(max_retries=3), and not its name'
    return ': give an instance of a BaseMiddleware subclass'


def _link(hook: Callable[..., Coroutine[Any, Any, Any]], inner: AnyCall) -> AnyCall:
    def call(params: Any, ctx: Ctx) -> Coroutine[Any, Any, Any]:
        return hook(params, ctx, inner)

    return call


def _transforming(transform: Callable[..., Any], inner: ModelCall) -> ModelCall:
    async def call(params: ModelHookParams, ctx: Ctx) -> ModelResponse:
        return await inner(params_of(await transform(params, ctx)), ctx)

    return call


def fold_model(layers: Sequence[Layer], innermost: ModelCall = call_model) -> ModelCall:
    call = innermost
    for layer in reversed(layers):
        call = _model_link(layer, call)
    return call


def _model_link(layer: Layer, inner: ModelCall) -> ModelCall:
    call = inner
    if 'wrap_model' in layer._hooks:
        call = _link(layer.wrap_model, inner)
    elif 'wrap_stream' in layer._hooks:
        call = _whole(layer, inner)
    return _transforming(layer.transform_params, call) if 'transform_params' in layer._hooks else call


def _whole(layer: Layer, inner: ModelCall) -> ModelCall:
    """A layer that only knows streams, around a whole call: the answer as parts, through the layer, and folded again."""

    async def parts_of(params: ModelHookParams, ctx: Ctx) -> AsyncGenerator[StreamPart, None]:
        for part in unfold(await inner(params, ctx)):
            yield part

    async def call(params: ModelHookParams, ctx: Ctx) -> ModelResponse:
        folder, opened, finished = Folder(), list[AsyncGenerator[StreamPart, None]](), False

        def remembered(params: ModelHookParams, ctx: Ctx) -> AsyncGenerator[StreamPart, None]:
            opened.append(parts_of(params, ctx))
            return opened[-1]

        parts = layer.wrap_stream(params, ctx, remembered)
        try:
            async for part in parts:
                if finished:
                    raise out_of_order(f'{type(part).__name__} after Finished')
                folder.add(part)
                finished = type(part) is Finished
        finally:
            for left in (*reversed(opened), parts):
                await left.aclose()  # type: ignore[attr-defined]
        if not finished:
            raise out_of_order('no Finished at its end')
        return folder.response()

    return call


def _fold_stream(layers: Sequence[Layer]) -> ModelStream:
    """From the inside out. Neighbouring layers that only know whole calls share one bridge around the stream within."""
    rest, innermost = _entry(layers)
    stream, waiting = _opening(innermost), list[Layer]()
    for layer in reversed(rest):
        if 'wrap_stream' in layer._hooks:
            stream = _stream_link(layer, _bridged(waiting, stream))
            waiting = []
        elif 'wrap_model' in layer._hooks and layer.commit == 'finish':
            stream = _opening(held(fold_model([layer, *waiting], collector(_unseen(stream)))))
            waiting = []
        elif 'wrap_model' in layer._hooks or (waiting and 'transform_params' in layer._hooks):
            waiting.insert(0, layer)
        elif 'transform_params' in layer._hooks:
            stream = _opening(_transformed(layer, stream))
    return _bridged(waiting, stream)


def _entry(layers: Sequence[Layer]) -> tuple[Sequence[Layer], Callable[..., Any]]:
    """The other layers, and the model stream behind those next to it that only change the request: they need no place in
    the stream of parts."""
    cut = len(layers)
    while cut and not layers[cut - 1]._hooks & {'wrap_model', 'wrap_stream'}:
        cut -= 1
    transforms = [layer.transform_params for layer in layers[cut:] if 'transform_params' in layer._hooks]
    return layers[:cut], partial(stream_model, transforms=transforms) if transforms else stream_model


def _opening(stream: Callable[..., Any]) -> ModelStream:
    """Every stream that is opened is remembered, so that the engine closes what a layer leaves open."""

    def opened(params: ModelHookParams, ctx: Ctx) -> AsyncGenerator[StreamPart, None]:
        return ctx.opened(stream(params, ctx))

    return opened


def _bridged(layers: Sequence[Layer], stream: ModelStream) -> ModelStream:
    return _opening(bridge(fold_model(layers, collector(stream)))) if layers else stream


def _unseen(stream: ModelStream) -> ModelStream:
    """The stream behind what holds it back: no attempt uses up the leave to go on, since nobody has read of it."""

    def asked(params: ModelHookParams, ctx: Ctx) -> AsyncGenerator[StreamPart, None]:
        if params.continues is not None and may_go_on(params, ctx):
            params = params.replace(continues=Continuing())
        return stream(params, ctx)

    return asked


def _stream_link(layer: Layer, inner: ModelStream) -> ModelStream:
    if layer.commit == 'finish':
        inner = _unseen(inner)

    def wrapped(params: ModelHookParams, ctx: Ctx) -> Any:
        return layer.wrap_stream(params, ctx, inner)

    stream: Callable[..., Any] = wrapped
    if layer.commit == 'finish':
        stream = _held(stream)
    if 'transform_params' in layer._hooks:
        stream = _transformed(layer, stream)
    return _opening(stream)


def _held(stream: Callable[..., Any]) -> Callable[..., Any]:
    """All parts at the end, and none of an attempt that was taken back."""

    async def parts_at_the_end(params: ModelHookParams, ctx: Ctx) -> AsyncGenerator[StreamPart, None]:
        folder = Folder()
        parts = stream(params, ctx)
        try:
            async for part in parts:
                folder.add(part)
        finally:
            await parts.aclose()
        if params.continues is not None:
            params.continues.use(ctx.restarts)
        for part in unfold(folder.response()):
            yield part

    return parts_at_the_end


def _transformed(layer: Layer, stream: Callable[..., Any]) -> Callable[..., Any]:
    async def transformed(params: ModelHookParams, ctx: Ctx) -> AsyncGenerator[StreamPart, None]:
        parts = stream(params_of(await layer.transform_params(params, ctx)), ctx)
        try:
            async for part in parts:
                yield part
        finally:
            await parts.aclose()

    return transformed
