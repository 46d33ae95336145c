"""Tools from functions of every shape, and what is refused."""

import functools
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, Literal, Optional

import jsonschema
import pytest
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from lamella import Lamella, Tool, ToolContext, ToolError
from lamella.core.context import GenerateMiddlewareContext
from lamella.core.tools import tool_of
from lamella.types import ConfigError

CTX = ToolContext(None, 'r1')


class Trip(BaseModel):
    """A trip."""

    city: str
    days: int = 3


class Colour(Enum):
    """A colour."""

    RED = 'red'
    BLUE = 'blue'


class Place(TypedDict):
    city: str


@dataclass
class Point:
    x: int
    y: int = 0


def properties(tool: Tool) -> dict[str, Any]:
    jsonschema.Draft202012Validator.check_schema(tool.input_schema)
    assert tool.input_schema['type'] == 'object'
    return tool.input_schema['properties']


def test_name_description_and_schema_come_from_the_function() -> None:
    def get_weather(city: str, days: int) -> str:
        """Tell the weather.

        For some days.
        """
        return city * days

    tool = tool_of(get_weather)
    assert (tool.name, tool.description) == ('get_weather', 'Tell the weather.\n\nFor some days.')
    assert properties(tool)['city']['type'] == 'string'
    assert tool.input_schema['required'] == ['city', 'days']
    assert tool.input_schema['additionalProperties'] is False
    assert 'title' not in tool.input_schema


async def test_defaults_are_optional_and_are_the_functions_own() -> None:
    def book(city: str, days: int = 3, tags: list[str] = ['x'], *, cheap: bool = False) -> Any:  # noqa: B006
        return city, days, tags, cheap

    tool = tool_of(book)
    assert tool.input_schema['required'] == ['city']
    assert properties(tool)['days']['default'] == 3
    assert properties(tool)['cheap']['default'] is False
    assert await tool.execute({'city': 'Rome'}, CTX) == ['Rome', 3, ['x'], False]
    assert await tool.execute({'city': 'Rome', 'cheap': True, 'days': 1}, CTX) == ['Rome', 1, ['x'], True]


SHAPES: list[tuple[Any, Any, Any]] = [
    (int, 3, 3),
    (Optional[int], None, None),  # noqa: UP045
    (int | None, 4, 4),
    (str | int, 'x', 'x'),
    (list[str], ['a'], ['a']),
    (dict[str, int], {'a': 1}, {'a': 1}),
    (tuple[int, str], [1, 'a'], [1, 'a']),
    (Literal['a', 'b'], 'a', 'a'),
    (Annotated[int, Field(ge=1, description='how many')], 2, 2),
    (Colour, 'red', 'red'),
    (Place, {'city': 'Rome'}, {'city': 'Rome'}),
    (Point, {'x': 1}, {'x': 1, 'y': 0}),
    (list[Trip], [{'city': 'x'}], [{'city': 'x', 'days': 3}]),
    (Trip | None, {'city': 'x'}, {'city': 'x', 'days': 3}),
    (Any, {'free': [1]}, {'free': [1]}),
    (float, 1, 1.0),
    (bytes, 'abc', 'abc'),
]


@pytest.mark.parametrize(('hint', 'given', 'wanted'), SHAPES, ids=lambda value: str(value)[:40])
async def test_every_hint_that_pydantic_knows_is_checked_and_given_as_its_type(hint, given, wanted) -> None:
    async def takes(value, other=None):
        return value

    takes.__annotations__ = {'value': hint}
    tool = tool_of(takes)
    assert set(properties(tool)) == {'value', 'other'}
    assert await tool.execute({'value': given}, CTX) == wanted


def test_the_description_of_a_parameter_is_told() -> None:
    def f(n: Annotated[int, Field(ge=1, description='how many')] = 1) -> int:
        return n

    assert properties(tool_of(f))['n'] == {
        'type': 'integer', 'minimum': 1, 'description': 'how many', 'default': 1, 'title': 'N',
    }  # fmt: skip


async def test_a_single_pydantic_parameter_is_the_input_itself() -> None:
    async def book(trip: Trip) -> Any:
        assert isinstance(trip, Trip)
        return trip

    tool = tool_of(book)
    assert tool.input_schema == Trip.model_json_schema()
    assert await tool.execute({'city': 'Rome'}, CTX) == {'city': 'Rome', 'days': 3}
    with pytest.raises(ToolError, match='city'):
        await tool.execute({}, CTX)


