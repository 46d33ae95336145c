"""Which requests of a client are model calls, and how the path names another model."""

import pytest

from lamella.integrations.httpx2.routes import is_model_call, path_for, route_of

CALLS = [
    ('/v1/chat/completions', 'openai', 'openai-chat', None),
    ('/openai/deployments/main/chat/completions', 'openai', 'openai-chat', 'main'),
    ('/v1/responses', 'openai', 'openai-responses', None),
    ('/v1/messages', 'anthropic', 'anthropic', None),
    ('/proxy/anthropic/v1/messages', 'anthropic', 'anthropic', None),
    ('/v1beta/models/gemini-x:generateContent', 'googleai', 'gemini', 'gemini-x'),
    ('/v1beta/tunedModels/mine:generateContent', 'googleai', 'gemini', 'tunedModels/mine'),
    (
        '/v1/projects/p/locations/l/publishers/google/models/gemini-x:generateContent',
        'vertexai',
        'gemini',
        'gemini-x',
    ),
    ('/v1/projects/p/locations/l/endpoints/42:generateContent', 'vertexai', 'gemini', 'endpoints/42'),
]


@pytest.mark.parametrize(('path', 'provider', 'protocol', 'model'), CALLS)
def test_a_model_call_is_known_by_its_path(path: str, provider: str, protocol: str, model: str | None) -> None:
    assert is_model_call('POST', path)
    route = route_of(path, {}, b'{}', include_usage=True)
    assert route is not None
    assert (route.provider, route.codec.name, route.model) == (provider, protocol, model)


@pytest.mark.parametrize(
    ('method', 'path'),
    [
        ('GET', '/v1/chat/completions'),
        ('POST', '/v1/chat/completions/chatcmpl-1'),
        ('POST', '/v1/threads/t/messages'),
        ('POST', '/v1/messages/count_tokens'),
        ('POST', '/v1/messages/batches'),
        ('POST', '/v1/responses/resp_1/cancel'),
        ('POST', '/v1/embeddings'),
        ('POST', '/v1beta/models/gemini-x:countTokens'),
        ('POST', '/v1beta/models/gemini-x:embedContent'),
        ('GET', '/v1beta/models/gemini-x'),
    ],
)
def test_anything_else_is_none(method: str, path: str) -> None:
    assert not is_model_call(method, path)


@pytest.mark.parametrize(
    ('path', 'model', 'expected'),
    [
        ('/v1/chat/completions', 'b', '/v1/chat/completions'),
        ('/openai/deployments/a/chat/completions', 'b', '/openai/deployments/b/chat/completions'),
        ('/v1beta/models/a:generateContent', 'b', '/v1beta/models/b:generateContent'),
        ('/v1beta/tunedModels/a:generateContent', 'b', '/v1beta/models/b:generateContent'),
        ('/v1beta/models/a:streamGenerateContent', 'tunedModels/b', '/v1beta/tunedModels/b:streamGenerateContent'),
        (
            '/v1/projects/p/locations/l/endpoints/1:generateContent',
            'b',
            '/v1/projects/p/locations/l/publishers/google/models/b:generateContent',
        ),
    ],
)
def test_the_path_names_another_model_where_it_names_one(path: str, model: str, expected: str) -> None:
    assert path_for(path, model) == expected


def test_a_version_in_the_headers_is_the_codecs() -> None:
    route = route_of('/v1/messages', {'anthropic-version': '2026-10-21'}, b'{}', include_usage=True)
    assert route is not None
    assert route.codec.version == '2026-10-21'  # type: ignore[attr-defined]


@pytest.mark.parametrize('body', [b'', b'{', b'[]', b'{"max_tokens": "many"}'])
def test_a_body_that_cannot_be_read_is_the_codecs_to_refuse(body: bytes) -> None:
    assert route_of('/v1/chat/completions', {}, body, include_usage=True) is not None
