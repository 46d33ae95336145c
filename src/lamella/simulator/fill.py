"""Values that fit a JSON Schema, drawn from the prompt; what cannot be made to fit is refused, never sent."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from lamella.simulator.draw import Draw
from lamella.simulator.fits import fits, is_multiple, same
from lamella.simulator.flat import Contradiction, alternatives, flat
from lamella.simulator.formats import example_of
from lamella.simulator.patterns import examples
from lamella.types import JSON, Data, LamellaError

USUAL_ITEMS = 3
MAX_ITEMS = 1_000
MAX_NODES = 20_000
MAX_TRIES = 64
SHALLOW = 3
DEEPEST = 12


class Spot(Data, frozen=True):
    """Where in the value we are: the field's name, its place in an array, how deep."""

    name: str = ''
    index: int = 0
    depth: int = 0

    def inside(self, name: str) -> Spot:
        return Spot(name, self.index, self.depth + 1)

    def item(self, index: int) -> Spot:
        return Spot(self.name, index, self.depth + 1)


def fill(schema: Any, draw: Draw) -> Any:
    """A value that fits. Raises INVALID_ARGUMENT for a schema that nothing fits, or that is beyond the simulator."""
    try:
        return _Filler(schema, draw).value(schema, Spot())
    except (Contradiction, LookupError, RecursionError) as error:
        raise LamellaError(
            'INVALID_ARGUMENT',
            f'the simulator can make no value for this schema: {error}. Correct the schema, or script the answer',
        ) from error


