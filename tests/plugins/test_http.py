"""The plugins' HTTP client against servers that behave, and servers that do not."""

import asyncio
import base64
import gc
import gzip
import shutil
import ssl
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from lamella.plugins import HttpSettings, _http_client
from lamella.plugins._http import AiohttpTransport
from lamella.types import ConfigError, LamellaError
from tests.plugins.raw_server import Connection, keep_answering, raw_server

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def transport(**settings: Any) -> AsyncIterator[AiohttpTransport]:
    client = AiohttpTransport(HttpSettings(**settings))
    try:
        yield client
    finally:
        await client.aclose()


async def post(client: AiohttpTransport, url: str, **headers: str) -> bytes:
    async with client.post(url, headers, b'{}') as answer:
        return await answer.read()


async def failure(client: AiohttpTransport, url: str) -> LamellaError:
    with pytest.raises(LamellaError) as caught:
        await post(client, url)
    return caught.value


# The pool


async def test_a_connection_is_used_again() -> None:
    async with raw_server(keep_answering) as (server, url), transport() as client:
        assert [await post(client, url) for _ in range(3)] == [b'hello'] * 3
    assert (len(server.connections), server.requests) == (1, 3)


async def answer_once_then_hang_up_on_the_next(connection: Connection) -> None:
    await connection.request()
    await connection.answer()
    await connection.request()


async def test_a_stale_connection_is_replaced_unseen() -> None:
    async with raw_server(answer_once_then_hang_up_on_the_next) as (server, url), transport() as client:
        assert [await post(client, url) for _ in range(2)] == [b'hello'] * 2
    assert [connection.asked for connection in server.connections] == [2, 1]


async def test_a_whole_pool_of_stale_connections_is_replaced_unseen() -> None:
    async with raw_server(answer_once_then_hang_up_on_the_next) as (_, url), transport() as client:
        for _ in range(2):
            assert await asyncio.gather(*[post(client, url) for _ in range(10)]) == [b'hello'] * 10


async def test_a_second_try_is_the_last() -> None:
    async def handle(connection: Connection) -> None:
        await connection.request()
        if connection.number == 0:
            await connection.answer()
            await connection.request()

    async with raw_server(handle) as (server, url), transport() as client:
        await post(client, url)
        error = await failure(client, url)
    assert error.status == 'UNAVAILABLE'
    assert [connection.asked for connection in server.connections] == [2, 1]


async def test_a_new_connection_that_hangs_up_is_no_stale_one() -> None:
    async with raw_server(Connection.request) as (server, url), transport() as client:
        error = await failure(client, url)
    assert (error.status, server.requests) == ('UNAVAILABLE', 1)
    assert url.removeprefix('http://') in error.message


async def test_after_a_byte_of_the_answer_nothing_is_sent_twice() -> None:
    async def handle(connection: Connection) -> None:
        await connection.request()
        await connection.answer()
        await connection.request()
        await connection.send(b'HTTP/1.1 200 OK\r\ncontent-')

    async with raw_server(handle) as (server, url), transport() as client:
        await post(client, url)
        error = await failure(client, url)
    assert (error.status, server.requests) == ('UNAVAILABLE', 2)


async def test_a_server_that_hangs_up_late_may_have_done_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_http_client, '_STALE_WINDOW_S', 0.0)
    async with raw_server(answer_once_then_hang_up_on_the_next) as (server, url), transport() as client:
        await post(client, url)
        error = await failure(client, url)
    assert (error.status, server.requests) == ('UNAVAILABLE', 2)


async def test_cookies_are_not_kept() -> None:
    seen = []

    async def handle(connection: Connection) -> None:
        while found := await connection.request():
            seen.append(found[1])
            await connection.answer(b'', '200 OK', 'set-cookie: a=b')

    async with raw_server(handle) as (_, url), transport() as client:
        for _ in range(2):
            await post(client, url)
    assert ['cookie' in headers for headers in seen] == [False, False]


