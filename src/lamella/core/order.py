"""Where layers belong: what each says of its place in a stack, and what is wrong with a given order."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol

from lamella.types import ConfigError, Data

Level = Literal['error', 'warning']
Mode = Literal['warn', 'error', 'ignore']
MODES: tuple[Mode, ...] = ('warn', 'error', 'ignore')


class OrderWarning(UserWarning):
    """A stack in which two layers stand in a doubtful order."""


class Order(Data, frozen=True):
    """What a layer says of its place, by the registry names of other layers; each value tells what happens otherwise.

    It must stand outside of what it `wraps` and inside of what it is `wrapped_by`; what it `requires` must be in the stack,
    anywhere; `position` makes it the first or the last. Whatever breaks one of these is refused. `better_outside` and
    `better_inside` are orders that work and are rarely meant: they are warned of. A layer that is not in the stack breaks
    nothing but `requires`.
    """

    wraps: Mapping[str, str] = {}
    wrapped_by: Mapping[str, str] = {}
    requires: Mapping[str, str] = {}
    position: Literal['outermost', 'innermost'] | None = None
    better_outside: Mapping[str, str] = {}
    better_inside: Mapping[str, str] = {}


class Finding(Data, frozen=True):
    """One thing about an order. `message` names the layers with their places (from 1); `layers` are their indices."""

    level: Level
    message: str
    layers: tuple[int, ...]


class Placed(Protocol):
    """What is needed of a layer: its class has `name` and `order`."""

    @property
    def name(self) -> Any: ...


def findings(layers: Sequence[Placed], *, whole: bool = True) -> tuple[Finding, ...]:
    """Errors first, then warnings, each in the order of the layers.

    `whole` says that nothing stands around or inside of these: only then can something be missing, or not be the outermost.
    """
    found = [finding for i in range(len(layers)) for finding in _of_one(layers, i, whole=whole)]
    told: dict[tuple[Level, tuple[int, ...]], Finding] = {}
    for finding in found:  # two layers may say the same of each other
        told.setdefault((finding.level, finding.layers), finding)
    return tuple(sorted(told.values(), key=lambda finding: finding.level == 'warning'))


def check_order(layers: Sequence[Placed], mode: Mode = 'warn', *, whole: bool = True) -> None:
    """Raises ConfigError for an order that cannot work, and warns (OrderWarning) of a doubtful one; `error` raises for both."""
    if mode == 'ignore':
        return
    found = findings(layers, whole=whole)
    if wrong := [finding.message for finding in found if mode == 'error' or finding.level == 'error']:
        raise ConfigError('the order of the layers: ' + ' '.join(wrong))
    for finding in found:
        warnings.warn(finding.message, OrderWarning, stacklevel=4)


def names_of(layer: Placed) -> frozenset[str]:
    """The names by which rules know this layer: its own, and those of the layers that it is a kind of."""
    owned = {
        kind.__dict__['name'] for kind in type(layer).__mro__ if hasattr(kind, 'order') and 'name' in kind.__dict__
    }
    return frozenset(name for name in owned if isinstance(name, str)) | {str(layer.name)}


def _order(layer: Placed) -> Order:
    order = getattr(type(layer), 'order', None)
    return order if isinstance(order, Order) else _NO_RULES


_NO_RULES = Order()


def _of_one(layers: Sequence[Placed], index: int, *, whole: bool) -> Iterator[Finding]:
    order = _order(layers[index])
    if order is _NO_RULES:
        return
    for level, rules, outside in (
        ('error', order.wraps, True),
        ('error', order.wrapped_by, False),
        ('warning', order.better_outside, True),
        ('warning', order.better_inside, False),
    ):
        for other, why in rules.items():
            yield from _misplaced(layers, index, other, why, level, outside)  # type: ignore[arg-type]
    if not whole:
        return
    present = frozenset[str]().union(*map(names_of, layers))
    for other, why in order.requires.items():
        if other not in present:
            yield Finding('error', f'{_place(layers, index)} needs {other} in the same stack: {why}.', (index,))
    if order.position is not None:
        yield from _not_at_the_end(layers, index, order.position)


def _misplaced(
    layers: Sequence[Placed], index: int, other: str, why: str, level: Level, outside: bool
) -> Iterator[Finding]:
    """The nearest layer of that name on the wrong side."""
    wrong_side = range(index - 1, -1, -1) if outside else range(index + 1, len(layers))
    at = next((i for i in wrong_side if other in names_of(layers[i])), None)
    if at is None:
        return
    one, two = _place(layers, index), _place(layers, at)
    verb = 'must' if level == 'error' else 'should rather'
    side = 'outside' if outside else 'inside'
    if level == 'error' and _says_the_opposite(layers[at], layers[index], outside):
        yield Finding(
            'error', f'{one} and {two} both want to stand {side} of the other: no order suits both.', _pair(index, at)
        )
        return
    move = 'before' if outside else 'behind'
    yield Finding(level, f'{one} {verb} stand {side} of {two}: {why}. Put it {move} that.', _pair(index, at))


def _says_the_opposite(layer: Placed, other: Placed, outside: bool) -> bool:
    order = _order(layer)
    return bool(names_of(other) & (order.wraps if outside else order.wrapped_by).keys())


def _pair(one: int, two: int) -> tuple[int, int]:
    return (one, two) if one < two else (two, one)


def _not_at_the_end(
    layers: Sequence[Placed], index: int, position: Literal['outermost', 'innermost']
) -> Iterator[Finding]:
    beyond = range(index) if position == 'outermost' else range(len(layers) - 1, index, -1)
    at = next((i for i in beyond if _order(layers[i]).position != position), None)
    if at is not None:
        side = 'outside' if position == 'outermost' else 'inside'
        message = f'{_place(layers, index)} must be the {position} layer, but {_place(layers, at)} stands {side} of it.'
        yield Finding('error', message, _pair(index, at))


def _place(layers: Sequence[Placed], index: int) -> str:
    return f'{type(layers[index]).__name__} (layer {index + 1} of {len(layers)})'