class _Filler:
    """One value for one schema. Every candidate is checked against the schema as it was given."""

    def __init__(self, root: Any, draw: Draw) -> None:
        self.root = root
        self.draw = draw
        self.nodes = 0

    def value(self, schema: Any, spot: Spot, taken: Sequence[Any] = ()) -> Any:
        """The first candidate that fits and is none of those `taken`."""
        for candidate in islice(self.candidates(schema, spot), MAX_TRIES):
            if fits(candidate, schema, self.root) and not any(same(candidate, other) for other in taken):
                return candidate
        raise Contradiction(f'nothing was found that fits {spot.name or "it"!r}')

    def candidates(self, schema: Any, spot: Spot) -> Iterator[Any]:
        self.nodes += 1
        if self.nodes > MAX_NODES or spot.depth > DEEPEST:
            raise Contradiction('it is too large or too deep')
        choices = list(alternatives(flat(schema, self.root), self.root))
        if spot.depth > SHALLOW:
            choices.sort(key=_height)
        if not self.draw.knows(spot.name) and any('null' in _kinds(chosen) for chosen in choices):
            yield None
        for chosen in choices:
            try:
                yield from self.of_schema(chosen, spot)
            except Contradiction:
                continue

    def of_schema(self, schema: JSON, spot: Spot) -> Iterator[Any]:
        """Candidates for one flat schema without alternatives."""
        if 'const' in schema:
            yield schema['const']
            return
        if 'enum' in schema:
            yield from self.draw.picks(spot.name, schema['enum'], spot.index)
            return
        for kind in _kinds(schema):
            yield from self.of_kind(kind, schema, spot)

    def of_kind(self, kind: str, schema: JSON, spot: Spot) -> Iterator[Any]:
        if kind == 'string':
            yield from self.strings(schema, spot)
        elif kind in ('integer', 'number'):
            yield from self.numbers(schema, spot, whole=kind == 'integer')
        elif kind == 'boolean':
            first = self.draw.boolean(spot.name, spot.index)
            yield from (first, not first)
        elif kind == 'array':
            yield from self.arrays(schema, spot)
        elif kind == 'object':
            yield from self.objects(schema, spot)
        else:
            yield None

    def strings(self, schema: JSON, spot: Spot) -> Iterator[str]:
        low, high = int(schema.get('minLength', 0)), schema.get('maxLength')
        drawn = self.draw.strings(spot.name, spot.index)
        if 'format' in schema or 'pattern' in schema:
            yield from [text for text in self.draw.material.tokens if fits(text, schema, self.root)][spot.index :]
        if 'format' in schema and (made := example_of(schema['format'], spot.index)) is not None:
            yield made
        if 'pattern' in schema:
            yield from [text for text in drawn if fits(text, schema, self.root)]
            yield from examples(schema['pattern'], spot.index, low)
        for text in drawn:
            yield _sized(text, low, None if high is None else int(high))
        for text in drawn[:1]:
            yield _sized(f'{spot.index + 1} {text}', low, None if high is None else int(high))

    def numbers(self, schema: JSON, spot: Spot, *, whole: bool) -> Iterator[float]:
        low, high = _bounds(schema)
        drawn = self.draw.number(spot.name, spot.index, low, high)
        step = schema.get('multipleOf', 1 if whole else None)
        tried = _inside(drawn, low, high)
        if step is None:
            yield from (tried, *_between(low, high, spot.index))
            return
        yield from _steps(tried, step, whole=whole)
        for edge in (low, high):
            if edge is not None:
                yield from _steps(edge, step, whole=whole)

    def arrays(self, schema: JSON, spot: Spot) -> Iterator[list[Any]]:
        fewest, wanted = int(schema.get('minItems', 0)), self.length(schema, spot)
        for count in dict.fromkeys((wanted, fewest)):
            yield self.array(schema, spot, count, fewest)
        yield self.array(schema, spot, len(schema.get('prefixItems', ())), fewest)

    def length(self, schema: JSON, spot: Spot) -> int:
        """What the schema allows, the prompt's 'at most N', and otherwise three; deep down as few as possible."""
        fewest, most = int(schema.get('minItems', 0)), int(schema.get('maxItems', MAX_ITEMS))
        limit = self.draw.material.limit
        usual = USUAL_ITEMS if limit is None else min(limit, USUAL_ITEMS * 2)
        usual = max(usual, len(schema.get('prefixItems', ())))
        if spot.depth > SHALLOW:
            usual = 0
        return min(max(fewest, min(usual, most)), MAX_ITEMS)

    def array(self, schema: JSON, spot: Spot, count: int, fewest: int) -> list[Any]:
        prefix = schema.get('prefixItems', ())
        unique = schema.get('uniqueItems') is True
        found: list[Any] = []
        for index in range(count):
            wanted = prefix[index] if index < len(prefix) else schema.get('items', True)
            try:
                item = self.value(wanted, spot.item(index), found if unique else ())
            except Contradiction:
                if index < fewest:
                    raise
                break
            if index >= fewest and any(same(item, other) for other in found):
                break
            found.append(item)
        return found

    def objects(self, schema: JSON, spot: Spot) -> Iterator[JSON]:
        yield self.object(schema, spot, whole=spot.depth <= SHALLOW)
        yield self.object(schema, spot, whole=False)

    def object(self, schema: JSON, spot: Spot, *, whole: bool) -> JSON:
        """Required fields, and the optional ones too when the whole is wanted and they can be filled."""
        properties = schema.get('properties', {})
        required = list(dict.fromkeys(schema.get('required', ())))
        others = schema.get('additionalProperties', True)
        most = int(schema.get('maxProperties', MAX_ITEMS))
        made = {name: self.value(properties.get(name, others), spot.inside(name)) for name in required}
        for name in [name for name in properties if name not in made and whole]:
            if len(made) < most and (value := self.optional(properties[name], spot.inside(name))) is not _NOTHING:
                made[name] = value
        self.add_others(made, schema, spot)
        return {name: made[name] for name in [*[key for key in properties if key in made], *made]}

    def optional(self, schema: Any, spot: Spot) -> Any:
        try:
            return self.value(schema, spot)
        except Contradiction:
            return _NOTHING

    def add_others(self, made: JSON, schema: JSON, spot: Spot) -> None:
        """Fields beyond the named ones: as many as `minProperties` asks for, two where only such fields are described."""
        others = schema.get('additionalProperties', True)
        free = isinstance(others, dict) and not schema.get('properties') and spot.depth <= SHALLOW
        fewest = max(int(schema.get('minProperties', 0)), min(2, int(schema.get('maxProperties', 2))) if free else 0)
        names = [*self.draw.material.top_words, *(f'field_{number}' for number in range(1, fewest + 1))]
        for name in names:
            if len(made) >= fewest or others is False:
                return
            if name not in made and name not in schema.get('properties', {}):
                made[name] = self.value(others, spot.inside(name))


