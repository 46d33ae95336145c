"""Tools for the sandbox's tests that need packages: types of their own, media, errors with a status."""

from datetime import date
from enum import Enum

from pydantic import BaseModel

from lamella.types import Interrupt, LamellaError, MediaPart, ToolError


class Order(BaseModel):
    """Input with types of its own."""

    day: date
    count: int


def order(order: Order) -> Order:
    """Give the order back, a day of the type that it was given."""
    assert type(order.day) is date
    return order.model_copy(update={'count': order.count + 1})


class Colour(Enum):
    RED = 'red'


def paint(colour: Colour, on: date | None = None) -> str:
    return f'{type(colour).__name__} {colour.value} {on!r}'


def picture() -> MediaPart:
    return MediaPart(data=b'\x89PNG', content_type='image/png', name='cat.png')


def raises(kind: str) -> None:
    errors: dict[str, BaseException] = {
        'tool': ToolError('no such city'),
        'value': ValueError('wrong'),
        'away': LamellaError('UNAVAILABLE', 'try again'),
        'exit': SystemExit(3),
        'interrupt': Interrupt('may I?'),
        'key': KeyboardInterrupt(),
        'long': ValueError('x' * 100_000),
    }
    raise errors[kind]
