"""Errors of the Responses API: as HTTP answers, inside answers, inside streams, and said."""

import json
from typing import Any

import pytest

from lamella.types import STATUSES, LamellaError
from lamella.wire.sse import SSEDecoder
from tests.wire.openai_responses_events import ANSWERS, CODEC, JSON, answer, events_of, message, parts_of, sse, text

CODES = [
    ('server_error', 'INTERNAL'),
    ('rate_limit_exceeded', 'RESOURCE_EXHAUSTED'),
    ('insufficient_quota', 'RESOURCE_EXHAUSTED'),
    ('invalid_prompt', 'INVALID_ARGUMENT'),
    ('bio_policy', 'INVALID_ARGUMENT'),
    ('data_residency_mismatch', 'FAILED_PRECONDITION'),
    ('vector_store_timeout', 'DEADLINE_EXCEEDED'),
    ('invalid_image', 'INVALID_ARGUMENT'),
    ('invalid_image_format', 'INVALID_ARGUMENT'),
    ('invalid_base64_image', 'INVALID_ARGUMENT'),
    ('invalid_image_url', 'INVALID_ARGUMENT'),
    ('image_too_large', 'INVALID_ARGUMENT'),
    ('image_too_small', 'INVALID_ARGUMENT'),
    ('image_parse_error', 'INVALID_ARGUMENT'),
    ('image_content_policy_violation', 'INVALID_ARGUMENT'),
    ('invalid_image_mode', 'INVALID_ARGUMENT'),
    ('image_file_too_large', 'INVALID_ARGUMENT'),
    ('unsupported_image_media_type', 'INVALID_ARGUMENT'),
    ('empty_image_file', 'INVALID_ARGUMENT'),
    ('failed_to_download_image', 'INVALID_ARGUMENT'),
    ('image_file_not_found', 'NOT_FOUND'),
    ('something_new', 'UNKNOWN'),
]


def failure(*events: JSON) -> LamellaError:
    with pytest.raises(LamellaError) as caught:
        parts_of(sse(list(events)))
    return caught.value


@pytest.mark.parametrize(('code', 'status'), CODES)
def test_an_answer_that_failed_is_an_error_with_its_code(code: str, status: str) -> None:
    failed = answer(status='failed', error={'code': code, 'message': 'Sorry.'})
    with pytest.raises(LamellaError) as caught:
        CODEC.decode_response(json.dumps(failed).encode())
    assert (caught.value.status, caught.value.message) == (status, 'Sorry.')
    assert caught.value.details['code'] == code


@pytest.mark.parametrize(('code', 'status'), CODES)
def test_a_stream_that_failed_is_the_same_error(code: str, status: str) -> None:
    begun, *_ = events_of(ANSWERS['text'])
    error = {'code': code, 'message': 'Sorry.'}
    failed = {'type': 'response.failed', 'response': answer(status='failed', error=error)}
    assert failure(begun, failed).status == status
    assert failure(begun, {'type': 'error', **error, 'param': None, 'sequence_number': 3}).status == status
    assert failure(begun, {'type': 'error', 'error': {'type': 'x', **error}}).status == status


def test_the_error_has_what_had_arrived() -> None:
    events = events_of(ANSWERS['text'])[:6]
    error = failure(*events, {'type': 'error', 'code': 'server_error', 'message': 'Sorry.'})
    assert error.partial is not None
    assert error.partial.text.startswith('In a')
    partly = answer(message(text('In a')), status='failed', error={'code': 'server_error', 'message': 'Sorry.'})
    with pytest.raises(LamellaError) as caught:
        CODEC.decode_response(json.dumps(partly).encode())
    assert caught.value.partial is not None
    assert caught.value.partial.text == 'In a'


def test_an_error_before_anything_has_no_answer() -> None:
    error = failure({'type': 'error', 'code': 'rate_limit_exceeded', 'message': 'Slow down.', 'param': None})
    assert (error.status, error.partial) == ('RESOURCE_EXHAUSTED', None)
    assert error.details == {'code': 'rate_limit_exceeded'}


def test_a_bare_error_object_is_an_error_too() -> None:
    event = {'error': {'message': 'Sorry.', 'type': 'server_error', 'code': None}}
    with pytest.raises(LamellaError) as caught:
        parts_of(b'data: ' + json.dumps(event).encode() + b'\n\n')
    assert caught.value.status == 'INTERNAL'
    with pytest.raises(LamellaError) as caught:
        CODEC.decode_response(json.dumps(event).encode())
    assert caught.value.status == 'INTERNAL'


def test_after_an_error_the_stream_is_over() -> None:
    decoder = CODEC.stream_decoder()
    (event,) = SSEDecoder().feed(sse([{'type': 'error', 'message': 'Sorry.'}]))
    with pytest.raises(LamellaError):
        decoder.feed(event)
    assert list(decoder.feed(event)) == []
    assert list(decoder.finish()) == []


