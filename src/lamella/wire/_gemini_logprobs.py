"""Gemini's `logprobsResult` as the list of tokens that `metadata['logprobs']` is for every provider, and back."""

from __future__ import annotations

from typing import Any

from lamella.types import JSON
from lamella.wire._gemini_json import fields

_LISTS = ('chosenCandidates', 'topCandidates')


def add_logprobs(result: JSON, value: Any) -> None:
    """Add a chunk's `logprobsResult`: each chunk has the log probabilities of its own tokens. Raises Malformed."""
    for name, item in fields(value).items():
        if name in _LISTS and isinstance(item, list):
            result.setdefault(name, []).extend(item)
        else:
            result[name] = item


def tokens_of(result: JSON) -> list[JSON]:
    """`[{'token', 'logprob', 'top_logprobs'}]`; `top_logprobs` holds the likeliest tokens of that place, with their own."""
    chosen, top = (value if isinstance(value := result.get(name), list) else [] for name in _LISTS)
    tokens = [_token(candidate) for candidate in chosen]
    for token, place in zip(tokens, top, strict=False):
        likeliest = place.get('candidates') if isinstance(place, dict) else None
        token['top_logprobs'] = [_token(item) for item in likeliest] if isinstance(likeliest, list) else []
    return tokens


def _token(candidate: Any) -> JSON:
    candidate = candidate if isinstance(candidate, dict) else {}
    return {'token': candidate.get('token', ''), 'logprob': candidate.get('logProbability')}


def result_of(tokens: Any) -> JSON:
    """The `logprobsResult` of such a list; nothing for any other value."""
    known = [token for token in tokens if isinstance(token, dict)] if isinstance(tokens, list) else []
    if not known:
        return {}
    chosen, top = _LISTS
    tops = [token.get('top_logprobs') or [] for token in known]
    result: JSON = {chosen: [_candidate(token) for token in known]}
    return (
        {**result, top: [{'candidates': [_candidate(item) for item in place]} for place in tops]}
        if any(tops)
        else result
    )


def _candidate(token: JSON) -> JSON:
    return {'token': token.get('token'), 'logProbability': token.get('logprob')}
