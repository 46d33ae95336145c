"""Thinking over HTTP: who asks for it gets it, in the protocol's own form, whole and streamed."""

from typing import Any

import pytest

from lamella.simulator import Answer, Simulator
from lamella.simulator.seals import opened
from lamella.simulator.thoughts import SELF
from lamella.simulator.tokens import count_text
from tests.simulator.chat import PROMPT, ask, body, send
from tests.simulator.thinkers import (
    GEMINI,
    MESSAGES,
    RESPONSES,
    chunks,
    claude,
    gemini,
    gemini_parts,
    gpt,
)

PICKS = 'I pick the sentences of the prompt that say most.'
CALLS = 'I call get_weather with what the prompt says.'
GEMINI_STREAM = GEMINI.replace('generateContent', 'streamGenerateContent') + '?alt=sse'

# OpenAI Chat


@pytest.mark.parametrize('stream', [False, True])
async def test_openai_chat_counts_the_thought_and_keeps_its_words(stream: bool) -> None:
    async with Simulator() as sim:
        answered = await ask(sim, reasoning_effort='low')
        streamed = await ask(sim, reasoning_effort='low', stream=True, stream_options={'include_usage': True})
    usage = chunks(streamed.events)[-1]['usage'] if stream else answered.json['usage']
    assert usage['completion_tokens_details']['reasoning_tokens'] > 0
    assert (
        usage['completion_tokens'] == count_text(answered.text) + usage['completion_tokens_details']['reasoning_tokens']
    )
    assert b'reasoning_content' not in answered.raw + streamed.raw
    assert SELF.encode() not in answered.raw + streamed.raw


@pytest.mark.parametrize(
    'words',
    [
        {'thinking': {'type': 'enabled'}},
        {'enable_thinking': True},
        {'include_reasoning': True},
        {'reasoning': {'effort': 'high'}},
        {'chat_template_kwargs': {'enable_thinking': True}},
    ],
)
async def test_clients_of_compatible_servers_get_reasoning_content(words: dict[str, Any]) -> None:
    async with Simulator() as sim:
        whole = await ask(sim, **words)
        streamed = await ask(sim, **words, stream=True)
    thought = whole.json['choices'][0]['message']['reasoning_content']
    assert thought.startswith(SELF)
    assert thought.endswith(PICKS)
    assert whole.json['usage']['completion_tokens_details'] == {'reasoning_tokens': count_text(thought)}
    deltas = [chunk['choices'][0]['delta'] for chunk in chunks(streamed.events)]
    told = [delta['reasoning_content'] for delta in deltas if 'reasoning_content' in delta]
    assert ''.join(told) == thought
    assert len(told) > 10
    assert streamed.streamed == whole.text


@pytest.mark.parametrize(
    'words',
    [{}, {'reasoning_effort': 'none'}, {'thinking': {'type': 'disabled'}}, {'enable_thinking': False}],
)
async def test_openai_chat_does_not_think_unasked(words: dict[str, Any]) -> None:
    async with Simulator() as sim:
        answered = await ask(sim, **words)
    assert 'completion_tokens_details' not in answered.json['usage']
    assert 'reasoning_content' not in answered.json['choices'][0]['message']


# OpenAI Responses


async def test_responses_have_a_reasoning_item_with_id_summary_and_content() -> None:
    async with Simulator() as sim:
        answer = (await send(sim, gpt(), RESPONSES)).json
    thought, call = answer['output']
    assert (thought['type'], call['type']) == ('reasoning', 'function_call')
    assert thought['id'] == 'rs_' + answer['id'].removeprefix('resp_')
    [summary] = thought['summary']
    assert summary['text'].endswith(CALLS)
    assert opened(0, thought['encrypted_content']) == summary['text']
    assert answer['usage']['output_tokens_details']['reasoning_tokens'] == count_text(summary['text'])


