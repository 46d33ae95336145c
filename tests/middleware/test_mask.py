"""What is taken out of printed text, and what is left alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella.middleware._mask import masked

KEYS = [
    'sk-abcdefgh12345678',
    'sk-proj-Ab_12-cdefghijkl',
    'sk-ant-api03-xyzXYZ_0123456789',
    'sk-or-v1-0123456789abcdef',
    'AIzaSyA1234567890abcdefghijklmnopqrstu',
    'ya29.a0AfH6SMBx1234567890',
    'ghp_1234567890abcdefghij',
    'github_pat_11ABCDEFG0123456789',
    'hf_abcdefghijklmnop1234',
    'gsk_abcdefghijklmnop1234',
    'xoxb-123456789012-abcdef',
    'AKIAIOSFODNN7EXAMPLE',
    'eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.SflKxwRJSM',
]


@pytest.mark.parametrize('key', KEYS)
@pytest.mark.parametrize('text', ['{}', 'the key {} is wrong', '"{}"', '({}),', 'a={}', 'https://x.test/?q={}&b=1'])
def test_a_key_with_a_known_prefix_is_masked_anywhere(key: str, text: str) -> None:
    assert key not in masked(text.format(key))
    assert '***' in masked(text.format(key))


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ('Authorization: Bearer abc.def-123', 'Authorization: *** ***'),
        ('sent bearer abcdef123 twice', 'sent bearer *** twice'),
        ('password=hunter2', 'password=***'),
        ('password: "two words", user: ann', 'password: ***, user: ann'),
        ("{'api_key': 'abc', 'n': 1}", "{'api_key': ***, 'n': 1}"),
        ('{"api-key":"a\'b","n":1}', '{"api-key":***,"n":1}'),
        ('{\\"token\\": \\"abc def\\", \\"n\\": 1}', '{\\"token\\": ***, \\"n\\": 1}'),
        ('OPENAI_API_KEY=abc', 'OPENAI_API_KEY=***'),
        ('client_secret = shh', 'client_secret = ***'),
        ('https://ann:pass@host/x', 'https://***@host/x'),
        ('?key=AbCdEf1234567890xyz&a=1', '?key=***&a=1'),
        ('Cookie: sid=1', 'Cookie: ***'),
    ],
)
def test_what_stands_under_a_secret_name_is_masked(text: str, expected: str) -> None:
    assert masked(text) == expected


@pytest.mark.parametrize(
    'text',
    [
        'max_tokens=100 is too many',
        '{"max_output_tokens":4096,"total_tokens": 276}',
        'token: null',
        'the password was wrong',
        'bearer of news',
        'a task-force of risk-averse people',
        '{"key": "colour", "value": "red"}',
        'key=some-long-lowercase-name-in-words',
        'UNAVAILABLE: the model is overloaded, retry after 2 s',
        'https://api.example.com/v1/models?page=2',
        'openai/gpt-5',
        'call_0123456789abcdef',
    ],
)
def test_ordinary_text_is_left_alone(text: str) -> None:
    assert masked(text) == text


@given(st.sampled_from(KEYS), st.text(max_size=200), st.text(max_size=200))
def test_no_text_around_it_hides_a_key(key: str, before: str, after: str) -> None:
    assert key not in masked(f'{before} {key} {after}')


@pytest.mark.parametrize(
    'text', ['sk-' * 2000, 'token' * 2000, 'password="' + 'a\\' * 4000, '=' * 9000, 'a' * 9000 + '@']
)
def test_long_text_made_to_be_slow_is_not(text: str) -> None:
    """Work is bounded by the length that is looked at; a quadratic pattern would take minutes here."""
    assert len(masked(text)) <= 4096 + 3
