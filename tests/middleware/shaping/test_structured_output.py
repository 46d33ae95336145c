"""`StructuredOutput`: an answer that fits, or an error; every attempt paid, none shown."""

import asyncio
from typing import Any

import pytest
from pydantic import BaseModel, Field, TypeAdapter

from lamella import Lamella, ModelResponse, Usage
from lamella.middleware import Retry, StructuredOutput
from lamella.testing import CollectingSink, ScriptedModel
from lamella.types import ConfigError, Finished, OutputError, TextDelta, ToolRequest
from tests.middleware.kit import down, world


class Weather(BaseModel):
    city: str
    degrees: int = Field(ge=-90, le=60)


GOOD = '{"city": "Rome", "degrees": 20}'
SCHEMA = Weather.model_json_schema()
both = pytest.mark.parametrize('streamed', [False, True])


def answer(text: str, usage: Usage | None = None) -> list[Any]:
    return [TextDelta(text[:3]), TextDelta(text[3:]), Finished('stop', usage)]


async def asked(
    layer: Any, *answers: Any, streamed: bool = False, **options: Any
) -> tuple[Any, ScriptedModel, CollectingSink]:
    """The response (or the error), the model and what was told."""
    model, sink = ScriptedModel(list(answers)), CollectingSink()
    ai = Lamella(model=model, sinks=[sink])
    call = (
        ai.generate_stream(prompt='x', use=[layer], **options).response
        if streamed
        else ai.generate(prompt='x', use=[layer], **options)
    )
    try:
        return await call, model, sink
    except OutputError as error:
        return error, model, sink


@both
@pytest.mark.parametrize('schema', [Weather, TypeAdapter(Weather), SCHEMA], ids=['model', 'adapter', 'dict'])
async def test_what_does_not_fit_is_sent_back_with_what_is_wrong(schema: Any, streamed: bool) -> None:
    wrong = '{"city": "Rome", "degrees": 200}'
    response, model, sink = await asked(StructuredOutput(schema=schema), answer(wrong), answer(GOOD), streamed=streamed)
    assert response.text == GOOD
    assert response.metadata['structured_output'] == {'repairs': 1}
    assert [message.role for message in model.requests[1].messages] == ['user', 'assistant', 'user']
    assert model.requests[1].messages[1].text == wrong
    assert 'degrees' in model.requests[1].messages[2].text
    assert 'degrees' in sink.named('structured_output.repair')[0].facts['problems'][0]
    assert [message.role for message in response.messages] == ['user', 'assistant']


@both
async def test_a_reader_never_sees_an_answer_that_does_not_fit(streamed: bool) -> None:
    stream = Lamella(model=ScriptedModel([answer('no json'), answer(GOOD)])).generate_stream(
        prompt='x', use=[StructuredOutput(schema=Weather)]
    )
    assert ''.join([text async for text in stream.text_stream]) == GOOD


@both
async def test_the_usage_of_every_attempt_is_counted(streamed: bool) -> None:
    response, _, _ = await asked(
        StructuredOutput(schema=Weather),
        answer('{}', Usage(1, 2, 3)),
        answer(GOOD, Usage(10, 20, 30)),
        streamed=streamed,
    )
    assert response.usage == Usage(11, 22, 33)


@both
async def test_the_last_answer_that_does_not_fit_is_an_error_with_all_that_was_paid(streamed: bool) -> None:
    wrong = [answer('{"city": 3}', Usage(1, 1, 2)) for _ in range(3)]
    error, model, _ = await asked(StructuredOutput(schema=Weather, max_repairs=2), *wrong, streamed=streamed)
    assert isinstance(error, OutputError)
    assert 'after 2 repairs' in error.message
    assert 'city' in error.message
    assert error.partial.usage == Usage(3, 3, 6)
    assert len(model.requests) == 3
    error, model, _ = await asked(StructuredOutput(schema=Weather, max_repairs=0), answer('{}'), streamed=streamed)
    assert (isinstance(error, OutputError), len(model.requests)) == (True, 1)


