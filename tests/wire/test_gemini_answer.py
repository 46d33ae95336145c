"""Whole answers of generateContent: what Lamella understands of them, and what its servers say."""

import json
from typing import Any

import pytest

from lamella.types import (
    DataPart,
    LamellaError,
    MediaPart,
    Message,
    ModelResponse,
    ReasoningPart,
    Source,
    TextPart,
    ToolRequest,
    ToolRequestPart,
    Usage,
)
from lamella.wire.gemini import GeminiCodec

CODEC = GeminiCodec()


def decoded(body: Any) -> ModelResponse:
    return CODEC.decode_response(json.dumps(body).encode())


def encoded(response: ModelResponse, model: str = 'gemini-x') -> dict[str, Any]:
    return json.loads(CODEC.encode_response(response, model=model))


def answer(*parts: dict[str, Any], **fields: Any) -> dict[str, Any]:
    candidate = {'content': {'parts': list(parts), 'role': 'model'}, 'finishReason': 'STOP', 'index': 0, **fields}
    return {'candidates': [candidate]}


FULL: dict[str, Any] = {
    'candidates': [
        {
            'content': {
                'role': 'model',
                'parts': [
                    {'text': 'Hm.', 'thought': True},
                    {'text': 'Signed.', 'thought': True, 'thoughtSignature': 'QUFB'},
                    {'text': 'Here you are'},
                    {'text': '!', 'thoughtSignature': 'QkJC'},
                    {'inlineData': {'mimeType': 'image/png', 'data': 'iVBORw=='}, 'thoughtSignature': 'Q0ND'},
                    {'functionCall': {'id': 'c1', 'name': 'look', 'args': {'deep': True}}, 'thoughtSignature': 'RERE'},
                    {'functionCall': {'name': 'look', 'args': {}}},
                    {'executableCode': {'language': 'PYTHON', 'code': 'print(1)'}},
                    {'codeExecutionResult': {'outcome': 'OUTCOME_OK', 'output': '1\n'}},
                    {'somethingNew': {'a': [1]}},
                    {'text': '', 'thoughtSignature': 'RUVF'},
                ],
            },
            'finishReason': 'STOP',
            'index': 0,
            'safetyRatings': [{'category': 'HARM_CATEGORY_HARASSMENT', 'probability': 'NEGLIGIBLE'}],
            'citationMetadata': {
                'citationSources': [{'startIndex': 0, 'endIndex': 4, 'uri': 'https://a', 'license': 'mit'}]
            },
            'groundingMetadata': {
                'webSearchQueries': ['q'],
                'groundingChunks': [
                    {'web': {'uri': 'https://b', 'title': 'B'}},
                    {'retrievedContext': {'uri': 'gs://c', 'title': 'C', 'text': 'a passage'}},
                    {'maps': {'uri': 'https://d', 'title': 'D', 'placeId': 'places/1'}},
                    {'image': {'sourceUri': 'https://e', 'imageUri': 'https://e/1.png', 'title': 'E'}},
                ],
                'groundingSupports': [{'segment': {'endIndex': 4}, 'groundingChunkIndices': [0]}],
            },
            'avgLogprobs': -0.25,
            'logprobsResult': {
                'chosenCandidates': [{'token': 'Here', 'tokenId': 5, 'logProbability': -0.25}],
                'topCandidates': [{'candidates': [{'token': 'Here', 'logProbability': -0.25}]}],
                'logProbabilitySum': -0.25,
            },
            'urlContextMetadata': {'urlMetadata': [{'retrievedUrl': 'https://f'}]},
            'tokenCount': 7,
        }
    ],
    'usageMetadata': {
        'promptTokenCount': 10,
        'candidatesTokenCount': 7,
        'totalTokenCount': 25,
        'cachedContentTokenCount': 4,
        'thoughtsTokenCount': 5,
        'toolUsePromptTokenCount': 3,
        'promptTokensDetails': [{'modality': 'TEXT', 'tokenCount': 10}],
        'trafficType': 'ON_DEMAND',
    },
    'modelVersion': 'gemini-3-flash-001',
    'responseId': 'r1',
    'createTime': '2026-01-01T00:00:00Z',
    'modelStatus': {'modelStage': 'STABLE'},
}