async def test_responses_stream_the_summary_in_pieces() -> None:
    async with Simulator() as sim:
        whole = (await send(sim, gpt(), RESPONSES)).json
        events = chunks((await send(sim, gpt(stream=True), RESPONSES)).events)
    pieces = [event['delta'] for event in events if event['type'] == 'response.reasoning_summary_text.delta']
    assert ''.join(pieces) == whole['output'][0]['summary'][0]['text']
    assert len(pieces) > 10
    final = events[-1]['response']
    assert final['output'][0]['encrypted_content'] == whole['output'][0]['encrypted_content']
    assert [item['type'] for item in final['output']] == ['reasoning', 'function_call']


@pytest.mark.parametrize('stream', [False, True])
async def test_responses_show_no_more_than_was_asked_for(stream: bool) -> None:
    async with Simulator() as sim:
        answered = await send(sim, gpt(reasoning={'effort': 'low'}, include=[], stream=stream), RESPONSES)
    answer = chunks(answered.events)[-1]['response'] if stream else answered.json
    assert answer['output'][0] == {'id': answer['output'][0]['id'], 'type': 'reasoning', 'summary': []}
    assert answer['usage']['output_tokens_details']['reasoning_tokens'] > 0


@pytest.mark.parametrize('reasoning', [None, {'effort': 'none', 'summary': 'auto'}])
async def test_responses_do_not_think_unasked(reasoning: Any) -> None:
    async with Simulator() as sim:
        answer = (await send(sim, gpt(reasoning=reasoning), RESPONSES)).json
    assert [item['type'] for item in answer['output']] == ['function_call']
    assert answer['usage']['output_tokens_details']['reasoning_tokens'] == 0


async def test_streamed_responses_say_when_they_were_created() -> None:
    async with Simulator() as sim:
        whole = await send(sim, {'model': 'r', 'input': PROMPT}, RESPONSES)
        events = chunks((await send(sim, {'model': 'r', 'input': PROMPT, 'stream': True}, RESPONSES)).events)
    told = {event['response']['created_at'] for event in events if 'response' in event}
    assert whole.json['created_at'] > 1_767_000_000
    assert len(told) == 1
    assert min(told) > 1_767_000_000


# Anthropic


@pytest.mark.parametrize('kind', ['enabled', 'adaptive'])
async def test_anthropic_thinks_before_it_calls(kind: str) -> None:
    async with Simulator() as sim:
        answer = (await send(sim, claude(kind), MESSAGES)).json
    thought, call = answer['content']
    assert (thought['type'], call['type']) == ('thinking', 'tool_use')
    assert thought['thinking'].endswith(CALLS)
    assert opened(0, thought['signature']) == thought['thinking']
    assert answer['usage']['output_tokens_details'] == {'thinking_tokens': count_text(thought['thinking'])}


async def test_anthropic_streams_the_thought_and_then_its_signature() -> None:
    async with Simulator() as sim:
        whole = (await send(sim, claude(), MESSAGES)).json
        events = chunks((await send(sim, claude(stream=True), MESSAGES)).events)
    deltas = [event['delta'] for event in events if event['type'] == 'content_block_delta' and event['index'] == 0]
    assert ''.join(delta['thinking'] for delta in deltas[:-1]) == whole['content'][0]['thinking']
    assert deltas[-1] == {'type': 'signature_delta', 'signature': whole['content'][0]['signature']}
    assert len(deltas) > 10


@pytest.mark.parametrize('stream', [False, True])
async def test_anthropic_may_be_asked_for_the_signature_alone(stream: bool) -> None:
    asked = claude(thinking={'type': 'adaptive', 'display': 'omitted'}, stream=stream)
    async with Simulator() as sim:
        answered = await send(sim, asked, MESSAGES)
    assert SELF.encode() not in answered.raw
    assert b'"signature":"' in answered.raw


@pytest.mark.parametrize('thinking', [None, {'type': 'disabled'}])
async def test_anthropic_does_not_think_unasked(thinking: Any) -> None:
    async with Simulator() as sim:
        answer = (await send(sim, claude(thinking=thinking), MESSAGES)).json
    assert [block['type'] for block in answer['content']] == ['tool_use']


