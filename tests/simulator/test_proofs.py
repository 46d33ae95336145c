"""What must come back does come back, or the vendor's own 400 says what is missing."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from lamella.simulator import Simulator
from tests.simulator.chat import Answered, send
from tests.simulator.thinkers import (
    GEMINI,
    MESSAGES,
    OLDER_GEMINI,
    RESPONSES,
    altered,
    claude,
    claude_goes_on,
    gemini,
    gemini_goes_on,
    gpt,
    gpt_goes_on,
)

Change = Callable[[Any], None]
WAYS = {
    'claude': (MESSAGES, claude(), claude_goes_on),
    'claude, enabled': (MESSAGES, claude('enabled'), claude_goes_on),
    'claude, omitted': (MESSAGES, claude(thinking={'type': 'adaptive', 'display': 'omitted'}), claude_goes_on),
    'gpt': (RESPONSES, gpt(), gpt_goes_on),
    'gpt, not stored': (RESPONSES, gpt(store=False), gpt_goes_on),
    'gpt, no content': (RESPONSES, gpt(include=[]), gpt_goes_on),
    'gemini': (GEMINI, gemini(), gemini_goes_on),
    'gemini 2.5': (OLDER_GEMINI, gemini(), gemini_goes_on),
}


async def second(way: str, change: Change = lambda asked: None) -> Answered:
    """The answer to the results of the tool; `change` is what happened to the conversation in between."""
    path, asked, goes_on = WAYS[way]
    async with Simulator() as sim:
        first = await send(sim, asked, path)
        assert first.status == 200
        onward = goes_on(asked, first.json)
        change(onward)
        return await send(sim, onward, path)


@pytest.mark.parametrize('way', WAYS)
async def test_what_comes_back_as_it_was_is_taken(way: str) -> None:
    answered = await second(way)
    assert answered.status == 200
    assert 'get_weather answered: sunny' in answered.raw.decode()


# Anthropic


def lose_thinking(asked: Any) -> None:
    del asked['messages'][1]['content'][0]


def alter_signature(asked: Any) -> None:
    block = asked['messages'][1]['content'][0]
    block['signature'] = altered(block['signature'])


def alter_thought(asked: Any) -> None:
    asked['messages'][1]['content'][0]['thinking'] += ' And I lie.'


def redact(asked: Any) -> None:
    asked['messages'][1]['content'][0] = {'type': 'redacted_thinking', 'data': 'x'}


@pytest.mark.parametrize('way', ['claude', 'claude, enabled', 'claude, omitted'])
@pytest.mark.parametrize(
    ('change', 'said'),
    [
        (lose_thinking, 'messages.1.content.0.type: Expected `thinking` or `redacted_thinking`, but found `tool_use`.'),
        (alter_signature, 'messages.1.content.0: Invalid `signature` in `thinking` block'),
        (alter_thought, 'messages.1.content.0: Invalid `signature` in `thinking` block'),
        (redact, 'messages.1.content.0: Invalid `data` in `redacted_thinking` block'),
    ],
)
async def test_anthropic_refuses_a_turn_without_its_thinking(way: str, change: Change, said: str) -> None:
    refused = await second(way, change)
    assert refused.status == 400
    assert refused.json['error']['type'] == 'invalid_request_error'
    assert refused.json['error']['message'].startswith(said)


async def test_anthropic_does_not_look_when_thinking_is_off() -> None:
    def stop_thinking(asked: Any) -> None:
        lose_thinking(asked)
        del asked['thinking']

    assert (await second('claude', stop_thinking)).status == 200


@pytest.mark.parametrize(('way', 'status'), [('claude', 200), ('claude, enabled', 400)])
async def test_a_turn_that_another_model_began_is_taken_by_adaptive_thinking_alone(way: str, status: int) -> None:
    def of_another(asked: Any) -> None:
        lose_thinking(asked)
        asked['messages'][1]['content'][0]['id'] = 'call_other'
        asked['messages'][2]['content'][0]['tool_use_id'] = 'call_other'

    assert (await second(way, of_another)).status == status


async def test_only_the_beginning_of_a_turn_must_be_thinking() -> None:
    def further_step(asked: Any) -> None:
        call = {'type': 'tool_use', 'id': 'call_other', 'name': 'get_weather', 'input': {'city': 'Rome'}}
        result = {'type': 'tool_result', 'tool_use_id': 'call_other', 'content': 'sunny'}
        asked['messages'] += [{'role': 'assistant', 'content': [call]}, {'role': 'user', 'content': [result]}]

    assert (await second('claude, enabled', further_step)).status == 200


async def test_anthropic_asks_nothing_of_turns_that_are_over() -> None:
    def next_turn(asked: Any) -> None:
        lose_thinking(asked)
        asked['messages'] += [{'role': 'assistant', 'content': 'Sunny.'}, {'role': 'user', 'content': 'Thanks.'}]

    assert (await second('claude, enabled', next_turn)).status == 200


async def test_a_system_message_does_not_shift_the_place_that_is_named() -> None:
    def instructed(asked: Any) -> None:
        lose_thinking(asked)
        asked['system'] = 'Be brief.'

    assert (await second('claude', instructed)).json['error']['message'].startswith('messages.1.content.0.type')


# Gemini


def lose_seal(asked: Any) -> None:
    del asked['contents'][1]['parts'][1]['thoughtSignature']


def alter_seal(asked: Any) -> None:
    part = asked['contents'][1]['parts'][1]
    part['thoughtSignature'] = altered(part['thoughtSignature'])


def lose_thought(asked: Any) -> None:
    del asked['contents'][1]['parts'][0]


def waive(asked: Any) -> None:
    asked['contents'][1]['parts'][1]['thoughtSignature'] = 'skip_thought_signature_validator'


@pytest.mark.parametrize(
    ('way', 'change', 'said'),
    [
        ('gemini', lose_seal, 'Function call is missing a thought_signature in functionCall parts.'),
        ('gemini', alter_seal, 'Corrupted thought signature.'),
        ('gemini 2.5', alter_seal, 'Corrupted thought signature.'),
    ],
)
async def test_gemini_refuses_a_call_without_its_signature(way: str, change: Change, said: str) -> None:
    refused = await second(way, change)
    assert refused.status == 400
    assert refused.json['error']['status'] == 'INVALID_ARGUMENT'
    assert refused.json['error']['message'].startswith(said)


async def test_gemini_names_the_call_and_its_place() -> None:
    message = (await second('gemini', lose_seal)).json['error']['message']
    assert 'function call `default_api:get_weather`, position 2.' in message


@pytest.mark.parametrize(('way', 'change'), [('gemini', lose_thought), ('gemini', waive), ('gemini 2.5', lose_seal)])
async def test_gemini_takes_what_google_takes(way: str, change: Change) -> None:
    assert (await second(way, change)).status == 200


async def test_each_step_of_a_gemini_turn_needs_its_own_signature() -> None:
    forced = gemini(toolConfig={'functionCallingConfig': {'mode': 'ANY'}})
    async with Simulator() as sim:
        asked = forced
        for _ in range(3):
            asked = gemini_goes_on(asked, (await send(sim, asked, GEMINI)).json)
        taken = await send(sim, asked, GEMINI)
        del asked['contents'][3]['parts'][1]['thoughtSignature']
        refused = await send(sim, asked, GEMINI)
    assert taken.status == 200
    assert 'position 4.' in refused.json['error']['message']


# OpenAI Responses


def lose_item(asked: Any) -> None:
    del asked['input'][1]


def alter_content(asked: Any) -> None:
    asked['input'][1]['encrypted_content'] = altered(asked['input'][1]['encrypted_content'])


def lose_content(asked: Any) -> None:
    del asked['input'][1]['encrypted_content']


def lose_item_and_id(asked: Any) -> None:
    lose_item(asked)
    del asked['input'][1]['id']


async def test_responses_refuse_a_call_without_its_reasoning_item() -> None:
    refused = await second('gpt', lose_item)
    assert refused.status == 400
    assert re.fullmatch(
        r"Item 'fc_\w+' of type 'function_call' was provided without its required 'reasoning' item: 'rs_\w+'\.",
        refused.json['error']['message'],
    )
    assert refused.json['error']['param'] == 'input'


async def test_responses_refuse_altered_content() -> None:
    refused = await second('gpt', alter_content)
    assert (refused.status, refused.json['error']['code']) == (400, 'invalid_encrypted_content')


@pytest.mark.parametrize(('way', 'status'), [('gpt', 200), ('gpt, not stored', 404)])
async def test_without_store_a_reasoning_item_is_known_by_its_content(way: str, status: int) -> None:
    assert (await second(way, lose_content)).status == status


async def test_a_call_without_an_id_needs_no_reasoning_item() -> None:
    assert (await second('gpt', lose_item_and_id)).status == 200
