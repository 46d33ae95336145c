"""Structured output: what is asked, what may be made of the answer, and what never is."""

import dataclasses
import json
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, TypeAdapter
from typing_extensions import TypedDict

from lamella import Lamella, wrap_language_model
from lamella.core.model import ModelInfo
from lamella.middleware import BaseMiddleware
from lamella.testing import FakeClock, ScriptedModel
from lamella.types import ConfigError, Finished, OutputError, ReasoningDelta, TextDelta, ToolRequest, Usage
from tests.engine.kit import app, both, read, scripted
from tests.engine.strategies import echo


class Summary(BaseModel):
    bullets: list[str]
    sentiment: Literal['good', 'bad']
    confidence: Annotated[float, Field(ge=0, le=1)] = 0.5


class Place(TypedDict):
    city: str


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


GOOD: list[tuple[Any, str, Any]] = [
    (Summary, '{"bullets": ["a"], "sentiment": "good"}', Summary(bullets=['a'], sentiment='good')),
    (list[int], '[1, 2, 3]', [1, 2, 3]),
    (Literal['yes', 'no'], '"yes"', 'yes'),
    (Place, '{"city": "Rome"}', {'city': 'Rome'}),
    (Point, '{"x": 1}', Point(1)),
    (int, '42', 42),
    (dict[str, float], '{"a": 1.5}', {'a': 1.5}),
    (int | None, 'null', None),
    (Annotated[int, Field(gt=3)], '4', 4),
    (TypeAdapter(list[Summary]), '[]', []),
    ({'type': 'object', 'properties': {'a': {'type': 'integer'}}}, '{"a": 1}', {'a': 1}),
    ({'type': 'string', 'title': 'My words / ü'}, '"x"', 'x'),
]


@pytest.mark.parametrize(('schema', 'text', 'wanted'), GOOD, ids=lambda value: str(value)[:40])
async def test_the_answer_becomes_the_value_that_the_schema_describes(schema, text, wanted) -> None:
    response = await both(lambda: app(text), prompt='x', output_schema=schema)
    assert response.output == wanted
    assert type(response.output) is type(wanted)
    assert response.text == text


@pytest.mark.parametrize(
    'text',
    [
        '```json\n[1]\n```', '```\n[1]\n```', '  ```JSON\n[1]\n```  \n', '\n[1]\n', '```json\n[1]```',
    ],
    ids=repr,
)  # fmt: skip
async def test_a_code_fence_around_the_answer_is_taken_off(text) -> None:
    response = await both(lambda: app(text), prompt='x', output_schema=list[int])
    assert response.output == [1]


async def test_a_fence_inside_a_string_stays() -> None:
    text = json.dumps({'city': '```json\n[1]\n```'})
    assert (await app(text).generate(prompt='x', output_schema=Place)).output == {'city': '```json\n[1]\n```'}


async def fails(*answer: Any, schema: Any = Summary, **options: Any) -> OutputError:
    """Both doors refuse in the same words; the whole answer is with the error."""
    with pytest.raises(OutputError) as whole:
        await app(*answer).generate(prompt='x', output_schema=schema, **options)
    with pytest.raises(OutputError) as streamed:
        await read(app(*answer), prompt='x', output_schema=schema, **options)
    assert str(whole.value) == str(streamed.value)
    assert whole.value.partial.text == streamed.value.partial.text
    assert whole.value.status == 'DATA_LOSS'
    return whole.value


@pytest.mark.parametrize('text', ['{"bullets": [], "sentiment": "good"}', '{"bullets": ["a'], ids=['whole', 'cut'])
async def test_a_truncated_answer_is_never_parsed_even_when_it_would_fit(text) -> None:
    error = await fails([TextDelta(text), Finished('length')])
    assert 'cut off' in str(error)
    assert 'max_output_tokens' in str(error)
    assert error.partial.text == text


async def test_a_blocked_answer_is_a_refusal_with_its_reason() -> None:
    error = await fails([TextDelta('{}'), Finished('blocked', finish_message='not allowed')])
    assert 'refused to answer: not allowed' in str(error)


@pytest.mark.parametrize('text', ['', 'hello', '{"bullets": [', "{'bullets': []}", '{} {}', '\ud800'], ids=repr)
async def test_what_is_no_json_says_so(text) -> None:
    error = await fails(text, schema={'type': 'object'})
    assert 'not JSON' in str(error)


async def test_a_wrong_shape_names_every_problem_and_value() -> None:
    error = await fails('{"bullets": "none", "sentiment": "meh", "confidence": 7}')
    for place in ('bullets', 'sentiment', 'confidence', 'meh', '7'):
        assert place in str(error)


async def test_reasoning_is_no_part_of_the_value() -> None:
    def build() -> Lamella:
        return app([ReasoningDelta('hm {'), TextDelta('[1', 1), TextDelta(']', 1)])

    assert (await both(build, prompt='x', output_schema=list[int])).output == [1]