def test_every_documented_field_survives_reading_and_saying() -> None:
    assert encoded(decoded(FULL)) == FULL


def test_the_documented_answer_is_read_into_the_right_fields() -> None:
    response = decoded(FULL)

    assert response.message == Message.assistant(
        ReasoningPart('Hm.'),
        ReasoningPart('Signed.', 'QUFB', metadata={'gemini': {'thoughtSignature': 'QUFB'}}),
        TextPart('Here you are'),
        TextPart('!', {'gemini': {'thoughtSignature': 'QkJC'}}),
        MediaPart(data=b'\x89PNG', content_type='image/png', metadata={'gemini': {'thoughtSignature': 'Q0ND'}}),
        ToolRequestPart(
            ToolRequest('look', {'deep': True}, 'c1'),
            {'gemini': {'thoughtSignature': 'RERE', 'functionCall': {'id': 'c1'}}},
        ),
        ToolRequestPart(ToolRequest('look', {})),
        DataPart({'executableCode': {'language': 'PYTHON', 'code': 'print(1)'}}, {'gemini': {}}),
        DataPart({'codeExecutionResult': {'outcome': 'OUTCOME_OK', 'output': '1\n'}}, {'gemini': {}}),
        DataPart({'somethingNew': {'a': [1]}}, {'gemini': {}}),
        TextPart('', {'gemini': {'thoughtSignature': 'RUVF'}}),
    )
    assert (response.finish_reason, response.finish_message) == ('tool_calls', None)
    assert (response.model, response.id) == ('gemini-3-flash-001', 'r1')
    assert response.metadata['gemini']['safetyRatings'][0]['probability'] == 'NEGLIGIBLE'
    assert response.metadata['gemini']['groundingMetadata']['webSearchQueries'] == ['q']
    assert response.metadata['gemini']['response']['modelStatus'] == {'modelStage': 'STABLE'}


def test_output_tokens_include_thoughts_and_input_tokens_what_tools_read() -> None:
    assert decoded(FULL).usage == Usage(
        input_tokens=13, output_tokens=12, total_tokens=25, cached_tokens=4, reasoning_tokens=5
    )


@pytest.mark.parametrize(
    ('counts', 'usage'),
    [
        (None, None),
        ({}, None),
        ({'promptTokenCount': 3}, Usage(input_tokens=3)),
        ({'promptTokenCount': 3, 'thoughtsTokenCount': 2}, Usage(input_tokens=3, output_tokens=2, reasoning_tokens=2)),
        ({'candidates_token_count': '4'}, Usage(output_tokens=4)),
        ({'totalTokenCount': 0}, Usage(total_tokens=0)),
    ],
)
def test_what_was_not_counted_is_unknown_and_not_zero(counts: Any, usage: Usage | None) -> None:
    body = answer({'text': 'x'})
    assert decoded({**body, 'usageMetadata': counts} if counts is not None else body).usage == usage


def test_sources_come_from_citations_and_grounding() -> None:
    citation, *chunks = decoded(FULL).sources

    assert (citation.url, citation.metadata) == (
        'https://a',
        {'gemini': {'citation': {'startIndex': 0, 'endIndex': 4, 'uri': 'https://a', 'license': 'mit'}}},
    )
    assert [(source.url, source.title, source.text) for source in chunks] == [
        ('https://b', 'B', None),
        ('gs://c', 'C', 'a passage'),
        ('https://d', 'D', None),
        ('https://e', 'E', None),
    ]


def test_citations_of_vertex_ai_have_another_name() -> None:
    body = answer({'text': 'x'}, citationMetadata={'citations': [{'uri': 'https://a', 'title': 'A', 'endIndex': 3}]})

    assert [(source.url, source.title) for source in decoded(body).sources] == [('https://a', 'A')]
    assert encoded(decoded(body)) == {**body, 'modelVersion': 'gemini-x'}


