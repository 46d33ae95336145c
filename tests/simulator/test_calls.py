"""Which tools a prompt asks for."""

from typing import Any

import pytest

from lamella.simulator.brain import answer
from lamella.types import (
    GenerationConfig,
    LamellaError,
    Message,
    ModelRequest,
    ToolChoice,
    ToolDefinition,
    ToolRequest,
    ToolRequestPart,
    ToolResponse,
)


def tool(name: str, description: str = '', **fields: str) -> ToolDefinition:
    properties = {field: {'type': kind} for field, kind in fields.items()}
    return ToolDefinition(name, description, {'type': 'object', 'properties': properties, 'required': list(fields)})


TOOLS = (
    tool('get_weather', 'The current weather in a city', city='string'),
    tool('get_time', 'The local time in a city', city='string'),
    tool('read_file', 'Reads a file', path='string'),
    tool('write_file', 'Writes a file', path='string', content='string'),
    tool('list_files', 'Lists a directory', directory='string'),
    tool('transfer', 'Sends money to an account', account='string', amount='number'),
)


def calls(prompt: str, **fields: Any) -> list[tuple[str, Any]]:
    request = ModelRequest((Message.user(prompt),), tools=TOOLS, **fields)
    return [(part.tool_request.name, part.tool_request.input) for part in answer(request).tool_requests]


@pytest.mark.parametrize(
    ('prompt', 'wanted'),
    [
        ('What is the weather in Paris?', [('get_weather', {'city': 'Paris'})]),
        (
            'The weather in Paris, Rome and New York, please.',
            [('get_weather', {'city': city}) for city in ('Paris', 'Rome', 'New York')],
        ),
        (
            'Tell me the weather and the time in Oslo.',
            [('get_weather', {'city': 'Oslo'}), ('get_time', {'city': 'Oslo'})],
        ),
        ('Read the file notes.txt', [('read_file', {'path': 'notes.txt'})]),
        ("Write 'hello' to the file out/a.txt", [('write_file', {'path': 'out/a.txt', 'content': 'hello'})]),
        ('List the files in ~/docs', [('list_files', {'directory': '~/docs'})]),
        ('Transfer 250 euros to account DE-4411', [('transfer', {'account': 'DE-4411', 'amount': 250})]),
        ('Use get_time, city: Lima', [('get_time', {'city': 'Lima'})]),
        ('Sing a song.', []),
    ],
)
def test_a_prompt_calls_the_tools_it_names_with_what_it_says(prompt: str, wanted: list[tuple[str, Any]]) -> None:
    assert calls(prompt) == wanted


def test_none_is_obeyed() -> None:
    assert calls('What is the weather in Paris?', tool_choice=ToolChoice('none')) == []


def test_required_calls_something_even_when_nothing_fits() -> None:
    assert len(calls('Sing a song.', tool_choice=ToolChoice('required'))) == 1


def test_a_named_tool_is_called() -> None:
    assert calls('The weather in Paris', tool_choice=ToolChoice('tool', 'get_time')) == [
        ('get_time', {'city': 'Paris'})
    ]


def test_a_named_tool_that_is_not_offered_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(LamellaError, match="'get_tim', which is not in tools: did you mean 'get_time'"):
        calls('The time?', tool_choice=ToolChoice('tool', 'get_tim'))


ONE_AT_A_TIME = GenerationConfig(parallel_tool_calls=False)


def test_without_parallel_calls_the_next_tool_follows_the_first_result() -> None:
    prompt = 'Tell me the weather and the time in Oslo.'
    assert [name for name, _ in calls(prompt, config=ONE_AT_A_TIME)] == ['get_weather']
    later = ModelRequest(
        (
            Message.user(prompt),
            Message.assistant(ToolRequestPart(ToolRequest('get_weather', {'city': 'Oslo'}, 'a'))),
            Message.tool(ToolResponse('get_weather', 'rain', 'a')),
        ),
        tools=TOOLS,
        config=ONE_AT_A_TIME,
    )
    assert [part.tool_request.name for part in answer(later).tool_requests] == ['get_time']


def test_a_tool_without_a_schema_gets_an_object() -> None:
    request = ModelRequest((Message.user('ping'),), tools=(ToolDefinition('ping'),))
    assert answer(request).tool_requests[0].tool_request.input == {}