async def test_status_and_headers_are_given_as_they_came_by_lower_case_names() -> None:
    async def handle(connection: Connection) -> None:
        await connection.request()
        await connection.answer(b'no', '429 Too Many Requests', 'Retry-After: 7')

    async with raw_server(handle) as (_, url), transport() as client, client.post(url, {}, b'') as answer:
        assert (answer.status, answer.headers['retry-after'], await answer.read()) == (429, '7', b'no')


# Waiting


async def silence(connection: Connection) -> None:
    await connection.request()
    await connection.hung_up()


async def test_no_answer_in_time_names_the_setting() -> None:
    async with raw_server(silence) as (_, url), transport(first_byte_timeout_s=0.05) as client:
        error = await failure(client, url)
    assert error.status == 'DEADLINE_EXCEEDED'
    assert error.message == f'{url.removeprefix("http://")}: no answer within first_byte_timeout_s=0.05'


async def test_the_wait_for_an_answer_begins_anew_on_a_used_connection() -> None:
    async def handle(connection: Connection) -> None:
        await connection.request()
        await connection.answer()
        await silence(connection)

    async with raw_server(handle) as (_, url), transport(first_byte_timeout_s=0.5) as client:
        await post(client, url)
        assert 'first_byte_timeout_s=0.5' in (await failure(client, url)).message


async def stalling(connection: Connection) -> None:
    await connection.request()
    await connection.send(b'HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhel')
    await connection.hung_up()


async def test_a_body_that_stalls_names_the_setting() -> None:
    async with raw_server(stalling) as (_, url), transport(idle_timeout_s=0.05) as client:
        error = await failure(client, url)
    assert error.status == 'DEADLINE_EXCEEDED'
    assert error.message.endswith('nothing more arrived within idle_timeout_s=0.05')


async def test_a_connection_without_its_tls_in_time_names_the_setting() -> None:
    async with raw_server(Connection.hung_up) as (_, url), transport(connect_timeout_s=0.05) as client:
        error = await failure(client, url.replace('http:', 'https:'))
    assert error.status == 'DEADLINE_EXCEEDED'
    assert error.message.endswith('no connection within connect_timeout_s=0.05')


async def test_a_full_pool_names_the_setting() -> None:
    async with (
        raw_server(stalling) as (server, url),
        transport(max_connections=1, pool_timeout_s=0.05) as client,
        client.post(url, {}, b''),
    ):
        error = await failure(client, url)
    assert (error.status, server.requests) == ('DEADLINE_EXCEEDED', 1)
    assert error.message.endswith('no connection of the pool became free within pool_timeout_s=0.05')


async def test_a_free_place_in_the_pool_is_waited_for() -> None:
    async with raw_server(keep_answering) as (server, url), transport(max_connections=1) as client:
        assert await asyncio.gather(*[post(client, url) for _ in range(5)]) == [b'hello'] * 5
    assert len(server.connections) == 1


async def test_a_large_request_arrives_whole_on_a_new_connection_and_a_stale_one() -> None:
    sizes = []

    async def handle(connection: Connection) -> None:
        sizes.append(len((await connection.request() or ('', {}, b''))[2]))
        await connection.answer()
        sizes.append(len((await connection.request() or ('', {}, b''))[2]))

    async with raw_server(handle) as (_, url), transport() as client:
        for _ in range(2):
            async with client.post(url, {}, b'x' * 3_000_000) as answer:
                assert await answer.read() == b'hello'
    assert sizes[:3] == [3_000_000] * 3


# Failures


async def test_nobody_there_is_unavailable_with_the_host() -> None:
    async with raw_server(keep_answering) as (_, url):
        pass
    async with transport() as client:
        error = await failure(client, f'{url}/v1?key=secret')
    assert error.status == 'UNAVAILABLE'
    assert url.removeprefix('http://') in error.message
    assert 'secret' not in error.message