@both
@pytest.mark.parametrize('reason', ['length', 'blocked'])
async def test_what_repairing_cannot_help_is_an_error_at_once(streamed: bool, reason: str) -> None:
    error, model, _ = await asked(
        StructuredOutput(schema=Weather), [TextDelta(GOOD), Finished(reason)], streamed=streamed
    )
    assert isinstance(error, OutputError)
    assert len(model.requests) == 1
    assert error.partial.text == GOOD


async def test_a_fence_is_taken_off() -> None:
    response, _, _ = await asked(StructuredOutput(schema=Weather), answer(f'```json\n{GOOD}\n```'))
    assert response.text == GOOD
    assert 'structured_output' not in response.metadata


async def test_tool_rounds_pass_and_the_final_answer_is_held_to_the_schema() -> None:
    def look(city: str) -> int:
        return 20

    response, model, _ = await asked(
        StructuredOutput(schema=Weather),
        ToolRequest('look', {'city': 'Rome'}, 'c1'),
        answer('warm'),
        answer(GOOD),
        tools=[look],
    )
    assert response.text == GOOD
    assert [request.output is not None for request in model.requests] == [True, True, True]


@both
async def test_without_a_schema_it_repairs_towards_the_calls_own(streamed: bool) -> None:
    response, _, _ = await asked(
        StructuredOutput(), answer('{"city": "Rome"}'), answer(GOOD), streamed=streamed, output_schema=Weather
    )
    assert response.output == Weather(city='Rome', degrees=20)
    response, model, _ = await asked(StructuredOutput(), answer('no json'), streamed=streamed)
    assert (response.text, len(model.requests)) == ('no json', 1)
    response, _, _ = await asked(
        StructuredOutput(), answer('no json'), answer('[1]'), streamed=streamed, output_format='json'
    )
    assert response.output == [1]


async def test_retries_inside_and_outside_keep_to_the_contract() -> None:
    for use in (
        [Retry(initial_delay_ms=0), StructuredOutput(schema=Weather)],
        [StructuredOutput(schema=Weather), Retry(initial_delay_ms=0)],
    ):
        app = world({'v/a': [down(), answer('{}'), answer(GOOD)]})
        response = await app.ai.generate(prompt='x', use=use)
        assert (response.text, len(app.models['v/a'].requests)) == (GOOD, 3)


async def test_one_instance_serves_calls_at_once() -> None:
    layer = StructuredOutput(schema=Weather)
    results = await asyncio.gather(*[asked(layer, answer('{}'), answer(GOOD)) for _ in range(10)])
    assert [response.text for response, _, _ in results] == [GOOD] * 10


@pytest.mark.parametrize('text', ['[' * 100_000, '{"city": "\\ud800", "degrees": NaN}', '', 'null', '1' * 5000])
async def test_hostile_answers_are_no_json_and_no_crash(text: str) -> None:
    error, _, _ = await asked(StructuredOutput(schema=Weather, max_repairs=0), ModelResponse.text_of(text))
    assert isinstance(error, OutputError)


@pytest.mark.parametrize(
    ('options', 'problem'),
    [
        ({'schema': 'Weather'}, 'schema: .*give a type'),
        ({'schema': {'type': 'objekt'}}, 'is no JSON Schema'),
        ({'schema': Weather, 'max_repairs': -1}, 'max_repairs'),
        ({'shema': Weather}, "unknown setting 'shema': did you mean 'schema'"),
    ],
)
def test_wrong_settings_are_found_when_it_is_built(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        StructuredOutput(**options)


def test_without_the_package_the_error_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> Any:
        raise ModuleNotFoundError(name='jsonschema')

    monkeypatch.setattr('importlib.import_module', absent)
    StructuredOutput(schema=Weather)
    with pytest.raises(ConfigError, match=r"pip install 'lamella\[schema\]'"):
        StructuredOutput(schema=SCHEMA)