_NOTHING: Any = object()


def _kinds(schema: JSON) -> list[str]:
    """The types in the order in which they are tried: null last, and an untyped schema by its keywords."""
    told = schema.get('type')
    kinds = [str(kind).lower() for kind in ([told] if isinstance(told, str) else told or _implied(schema))]
    if schema.get('nullable') is True:
        kinds.append('null')
    return sorted(dict.fromkeys(kinds), key=lambda kind: kind == 'null')


_KEYWORDS = {
    'object': ('properties', 'required', 'additionalProperties', 'minProperties', 'maxProperties'),
    'array': ('items', 'prefixItems', 'minItems', 'maxItems', 'uniqueItems'),
    'number': ('minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum', 'multipleOf'),
}


def _implied(schema: JSON) -> list[str]:
    implied = [kind for kind, keywords in _KEYWORDS.items() if any(key in schema for key in keywords)]
    return [*implied, 'string', 'number', 'boolean', 'array', 'object', 'null']


def _height(schema: JSON) -> int:
    """How much a schema may lead further down: the flattest alternative ends a recursion."""
    if 'const' in schema or 'enum' in schema:
        return 0
    deepest = {'array': 2, 'object': 3}
    return min((deepest.get(kind, 1 if kind != 'null' else 0) for kind in _kinds(schema)), default=1)


def _sized(text: str, low: int, high: int | None) -> str:
    """Cut at a word when too long, said again when too short."""
    while len(text) < low:
        text = f'{text} {text}' if text else 'x' * low
    if high is None or len(text) <= high:
        return text
    cut = text[:high].rsplit(' ', 1)[0].rstrip(' ,;:') if ' ' in text[:high] else text[:high]
    return cut if len(cut) >= max(low, 1) else text[:high]


def _bounds(schema: JSON) -> tuple[float | None, float | None]:
    """The closed range in which to look; open ends are met by the candidates between."""
    lows = [schema[key] for key in ('minimum', 'exclusiveMinimum') if _is_number(schema.get(key))]
    highs = [schema[key] for key in ('maximum', 'exclusiveMaximum') if _is_number(schema.get(key))]
    return max(lows, default=None), min(highs, default=None)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _inside(value: float, low: float | None, high: float | None) -> float:
    if low is not None and value < low:
        value = low
    return high if high is not None and value > high else value


def _between(low: float | None, high: float | None, index: int) -> Iterator[float]:
    """Numbers inside an open range, another one for each index."""
    if low is not None and high is not None:
        yield from ((low + high) / 2, low + (high - low) / (index + 2))
    if low is not None:
        yield low + 1 + index
    if high is not None:
        yield high - 1 - index
    yield from (index, float(low or 0) + index / 7 + 0.5)


def _steps(value: float, step: float, *, whole: bool) -> Iterator[float]:
    """Multiples of `step` near `value`, the nearest first; whole numbers only where those are wanted."""
    if not step:
        return
    near = _floor(value, step)
    for distance in range(MAX_TRIES // 2):
        for count in dict.fromkeys((near + distance, near + 1 + distance, near - distance)):
            candidate = count * step
            if is_multiple(candidate, step) and (not whole or float(candidate).is_integer()):
                yield int(candidate) if whole else candidate


def _floor(value: float, step: float) -> int:
    if isinstance(value, int) and isinstance(step, int):
        return value // step
    return math.floor(value / step)
