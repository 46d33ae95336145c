"""One classifier for all vendors, and one reading of when to come back."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella.types import STATUSES, LamellaError
from lamella.wire.errors import (
    classify,
    error_from_body,
    error_from_event,
    http_status_of,
    redacted,
    retry_after_headers,
    retry_after_s,
)

NOW = 1_445_412_480.0  # Wed, 21 Oct 2015 07:28:00 GMT


@pytest.mark.parametrize(
    ('http_status', 'status'),
    [
        (400, 'INVALID_ARGUMENT'),
        (401, 'UNAUTHENTICATED'),
        (402, 'RESOURCE_EXHAUSTED'),
        (403, 'PERMISSION_DENIED'),
        (404, 'NOT_FOUND'),
        (405, 'UNIMPLEMENTED'),
        (408, 'DEADLINE_EXCEEDED'),
        (409, 'ABORTED'),
        (413, 'INVALID_ARGUMENT'),
        (418, 'INVALID_ARGUMENT'),
        (422, 'INVALID_ARGUMENT'),
        (425, 'UNAVAILABLE'),
        (429, 'RESOURCE_EXHAUSTED'),
        (499, 'CANCELLED'),
        (500, 'INTERNAL'),
        (501, 'UNIMPLEMENTED'),
        (502, 'UNAVAILABLE'),
        (503, 'UNAVAILABLE'),
        (504, 'DEADLINE_EXCEEDED'),
        (507, 'INTERNAL'),
        (524, 'DEADLINE_EXCEEDED'),
        (529, 'UNAVAILABLE'),
        (302, 'FAILED_PRECONDITION'),
        (200, 'UNKNOWN'),
        (None, 'UNKNOWN'),
    ],
)
def test_an_http_status_has_its_meaning(http_status: int | None, status: str) -> None:
    assert classify(http_status) == status


@pytest.mark.parametrize(
    ('http_status', 'type', 'code', 'status'),
    [
        # OpenAI
        (429, 'insufficient_quota', 'insufficient_quota', 'RESOURCE_EXHAUSTED'),
        (429, 'requests', 'rate_limit_exceeded', 'RESOURCE_EXHAUSTED'),
        (413, 'tokens', 'rate_limit_exceeded', 'INVALID_ARGUMENT'),
        (400, 'invalid_request_error', 'context_length_exceeded', 'INVALID_ARGUMENT'),
        (500, 'invalid_request_error', 'context_length_exceeded', 'INVALID_ARGUMENT'),
        (404, 'invalid_request_error', None, 'NOT_FOUND'),
        (404, 'invalid_request_error', 'invalid_api_key', 'UNAUTHENTICATED'),
        (None, 'invalid_request_error', None, 'INVALID_ARGUMENT'),
        (None, 'server_error', None, 'INTERNAL'),
        (200, 'server_error', 'rate_limit_exceeded', 'RESOURCE_EXHAUSTED'),
        (None, None, 429, 'RESOURCE_EXHAUSTED'),
        (None, None, '502', 'UNAVAILABLE'),
        (400, None, 502, 'INVALID_ARGUMENT'),
        (None, None, True, 'UNKNOWN'),
        (500, None, 'slow_down', 'UNAVAILABLE'),
        # Anthropic
        (529, 'overloaded_error', None, 'UNAVAILABLE'),
        (None, 'overloaded_error', None, 'UNAVAILABLE'),
        (500, 'overloaded_error', None, 'UNAVAILABLE'),
        (None, 'rate_limit_error', None, 'RESOURCE_EXHAUSTED'),
        (None, 'api_error', None, 'INTERNAL'),
        (None, 'timeout_error', None, 'DEADLINE_EXCEEDED'),
        (400, 'authentication_error', None, 'UNAUTHENTICATED'),
        (413, 'request_too_large', None, 'INVALID_ARGUMENT'),
        (None, 'permission_error', None, 'PERMISSION_DENIED'),
        (None, 'not_found_error', None, 'NOT_FOUND'),
        # Google
        (400, 'FAILED_PRECONDITION', 400, 'FAILED_PRECONDITION'),
        (400, 'INVALID_ARGUMENT', 'API_KEY_INVALID', 'UNAUTHENTICATED'),
        (503, 'UNAVAILABLE', 503, 'UNAVAILABLE'),
        (500, 'UNKNOWN', 500, 'INTERNAL'),
        (409, 'ALREADY_EXISTS', None, 'ALREADY_EXISTS'),
        # nobody
        (418, 'teapot_error', 'short_and_stout', 'INVALID_ARGUMENT'),
        (None, 'teapot_error', 'short_and_stout', 'UNKNOWN'),
    ],
)
def test_the_vendors_words_refine_the_status(http_status: int | None, type: str, code: Any, status: str) -> None:
    assert classify(http_status, type=type, code=code) == status


OPENAI = {'error': {'message': 'Slow down.', 'type': 'requests', 'param': None, 'code': 'rate_limit_exceeded'}}
ANTHROPIC = {'type': 'error', 'error': {'type': 'overloaded_error', 'message': 'Overloaded'}, 'request_id': 'req_1'}
GOOGLE = {
    'error': {
        'code': 429,
        'message': 'You exceeded your current quota.',
        'status': 'RESOURCE_EXHAUSTED',
        'details': [
            {'@type': 'type.googleapis.com/google.rpc.QuotaFailure', 'violations': []},
            {'@type': 'type.googleapis.com/google.rpc.RetryInfo', 'retryDelay': '34.07s'},
        ],
    }
}


def body(value: Any) -> bytes:
    return json.dumps(value).encode()


def test_openais_error_keeps_message_type_code_status_and_request_id() -> None:
    error = error_from_body(429, {'X-Request-Id': 'req_9', 'Retry-After': '7'}, body(OPENAI))
    assert (error.status, error.message, error.retry_after_s) == ('RESOURCE_EXHAUSTED', 'Slow down.', 7.0)
    assert error.details == {
        'http_status': 429,
        'request_id': 'req_9',
        'type': 'requests',
        'code': 'rate_limit_exceeded',
    }


def test_anthropics_error_has_its_request_id_in_the_body() -> None:
    error = error_from_body(529, {}, body(ANTHROPIC))
    assert (error.status, error.message) == ('UNAVAILABLE', 'Overloaded')
    assert error.details == {'http_status': 529, 'request_id': 'req_1', 'type': 'overloaded_error'}


@pytest.mark.parametrize('wrap', [lambda value: value, lambda value: [value]], ids=['object', 'list'])
def test_googles_error_says_when_to_come_back(wrap: Any) -> None:
    error = error_from_body(429, {}, body(wrap(GOOGLE)))
    assert (error.status, error.retry_after_s) == ('RESOURCE_EXHAUSTED', 34.07)
    assert error.details == {'http_status': 429, 'type': 'RESOURCE_EXHAUSTED', 'code': 429}


def test_googles_bad_key_is_unauthenticated_and_not_a_bad_argument() -> None:
    info = {'@type': 'type.googleapis.com/google.rpc.ErrorInfo', 'reason': 'API_KEY_INVALID'}
    wrong = {'error': {'code': 400, 'message': 'API key not valid.', 'status': 'INVALID_ARGUMENT', 'details': [info]}}
    error = error_from_body(400, {}, body(wrong))
    assert (error.status, error.details['code']) == ('UNAUTHENTICATED', 'API_KEY_INVALID')


@pytest.mark.parametrize(
    ('answer', 'message'),
    [
        (b'{"error": "model not loaded"}', 'model not loaded'),
        (b'{"message": "no such route"}', 'no such route'),
        (b'{"detail": [{"loc": ["body", "x"]}]}', '[{"loc":["body","x"]}]'),
        (b'{"object": "error", "message": "too long", "type": "BadRequestError", "code": 400}', 'too long'),
        (b'<html><title>502 Bad Gateway</title><style>a{}</style> <h1>nginx</h1></html>', '502 Bad Gateway nginx'),
        (b'upstream connect error', 'upstream connect error'),
        (b'\xff\xfe', '��'),
        (b'', 'the provider answered with HTTP 502 and no message'),
        (b'{}', 'the provider answered with HTTP 502 and no message'),
        (b'[]', 'the provider answered with HTTP 502 and no message'),
        (b'null', 'the provider answered with HTTP 502 and no message'),
        (b'{"error": {"message": 5}}', '5'),
    ],
)
def test_other_bodies_give_their_message_too(answer: bytes, message: str) -> None:
    assert error_from_body(502, {}, answer).message == message


def test_a_long_page_is_cut() -> None:
    assert len(error_from_body(502, {}, b'x' * 100_000).message) == 2000


@pytest.mark.parametrize('code', ['insufficient_quota', 'billing_not_active'])
def test_what_waiting_cannot_help_is_marked(code: str) -> None:
    error = error_from_body(429, {}, body({'error': {'message': 'm', 'type': code, 'code': code}}))
    assert error.details['retryable'] is False


def test_a_server_may_say_that_retrying_is_no_use() -> None:
    assert error_from_body(500, {'X-Should-Retry': 'false'}, b'').details['retryable'] is False
    assert 'retryable' not in error_from_body(500, {'X-Should-Retry': 'true'}, b'').details


def test_an_error_in_a_stream_has_no_http_status_unless_it_tells_one() -> None:
    error = error_from_event(ANTHROPIC)
    assert (error.status, error.details) == ('UNAVAILABLE', {'request_id': 'req_1', 'type': 'overloaded_error'})
    told = error_from_event({'error': {'code': 429, 'message': 'm'}})
    assert (told.status, told.details['http_status']) == ('RESOURCE_EXHAUSTED', 429)
    assert error_from_event({'error': {'code': 429, 'message': 'm'}}).message == 'm'


@pytest.mark.parametrize(
    'secret',
    [
        'sk-proj-abcdefgh12345678',
        'sk-ant-api03-abcdefgh12345678',
        'AIzaSyA1234567890abcdefghij',
        'gsk_abcdefghijklmnop1234',
        'sk-ab***********************wxyz',
        'ya29.a0AfH6SMBxxxxxxxx',
    ],
)
def test_no_credential_stays_in_a_message(secret: str) -> None:
    error = error_from_body(
        401, {}, body({'error': {'message': f'Incorrect API key provided: {secret}. See the docs.'}})
    )
    assert error.message == 'Incorrect API key provided: [redacted]. See the docs.'
    assert secret not in str(error)


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ('Authorization: Bearer abc.def', 'Authorization: Bearer [redacted]'),
        ('https://h/v1?key=abc&x=1', 'https://h/v1?key=[redacted]&x=1'),
        ('the desk-lamp and the sk-learn package', 'the desk-lamp and the sk-learn package'),
    ],
)
def test_redaction_takes_credentials_and_leaves_words(text: str, expected: str) -> None:
    assert redacted(text) == expected


# Retry-After


@pytest.mark.parametrize(
    ('headers', 'expected'),
    [
        ({'retry-after': '20'}, 20.0),
        ({'Retry-After': ' 1.5 '}, 1.5),
        ({'retry-after': '0'}, 0.0),
        ({'retry-after-ms': '1500'}, 1.5),
        ({'retry-after-ms': '250', 'retry-after': '1'}, 0.25),
        ({'retry-after-ms': 'soon', 'retry-after': '1'}, 1.0),
        ({'retry-after': 'Wed, 21 Oct 2015 07:28:30 GMT'}, 30.0),
        ({'retry-after': 'Wednesday, 21-Oct-15 07:28:30 GMT'}, 30.0),
        ({'retry-after': 'Wed Oct 21 07:28:30 2015'}, 30.0),
        ({'retry-after': 'Wed, 21 Oct 2015 07:27:30 GMT'}, None),
        ({'retry-after': '-5'}, None),
        ({'retry-after': 'nan'}, None),
        ({'retry-after': 'inf'}, None),
        ({'retry-after': '1e3'}, None),
        ({'retry-after': '1_000'}, None),
        ({'retry-after': '٣'}, None),
        ({'retry-after': '9' * 400}, None),
        ({'retry-after': '1445412510'}, None),
        ({'retry-after': ''}, None),
        ({'retry-after': 'Wed, 99 Xxx 2015'}, None),
        ({}, None),
    ],
)
def test_retry_after_is_seconds_milliseconds_or_a_date(headers: dict[str, str], expected: float | None) -> None:
    assert retry_after_s(headers, now=NOW) == expected


def test_a_date_is_compared_with_the_answers_own_date_when_no_time_is_given() -> None:
    headers = {'Retry-After': 'Wed, 21 Oct 2015 07:28:30 GMT', 'Date': 'Wed, 21 Oct 2015 07:28:20 GMT'}
    assert retry_after_s(headers) == 10.0
    assert retry_after_s(headers, now=NOW) == 30.0
    assert retry_after_s({'Retry-After': headers['Retry-After']}) is None


@pytest.mark.parametrize(
    ('reset', 'expected'),
    [
        ('1s', 1.0),
        ('6m0s', 360.0),
        ('20ms', 0.02),
        ('7.66s', 7.66),
        ('1h2m3.5s', 3723.5),
        ('1d', 86400.0),
        ('12', 12.0),
        ('', None),
        ('soon', None),
        ('-1s', None),
        ('1s!', None),
    ],
)
def test_openais_reset_counts_when_nothing_remains_on_a_429(reset: str, expected: float | None) -> None:
    headers = {'x-ratelimit-remaining-tokens': '0', 'x-ratelimit-reset-tokens': reset}
    assert retry_after_s(headers, http_status=429) == expected
    assert retry_after_s(headers, http_status=500) is None
    assert retry_after_s({**headers, 'x-ratelimit-remaining-tokens': '3'}, http_status=429) is None
    assert retry_after_s({'x-ratelimit-reset-tokens': reset}, http_status=429) is None


def test_of_several_exhausted_limits_the_latest_reset_counts() -> None:
    headers = {
        'x-ratelimit-remaining-requests': '0',
        'x-ratelimit-reset-requests': '1s',
        'x-ratelimit-remaining-tokens': '0',
        'x-ratelimit-reset-tokens': '2m0s',
    }
    assert retry_after_s(headers, http_status=429) == 120.0
    assert retry_after_s({**headers, 'retry-after': '3'}, http_status=429) == 3.0


def test_anthropics_reset_is_a_moment() -> None:
    headers = {
        'anthropic-ratelimit-requests-remaining': '5',
        'anthropic-ratelimit-requests-reset': '2015-10-21T09:00:00Z',
        'anthropic-ratelimit-input-tokens-remaining': '0',
        'anthropic-ratelimit-input-tokens-reset': '2015-10-21T07:28:42Z',
    }
    assert retry_after_s(headers, now=NOW, http_status=429) == 42.0
    assert retry_after_s(headers, http_status=429) is None
    past = {**headers, 'anthropic-ratelimit-input-tokens-reset': '2015-10-21T07:27:00+00:00'}
    assert retry_after_s(past, now=NOW, http_status=429) == 0.0
    broken = {**headers, 'anthropic-ratelimit-input-tokens-reset': 'tomorrow'}
    assert retry_after_s(broken, now=NOW, http_status=429) is None


@given(
    headers=st.dictionaries(
        st.sampled_from(
            ['retry-after', 'retry-after-ms', 'date', 'x-ratelimit-reset-requests', 'anthropic-ratelimit-x-reset']
        ),
        st.text() | st.floats().map(str) | st.integers().map(str) | st.datetimes().map(str),
    ),
    remaining=st.sampled_from(['0', '1', 'x']),
    now=st.none() | st.floats(0, 4e9),
)
def test_whatever_a_server_says_the_wait_is_sane(headers: dict[str, str], remaining: str, now: float | None) -> None:
    limits = {'x-ratelimit-remaining-requests': remaining, 'anthropic-ratelimit-x-remaining': remaining}
    wait = retry_after_s({**headers, **limits}, now=now, http_status=429)
    assert wait is None or 0 <= wait <= 31 * 86400


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(['error', 'message', 'x']) | st.text(), inner)
    ),
    max_leaves=8,
)
error_fields = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(('message', 'type', 'code', 'status', 'details', 'param'), json_values),
)


@given(status=st.integers(100, 999), value=json_values | st.fixed_dictionaries({'error': error_fields}))
def test_any_body_gives_one_error(status: int, value: Any) -> None:
    error = error_from_body(status, {}, json.dumps(value).encode('utf-8', 'replace'))
    assert error.status in STATUSES
    assert error.message


@given(status=st.integers(300, 599), content=st.binary(max_size=100))
def test_any_bytes_give_one_error(status: int, content: bytes) -> None:
    assert error_from_body(status, {}, content).details['http_status'] == status


# The way back


@pytest.mark.parametrize('status', [status for status in STATUSES if status != 'OK'])
def test_every_status_has_an_http_status(status: Any) -> None:
    assert 400 <= http_status_of(LamellaError(status, 'm')) <= 599


def test_the_providers_own_http_status_is_kept_where_it_means_the_same() -> None:
    assert http_status_of(LamellaError('UNAVAILABLE', 'm', details={'http_status': 529})) == 529
    assert http_status_of(LamellaError('UNAVAILABLE', 'm', details={'http_status': 400})) == 503
    assert http_status_of(LamellaError('UNAVAILABLE', 'm', details={'http_status': 'x'})) == 503


def test_what_is_sent_as_retry_after_is_read_back() -> None:
    headers = retry_after_headers(LamellaError('RESOURCE_EXHAUSTED', 'm', retry_after_s=1.25))
    assert headers == {'retry-after': '2', 'retry-after-ms': '1250'}
    assert retry_after_s(headers) == 1.25
    assert retry_after_headers(LamellaError('RESOURCE_EXHAUSTED', 'm')) == {}
    assert retry_after_headers(LamellaError('RESOURCE_EXHAUSTED', 'm', retry_after_s=float('nan'))) == {}
