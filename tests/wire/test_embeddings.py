"""The codecs for embeddings: said as the vendors say it, understood both ways, and anything is read or is one error."""

import base64
import json
import struct
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella.types import EmbeddingRequest, EmbeddingResponse, LamellaError, Usage
from lamella.wire.codec import EmbeddingCodec
from lamella.wire.gemini_embeddings import GeminiBatchCodec, GeminiContentCodec, VertexPredictCodec
from lamella.wire.openai_embeddings import OpenAIEmbeddingCodec

OPENAI = OpenAIEmbeddingCodec()
BATCH, CONTENT, IN_CONFIG, PREDICT = (
    GeminiBatchCodec(),
    GeminiContentCodec(),
    GeminiContentCodec(config=True),
    VertexPredictCodec(),
)
CODECS = [OPENAI, BATCH, CONTENT, IN_CONFIG, PREDICT]
each = pytest.mark.parametrize('codec', CODECS, ids=lambda codec: type(codec).__name__)

texts = st.text(st.characters(exclude_categories=['Cs']), min_size=1, max_size=8)
numbers = st.floats(width=32, allow_nan=False, allow_infinity=False)
vectors = st.integers(1, 6).flatmap(lambda size: st.lists(st.tuples(*[numbers] * size), min_size=1, max_size=4))


def said(codec: EmbeddingCodec, request: EmbeddingRequest, model: str = 'e') -> Any:
    return json.loads(codec.encode_request(request, model).body)


# ── what is asked ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_openai_is_asked_for_base64_and_takes_its_options_from_the_request() -> None:
    request = EmbeddingRequest(('a', 'b'), 8, {'openai': {'user': 'u'}, 'google': {'task_type': 'X'}})
    body = {'model': 'e', 'input': ['a', 'b'], 'encoding_format': 'base64', 'dimensions': 8, 'user': 'u'}
    assert said(OPENAI, request) == body
    plain = EmbeddingRequest(('a',), None, {'openai': {'encoding_format': None, 'dimensions': 4}})
    assert said(OPENAI, plain) == {'model': 'e', 'input': ['a'], 'dimensions': 4}


def test_google_is_asked_the_way_of_each_of_its_methods() -> None:
    options = {'google': {'task_type': 'RETRIEVAL_QUERY', 'title': 't', 'auto_truncate': False, 'mime_type': None}}
    one = EmbeddingRequest(('a',), 8, options)
    settings = {'outputDimensionality': 8, 'taskType': 'RETRIEVAL_QUERY', 'title': 't', 'autoTruncate': False}
    content = {'content': {'parts': [{'text': 'a'}]}}
    assert said(BATCH, one) == {'requests': [{'model': 'models/e', **content, **settings}]}
    assert said(BATCH, one, 'tunedModels/e')['requests'][0]['model'] == 'tunedModels/e'
    assert said(CONTENT, one) == {**content, **settings}
    assert said(IN_CONFIG, one) == {**content, 'embedContentConfig': settings}
    assert said(IN_CONFIG, EmbeddingRequest(('a',))) == content
    assert said(PREDICT, one) == {
        'instances': [{'content': 'a', 'task_type': 'RETRIEVAL_QUERY', 'title': 't'}],
        'parameters': {'outputDimensionality': 8, 'autoTruncate': False},
    }
    assert said(PREDICT, EmbeddingRequest(('a', 'b'))) == {'instances': [{'content': 'a'}, {'content': 'b'}]}


def test_later_names_of_googles_options_win_over_earlier_ones() -> None:
    request = EmbeddingRequest(('a',), None, {'google': {'title': 'g', 'task_type': 'G'}, 'vertexai': {'title': 'v'}})
    assert said(GeminiContentCodec(also=('vertexai',)), request) == {
        'content': {'parts': [{'text': 'a'}]},
        'title': 'v',
        'taskType': 'G',
    }


def test_embed_content_takes_one_text() -> None:
    with pytest.raises(LamellaError, match='one text, not 2'):
        CONTENT.encode_request(EmbeddingRequest(('a', 'b')), 'e')


@each
def test_a_text_that_is_no_unicode_is_named(codec: EmbeddingCodec) -> None:
    with pytest.raises(LamellaError, match='text 0') as caught:
        codec.encode_request(EmbeddingRequest(('half \ud83d',)), 'e')
    assert caught.value.status == 'INVALID_ARGUMENT'


