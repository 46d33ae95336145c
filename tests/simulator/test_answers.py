"""Scripted answers."""

from typing import Any

import pytest

from lamella.simulator.answers import Answer, Reply, scripted
from lamella.simulator.schedule import Moment
from lamella.types import (
    ConfigError,
    GenerationConfig,
    Message,
    ModelRequest,
    ToolRequest,
    ToolRequestPart,
    ToolResponse,
)

ASKED = ModelRequest((Message.user('What is the Weather today?'),))
TOLD = ASKED.replace(
    messages=(
        *ASKED.messages,
        Message.assistant(ToolRequestPart(ToolRequest('get_weather', {}, 'a'))),
        Message.tool(ToolResponse('get_weather', 'sun', 'a')),
    )
)


def said(*answers: Answer, request: ModelRequest = ASKED, number: int = 1, model: str = 'm') -> Reply | None:
    return scripted(answers, request, Moment(model, number))


def text(reply: Reply | None) -> str:
    assert reply is not None
    return reply.response.text


def test_the_first_rule_that_fits_answers_as_it_is_written() -> None:
    rules = (Answer(match='snow', text='a'), Answer(match='weather', text='b'), Answer(text='c'))
    assert text(said(*rules)) == 'b'


def test_rules_choose_by_model_and_by_number() -> None:
    rules = (Answer(model='x*', text='x'), Answer(text='first', times=1), Answer(text='second', after=1, times=1))
    assert text(said(*rules, model='x1')) == 'x'
    assert text(said(*rules)) == 'first'
    assert text(said(*rules, number=2)) == 'second'
    assert said(*rules, number=3) is None


def test_a_tool_is_called_first_and_the_text_finishes_after_its_result() -> None:
    rule = Answer(match='weather', tool='get_weather', input={'city': 'Paris'}, text='It is sunny.')
    called = said(rule)
    assert called is not None
    assert [part.tool_request.input for part in called.response.tool_requests] == [{'city': 'Paris'}]
    assert called.response.finish_reason == 'tool_calls'
    assert text(said(rule, request=TOLD)) == 'It is sunny.'


def test_a_tool_without_a_text_leaves_the_end_to_others() -> None:
    assert said(Answer(tool='get_weather'), request=TOLD) is None


def test_several_calls_have_ids_of_their_own() -> None:
    reply = said(Answer(tools=[{'name': 'a'}, {'name': 'a', 'input': {'n': 1}}]))
    assert reply is not None
    requests = [part.tool_request for part in reply.response.tool_requests]
    assert [request.input for request in requests] == [{}, {'n': 1}]
    assert len({request.ref for request in requests}) == 2


def test_any_value_is_said_as_json() -> None:
    assert text(said(Answer(json={'a': [1, None]}))) == '{"a":[1,null]}'
    assert text(said(Answer(json=None))) == 'null'


def test_told_pieces_are_kept_and_stops_and_limits_still_hold() -> None:
    rule = Answer(text=['one two ', 'three'])
    whole = said(rule)
    assert whole is not None
    assert whole.pieces == ('one two ', 'three')
    stopped = said(rule, request=ASKED.replace(config=GenerationConfig(stop_sequences=('two',))))
    assert stopped is not None
    assert (stopped.response.text, stopped.pieces) == ('one ', None)
    short = said(rule, request=ASKED.replace(config=GenerationConfig(max_output_tokens=1)))
    assert short is not None
    assert (short.response.text, short.response.finish_reason) == ('one', 'length')


def test_the_finish_reason_is_reported_as_given() -> None:
    reply = said(Answer(text='no', finish_reason='blocked'))
    assert reply is not None
    assert reply.response.finish_reason == 'blocked'


@pytest.mark.parametrize(
    ('fields', 'problem'),
    [
        ({}, 'say what to answer with text, json, tool or tools'),
        ({'text': 'a', 'json': 1}, 'use either text or json'),
        ({'text': 'a', 'input': {}}, 'input is {}: it needs tool'),
        ({'text': 1}, 'text is 1: give a string, or a list of strings'),
        ({'tools': [{'nam': 'x'}]}, 'give a list of tables, each with a name'),
        ({'text': 'a', 'finish_reason': 'end'}, "finish_reason is 'end'"),
        ({'text': 'a', 'times': 0}, 'times is 0'),
    ],
)
def test_an_answer_that_cannot_work_says_why(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Answer(**fields)
    assert problem in str(caught.value)
