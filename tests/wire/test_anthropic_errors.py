"""Errors in the Anthropic protocol (platform.claude.com/docs/en/api/errors)."""

import json

import pytest

from lamella.types import TRANSIENT, LamellaError
from lamella.wire.anthropic import AnthropicCodec
from tests.wire.anthropic_events import body_of, events_of, message, parts_of

CODEC = AnthropicCodec()
TABLE = [
    (400, 'invalid_request_error', 'INVALID_ARGUMENT'),
    (401, 'authentication_error', 'UNAUTHENTICATED'),
    (402, 'billing_error', 'RESOURCE_EXHAUSTED'),
    (403, 'permission_error', 'PERMISSION_DENIED'),
    (404, 'not_found_error', 'NOT_FOUND'),
    (409, 'conflict_error', 'ABORTED'),
    (413, 'request_too_large', 'INVALID_ARGUMENT'),
    (429, 'rate_limit_error', 'RESOURCE_EXHAUSTED'),
    (500, 'api_error', 'INTERNAL'),
    (504, 'timeout_error', 'DEADLINE_EXCEEDED'),
    (529, 'overloaded_error', 'UNAVAILABLE'),
]


def body(kind: str) -> bytes:
    return json.dumps(
        {'type': 'error', 'error': {'type': kind, 'message': f'It was {kind}.'}, 'request_id': 'req_1'}
    ).encode()


@pytest.mark.parametrize(('http_status', 'kind', 'status'), TABLE)
def test_an_error_answer(http_status: int, kind: str, status: str) -> None:
    error = CODEC.decode_error(http_status, {'retry-after': '7'}, body(kind))
    assert (error.status, error.message) == (status, f'It was {kind}.')
    assert error.details['http_status'] == http_status
    assert error.details['type'] == kind
    assert error.details['request_id'] == 'req_1'
    assert error.retry_after_s == 7


@pytest.mark.parametrize(('http_status', 'kind', 'status'), TABLE)
def test_an_error_event_in_a_stream_that_began_well(http_status: int, kind: str, status: str) -> None:
    start = body_of([*events_of(message('text'))][:4])
    with pytest.raises(LamellaError, match=kind) as caught:
        parts_of(start, b'event: error\ndata: ' + body(kind) + b'\n\n')
    assert caught.value.status == status
    assert caught.value.partial is not None
    assert caught.value.partial.text == 'Hell'


def test_an_error_event_before_anything_else() -> None:
    with pytest.raises(LamellaError, match='overloaded') as caught:
        parts_of(b'event: error\ndata: ' + body('overloaded_error') + b'\n\n')
    assert caught.value.partial is None


def test_an_error_body_with_status_200_is_that_error() -> None:
    with pytest.raises(LamellaError) as caught:
        CODEC.decode_response(body('overloaded_error'))
    assert caught.value.status == 'UNAVAILABLE'


@pytest.mark.parametrize(('http_status', 'kind', 'status'), TABLE)
def test_a_server_says_an_error_as_it_was_said_to_it(http_status: int, kind: str, status: str) -> None:
    encoded = CODEC.encode_error(CODEC.decode_error(http_status, {'retry-after': '7'}, body(kind)))
    assert encoded.status == http_status
    assert json.loads(encoded.body) == json.loads(body(kind))
    assert encoded.headers['retry-after'] == '7'
    assert encoded.headers['request-id'] == 'req_1'


@pytest.mark.parametrize('status', TRANSIENT)
def test_an_error_of_our_own_keeps_its_meaning_on_the_wire(status: str) -> None:
    encoded = CODEC.encode_error(LamellaError(status, 'because', retry_after_s=1.5))  # type: ignore[arg-type]
    again = CODEC.decode_error(encoded.status, encoded.headers, encoded.body)
    assert (again.status, again.message, again.retry_after_s) == (status, 'because', 1.5)


def test_overload_has_the_status_of_this_api() -> None:
    assert CODEC.encode_error(LamellaError('UNAVAILABLE', 'x')).status == 529


def test_a_proxy_page_is_an_error_without_its_tags() -> None:
    error = CODEC.decode_error(502, {}, b'<html><body><h1>502 Bad Gateway</h1></body></html>')
    assert (error.status, error.message) == ('UNAVAILABLE', '502 Bad Gateway')