@each
def test_options_that_are_no_dict_are_refused(codec: EmbeddingCodec) -> None:
    wrong: Any = {codec.provider: 'RETRIEVAL_QUERY'}
    with pytest.raises(LamellaError, match='give a dict of options'):
        codec.encode_request(EmbeddingRequest(('a',), None, wrong), 'e')


@each
@given(st.lists(texts, min_size=1, max_size=4), st.none() | st.integers(1, 99), st.booleans())
def test_what_is_said_is_understood(
    codec: EmbeddingCodec, given: list[str], dimensions: int | None, optioned: bool
) -> None:
    option = {'user': 'u'} if codec is OPENAI else {'taskType': 'X'}
    asked = tuple(given[:1] if codec in (CONTENT, IN_CONFIG) else given)
    options: Any = {codec.provider: option} if optioned else {}
    decoded = codec.decode_request(
        codec.encode_request(EmbeddingRequest(asked, dimensions, options), 'e').body, model='e'
    )
    told = dict(decoded.request.provider_options.get(codec.provider, {}))
    told.pop('encoding_format', None)
    assert (decoded.model, decoded.request.texts, decoded.request.dimensions) == ('e', asked, dimensions)
    assert told == (option if optioned else {})


def test_a_single_text_and_one_model_in_the_body_are_understood() -> None:
    decoded = OPENAI.decode_request(b'{"model": "e", "input": "a"}')
    assert (decoded.model, decoded.request) == ('e', EmbeddingRequest(('a',)))
    body = json.dumps(
        {'content': {'parts': [{'text': 'a'}, {'text': 'b'}], 'role': 'user'}, 'output_dimensionality': 3}
    )
    assert CONTENT.decode_request(body.encode(), model='e').request == EmbeddingRequest(('a b',), 3)


@pytest.mark.parametrize(
    ('codec', 'body', 'problem'),
    [
        (OPENAI, {'model': 'e'}, 'input is missing'),
        (OPENAI, {'input': 'a'}, 'model is missing'),
        (OPENAI, {'model': 'e', 'input': [[1, 2]]}, r'input\[0\] is list: give texts, not tokens'),
        (OPENAI, {'model': 'e', 'input': 'a', 'dimensions': 0}, 'dimensions is 0'),
        (OPENAI, {'model': 'e', 'input': 'a', 'dimensions': True}, 'dimensions is True'),
        (OPENAI, [], 'the body'),
        (BATCH, {}, 'requests is missing'),
        (BATCH, {'requests': [{'content': {'parts': []}}]}, r'requests\[0\].content.parts is missing'),
        (BATCH, {'requests': [{'content': 'a'}, {'content': 'b', 'taskType': 'X'}]}, 'differ in their settings'),
        (CONTENT, {'content': {'parts': [{'inlineData': {}}]}}, r'content.parts\[0\].text is missing'),
        (CONTENT, {'content': 'a', 'outputDimensionality': -1}, 'outputDimensionality is -1'),
        (PREDICT, {'instances': [{'text': 'a'}]}, r'instances\[0\].content is missing'),
        (PREDICT, {}, 'instances is missing'),
    ],
)
def test_a_request_that_cannot_be_read_says_where(codec: EmbeddingCodec, body: Any, problem: str) -> None:
    with pytest.raises(LamellaError, match=problem) as caught:
        codec.decode_request(json.dumps(body).encode())
    assert caught.value.status == 'INVALID_ARGUMENT'


# ── what is answered ────────────────────────────────────────────────────────────────────────────────────────────────


@each
@given(vectors, st.integers(0, 1000), st.booleans())
def test_what_is_answered_is_understood(
    codec: EmbeddingCodec, given: list[tuple[float, ...]], paid: int, in_base64: bool
) -> None:
    told = tuple(given[:1] if codec in (CONTENT, IN_CONFIG) else given)
    options: Any = {'openai': {'encoding_format': 'base64' if in_base64 else 'float'}}
    response = EmbeddingResponse(vectors=told, usage=Usage(input_tokens=paid, total_tokens=paid))
    body = codec.encode_response(response, model='e', request=EmbeddingRequest(('a',), None, options))
    decoded = codec.decode_response(body)
    assert (decoded.vectors, decoded.usage) == (told, response.usage)