async def test_anthropic_counts_the_prompt_at_the_start_of_a_stream() -> None:
    async with Simulator() as sim:
        whole = (await send(sim, claude(), MESSAGES)).json
        events = chunks((await send(sim, claude(stream=True), MESSAGES)).events)
    assert events[0]['message']['usage'] == {'input_tokens': whole['usage']['input_tokens'], 'output_tokens': 0}
    assert events[-2]['usage'] == whole['usage']


# Gemini


async def test_gemini_thinks_in_parts_and_signs_the_part_that_follows() -> None:
    async with Simulator() as sim:
        answer = (await send(sim, gemini(), GEMINI)).json
    thought, call = gemini_parts(answer)
    assert thought['thought'] is True
    assert thought['text'].endswith(CALLS)
    assert opened(0, call['thoughtSignature']) == thought['text']
    assert answer['usageMetadata']['thoughtsTokenCount'] == count_text(thought['text'])


async def test_only_the_first_of_several_gemini_calls_is_signed() -> None:
    async with Simulator() as sim:
        answer = (await send(sim, gemini('What is the weather in Paris and Rome?'), GEMINI)).json
    assert ['thoughtSignature' in part for part in gemini_parts(answer)] == [False, True, False]


@pytest.mark.parametrize('tools', [[], gemini()['tools']])
async def test_gemini_streams_the_thought_in_pieces_and_signs_once(tools: Any) -> None:
    async with Simulator() as sim:
        whole = gemini_parts((await send(sim, gemini(tools=tools), GEMINI)).json)
        events = chunks((await send(sim, gemini(tools=tools), GEMINI_STREAM)).events)
    parts = [part for event in events for part in gemini_parts(event)]
    thoughts = [part['text'] for part in parts if part.get('thought')]
    assert ''.join(thoughts) == whole[0]['text']
    assert len(thoughts) > 10
    signed = [part['thoughtSignature'] for part in parts if 'thoughtSignature' in part]
    assert signed == [whole[1]['thoughtSignature']]
    assert 'thoughtSignature' in parts[len(thoughts)]


@pytest.mark.parametrize('how', [{'thinkingBudget': 1024}, {'thinkingLevel': 'LOW'}])
async def test_gemini_signs_also_when_the_thought_is_not_shown(how: Any) -> None:
    async with Simulator() as sim:
        answer = (await send(sim, gemini(how=how), GEMINI)).json
    [call] = gemini_parts(answer)
    assert 'thoughtSignature' in call
    assert answer['usageMetadata']['thoughtsTokenCount'] > 0


@pytest.mark.parametrize('how', [{'thinkingBudget': 0}, {'includeThoughts': False}])
async def test_gemini_does_not_think_unasked(how: Any) -> None:
    async with Simulator() as sim:
        answer = (await send(sim, gemini(how=how), GEMINI)).json
    assert 'thoughtSignature' not in gemini_parts(answer)[0]
    assert 'thoughtsTokenCount' not in answer['usageMetadata']


# All of them


ASKED = [
    ('/v1/chat/completions', body(reasoning_effort='low', include_reasoning=True)),
    (RESPONSES, gpt()),
    (MESSAGES, claude()),
    (GEMINI, gemini()),
]


@pytest.mark.parametrize(('path', 'asked'), ASKED)
async def test_the_same_seed_thinks_the_same_and_another_seals_otherwise(path: str, asked: Any) -> None:
    raws = []
    for seed in (1, 1, 2):
        async with Simulator(seed=seed) as sim:
            raws.append((await send(sim, asked, path)).raw)
    assert raws[0] == raws[1] != raws[2]


@pytest.mark.parametrize(('path', 'asked'), ASKED)
async def test_scripted_answers_have_thoughts_too(path: str, asked: Any) -> None:
    async with Simulator(answers=[Answer(text='Buzz.')]) as sim:
        answered = await send(sim, asked, path)
    assert b'I say what my script says.' in answered.raw
    assert b'Buzz.' in answered.raw