@pytest.mark.parametrize(
    'answer',
    [
        b'HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhel',
        b'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n',
        b'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n',
        b'HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 3\r\n\r\nhel',
        b'SSH-2.0-OpenSSH_9.6\r\n',
        b'HTTP/1.1 abc\r\n\r\n',
        b'',
    ],
)
async def test_an_answer_that_is_cut_or_garbled_is_unavailable(answer: bytes) -> None:
    async def handle(connection: Connection) -> None:
        await connection.request()
        await connection.send(answer)

    async with raw_server(handle) as (_, url), transport() as client:
        assert (await failure(client, url)).status == 'UNAVAILABLE'


async def test_an_answer_may_be_compressed() -> None:
    async def handle(connection: Connection) -> None:
        await connection.request()
        await connection.answer(gzip.compress(b'hello' * 1000), '200 OK', 'content-encoding: gzip')

    async with raw_server(handle) as (_, url), transport() as client:
        assert await post(client, url) == b'hello' * 1000


@pytest.mark.parametrize(
    'encode', [lambda body: (body, 'x: y'), lambda body: (gzip.compress(body), 'content-encoding: gzip')]
)
async def test_an_answer_has_a_bound_also_when_it_was_small_on_the_wire(encode: Any) -> None:
    body, header = encode(b'\0' * 2_000_000)

    async def handle(connection: Connection) -> None:
        await connection.request()
        await connection.answer(body, '200 OK', header)

    async with raw_server(handle) as (_, url), transport(max_body_bytes=1_000_000) as client:
        error = await failure(client, url)
    assert error.status == 'OUT_OF_RANGE'
    assert 'larger than max_body_bytes=1000000' in error.message


async def test_a_header_with_a_line_end_is_refused_without_showing_it() -> None:
    async with raw_server(keep_answering) as (_, url), transport() as client:
        with pytest.raises(ConfigError, match='check base_url and headers') as caught:
            await post(client, url, authorization='Bearer se\ncret')
    assert 'cret' not in caught.value.message


# Leaving


async def test_leaving_the_block_early_closes_the_connection_at_once() -> None:
    closed = asyncio.Event()

    async def handle(connection: Connection) -> None:
        await stalling(connection)
        closed.set()

    async with raw_server(handle) as (_, url), transport() as client:
        async with client.post(url, {}, b'') as answer:
            assert await anext(answer.pieces()) == b'hel'
        await asyncio.wait_for(closed.wait(), 5)


@pytest.mark.parametrize('handler', [silence, stalling])
async def test_cancelling_is_seen_by_the_server(handler: Any) -> None:
    asked, closed = asyncio.Event(), asyncio.Event()

    async def handle(connection: Connection) -> None:
        request = connection.request

        async def noted() -> Any:
            found = await request()
            asked.set()
            return found

        connection.request = noted  # type: ignore[method-assign]
        await handler(connection)
        closed.set()

    async with raw_server(handle) as (_, url), transport() as client:
        call = asyncio.create_task(post(client, url))
        await asked.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await asyncio.wait_for(closed.wait(), 5)


async def test_a_reader_who_waits_makes_the_server_wait() -> None:
    piece, everything = b'x' * 65536, 1000
    settled = asyncio.Event()
    sent = 0

    async def handle(connection: Connection) -> None:
        nonlocal sent
        await connection.request()
        await connection.send(b'HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n' % (everything * len(piece)))
        try:
            for _ in range(everything):
                connection.writer.write(piece)
                await asyncio.wait_for(connection.writer.drain(), 0.5)
                sent += 1
        except TimeoutError:
            pass
        settled.set()
        await connection.hung_up()

    async with raw_server(handle) as (_, url), transport() as client, client.post(url, {}, b'') as answer:
        await anext(answer.pieces())
        await settled.wait()
    assert sent < everything


async def test_what_follows_the_end_is_drained_so_that_the_connection_lives() -> None:
    async def handle(connection: Connection) -> None:
        while await connection.request():
            await connection.send(b'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n')
            await connection.send(b'0\r\n\r\n')

    async with raw_server(handle) as (server, url), transport() as client:
        for _ in range(3):
            async with client.post(url, {}, b'') as answer:
                await anext(answer.pieces())
                await answer.drain()
    assert len(server.connections) == 1


