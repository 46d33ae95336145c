"""Errors as google.rpc.Status, read and said."""

import json
from typing import Any

import pytest

from lamella.types import STATUSES, LamellaError
from lamella.wire.gemini import GeminiCodec

CODEC = GeminiCodec()
KEY = 'AIzaSyD-1234567890abcdefghijklmnopqrstuv'


def body(code: int, status: str, message: str = 'Something.', details: Any = None) -> bytes:
    error = {'code': code, 'message': message, 'status': status}
    return json.dumps({'error': error if details is None else {**error, 'details': details}}).encode()


def info(reason: str) -> list[dict[str, Any]]:
    return [{'@type': 'type.googleapis.com/google.rpc.ErrorInfo', 'reason': reason, 'domain': 'googleapis.com'}]


@pytest.mark.parametrize(
    ('code', 'status', 'ours'),
    [
        (400, 'INVALID_ARGUMENT', 'INVALID_ARGUMENT'),
        (400, 'FAILED_PRECONDITION', 'FAILED_PRECONDITION'),
        (400, 'OUT_OF_RANGE', 'OUT_OF_RANGE'),
        (401, 'UNAUTHENTICATED', 'UNAUTHENTICATED'),
        (403, 'PERMISSION_DENIED', 'PERMISSION_DENIED'),
        (404, 'NOT_FOUND', 'NOT_FOUND'),
        (409, 'ABORTED', 'ABORTED'),
        (429, 'RESOURCE_EXHAUSTED', 'RESOURCE_EXHAUSTED'),
        (499, 'CANCELLED', 'CANCELLED'),
        (500, 'INTERNAL', 'INTERNAL'),
        (501, 'UNIMPLEMENTED', 'UNIMPLEMENTED'),
        (503, 'UNAVAILABLE', 'UNAVAILABLE'),
        (504, 'DEADLINE_EXCEEDED', 'DEADLINE_EXCEEDED'),
    ],
)
def test_each_status_is_ours(code: int, status: str, ours: str) -> None:
    error = CODEC.decode_error(code, {}, body(code, status))

    assert (error.status, error.message, error.details['http_status']) == (ours, 'Something.', code)


def test_a_bad_key_is_unauthenticated_though_the_api_says_400() -> None:
    error = CODEC.decode_error(400, {}, body(400, 'INVALID_ARGUMENT', 'API key not valid.', info('API_KEY_INVALID')))

    assert error.status == 'UNAUTHENTICATED'


def test_a_list_of_one_error_is_that_error() -> None:
    """What a stream without alt=sse answers."""
    error = CODEC.decode_error(429, {}, b'[' + body(429, 'RESOURCE_EXHAUSTED', 'Slow down.') + b']')

    assert (error.status, error.message) == ('RESOURCE_EXHAUSTED', 'Slow down.')


def test_retry_info_says_when_to_come_back() -> None:
    details = [
        {'@type': 'type.googleapis.com/google.rpc.QuotaFailure', 'violations': [{'quotaId': 'RequestsPerMinute'}]},
        {'@type': 'type.googleapis.com/google.rpc.RetryInfo', 'retryDelay': '34.07s'},
    ]

    error = CODEC.decode_error(429, {}, body(429, 'RESOURCE_EXHAUSTED', details=details))

    assert error.retry_after_s == 34.07
    assert error.details['gemini'] == details
    assert 'retryable' not in error.details


def test_a_quota_of_the_day_is_not_retryable() -> None:
    """The API says `retryDelay` of some seconds even then."""
    violation = {'quotaId': 'GenerateRequestsPerDayPerProjectPerModel-FreeTier', 'quotaValue': '250'}
    details = [{'@type': 'type.googleapis.com/google.rpc.QuotaFailure', 'violations': [violation]}]

    error = CODEC.decode_error(429, {}, body(429, 'RESOURCE_EXHAUSTED', details=details))

    assert error.details['retryable'] is False


def test_a_header_says_when_to_come_back() -> None:
    assert CODEC.decode_error(503, {'Retry-After': '7'}, body(503, 'UNAVAILABLE')).retry_after_s == 7


def test_a_proxys_page_is_an_error_too() -> None:
    error = CODEC.decode_error(502, {}, b'<html><h1>Bad Gateway</h1></html>')

    assert (error.status, error.message) == ('UNAVAILABLE', 'Bad Gateway')


@pytest.mark.parametrize(
    'body', [b'', b'{', b'5', b'{"error":{"details":5}}', b'{"error":{"details":[5,{"violations":5}]}}']
)
def test_any_body_of_an_error_is_an_error(body: bytes) -> None:
    assert CODEC.decode_error(500, {}, body).status == 'INTERNAL'


def test_a_key_that_google_repeats_is_taken_out() -> None:
    """ "Permission denied: Consumer 'api_key:AIza…' has been suspended." is a message of the API."""
    details = [{'@type': 'type.googleapis.com/google.rpc.ErrorInfo', 'metadata': {'consumer': f'api_key:{KEY}'}}]

    error = CODEC.decode_error(403, {}, body(403, 'PERMISSION_DENIED', f"Consumer 'api_key:{KEY}' suspended.", details))

    assert KEY not in f'{error!r} {error} {error.details}'
    assert 'suspended' in error.message


@pytest.mark.parametrize('status', [status for status in STATUSES if status not in ('OK', 'UNKNOWN')])
def test_what_a_server_says_is_understood(status: Any) -> None:
    said = CODEC.encode_error(LamellaError(status, 'Something.', retry_after_s=1.5))
    error = CODEC.decode_error(said.status, said.headers, said.body)

    assert (error.status, error.message, error.retry_after_s) == (status, 'Something.', 1.5)
    assert json.loads(said.body)['error']['details'] == [
        {'@type': 'type.googleapis.com/google.rpc.RetryInfo', 'retryDelay': '1.5s'}
    ]


def test_googles_details_pass_through_a_server() -> None:
    details = info('SERVICE_DISABLED')
    error = CODEC.decode_error(403, {}, body(403, 'PERMISSION_DENIED', details=details))

    assert json.loads(CODEC.encode_error(error).body)['error']['details'] == details


def test_a_reason_of_another_provider_is_told() -> None:
    error = LamellaError('RESOURCE_EXHAUSTED', 'No money.', details={'code': 'insufficient_quota', 'http_status': 429})

    said = json.loads(CODEC.encode_error(error).body)['error']

    assert (said['code'], said['status']) == (429, 'RESOURCE_EXHAUSTED')
    assert said['details'][0]['reason'] == 'insufficient_quota'