def test_log_probabilities_are_a_list_of_tokens() -> None:
    assert decoded(FULL).metadata['logprobs'] == [
        {'token': 'Here', 'logprob': -0.25, 'top_logprobs': [{'token': 'Here', 'logprob': -0.25}]}
    ]


def test_an_average_alone_makes_no_list_of_tokens() -> None:
    """Vertex AI gives it with every answer."""
    assert decoded(answer({'text': 'x'}, avgLogprobs=-0.5)).metadata == {'gemini': {'avgLogprobs': -0.5}}


def test_log_probabilities_of_another_provider_can_be_said() -> None:
    tokens = [{'token': 'a', 'logprob': -1.0, 'top_logprobs': [{'token': 'b', 'logprob': -2.0}], 'bytes': [97]}]

    body = encoded(ModelResponse.text_of('a', metadata={'logprobs': tokens}))

    assert body['candidates'][0]['logprobsResult'] == {
        'chosenCandidates': [{'token': 'a', 'logProbability': -1.0}],
        'topCandidates': [{'candidates': [{'token': 'b', 'logProbability': -2.0}]}],
    }


@pytest.mark.parametrize(
    ('reason', 'ours', 'message'),
    [
        ('STOP', 'stop', None),
        ('MAX_TOKENS', 'length', None),
        ('SAFETY', 'blocked', 'SAFETY'),
        ('RECITATION', 'blocked', 'RECITATION'),
        ('LANGUAGE', 'blocked', 'LANGUAGE'),
        ('BLOCKLIST', 'blocked', 'BLOCKLIST'),
        ('PROHIBITED_CONTENT', 'blocked', 'PROHIBITED_CONTENT'),
        ('SPII', 'blocked', 'SPII'),
        ('ESCALATION', 'blocked', 'ESCALATION'),
        ('PUP_LIMITED_DISABLED', 'blocked', 'PUP_LIMITED_DISABLED'),
        ('CONTINUATION', 'length', 'CONTINUATION'),
        ('MALFORMED_RESPONSE', 'other', 'MALFORMED_RESPONSE'),
        ('MISSING_THOUGHT_SIGNATURE', 'other', 'MISSING_THOUGHT_SIGNATURE'),
        ('MODEL_ARMOR', 'blocked', 'MODEL_ARMOR'),
        ('IMAGE_SAFETY', 'blocked', 'IMAGE_SAFETY'),
        ('IMAGE_PROHIBITED_CONTENT', 'blocked', 'IMAGE_PROHIBITED_CONTENT'),
        ('IMAGE_RECITATION', 'blocked', 'IMAGE_RECITATION'),
        ('MALFORMED_FUNCTION_CALL', 'other', 'MALFORMED_FUNCTION_CALL'),
        ('UNEXPECTED_TOOL_CALL', 'other', 'UNEXPECTED_TOOL_CALL'),
        ('TOO_MANY_TOOL_CALLS', 'other', 'TOO_MANY_TOOL_CALLS'),
        ('NO_IMAGE', 'other', 'NO_IMAGE'),
        ('IMAGE_OTHER', 'other', 'IMAGE_OTHER'),
        ('OTHER', 'other', 'OTHER'),
        ('NEVER_HEARD_OF', 'other', 'NEVER_HEARD_OF'),
        ('FINISH_REASON_UNSPECIFIED', 'unknown', None),
    ],
)
def test_each_finish_reason_is_understood_and_said_again(reason: str, ours: str, message: str | None) -> None:
    body = answer({'text': 'x'}, finishReason=reason)

    response = decoded(body)

    assert (response.finish_reason, response.finish_message) == (ours, message)
    assert encoded(response) == {**body, 'modelVersion': 'gemini-x'}


def test_googles_own_explanation_comes_first() -> None:
    body = answer(finishReason='MALFORMED_FUNCTION_CALL', finishMessage='Malformed function call: print(1')

    assert decoded(body).finish_message == 'Malformed function call: print(1'
    assert encoded(decoded(body)) == {**body, 'modelVersion': 'gemini-x'}