async def test_draining_gives_up_on_a_body_that_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_http_client, '_DRAIN_S', 0.01)
    async with raw_server(stalling) as (_, url), transport() as client, client.post(url, {}, b'') as answer:
        await anext(answer.pieces())
        await answer.drain()


# Event loops


class Hello(BaseHTTPRequestHandler):
    """A server of its own thread: it outlives event loops."""

    protocol_version = 'HTTP/1.1'
    closed = threading.Semaphore(0)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers['content-length']))
        self.send_response(200)
        self.send_header('content-length', '5')
        self.end_headers()
        self.wfile.write(b'hello')

    def finish(self) -> None:
        super().finish()
        Hello.closed.release()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: tests are quiet."""


@pytest.fixture
def thread_server() -> Any:
    server = ThreadingHTTPServer(('127.0.0.1', 0), Hello)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f'http://127.0.0.1:{server.server_port}'
    server.shutdown()
    thread.join()
    server.server_close()


def test_one_client_serves_several_event_loops_in_turn(thread_server: str) -> None:
    client = AiohttpTransport(HttpSettings())
    for _ in range(3):
        assert asyncio.run(post(client, thread_server)) == b'hello'
        assert Hello.closed.acquire(timeout=5), 'the end of the loop closes its connections'
    gc.collect()


def test_loops_in_several_threads_do_not_meet(thread_server: str) -> None:
    client = AiohttpTransport(HttpSettings())
    answers: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: answers.append(asyncio.run(post(client, thread_server)))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [b'hello'] * 4


def test_a_forgotten_client_leaves_no_warning(thread_server: str) -> None:
    async def forget() -> None:
        assert await post(AiohttpTransport(HttpSettings()), thread_server) == b'hello'
        gc.collect()

    asyncio.run(forget())
    gc.collect()


async def test_closing_twice_is_fine_and_a_closed_client_can_be_used_again() -> None:
    async with raw_server(keep_answering) as (server, url), transport() as client:
        await client.aclose()
        await post(client, url)
        await client.aclose()
        await client.aclose()
        assert await post(client, url) == b'hello'
    assert len(server.connections) == 2


# Proxies


async def proxied(connection: Connection, seen: list[tuple[str, dict[str, str]]]) -> None:
    while found := await connection.request():
        seen.append(found[:2])
        await connection.answer()


async def test_a_proxy_gets_the_call_and_its_own_password() -> None:
    seen: list[tuple[str, dict[str, str]]] = []
    async with raw_server(lambda connection: proxied(connection, seen)) as (_, url):
        proxy = url.replace('http://', 'http://user:pass@')
        async with transport(proxy=proxy) as client:
            assert await post(client, 'http://api.invalid/v1') == b'hello'
    ((first, headers),) = seen
    assert first == 'POST http://api.invalid/v1 HTTP/1.1'
    assert headers['proxy-authorization'] == 'Basic ' + base64.b64encode(b'user:pass').decode()


@pytest.mark.parametrize('variable', ['http_proxy', 'HTTP_PROXY', 'all_proxy'])
async def test_the_environments_proxies_hold(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, dict[str, str]]] = []
    async with raw_server(lambda connection: proxied(connection, seen)) as (server, url), transport() as client:
        monkeypatch.setenv(variable, url)
        for _ in range(2):
            assert await post(client, 'http://api.invalid/v1') == b'hello'
        assert [first for first, _ in seen] == ['POST http://api.invalid/v1 HTTP/1.1'] * 2
    assert len(server.connections) == 1


@pytest.mark.parametrize('setting', ['no_proxy', 'trust_env'])
async def test_the_environments_proxies_can_be_left_aside(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with (
        raw_server(keep_answering) as (server, url),
        transport(trust_env=setting != 'trust_env') as client,
    ):
        monkeypatch.setenv('http_proxy', url)
        monkeypatch.setenv('no_proxy', 'api.invalid' if setting == 'no_proxy' else '')
        assert (await failure(client, 'http://api.invalid/v1')).status == 'UNAVAILABLE'
    assert server.connections == []


async def test_this_machine_is_reached_without_the_environments_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    async with raw_server(keep_answering) as (_, url), transport() as client:
        monkeypatch.setenv('http_proxy', 'http://127.0.0.1:1')
        assert await post(client, url) == b'hello'


# Certificates


@pytest.fixture(scope='session')
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    openssl = shutil.which('openssl')
    if openssl is None:
        pytest.skip('openssl makes the certificate')
    folder = tmp_path_factory.mktemp('tls')
    key, certificate = folder / 'key.pem', folder / 'certificate.pem'
    command = [openssl, 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2']
    command += [
        '-subj',
        '/CN=localhost',
        '-addext',
        'subjectAltName=IP:127.0.0.1',
        '-keyout',
        str(key),
        '-out',
        str(certificate),
    ]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


@asynccontextmanager
async def tls_server(certificate: tuple[Path, Path]) -> AsyncIterator[str]:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(0, reader, writer)
        if await connection.request():
            await connection.answer()
        writer.close()

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    server = await asyncio.start_server(handle, '127.0.0.1', 0, ssl=context)
    try:
        yield f'https://127.0.0.1:{server.sockets[0].getsockname()[1]}'
    finally:
        server.close()


async def test_certificates_of_ones_own_are_a_file_or_a_context(certificate: tuple[Path, Path]) -> None:
    context = ssl.create_default_context(cafile=str(certificate[0]))
    async with tls_server(certificate) as url:
        for verify in (str(certificate[0]), certificate[0], context, False):
            async with transport(verify=verify) as client:
                assert await post(client, url) == b'hello'


async def test_a_certificate_that_nobody_vouches_for_is_refused_with_a_hint(certificate: tuple[Path, Path]) -> None:
    async with tls_server(certificate) as url, transport() as client:
        error = await failure(client, url)
    assert error.status == 'UNAVAILABLE'
    assert 'verify=' in error.message


# Settings


def test_every_wrong_setting_is_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        HttpSettings(
            connect_timeout_s=0,
            idle_timeout_s=True,
            first_byte_timeout_s=float('nan'),
            keepalive_s=-1,
            max_connections=0,
            proxy='socks5://h',
            verify='/no/such/file.pem',
        )
    for name in (
        'connect_timeout_s',
        'idle_timeout_s',
        'first_byte_timeout_s',
        'keepalive_s',
        'max_connections',
        'proxy',
        'verify',
    ):
        assert f'{name}' in caught.value.message


def test_no_limit_is_a_setting_too() -> None:
    settings = HttpSettings(connect_timeout_s=None, first_byte_timeout_s=None, idle_timeout_s=None, pool_timeout_s=None)
    assert settings.idle_timeout_s is None


async def test_without_limits_calls_work() -> None:
    none = dict.fromkeys(('connect_timeout_s', 'first_byte_timeout_s', 'idle_timeout_s', 'pool_timeout_s'))
    async with raw_server(keep_answering) as (_, url), transport(**none) as client:
        assert await post(client, url) == b'hello'


def test_a_file_that_holds_no_certificates_is_refused(tmp_path: Path) -> None:
    path = tmp_path / 'empty.pem'
    path.write_text('nothing')
    with pytest.raises(ConfigError, match='PEM'):
        asyncio.run(post(AiohttpTransport(HttpSettings(verify=str(path))), 'https://127.0.0.1:1'))


def test_the_proxys_password_is_not_shown() -> None:
    assert 'pass' not in repr(HttpSettings(proxy='http://user:pass@h'))


# The optional package


async def test_without_aiohttp_the_command_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'aiohttp', None)
    with pytest.raises(ConfigError, match=r"aiohttp is not installed: pip install 'lamella\[http\]'"):
        await post(AiohttpTransport(HttpSettings()), 'http://127.0.0.1:1')


def test_importing_a_plugin_loads_no_http_client() -> None:
    program = 'import sys, lamella, lamella.plugins.openai as m; m.OpenAI().model("x"); print("aiohttp" in sys.modules)'
    found = subprocess.run([sys.executable, '-c', program], capture_output=True, check=True, text=True)
    assert found.stdout.strip() == 'False'