def test_vectors_may_come_in_any_order_and_in_either_spelling() -> None:
    coded = base64.b64encode(struct.pack('<2f', 0.5, -2.0)).decode()
    data = [{'index': 1, 'embedding': coded}, {'index': 0, 'embedding': [1, 2.5]}]
    decoded = OPENAI.decode_response(json.dumps({'data': data, 'model': 'e-1', 'novel': 1}).encode())
    assert decoded.vectors == ((1.0, 2.5), (0.5, -2.0))
    assert (decoded.model, decoded.usage, decoded.metadata) == ('e-1', None, {'openai': {'novel': 1}})


def test_vectors_without_numbers_are_in_the_order_in_which_they_came() -> None:
    body = json.dumps({'data': [{'embedding': [1.0]}, {'embedding': [2.0]}]}).encode()
    assert OPENAI.decode_response(body).vectors == ((1.0,), (2.0,))


def test_googles_own_facts_are_kept_and_a_cut_text_is_told() -> None:
    answer = {'embedding': {'values': [1, 2]}, 'usageMetadata': {'promptTokenCount': 3}, 'truncated': True, 'novel': 1}
    decoded = CONTENT.decode_response(json.dumps(answer).encode())
    assert (decoded.vector, decoded.usage, decoded.metadata) == (
        (1.0, 2.0),
        Usage(3, None, 3),
        {'gemini': {'novel': 1}},
    )
    assert 'cut off' in decoded.warnings[0]
    statistics = {'token_count': 2.0, 'truncated': True}
    predicted = {
        'predictions': [{'embeddings': {'values': [1], 'statistics': statistics}}, {'embeddings': {'values': [2]}}],
        'metadata': {'billableCharacterCount': 9},
    }
    decoded = PREDICT.decode_response(json.dumps(predicted).encode())
    assert (decoded.vectors, decoded.usage) == (((1.0,), (2.0,)), Usage(input_tokens=2, total_tokens=2))
    assert decoded.metadata == {'gemini': {'metadata': {'billableCharacterCount': 9}}}
    assert 'cut off' in decoded.warnings[0]
    assert BATCH.decode_response(b'{"embeddings": [{"values": [1]}]}').usage is None


@pytest.mark.parametrize(
    ('codec', 'body', 'problem'),
    [
        (OPENAI, {}, 'data is missing'),
        (OPENAI, {'data': [{}]}, r'data\[0\].embedding is no list of numbers'),
        (OPENAI, {'data': [{'embedding': ['a']}]}, r'data\[0\].embedding is no list of numbers'),
        (OPENAI, {'data': [{'embedding': 'AAA'}]}, r'data\[0\].embedding is no base64'),
        (OPENAI, {'data': [{'embedding': 'AAAA'}]}, r'data\[0\].embedding is no base64'),
        (OPENAI, {'data': [{'embedding': [1], 'index': 1}]}, 'does not number its vectors'),
        (OPENAI, {'data': [{'embedding': [1], 'index': 0}, {'embedding': [2], 'index': 0}]}, 'does not number'),
        (BATCH, {'embeddings': [{'values': 'a'}]}, r'embeddings\[0\].values is missing'),
        (BATCH, {'embeddings': 5}, 'embeddings is 5'),
        (CONTENT, {}, 'embedding'),
        (PREDICT, {'predictions': [{}]}, r'predictions\[0\].embeddings.values is missing'),
    ],
)
def test_an_answer_that_cannot_be_read_says_where(codec: EmbeddingCodec, body: Any, problem: str) -> None:
    with pytest.raises(LamellaError, match=problem) as caught:
        codec.decode_response(json.dumps(body).encode())
    assert caught.value.status == 'INTERNAL'


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
WORDS = """data embedding embeddings values index input model requests content parts text instances predictions statistics
usageMetadata promptTokenCount usage parameters"""
known = st.sampled_from(WORDS.split())
hostile = st.recursive(
    json_values, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(known, inner, max_size=4), max_leaves=20
)


@each
@given(hostile.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=40))
def test_anything_is_read_or_is_one_error(codec: EmbeddingCodec, body: bytes) -> None:
    for read in (codec.decode_response, codec.decode_request):
        with suppress(LamellaError):
            read(body)


@each
def test_errors_are_told_and_understood(codec: EmbeddingCodec) -> None:
    error = LamellaError('RESOURCE_EXHAUSTED', 'too many texts', retry_after_s=7)
    encoded = codec.encode_error(error)
    decoded = codec.decode_error(encoded.status, encoded.headers, encoded.body)
    assert (decoded.status, decoded.message, decoded.retry_after_s) == ('RESOURCE_EXHAUSTED', 'too many texts', 7)