def test_an_answer_that_was_cut_with_calls_is_cut_still() -> None:
    assert decoded(answer({'functionCall': {'name': 'f'}}, finishReason='MAX_TOKENS')).finish_reason == 'length'


def test_a_blocked_prompt_is_an_answer_that_says_so() -> None:
    ratings = [{'category': 'HARM_CATEGORY_DANGEROUS_CONTENT', 'probability': 'HIGH', 'blocked': True}]
    body = {
        'promptFeedback': {'blockReason': 'PROHIBITED_CONTENT', 'safetyRatings': ratings},
        'usageMetadata': {'promptTokenCount': 9, 'totalTokenCount': 9},
        'modelVersion': 'gemini-x',
        'responseId': 'r',
    }

    response = decoded(body)

    assert response.finish_reason == 'blocked'
    assert response.finish_message == 'the prompt was blocked: PROHIBITED_CONTENT'
    assert response.message.content == ()
    assert response.usage == Usage(input_tokens=9, total_tokens=9)
    assert response.metadata['gemini']['promptFeedback']['safetyRatings'] == ratings
    assert encoded(response) == body


def test_vertex_ai_explains_a_block_in_words() -> None:
    feedback = {'blockReason': 'MODEL_ARMOR', 'blockReasonMessage': 'Blocked by policy.'}

    assert decoded({'promptFeedback': feedback}).finish_message == 'Blocked by policy.'


def test_text_in_several_parts_is_one_text() -> None:
    """A stream is cut by chance, and says the same."""
    body = answer(
        {'text': 'a', 'thought': True}, {'text': 'b', 'thought': True}, {'text': 'c'}, {'text': ''}, {'text': 'd'}
    )

    assert decoded(body).message == Message.assistant(ReasoningPart('ab'), TextPart('cd'))


def test_signed_text_stays_apart_from_its_neighbours() -> None:
    body = answer({'text': 'a'}, {'text': 'b', 'thoughtSignature': 'QQ=='}, {'text': 'c'}, {'text': 'd'})

    response = decoded(body)

    assert [part.text for part in response.message.content] == ['a', 'b', 'cd']  # type: ignore[union-attr]
    assert response.text == 'abcd'


def test_a_part_that_is_only_a_signature_is_kept() -> None:
    assert decoded(answer({'thoughtSignature': 'QQ=='})).message.content == (
        TextPart('', {'gemini': {'thoughtSignature': 'QQ=='}}),
    )


def test_only_the_first_candidate_is_kept_and_the_others_are_a_warning() -> None:
    first, second, third = (answer({'text': text}, index=i)['candidates'][0] for i, text in enumerate('abc'))

    response = decoded({'candidates': [second, first, third]})

    assert response.text == 'a'
    assert response.warnings == ('2 more candidates were left out: an answer has one',)


def test_an_array_of_chunks_is_one_answer() -> None:
    """streamGenerateContent without alt=sse."""
    chunks = [
        {'candidates': [{'content': {'parts': [{'text': 'Hel'}]}}], 'responseId': 'r'},
        answer({'text': 'lo'}),
    ]

    response = decoded(chunks)

    assert (response.text, response.finish_reason, response.id) == ('Hello', 'stop', 'r')


def test_an_error_in_a_200_is_that_error() -> None:
    with pytest.raises(LamellaError, match='overloaded') as caught:
        decoded({'error': {'code': 503, 'message': 'The model is overloaded.', 'status': 'UNAVAILABLE'}})

    assert caught.value.status == 'UNAVAILABLE'


