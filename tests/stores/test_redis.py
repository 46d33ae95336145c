"""The Redis store keeps the ports' promises, and says clearly when the server does not let it."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import AsyncIterator, Iterator
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from lamella.core.ports import Bucket, Store
from lamella.core.stores import StoreWarning
from lamella.stores import open_store
from lamella.stores.redis import RedisStore
from lamella.testing.stores import SharedStoreConformance
from lamella.types import LamellaError
from tests.servers import PASSWORD, PASSWORD_IN_URL, RedisServer, free_port, server_folder
from tests.stores.cut import wire_to


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[Store]:
    store = open_store(redis_url, namespace=f'test-{uuid4().hex}')
    yield store
    await store.aclose()


class TestRedisStore(SharedStoreConformance):
    @pytest.fixture
    def server_url(self, redis_url: str) -> str:
        return redis_url

    @pytest.fixture
    def namespace(self) -> str:
        return f'test-{uuid4().hex}'

    @pytest.fixture
    async def store(self, server_url: str, namespace: str) -> AsyncIterator[Store]:
        store = open_store(server_url, namespace=namespace)
        yield store
        await store.aclose()

    @pytest.fixture
    async def other(self, server_url: str, namespace: str) -> AsyncIterator[Store]:
        store = open_store(server_url, namespace=namespace)
        yield store
        await store.aclose()


class TestValkeyStore(TestRedisStore):
    @pytest.fixture
    def server_url(self, valkey_url: str) -> str:
        return valkey_url


async def failure_of(url: str) -> LamellaError:
    store = open_store(url)
    with pytest.raises(LamellaError) as caught:
        await store.add('k')
    await store.aclose()
    assert PASSWORD not in str(caught.value)
    assert PASSWORD_IN_URL not in str(caught.value)
    return caught.value


async def test_a_server_that_is_away_is_named(own_redis: RedisServer) -> None:
    own_redis.kill()
    error = await failure_of(own_redis.url)
    assert error.status == 'UNAVAILABLE'
    assert own_redis.address in error.message


async def test_a_wrong_or_missing_password_is_said(redis_url: str) -> None:
    error = await failure_of(redis_url.replace(PASSWORD_IN_URL, 'hunter2'))
    assert (error.status, 'hunter2' in str(error)) == ('UNAUTHENTICATED', False)
    host = urlsplit(redis_url).netloc.rpartition('@')[2]
    error = await failure_of(f'redis://{host}/0')
    assert error.status == 'UNAUTHENTICATED'
    assert 'wants a password' in error.message


async def test_a_database_that_is_not_there_is_said(redis_url: str) -> None:
    error = await failure_of(redis_url.removesuffix('/0') + '/99')
    assert (error.status, 'has no database of that number' in error.message) == ('FAILED_PRECONDITION', True)


async def test_a_replica_a_full_memory_and_foreign_keys_are_said(own_redis: RedisServer) -> None:
    store = open_store(own_redis.url)
    await store.put('k', b'x')

    async def failure() -> tuple[str, str]:
        with pytest.raises(LamellaError) as caught:
            await store.put('k', b'y')
        return caught.value.status, caught.value.message

    own_redis.ask('CONFIG', 'SET', 'maxmemory', '1')
    status, message = await failure()
    assert (status, 'has no memory left' in message) == ('RESOURCE_EXHAUSTED', True)
    own_redis.ask('CONFIG', 'SET', 'maxmemory', '0')
    own_redis.ask('REPLICAOF', '127.0.0.1', '1')
    status, message = await failure()
    assert (status, 'is a read-only replica' in message) == ('FAILED_PRECONDITION', True)
    assert (await store.get('k')).value == b'x'
    own_redis.ask('REPLICAOF', 'NO', 'ONE')
    own_redis.ask('DEL', '{lamella}:v:k')
    own_redis.ask('LPUSH', '{lamella}:v:k', 'a list of somebody else')
    status, message = await failure()
    assert (status, 'holds something else' in message) == ('FAILED_PRECONDITION', True)
    own_redis.ask('DEL', '{lamella}:v:k')
    assert await store.put('k', b'y') > 0
    await store.aclose()


async def test_a_server_that_drops_keys_when_it_is_full_is_warned_of(own_redis: RedisServer) -> None:
    own_redis.ask('CONFIG', 'SET', 'maxmemory', '100mb')
    store = open_store(own_redis.url)
    await store.add('k')  # noeviction: no warning
    await store.aclose()
    own_redis.ask('CONFIG', 'SET', 'maxmemory-policy', 'allkeys-lru')
    with pytest.warns(StoreWarning, match=r'maxmemory-policy allkeys-lru.*set maxmemory-policy noeviction'):
        assert (await store.add('k')).value == 2
    await store.add('k')
    await store.aclose()


async def test_a_number_that_would_not_be_exact_is_no_outage(store: Store) -> None:
    with pytest.raises(LamellaError) as caught:
        await store.add('k', 2**60)
    assert caught.value.status == 'INVALID_ARGUMENT'


@pytest.mark.parametrize('options', ['', '&ssl_cert_reqs=none&ssl_check_hostname=false'])
async def test_a_server_without_tls_is_not_spoken_to_in_the_clear(redis_url: str, options: str) -> None:
    error = await failure_of(redis_url.replace('redis://', 'rediss://') + '?timeout_s=0.3' + options)
    assert error.status == 'UNAVAILABLE'


async def test_a_user_that_may_not_is_said(own_redis: RedisServer) -> None:
    own_redis.ask('ACL', 'SETUSER', 'weak', 'on', '>w', '~*', '+hmget')
    error = await failure_of(f'redis://weak:w@{own_redis.address}/0')
    assert error.status == 'PERMISSION_DENIED'


async def test_a_server_that_does_not_answer_is_not_waited_for(own_redis: RedisServer) -> None:
    store = open_store(f'{own_redis.url}?timeout_s=0.2')
    await store.put('k', b'x')
    assert own_redis.process is not None
    own_redis.process.send_signal(signal.SIGSTOP)
    try:
        with pytest.raises(LamellaError, match='is away') as caught:
            await store.put('k', b'y')
        assert caught.value.status == 'UNAVAILABLE'
    finally:
        own_redis.process.send_signal(signal.SIGCONT)
    async with asyncio.timeout(30):
        while (await store.get('k')).value != b'y':  # noqa: ASYNC110 (it was on its way)
            await asyncio.sleep(0.01)
    await store.aclose()


async def test_a_restarted_server_is_found_again_by_itself(own_redis: RedisServer) -> None:
    store = open_store(own_redis.url)
    await asyncio.gather(*[store.add('k') for _ in range(30)])
    own_redis.kill()
    for _ in range(2):
        with pytest.raises(LamellaError) as caught:
            await store.add('k')
        assert caught.value.status == 'UNAVAILABLE'
    own_redis.start()
    counts = await asyncio.gather(*[store.add('k') for _ in range(30)])
    assert max(count.value for count in counts) == 60
    await store.aclose()


async def test_what_writes_is_never_sent_twice_and_what_reads_is(redis_url: str) -> None:
    parts = urlsplit(redis_url)
    async with wire_to(parts.hostname, parts.port) as wire:
        login = parts.netloc.rpartition('@')[0]
        store = open_store(f'redis://{login}@127.0.0.1:{wire.port}/0?namespace=test-{uuid4().hex}')
        await store.add('k')
        wire.cut_answers_to(b'EVALSHA')
        with pytest.raises(LamellaError) as caught:
            await store.add('k')
        assert caught.value.status == 'UNAVAILABLE'
        assert (await store.count('k')).value == 2  # it was done, once
        for request, read in ((b'EVALSHA', store.count('k')), (b'HMGET', store.get('k')), (b'LRANGE', store.read('k'))):
            wire.cut_answers_to(request)
            await read
        assert wire.cuts == 4
        await store.aclose()


async def test_scripts_are_sent_anew_to_a_server_that_forgot_them(own_redis: RedisServer) -> None:
    store = open_store(own_redis.url)
    await store.add('k')
    own_redis.ask('SCRIPT', 'FLUSH')
    assert (await store.add('k')).value == 2
    await store.aclose()


async def test_tokens_grow_even_when_the_server_lost_everything(own_redis: RedisServer) -> None:
    store = open_store(own_redis.url)
    first, version = await store.acquire('k', 60), await store.put('k', b'x')
    own_redis.ask('FLUSHALL')
    second = await store.acquire('k', 60)
    assert second.token > max(first.token, version)
    await store.aclose()


def test_one_store_serves_one_event_loop_after_the_other_without_a_close(redis_url: str) -> None:
    store = open_store(redis_url, namespace=f'test-{uuid4().hex}')
    for expected in (1, 2, 3):
        assert asyncio.run(store.add('k')).value == expected
    del store
    gc.collect()  # an open connection would warn here


async def test_a_forgotten_store_closes_its_connections(own_redis: RedisServer) -> None:
    store = open_store(own_redis.url)
    await store.add('k')
    del store
    gc.collect()
    async with asyncio.timeout(30):
        while b'connected_clients:1\r' not in clients_of(own_redis):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def clients_of(server: RedisServer) -> bytes:
    return server.ask('INFO', 'clients', lines=3)


@pytest.fixture
def cluster() -> Iterator[list[RedisServer]]:
    """Two nodes, half of the slots each."""
    with server_folder() as one, server_folder() as two:
        nodes = [RedisServer(folder, '--cluster-enabled', 'yes', durable=False) for folder in (one, two)]
        try:
            for node, slots in zip(nodes, (range(8192), range(8192, 16384)), strict=True):
                node.port = free_port(below=55_000)
                node.start()
                node.ask('CLUSTER', 'ADDSLOTS', *map(str, slots))
            nodes[0].ask('CLUSTER', 'MEET', '127.0.0.1', str(nodes[1].port))
            yield nodes
        finally:
            for node in nodes:
                node.stop()


async def test_a_namespace_is_found_wherever_it_lies_in_a_cluster(cluster: list[RedisServer]) -> None:
    async with asyncio.timeout(60):
        while not all(b'cluster_state:ok' in node.ask('CLUSTER', 'INFO', lines=2) for node in cluster):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    for namespace in ('a', 'b', 'c', 'd', 'e', 'f'):
        url = f'redis://:{PASSWORD_IN_URL}@{cluster[0].address}/0?namespace={namespace}'
        store = open_store(url)
        assert (await store.take([Bucket('calls', 1, 5), Bucket('tokens', 1, 100, 60)])).granted
        await store.put('k', b'x', listed='all')
        await store.add('k')
        assert [one.key for one in await store.listed('all')] == ['k']
        await store.aclose()
    keys = [int(node.ask('DBSIZE').removeprefix(b':')) for node in cluster]
    assert all(keys), f'all namespaces lie on one node, which proves nothing: {keys}'


async def test_the_next_host_is_asked_when_one_is_away_or_a_replica(own_redis: RedisServer) -> None:
    with server_folder() as folder:
        other = RedisServer(folder)
        other.start()
        try:
            own_redis.ask('REPLICAOF', '127.0.0.1', '1')
            store = open_store(f'redis://:{PASSWORD_IN_URL}@{own_redis.address},{other.address}/0')
            with pytest.raises(LamellaError, match='read-only replica'):
                await store.put('k', b'x')
            assert await store.put('k', b'x') > 0
            own_redis.ask('REPLICAOF', 'NO', 'ONE')
            other.kill()
            with pytest.raises(LamellaError, match='is away'):
                await store.put('k', b'x')
            assert await store.put('k', b'x') > 0
            await store.aclose()
        finally:
            other.stop()


def test_its_name_shows_no_password() -> None:
    store = RedisStore('redis://user:hunter2@db.example/0')
    assert repr(store) == "RedisStore('Redis at db.example:6379')"