async def test_any_json_is_taken_without_a_schema() -> None:
    response = await both(lambda: app('{"a": [1, null]}'), prompt='x', output_format='json')
    assert response.output == {'a': [1, None]}


async def test_without_schema_or_format_there_is_no_output() -> None:
    assert (await both(lambda: app('{"a": 1}'), prompt='x')).output is None
    assert (await both(lambda: app('{"a": 1}'), prompt='x', output_format='text')).output is None


async def test_only_the_last_turn_is_read() -> None:
    response = await both(
        lambda: app([TextDelta('no json'), ToolRequest('echo', {'text': 'x'}, 'r')], '[1]'),
        prompt='x', tools=[echo], output_schema=list[int],
    )  # fmt: skip
    assert response.output == [1]


async def test_a_run_that_stops_early_has_no_output_and_no_error() -> None:
    response = await both(
        lambda: app(ToolRequest('echo', {'text': 'x'}, 'r')),
        prompt='x',
        tools=[echo],
        output_schema=list[int],
        max_turns=1,
    )
    assert (response.output, response.stop_reason) == (None, 'max_turns')


async def test_a_model_with_structured_output_of_its_own_gets_the_schema_and_no_words() -> None:
    ai = app('{"bullets": [], "sentiment": "good"}')
    await ai.generate(prompt='x', output_schema=Summary)
    request = scripted(ai).requests[0]
    assert request.output.schema == Summary.model_json_schema()
    assert (request.output.format, request.output.name) == ('json', 'Summary')
    assert [message.role for message in request.messages] == ['user']


@pytest.mark.parametrize('system', [None, 'be brief'])
async def test_a_model_without_it_is_asked_in_words(system) -> None:
    model = ScriptedModel(['{"bullets": [], "sentiment": "good"}'], info=ModelInfo())
    ai = Lamella(model=model, clock=FakeClock())
    response = await ai.generate(prompt='x {{y}}', system=system, output_schema=Summary)
    request = model.requests[0]
    assert [message.role for message in request.messages] == ['system', 'user']
    schema = request.messages[0].text.partition('JSON Schema:\n')[2]
    assert json.loads(schema) == Summary.model_json_schema()
    assert request.messages[0].text.startswith(system or 'Answer with one JSON value')
    assert request.messages[1].text == 'x {{y}}'
    assert response.output == Summary(bullets=[], sentiment='good')


async def test_the_instructions_are_not_said_twice_over_turns() -> None:
    model = ScriptedModel([ToolRequest('echo', {'text': 'x'}, 'r'), '[1]'], info=ModelInfo())
    await Lamella(model=model).generate(prompt='x', tools=[echo], output_schema=list[int])
    assert [message.role for message in model.requests[1].messages] == ['system', 'user', 'assistant', 'tool']


async def test_going_on_with_the_messages_of_an_answer_says_the_instructions_once() -> None:
    model = ScriptedModel(['[1]', '[2]'], info=ModelInfo())
    ai = Lamella(model=model)
    response = await ai.generate(prompt='x', output_schema=list[int])
    await ai.generate(prompt='y', messages=response.messages, output_schema=list[int])
    assert [message.role for message in response.messages] == ['user', 'assistant']
    system = [message for message in model.requests[1].messages if message.role == 'system']
    assert len(system) == 1
    assert system[0].text.count('Answer with one JSON value') == 1


async def test_a_layer_that_asks_another_model_has_it_asked_in_its_own_way() -> None:
    other = ScriptedModel(['[1]'], name='other/one', info=ModelInfo(), repeat=True)

    class Redirects(BaseMiddleware):
        async def wrap_model(self, params, ctx, next_fn):
            return await next_fn(params.replace(model=wrap_language_model(model=other, middleware=[])), ctx)

    response = await both(lambda: app('never'), prompt='x', output_schema=list[int], use=[Redirects()])
    assert response.output == [1]
    assert [message.text.count('Answer with one JSON value') for message in other.requests[0].messages] == [1, 0]


@pytest.mark.parametrize(
    'schema', ['Summary', 5, [Summary], Summary(bullets=[], sentiment='good'), object(), lambda: 1], ids=repr
)
async def test_what_is_no_schema_is_refused_before_the_call(schema) -> None:
    with pytest.raises(ConfigError, match='output_schema'):
        await app('never').generate(prompt='x', output_schema=schema)


async def test_a_schema_of_a_type_that_has_none_is_refused_by_name() -> None:
    class Plain:
        pass

    with pytest.raises(ConfigError, match='Plain'):
        await app('never').generate(prompt='x', output_schema=Plain)


async def test_a_schema_with_the_format_text_is_a_contradiction() -> None:
    with pytest.raises(ConfigError, match='output_format'):
        await app('never').generate(prompt='x', output_schema=Summary, output_format='text')


async def test_the_usage_of_an_answer_that_does_not_fit_is_not_lost() -> None:
    error = await fails([TextDelta('no'), Finished('stop', Usage(1, 2, 3))])
    assert error.partial.usage == Usage(1, 2, 3)