@pytest.mark.parametrize(
    ('body', 'says'),
    [
        (b'<html>', 'is no JSON'),
        (b'[]', 'candidates is missing'),
        (b'{}', 'candidates is missing'),
        (b'{"candidates":[]}', 'candidates is missing'),
        (b'{"candidates":{}}', 'candidates is no list'),
        (b'{"candidates":["x"]}', 'candidates[0]'),
        (b'{"candidates":[{"content":{"parts":[{"text":1}]}}]}', 'candidates[0].content.parts[0].text is 1'),
        (b'{"candidates":[{"content":[]}]}', 'candidates[0].content is []'),
        (b'{"candidates":[{"finishReason":1}]}', 'candidates[0].finishReason is 1'),
        (b'{"candidates":[{"index":"x"}]}', 'index'),
        (b'{"candidates":[{}],"usageMetadata":3}', 'usageMetadata is no object'),
        (b'{"candidates":[{}],"usageMetadata":{"promptTokenCount":"x"}}', 'usageMetadata.promptTokenCount'),
        (b'{"candidates":[{"content":{"parts":[{"functionCall":{"name":1}}]}}]}', 'functionCall.name is 1'),
    ],
)
def test_a_bad_answer_is_one_error_that_names_the_place(body: bytes, says: str) -> None:
    with pytest.raises(LamellaError) as caught:
        CODEC.decode_response(body)

    assert caught.value.status == 'INTERNAL'
    assert says in caught.value.message


def test_an_answer_without_a_reason_is_unknown() -> None:
    assert decoded({'candidates': [{'content': {'parts': [{'text': 'x'}]}}]}).finish_reason == 'unknown'


# Answers of others, said in this protocol


def test_a_simple_answer_is_said_simply() -> None:
    response = ModelResponse.text_of('hello', usage=Usage(3, 5, 8, reasoning_tokens=2), id='r')

    assert encoded(response) == {
        'candidates': [
            {'content': {'role': 'model', 'parts': [{'text': 'hello'}]}, 'finishReason': 'STOP', 'index': 0}
        ],
        'usageMetadata': {
            'promptTokenCount': 3,
            'candidatesTokenCount': 3,
            'totalTokenCount': 8,
            'thoughtsTokenCount': 2,
        },
        'modelVersion': 'gemini-x',
        'responseId': 'r',
    }


@pytest.mark.parametrize(
    ('ours', 'reason'),
    [('stop', 'STOP'), ('tool_calls', 'STOP'), ('length', 'MAX_TOKENS'), ('blocked', 'SAFETY'), ('other', 'OTHER')],
)
def test_each_of_our_reasons_has_a_word(ours: Any, reason: str) -> None:
    assert encoded(ModelResponse.text_of('x', finish_reason=ours))['candidates'][0]['finishReason'] == reason


def test_a_layer_that_changes_the_reason_is_believed() -> None:
    response = decoded(answer({'text': 'x'}, finishReason='SAFETY')).replace(finish_reason='stop', finish_message=None)

    assert encoded(response)['candidates'][0]['finishReason'] == 'STOP'


def test_sources_of_others_become_grounding_chunks() -> None:
    sources = (Source('https://a', 'A'), Source('https://b', text='a passage', metadata={'anthropic': {}}))

    assert encoded(ModelResponse.text_of('x', sources=sources))['candidates'][0]['groundingMetadata'] == {
        'groundingChunks': [
            {'web': {'uri': 'https://a', 'title': 'A'}},
            {'retrievedContext': {'uri': 'https://b', 'text': 'a passage'}},
        ]
    }


def test_an_id_of_whoever_gave_it_is_told() -> None:
    message = Message.assistant(ToolRequestPart(ToolRequest('f', {}, 'call_1')))

    assert encoded(ModelResponse(message=message))['candidates'][0]['content']['parts'] == [
        {'functionCall': {'id': 'call_1', 'name': 'f', 'args': {}}}
    ]


def test_reasoning_of_others_is_shown_but_never_signed_in_their_name() -> None:
    message = Message.assistant(
        ReasoningPart('a', 'mine'),
        ReasoningPart('b', 'theirs', metadata={'anthropic': {}}),
        ReasoningPart(redacted=True, metadata={'anthropic': {'data': 'x'}}),
        DataPart({'type': 'x'}, {'anthropic': {}}),
    )

    assert encoded(ModelResponse(message=message))['candidates'][0]['content']['parts'] == [
        {'text': 'a', 'thought': True, 'thoughtSignature': 'mine'},
        {'text': 'b', 'thought': True},
    ]