async def test_a_single_pydantic_parameter_beside_the_context_is_the_input_too() -> None:
    async def book(trip: Trip, ctx: ToolContext) -> Any:
        return trip.city, ctx.ref

    assert await tool_of(book).execute({'city': 'Rome'}, CTX) == ['Rome', 'r1']


async def test_a_pydantic_parameter_beside_others_is_a_property() -> None:
    async def book(trip: Trip, nights: int) -> Any:
        return trip.city, nights

    tool = tool_of(book)
    assert set(properties(tool)) == {'trip', 'nights'}
    assert await tool.execute({'trip': {'city': 'Rome'}, 'nights': 2}, CTX) == ['Rome', 2]


async def test_the_context_is_no_part_of_the_input_wherever_it_stands() -> None:
    async def first(ctx: ToolContext, text: str) -> Any:
        return text, ctx.ref

    async def keyword(text: str, *, ctx: Any = None) -> Any:
        return text, ctx.ref

    async def alone(ctx) -> Any:
        return ctx.ref

    for function in (first, keyword):
        assert set(properties(tool_of(function))) == {'text'}
        assert await tool_of(function).execute({'text': 'x'}, CTX) == ['x', 'r1']
    assert properties(tool_of(alone)) == {}
    assert await tool_of(alone).execute(None, CTX) == 'r1'


class Shop:
    """Has methods of every kind."""

    def method(self, item: str) -> str:
        return f'{item}!'

    @classmethod
    def of_class(cls, item: str) -> str:
        return f'{cls.__name__} {item}'

    @staticmethod
    def static(item: str) -> str:
        return item

    def __call__(self, item: str) -> str:
        """Sell it."""
        return f'sold {item}'


class AsyncShop:
    """Is called and awaited."""

    async def __call__(self, item: str) -> str:
        return f'sold {item}'


