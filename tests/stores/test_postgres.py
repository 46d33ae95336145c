"""The Postgres store keeps the ports' promises, and says clearly when the server does not let it."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest

from lamella.core.ports import Store
from lamella.stores import open_store
from lamella.stores._postgres import migrations
from lamella.stores.postgres import PostgresStore
from lamella.testing.stores import SharedStoreConformance
from lamella.types import LamellaError
from tests.servers import PASSWORD, PASSWORD_IN_URL, PostgresServer
from tests.stores.cut import wire_to


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[Store]:
    store = open_store(postgres_url, namespace=f'test-{uuid4().hex}')
    yield store
    await store.aclose()


class TestPostgresStore(SharedStoreConformance):
    @pytest.fixture
    def namespace(self) -> str:
        return f'test-{uuid4().hex}'

    @pytest.fixture
    async def store(self, postgres_url: str, namespace: str) -> AsyncIterator[Store]:
        store = open_store(postgres_url, namespace=namespace)
        yield store
        await store.aclose()

    @pytest.fixture
    async def other(self, postgres_url: str, namespace: str) -> AsyncIterator[Store]:
        store = open_store(postgres_url, namespace=namespace)
        yield store
        await store.aclose()


async def test_it_works_without_prepared_statements(postgres_url: str) -> None:
    store = open_store(f'{postgres_url}?statement_cache_size=0&namespace=test-{uuid4().hex}')
    assert (await store.add('k')).value == 1
    assert (await store.add('k')).value == 2
    await store.aclose()


async def run(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    for statement in statements:
        await connection.execute(statement)
    await connection.close()


@asynccontextmanager
async def weak_user(url: str, *statements: str) -> AsyncIterator[str]:
    """The URL of a new user who owns one schema, which is in the URL."""
    name = f'weak_{uuid4().hex}'
    made = (f"CREATE ROLE {name} LOGIN PASSWORD 'w'", f'CREATE SCHEMA {name} AUTHORIZATION {name}')
    await run(url, *made, *(statement.replace('ME', name) for statement in statements))
    host = urlsplit(url).netloc.rpartition('@')[2]
    yield f'postgresql://{name}:w@{host}/postgres?schema={name}'
    await run(url, f'DROP SCHEMA {name} CASCADE', f'DROP OWNED BY {name}', f'DROP ROLE {name}')


async def failure_of(url: str) -> LamellaError:
    store = open_store(url)
    with pytest.raises(LamellaError) as caught:
        await store.add('k')
    await store.aclose()
    assert PASSWORD not in str(caught.value)
    assert PASSWORD_IN_URL not in str(caught.value)
    return caught.value


async def test_a_server_that_is_away_is_named(own_postgres: PostgresServer) -> None:
    own_postgres.kill()
    error = await failure_of(own_postgres.url)
    assert error.status == 'UNAVAILABLE'
    assert own_postgres.address in error.message


async def test_a_wrong_password_is_said(postgres_url: str) -> None:
    error = await failure_of(postgres_url.replace(PASSWORD_IN_URL, 'hunter2'))
    assert (error.status, 'hunter2' in str(error)) == ('UNAUTHENTICATED', False)


async def test_a_server_without_tls_is_not_spoken_to_in_the_clear(postgres_url: str) -> None:
    error = await failure_of(f'{postgres_url}?sslmode=require')
    assert error.status == 'UNAVAILABLE'


async def test_a_database_that_is_not_there_is_said(postgres_url: str) -> None:
    error = await failure_of(postgres_url.removesuffix('/postgres') + '/attic')
    assert (error.status, 'has no database of that name' in error.message) == ('NOT_FOUND', True)


async def test_a_user_who_may_make_no_schema_is_told(postgres_url: str) -> None:
    async with weak_user(postgres_url) as url:
        error = await failure_of(url.replace('?schema=', '?schema=x_'))
        assert error.status == 'PERMISSION_DENIED'
        store = open_store(url)
        assert (await store.add('k')).value == 1  # a schema of its own is enough
        await store.aclose()


async def test_a_read_only_server_is_said_and_can_be_read(postgres_url: str) -> None:
    async with weak_user(postgres_url) as url:
        store = open_store(url)
        await store.put('k', b'x')
        await store.aclose()
        await run(postgres_url, f'ALTER ROLE {urlsplit(url).username} SET default_transaction_read_only = on')
        error = await failure_of(url)
        assert (error.status, 'is a read-only replica' in error.message) == ('FAILED_PRECONDITION', True)
        assert (await store.get('k')).value == b'x'
        await store.aclose()


async def test_an_isolation_in_which_steps_would_not_see_each_other_is_refused(postgres_url: str) -> None:
    async with weak_user(postgres_url, "ALTER ROLE ME SET default_transaction_isolation = 'repeatable read'") as url:
        error = await failure_of(url)
        assert (error.status, 'read committed' in error.message) == ('FAILED_PRECONDITION', True)


async def test_a_number_that_does_not_fit_is_no_outage(store: Store) -> None:
    with pytest.raises(LamellaError) as caught:
        await store.add('k', 2**70)
    assert caught.value.status == 'INVALID_ARGUMENT'
    assert (await store.add('k')).value == 1


@pytest.fixture
def schema() -> str:
    return f'own_{uuid4().hex}'


@pytest.fixture
def schema_url(postgres_url: str, schema: str) -> str:
    """A schema that no other test uses, and that nobody has made yet."""
    return f'{postgres_url}?schema={schema}'


async def test_a_schema_that_was_dropped_is_made_again(postgres_url: str, schema: str, schema_url: str) -> None:
    store = open_store(schema_url)
    await store.add('k')
    await run(postgres_url, f'DROP SCHEMA {schema} CASCADE')
    with pytest.raises(LamellaError, match='has lost its tables'):
        await store.add('k')
    assert (await store.add('k')).value == 1
    await store.aclose()


async def test_a_newer_schema_is_left_alone(postgres_url: str, schema: str, schema_url: str) -> None:
    store = open_store(schema_url)
    await store.add('k')
    await store.aclose()
    await run(postgres_url, f'UPDATE {schema}.schema_version SET version = version + 1')
    assert (await store.add('k')).value == 2
    await store.aclose()


def with_one_more(statement: str) -> Callable[[str], list[str]]:
    """The migrations, and a further one."""
    return lambda schema: [*migrations(schema), statement.replace('{schema}', schema)]


async def test_a_migration_that_fails_leaves_nothing_behind(schema_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = with_one_more('CREATE TABLE {schema}.more (x int); SELECT 1 / 0')
    with monkeypatch.context() as patch:
        patch.setattr('lamella.stores._postgres.migrations', broken)
        assert (await failure_of(schema_url)).status == 'INVALID_ARGUMENT'
    store = open_store(schema_url)
    assert (await store.add('k')).value == 1
    await store.aclose()


async def test_a_migration_is_made_once_and_keeps_what_is_there(
    schema_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(schema_url)
    await store.add('k')
    await store.aclose()
    more = with_one_more('CREATE TABLE {schema}.more (x int)')
    monkeypatch.setattr('lamella.stores._postgres.migrations', more)
    stores = [open_store(schema_url) for _ in range(4)]
    counts = await asyncio.gather(*[one.add('k') for one in stores])
    assert sorted(count.value for count in counts) == [2, 3, 4, 5]
    for one in stores:
        await one.aclose()


async def test_a_server_that_does_not_answer_is_not_waited_for(postgres_url: str) -> None:
    name = f'test-{uuid4().hex}'
    store = open_store(f'{postgres_url}?timeout_s=0.3', namespace=name)
    await store.add('k')
    holder = await asyncpg.connect(postgres_url)
    transaction = holder.transaction()
    await transaction.start()
    await holder.execute('UPDATE lamella.counters SET value = value WHERE namespace = $1', name)
    with pytest.raises(LamellaError) as caught:
        await store.add('k')
    assert caught.value.status == 'UNAVAILABLE'
    await transaction.rollback()
    await holder.close()
    assert (await store.add('k')).value == 2
    await store.aclose()


async def test_a_restarted_server_is_found_again_by_itself(own_postgres: PostgresServer) -> None:
    store = open_store(own_postgres.url)
    await asyncio.gather(*[store.add('k') for _ in range(30)])
    await asyncio.to_thread(own_postgres.kill)
    for _ in range(2):
        with pytest.raises(LamellaError) as caught:
            await store.add('k')
        assert caught.value.status == 'UNAVAILABLE'
    await asyncio.to_thread(own_postgres.start)
    counts = await asyncio.gather(*[store.add('k') for _ in range(30)])
    assert max(count.value for count in counts) == 60
    await store.aclose()


async def test_what_writes_is_never_sent_twice_and_what_reads_is(postgres_url: str) -> None:
    parts = urlsplit(postgres_url)
    async with wire_to(parts.hostname, parts.port) as wire:
        login = parts.netloc.rpartition('@')[0]
        url = f'postgresql://{login}@127.0.0.1:{wire.port}/postgres?namespace=test-{uuid4().hex}'
        store = open_store(f'{url}&max_connections=1&statement_cache_size=0')
        await store.add('k', 1)
        wire.cut_answers_to(b'add_all')
        with pytest.raises(LamellaError) as caught:
            await store.add('k', 1)
        assert caught.value.status == 'UNAVAILABLE'
        await store.aclose()
        assert (await store.count('k')).value in (1, 2)
        wire.cut_answers_to(b'FROM lamella.counters')
        await store.count('k')
        wire.cut_answers_to(b'FROM lamella.items')
        await store.get('k')
        assert wire.cuts == 3
        await store.aclose()


async def test_what_was_numbered_earlier_is_never_seen_later_in_a_list(postgres_url: str) -> None:
    """Numbers are given before a commit: whoever reads on behind a higher one would miss a lower one that is committed late."""
    name = f'test-{uuid4().hex}'
    store = open_store(postgres_url, namespace=name)
    await store.put('other', b'x')
    slow, watcher = await asyncpg.connect(postgres_url), await asyncpg.connect(postgres_url)
    transaction = slow.transaction()
    await transaction.start()
    await slow.execute("SELECT lamella.put(1, $1, 'early', NULL, 'x', NULL, 'l')", name)
    late = asyncio.ensure_future(store.put('late', b'x', listed='l'))
    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    async with asyncio.timeout(30):
        while not late.done() and not await watcher.fetchval(waiting):  # noqa: ASYNC110 (the server's own books)
            await asyncio.sleep(0.01)
    assert not late.done()
    assert list(await store.listed('l')) == []
    await transaction.commit()
    await late
    assert [one.key for one in await store.listed('l')] == ['early', 'late']
    for connection in (slow, watcher):
        await connection.close()
    await store.aclose()


async def test_expired_rows_are_removed_as_the_store_is_used(postgres_url: str, schema: str, schema_url: str) -> None:
    store = open_store(schema_url)
    for number in range(50):
        await store.put(f'v{number}', b'x', expire_s=0)
        await store.append(f'g{number}', b'x', expire_s=0)
    for _ in range(64):
        await store.add('k')
    left = {'items': 0, 'logs': 0, 'entries': 0, 'counters': 1, 'buckets': 0, 'leases': 0}
    assert await rows(postgres_url, schema) == left
    await store.aclose()


async def rows(url: str, schema: str) -> dict[str, int]:
    connection = await asyncpg.connect(url)
    tables = ('items', 'logs', 'entries', 'counters', 'buckets', 'leases')
    counted = {table: await connection.fetchval(f'SELECT count(*) FROM {schema}.{table}') for table in tables}
    await connection.close()
    return counted


async def test_a_forgotten_store_closes_its_connections(postgres_url: str) -> None:
    name = uuid4().hex
    store = open_store(f'{postgres_url}?application_name={name}')
    await store.add('k')
    watcher = await asyncpg.connect(postgres_url)
    mine = 'SELECT count(*) FROM pg_stat_activity WHERE application_name = $1'
    assert await watcher.fetchval(mine, name) == 1
    del store
    gc.collect()
    async with asyncio.timeout(30):
        while await watcher.fetchval(mine, name):  # noqa: ASYNC110 (the server's own books)
            await asyncio.sleep(0.01)
    await watcher.close()


def test_its_name_shows_no_password() -> None:
    assert repr(PostgresStore('postgresql://user:hunter2@db.example/d')) == "PostgresStore('Postgres at db.example')"