@pytest.mark.parametrize('status', ['failed', 'cancelled'])
def test_an_answer_that_will_not_come_is_an_error(status: str) -> None:
    with pytest.raises(LamellaError) as caught:
        CODEC.decode_response(json.dumps(answer(status=status)).encode())
    assert caught.value.status == {'failed': 'UNKNOWN', 'cancelled': 'CANCELLED'}[status]


@pytest.mark.parametrize(
    ('status', 'error', 'expected'),
    [
        (400, {'type': 'invalid_request_error', 'code': 'context_length_exceeded'}, 'INVALID_ARGUMENT'),
        (400, {'type': 'invalid_request_error', 'param': 'input', 'code': None}, 'INVALID_ARGUMENT'),
        (401, {'type': 'invalid_request_error', 'code': 'invalid_api_key'}, 'UNAUTHENTICATED'),
        (403, {'code': 'unsupported_country_region_territory'}, 'PERMISSION_DENIED'),
        (404, {'type': 'invalid_request_error', 'code': 'model_not_found'}, 'NOT_FOUND'),
        (409, {}, 'ABORTED'),
        (429, {'type': 'insufficient_quota', 'code': 'insufficient_quota'}, 'RESOURCE_EXHAUSTED'),
        (500, {'type': 'server_error'}, 'INTERNAL'),
        (503, {}, 'UNAVAILABLE'),
        (504, {}, 'DEADLINE_EXCEEDED'),
        (529, {}, 'UNAVAILABLE'),
    ],
)
def test_http_errors_keep_their_status(status: int, error: JSON, expected: str) -> None:
    body = json.dumps({'error': {'message': 'Sorry.', **error}}).encode()
    found = CODEC.decode_error(status, {'retry-after': '2', 'x-request-id': 'req_1'}, body)
    assert (found.status, found.message, found.details['request_id']) == (expected, 'Sorry.', 'req_1')
    assert found.retry_after_s == 2


@pytest.mark.parametrize('status', [status for status in STATUSES if status not in ('OK', 'UNKNOWN')])
def test_every_status_survives_being_said_as_an_http_error(status: Any) -> None:
    encoded = CODEC.encode_error(LamellaError(status, 'Sorry.', retry_after_s=1.5))
    again = CODEC.decode_error(encoded.status, encoded.headers, encoded.body)
    assert (again.status, again.message, again.retry_after_s) == (status, 'Sorry.', 1.5)


@pytest.mark.parametrize('status', [status for status in STATUSES if status not in ('OK', 'UNKNOWN')])
def test_every_status_survives_being_said_in_a_stream(status: Any) -> None:
    encoder = CODEC.stream_encoder(model='m')
    with pytest.raises(LamellaError) as caught:
        parts_of(encoder.error(LamellaError(status, 'Sorry: sk-abcdefghijklmnop')))
    assert (caught.value.status, caught.value.message) == (status, 'Sorry: [redacted]')


@pytest.mark.parametrize(
    ('body', 'problem'),
    [
        (b'', 'the body is no JSON'),
        (b'[]', r'the answer is \[\]: give an object'),
        (b'{}', 'the answer: output is missing'),
        (b'{"output": [1]}', r'the answer: output\[0\] is 1: give an object'),
        (b'{"output": [{}]}', r'the answer: output\[0\].type is missing'),
        (b'{"output": [{"type": "message", "content": [{"type": "output_text"}]}]}', r'content\[0\].text is missing'),
        (b'{"output": [{"type": "function_call", "name": "f", "arguments": 5}]}', 'arguments is 5: give a string'),
    ],
)  # fmt: skip
def test_a_malformed_answer_is_internal_and_names_the_place(body: bytes, problem: str) -> None:
    with pytest.raises(LamellaError, match=problem) as caught:
        CODEC.decode_response(body)
    assert caught.value.status == 'INTERNAL'


@pytest.mark.parametrize(
    ('event', 'problem'),
    [
        ([], r'the event is \[\]: an object was expected'),
        ({'type': 'response.output_item.added'}, 'item is missing'),
        ({'type': 'response.output_item.added', 'item': {}}, 'item.type is missing'),
        ({'type': 'response.output_item.done', 'item': 'x'}, 'item is x: give an object'),
        ({'type': 'response.output_text.delta', 'delta': 5}, 'delta is 5: give a string'),
        ({'type': 'response.completed'}, 'response is missing'),
        ({'type': 'response.completed', 'response': {'output': [3]}}, r'output\[0\] is 3: give an object'),
    ],
)
def test_a_malformed_event_is_internal_and_names_the_place(event: Any, problem: str) -> None:
    with pytest.raises(LamellaError, match=problem) as caught:
        parts_of(b'data: ' + json.dumps(event).encode() + b'\n\n')
    assert caught.value.status == 'INTERNAL'