@pytest.mark.parametrize(
    ('function', 'name', 'wanted'),
    [
        (Shop().method, 'method', 'x!'),
        (Shop.of_class, 'of_class', 'Shop x'),
        (Shop.static, 'static', 'x'),
        (Shop(), 'Shop', 'sold x'),
        (AsyncShop(), 'AsyncShop', 'sold x'),
        (functools.partial(Shop().method), None, 'x!'),
        (lambda item: item, None, 'x'),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_methods_callables_partials_and_lambdas_are_tools(function, name, wanted) -> None:
    tool = tool_of(function, name or 'given')
    assert set(properties(tool)) == {'item'}
    assert await tool.execute({'item': 'x'}, CTX) == wanted


async def test_a_partial_hides_what_it_has_fixed() -> None:
    def pay(account: str, amount: int) -> str:
        """Pay."""
        return f'{account} {amount}'

    tool = tool_of(functools.partial(pay, 'ann'), 'pay')
    assert set(properties(tool)) == {'amount'}
    assert properties(tool)['amount']['type'] == 'integer'
    assert await tool.execute({'amount': 3}, CTX) == 'ann 3'


async def test_a_partial_of_a_keyword_cannot_be_overruled_by_the_model() -> None:
    def pay(account: str, amount: int) -> str:
        return f'{account} {amount}'

    tool = tool_of(functools.partial(pay, account='ann'), 'pay')
    with pytest.raises(ToolError):
        await tool.execute({'amount': 3, 'account': 'eve'}, CTX)
    assert await tool.execute({'amount': 3}, CTX) == 'ann 3'


async def test_a_decorated_function_is_judged_by_what_it_wraps() -> None:
    def logged(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            return await function(*args, **kwargs)

        return wrapper

    @logged
    async def add(a: int, b: int = 1) -> int:
        return a + b

    tool = tool_of(add)
    assert set(properties(tool)) == {'a', 'b'}
    assert await tool.execute({'a': 1}, CTX) == 2


async def test_names_that_clash_with_pydantic_are_names_like_any_other() -> None:
    def odd(model_config: str, schema: str, copy: str, json: str, _private: str = 'p', self: str = 's') -> Any:
        return [model_config, schema, copy, json, _private, self]

    tool = tool_of(odd)
    given = {'model_config': 'a', 'schema': 'b', 'copy': 'c', 'json': 'd'}
    assert await tool.execute(given, CTX) == ['a', 'b', 'c', 'd', 'p', 's']


async def test_hints_in_quotes_are_read() -> None:
    def late(value: 'Trip', other: 'int' = 1) -> Any:
        return value.city

    assert await tool_of(late).execute({'value': {'city': 'Rome'}}, CTX) == 'Rome'


def refused(function: Any, *pattern: str) -> None:
    with pytest.raises(ConfigError) as caught:
        tool_of(function)
    for piece in pattern:
        assert piece in str(caught.value)


def test_what_a_model_cannot_name_is_refused() -> None:
    def stars(*things: int) -> None: ...
    def many(**things: int) -> None: ...
    def positional(a: int, /) -> None: ...

    refused(stars, "tool 'stars'", '*things')
    refused(many, "tool 'many'", '**things')
    refused(positional, "tool 'positional'", 'a')


def test_hints_that_cannot_be_used_are_refused_by_name() -> None:
    class Opaque:
        pass

    refused(threading.get_ident, "tool 'get_ident'")

    def unknown(a: 'NoSuchType') -> None: ...  # type: ignore[name-defined]  # noqa: F821
    def opaque(a: Opaque) -> None: ...

    refused(unknown, "tool 'unknown'", 'NoSuchType')
    refused(opaque, "tool 'opaque'", 'Opaque')


@pytest.mark.parametrize('thing', [5, 'name', None, [len]], ids=repr)
def test_what_is_no_function_is_no_tool(thing) -> None:
    refused(thing, type(thing).__name__)


@pytest.mark.parametrize('name', ['', 'a b', 'a/b', 'ü', 'x' * 65, 'a:b', '<lambda>'])
def test_names_that_providers_refuse_are_refused(name) -> None:
    with pytest.raises(ConfigError, match='tool name'):
        Tool(name, run=print)


@pytest.mark.parametrize('name', ['a', 'a-b_c.d', 'A9', 'x' * 64])
def test_other_names_are_taken(name) -> None:
    assert Tool(name, run=print).name == name


def test_a_lambda_without_a_name_says_that_it_needs_one() -> None:
    with pytest.raises(ConfigError, match='<lambda>'):
        tool_of(lambda x: x)


@pytest.mark.parametrize('run', [None, 5, 'print'])
def test_a_tool_needs_a_function_to_run(run) -> None:
    with pytest.raises(ConfigError, match='needs run='):
        Tool('t', run=run)


async def test_a_tool_made_by_hand_gets_its_input_unchecked() -> None:
    tool = Tool('t', 'does it', {'type': 'object'}, lambda value: value)
    assert await tool.execute({'anything': [1]}, CTX) == {'anything': [1]}
    assert await tool.execute(None, CTX) is None
    asks = Tool('t', run=lambda value, ctx: [value, ctx.ref], takes_ctx=True)
    assert await asks.execute({'a': 1}, CTX) == [{'a': 1}, 'r1']


async def test_a_sync_tool_runs_in_another_thread_and_an_async_one_here() -> None:
    here = threading.get_ident()
    assert await tool_of(lambda: threading.get_ident(), 'elsewhere').execute(None, CTX) != here

    async def where() -> int:
        return threading.get_ident()

    assert await tool_of(where).execute(None, CTX) == here


async def test_a_sync_function_that_returns_an_awaitable_is_awaited() -> None:
    async def deep() -> int:
        return 5

    assert await tool_of(lambda: deep(), 'lazy').execute(None, CTX) == 5


async def test_stop_iteration_from_a_sync_tool_is_an_error_and_no_hang() -> None:
    def stops() -> None:
        raise StopIteration

    with pytest.raises(RuntimeError):
        await tool_of(stops).execute(None, CTX)


async def test_every_problem_of_an_input_is_told_at_once() -> None:
    def f(a: int, b: Literal['x'], c: Trip) -> None: ...

    with pytest.raises(ToolError) as caught:
        await tool_of(f).execute({'a': 'many', 'b': 'y', 'c': {'days': 'no'}, 'd': 1}, CTX)
    for place in ('a:', 'b:', 'c.city', 'c.days', 'd:'):
        assert place in str(caught.value)


def test_a_tool_of_a_tool_is_itself() -> None:
    tool = Tool('t', run=print)
    assert tool_of(tool) is tool


def test_the_context_of_a_tool_gives_the_callers_values() -> None:
    run = GenerateMiddlewareContext(Lamella(), context={'tenant': 'acme'})
    assert ToolContext(run).context == {'tenant': 'acme'}
