"""Answers by rule, drawn from the prompt and nothing else."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella.simulator.brain import NOTE, TOOL_NOTE, answer
from lamella.simulator.tokens import count_text
from lamella.types import (
    GenerationConfig,
    MediaPart,
    Message,
    ModelRequest,
    OutputSpec,
    ToolRequest,
    ToolRequestPart,
    ToolResponse,
)

STORY = """Summarise this in two sentences:

Bees make honey from nectar. The weather was fine. Honey keeps for years because bees dry it.
A museum showed honey from an old tomb. It rained later."""


def ask(*messages: Message | str, **fields: object) -> ModelRequest:
    return ModelRequest(tuple(Message.user(m) if isinstance(m, str) else m for m in messages), **fields)  # type: ignore[arg-type]


def test_prose_begins_with_who_speaks_and_quotes_the_prompt() -> None:
    text = answer(ask(STORY)).text
    assert text.startswith(NOTE)
    quoted = text.removeprefix(NOTE).strip()
    assert quoted == 'Bees make honey from nectar. Honey keeps for years because bees dry it.'


@given(
    st.lists(st.sampled_from(['Bees fly.', 'What is it?', 'Rain fell on us.', '漢字。', 'List it:', '-']), max_size=6)
)
def test_nothing_is_said_that_was_not_in_the_prompt(lines: list[str]) -> None:
    text = answer(ask('\n'.join(lines))).text.removeprefix(NOTE).strip()
    assert text == 'The prompt is empty.' or all(word in ' '.join(lines) for word in text.split())


def test_the_same_request_has_the_same_answer() -> None:
    assert answer(ask(STORY)) == answer(ask(STORY))


def test_a_short_prompt_is_quoted_whole() -> None:
    assert answer(ask('hi')).text == f'{NOTE} hi'


@pytest.mark.parametrize('messages', [(), ('',), (Message.system('Be nice.'),)])
def test_an_empty_prompt_has_an_answer_too(messages: tuple[Message | str, ...]) -> None:
    assert answer(ask(*messages)).text.startswith(NOTE)


def test_a_question_is_answered_from_what_was_said_before() -> None:
    text = answer(ask('Rain fell on Monday. Bees fly.', Message.assistant('Noted.'), 'What happened on Monday?')).text
    assert 'Rain fell on Monday.' in text


def test_media_is_not_claimed_to_have_been_seen() -> None:
    picture = Message.user('Describe it.', MediaPart(url='https://example.com/a.png'))
    assert '1 media part not looked at' in answer(ask(picture)).text


def test_the_token_limit_cuts_and_says_so() -> None:
    response = answer(ask(STORY, config=GenerationConfig(max_output_tokens=9)))
    assert response.finish_reason == 'length'
    assert count_text(response.text) <= 9
    assert response.usage is not None
    assert response.usage.output_tokens == count_text(response.text)


def test_a_stop_sequence_ends_the_text_before_it() -> None:
    response = answer(ask(STORY, config=GenerationConfig(stop_sequences=('nectar', 'years'))))
    assert response.text.endswith('Bees make honey from ')
    assert response.finish_reason == 'stop'


def test_a_schema_is_filled_and_only_json_is_said() -> None:
    schema = {'type': 'object', 'properties': {'summary': {'type': 'string'}}, 'required': ['summary']}
    response = answer(ask(STORY, output=OutputSpec('json', schema)))
    assert json.loads(response.text)['summary'] in STORY


def test_json_without_a_schema_is_an_object() -> None:
    assert isinstance(json.loads(answer(ask(STORY, output=OutputSpec('json'))).text), dict)


def test_a_schema_that_is_asked_for_in_words_is_filled_too() -> None:
    schema = '{"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}'
    response = answer(ask(f'Write JSON for this schema: {schema} We met Jane Doe.'))
    assert json.loads(response.text) == {'name': 'Jane Doe'}
    in_system = ask(Message.system(f'Answer in JSON, by this schema:\n{schema}'), 'We met Jane Doe.')
    assert json.loads(answer(in_system).text) == {'name': 'Jane Doe'}


@pytest.mark.parametrize('text', ['JSON {"a": 1} is nice.', 'JSON {', 'JSON ' + '{' * 5000, 'JSON {"type": "object"}'])
def test_json_that_is_no_schema_is_just_text(text: str) -> None:
    assert answer(ask(text)).text.startswith(NOTE)


def test_tool_results_are_cited_with_their_names_and_failures() -> None:
    calls = [ToolRequestPart(ToolRequest('sun', {}, 'a')), ToolRequestPart(ToolRequest('rain', {}, 'b'))]
    results = Message.tool(ToolResponse('sun', {'hours': 9}, 'a'), ToolResponse('', 'no sensor', 'b', is_error=True))
    response = answer(ask('Sun and rain?', Message.assistant(*calls), results))
    assert response.text == f'{TOOL_NOTE} sun answered: {{"hours":9}} rain failed: no sensor'


def test_a_long_tool_result_is_shortened() -> None:
    response = answer(ask('x', Message.tool(ToolResponse('big', 'y' * 10_000, 'a'))))
    assert len(response.text) < 600
