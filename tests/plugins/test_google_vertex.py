"""The VertexAI plugin: addresses, and tokens of real google-auth credentials from a token server of this machine."""

import asyncio
import datetime as dt
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.oauth2 import credentials as user_credentials
from google.oauth2 import service_account

from lamella.plugins.google_genai import Tokens, VertexAI, vertex_path, vertex_url
from lamella.types import ConfigError, LamellaError
from tests.plugins.google_server import ASKED, chunk, context, drain, error, google, sse

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def no_cloud(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ('GOOGLE_CLOUD_PROJECT', 'GOOGLE_CLOUD_LOCATION', 'GOOGLE_APPLICATION_CREDENTIALS', 'GCLOUD_PROJECT'):
        monkeypatch.delenv(name, raising=False)


class TokenServer:
    """Grants tokens that hold an hour, counting them; or answers with `failure`."""

    def __init__(self) -> None:
        self.granted = 0
        self.failure: tuple[int, dict[str, str]] | None = None
        self.url = ''

    async def handle(self, request: web.Request) -> web.Response:
        form = await request.post()
        assert form['grant_type'] == 'urn:ietf:params:oauth:grant-type:jwt-bearer'
        if self.failure is not None:
            return web.json_response(self.failure[1], status=self.failure[0])
        self.granted += 1
        return web.json_response(
            {'access_token': f'ya29.token-{self.granted}', 'expires_in': 3600, 'token_type': 'Bearer'}
        )


@pytest.fixture
async def tokens() -> AsyncIterator[TokenServer]:
    ours = TokenServer()
    app = web.Application()
    app.router.add_post('/token', ours.handle)
    async with TestServer(app) as server:
        ours.url = str(server.make_url('/token'))
        yield ours


@pytest.fixture(scope='module')
def pem() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(encoding, form, serialization.NoEncryption()).decode()


def account(pem: str, token_uri: str) -> dict[str, str]:
    return {
        'type': 'service_account',
        'project_id': 'from-the-file',
        'client_email': 'a@b.iam.gserviceaccount.com',
        'private_key': pem,
        'token_uri': token_uri,
    }


@asynccontextmanager
async def vertex(server_url: str, **fields: Any) -> AsyncIterator[VertexAI]:
    plugin = VertexAI(base_url=server_url, **fields)
    yield plugin
    await plugin.aclose()


# Addresses


def test_a_plugin_is_made_without_credentials_and_network() -> None:
    plugin = VertexAI()
    model = plugin.model('gemini-2.5-pro')

    assert (plugin.name, model.name) == ('vertexai', 'vertexai/gemini-2.5-pro')
    assert repr(plugin) == "VertexAI(name='vertexai', base_url=None)"


@pytest.mark.parametrize(
    ('location', 'url'),
    [
        ('global', 'https://aiplatform.googleapis.com'),
        ('us', 'https://aiplatform.us.rep.googleapis.com'),
        ('eu', 'https://aiplatform.eu.rep.googleapis.com'),
        ('europe-west4', 'https://europe-west4-aiplatform.googleapis.com'),
    ],
)
def test_each_location_has_its_address(location: str, url: str) -> None:
    assert vertex_url(location) == url


@pytest.mark.parametrize(
    ('model', 'path'),
    [
        ('gemini-x', 'projects/p/locations/eu/publishers/google/models/gemini-x'),
        ('models/gemini-x', 'projects/p/locations/eu/publishers/google/models/gemini-x'),
        ('publishers/meta/models/llama', 'projects/p/locations/eu/publishers/meta/models/llama'),
        ('endpoints/123', 'projects/p/locations/eu/endpoints/123'),
        ('projects/q/locations/us/endpoints/1', 'projects/q/locations/us/endpoints/1'),
    ],
)
def test_each_kind_of_model_has_its_resource(model: str, path: str) -> None:
    assert vertex_path(model, 'p', 'eu') == path


def test_a_key_and_credentials_together_are_refused_when_built() -> None:
    with pytest.raises(ConfigError, match='both api_key= and credentials='):
        VertexAI(api_key='k', credentials=object())


@pytest.mark.parametrize('location', ['', 'evil.example.com/', 'Europe'])
def test_a_location_that_is_none_is_refused_when_built(location: str) -> None:
    with pytest.raises(ConfigError, match='location='):
        VertexAI(location=location)


async def test_a_location_of_the_environment_is_checked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('GOOGLE_CLOUD_LOCATION', 'evil.example.com/')
    with pytest.raises(ConfigError, match='GOOGLE_CLOUD_LOCATION='):
        await VertexAI(api_key='k').model('m').generate(ASKED, context())


# Calls


async def test_a_call_with_credentials() -> None:
    credentials = user_credentials.Credentials(token='ya29.mine', quota_project_id='payer')
    async with (
        google(chunk('Hello', 'STOP')) as server,
        vertex(server.url, project='p', location='europe-west4', credentials=credentials) as plugin,
    ):
        response = await plugin.model('gemini-2.5-pro').generate(ASKED, context())

    assert response.text == 'Hello'
    path = '/v1beta1/projects/p/locations/europe-west4/publishers/google/models/gemini-2.5-pro:generateContent'
    assert server.path == path
    assert server.headers['authorization'] == 'Bearer ya29.mine'
    assert server.headers['x-goog-user-project'] == 'payer'


async def test_project_and_location_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('GOOGLE_CLOUD_PROJECT', 'env-project')
    monkeypatch.setenv('GOOGLE_CLOUD_LOCATION', 'us')
    async with google(sse(chunk('', 'STOP'))) as server, vertex(server.url) as plugin:
        await drain(plugin.model('m'))

    assert server.path.startswith('/v1beta1/projects/env-project/locations/us/publishers/google/models/m:stream')


async def test_a_key_needs_no_project() -> None:
    async with google(chunk('x', 'STOP')) as server, vertex(server.url, api_key='AQ.key') as plugin:
        await plugin.model('gemini-x').generate(ASKED, context())

    assert server.path == '/v1beta1/publishers/google/models/gemini-x:generateContent'
    assert server.headers['x-goog-api-key'] == 'AQ.key'
    assert 'authorization' not in server.headers


async def test_a_server_on_this_machine_needs_nothing() -> None:
    async with google(chunk('x', 'STOP')) as server, vertex(server.url) as plugin:
        await plugin.model('gemini-x').generate(ASKED, context())

    assert server.path == '/v1beta1/publishers/google/models/gemini-x:generateContent'
    assert not {'authorization', 'x-goog-api-key'} & {name.lower() for name in server.headers}


async def test_options_of_vertexai_are_known() -> None:
    request = ASKED.replace(
        provider_options={'vertexai': {'labels': {'team': 'a'}}, 'googleai': {'labels': {'team': 'b'}}}
    )
    async with google(chunk('x', 'STOP')) as server, vertex(server.url) as plugin:
        await plugin.model('gemini-x').generate(request, context())

    assert server.bodies[-1]['labels'] == {'team': 'a'}


async def test_without_any_project_the_error_names_where_to_put_it() -> None:
    credentials = user_credentials.Credentials(token='ya29.mine')
    plugin = VertexAI(credentials=credentials)
    with pytest.raises(LamellaError, match=r'GOOGLE_CLOUD_PROJECT.*VertexAI\(project=') as caught:
        await plugin.model('m').generate(ASKED, context())

    assert caught.value.status == 'INVALID_ARGUMENT'


# Tokens


async def test_concurrent_calls_share_one_token(tokens: TokenServer, pem: str) -> None:
    credentials = service_account.Credentials.from_service_account_info(account(pem, tokens.url))
    async with (
        google(chunk('x', 'STOP')) as server,
        vertex(server.url, project='p', credentials=credentials) as plugin,
    ):
        await asyncio.gather(*[plugin.model('m').generate(ASKED, context()) for _ in range(20)])

    assert tokens.granted == 1
    assert {request.headers['authorization'] for request in server.requests} == {'Bearer ya29.token-1'}


async def test_an_expired_token_is_replaced_and_a_fresh_one_is_not(tokens: TokenServer, pem: str) -> None:
    credentials = service_account.Credentials.from_service_account_info(account(pem, tokens.url), scopes=['x'])
    ours = Tokens(credentials)

    first, second = [(await ours.headers())['authorization'] for _ in range(2)]
    credentials.expiry = dt.datetime(2020, 1, 1)  # noqa: DTZ001 - google-auth's are without a zone
    third = (await ours.headers())['authorization']

    assert (first, second, third) == ('Bearer ya29.token-1', 'Bearer ya29.token-1', 'Bearer ya29.token-2')


async def test_the_default_credentials_and_their_project_are_found(
    tokens: TokenServer, pem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / 'key.json'
    file.write_text(json.dumps(account(pem, tokens.url)))
    monkeypatch.setenv('GOOGLE_APPLICATION_CREDENTIALS', str(file))
    ours = Tokens()

    headers = await ours.headers()

    assert headers['authorization'] == 'Bearer ya29.token-1'
    assert ours.project == 'from-the-file'


async def test_one_plugin_serves_several_event_loops(tokens: TokenServer, pem: str) -> None:
    credentials = service_account.Credentials.from_service_account_info(account(pem, tokens.url))
    ours = Tokens(credentials)

    def in_a_loop_of_its_own() -> str:
        return asyncio.run(ours.headers())['authorization']  # type: ignore[arg-type]

    both = await asyncio.gather(*[asyncio.to_thread(in_a_loop_of_its_own) for _ in range(2)], ours.headers())

    assert tokens.granted == 1
    assert both[0] == both[1] == 'Bearer ya29.token-1'


async def test_refused_credentials_are_unauthenticated_and_say_what_to_do(tokens: TokenServer, pem: str) -> None:
    tokens.failure = (400, {'error': 'invalid_grant', 'error_description': 'Invalid JWT Signature.'})
    credentials = service_account.Credentials.from_service_account_info(account(pem, tokens.url))

    with pytest.raises(LamellaError, match=r'Invalid JWT Signature.*gcloud auth application-default login') as caught:
        await Tokens(credentials).headers()

    assert caught.value.status == 'UNAUTHENTICATED'


async def test_a_token_server_that_is_not_there_is_unavailable(pem: str) -> None:
    server = await asyncio.start_server(lambda reader, writer: writer.close(), '127.0.0.1', 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    credentials = service_account.Credentials.from_service_account_info(account(pem, f'http://127.0.0.1:{port}/token'))

    with pytest.raises(LamellaError, match='no access token from Google') as caught:
        await Tokens(credentials).headers()

    assert caught.value.status == 'UNAVAILABLE'


async def test_no_credentials_at_all_are_unauthenticated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('GOOGLE_APPLICATION_CREDENTIALS', str(tmp_path / 'missing.json'))

    with pytest.raises(LamellaError, match=r'missing\.json was not found') as caught:
        await Tokens().headers()

    assert caught.value.status == 'UNAUTHENTICATED'


async def test_without_google_auth_the_error_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'google.auth', None)

    with pytest.raises(ConfigError, match=r"pip install 'lamella\[vertex\]'"):
        await Tokens().headers()


async def test_a_token_that_the_server_repeats_is_in_no_error() -> None:
    credentials = user_credentials.Credentials(token='opaque-token-of-nobody')
    body = error(401, 'UNAUTHENTICATED', 'The token opaque-token-of-nobody has no access.')
    async with google((401, body)) as server, vertex(server.url, project='p', credentials=credentials) as plugin:
        with pytest.raises(LamellaError) as caught:
            await plugin.model('m').generate(ASKED, context())

    assert caught.value.status == 'UNAUTHENTICATED'
    assert 'opaque' not in f'{caught.value!r} {caught.value.details}'
