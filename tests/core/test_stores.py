"""A store's URL: what it opens, and what is wrong with one that opens nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lamella.core.stores import SCHEMES, check_store
from lamella.stores import open_store
from lamella.stores.memory import MemoryStore
from lamella.types import ConfigError


def test_memory_is_a_store_of_its_own_each_time() -> None:
    first, second = open_store('memory://'), open_store('memory://?namespace=x')
    assert isinstance(first, MemoryStore)
    assert first is not second


async def test_a_sqlite_url_names_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for url in ('sqlite:///near%20by.db', f'sqlite:///{tmp_path}/far.db?synchronous=full&timeout_s=1'):
        store = open_store(url)
        await store.put('k', b'x')
        await store.aclose()
    assert (tmp_path / 'near by.db').exists()
    assert (tmp_path / 'far.db').exists()


@pytest.mark.parametrize(
    ('url', 'problem'),
    [
        ('sqlit:///x.db', "unknown scheme 'sqlit': did you mean 'sqlite'"),
        ('postgress://h/db', "did you mean 'postgres'"),
        ('x.db', "unknown scheme ''"),
        ('sqlite://x.db', 'write sqlite:///state.db'),
        ('sqlite:///', 'write sqlite:///state.db'),
        ('sqlite:///a#b.db', 'write # as %23'),
        ('sqlite:///x.db?timeout=3', "unknown option 'timeout': did you mean 'timeout_s'"),
        ('sqlite:///x.db?synchronous=off', "synchronous='off': give normal or full"),
        ('sqlite:///x.db?timeout_s=long', "timeout_s='long'"),
        ('sqlite:///x.db?namespace=a&namespace=b', 'namespace is given twice'),
        ('memory://name', 'memory:// has no name'),
        ('redis:///0', 'write redis://host:6379/0'),
        ('redis://host/zero', '/zero is no number of a database'),
        ('redis://host:port/0', 'host and port cannot be read'),
        ('redis://a:1,b:x/0', "'b:x' is no host of a Redis server"),
        ('redis://host/0?max_connection=3', "did you mean 'max_connections'"),
        ('postgresql://host/db?schema=Mine!', "schema='Mine!': give small letters"),
        ('postgresql://host/db?ssl=on', "or 'sslmode'?"),
        (3, 'give a URL'),
    ],
)
def test_a_wrong_url_is_one_clear_error(url, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_store(url)
    assert problem in str(caught.value)


def test_every_problem_of_a_url_is_in_one_error() -> None:
    with pytest.raises(ConfigError) as caught:
        open_store('redis://host/0?max_connections=many&namespace=a:b&what=1')
    for problem in ("max_connections='many'", "namespace='a:b'", "unknown option 'what'"):
        assert problem in str(caught.value)


@pytest.mark.parametrize(
    'url',
    [
        'redisx://user:hunter2@db.example/0',
        'redis://:hunter2@db.example/zero',
        'redis://:x/hunter2@db.example/0',
        'redis://:hunter2#x@db.example/0',
        'redis://:hunter2?x@db.example/0',
        'redis://user:pass:hunter2@db.example:port/0',
        'postgresql://u@db.example/d?password=hunter2',
        'postgresql://u@db.example/d?sslpassword=hunter2&schema=%21',
    ],
)
def test_an_error_never_shows_a_password(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_store(url)
    assert 'hunter2' not in str(caught.value)
    assert 'hunter2' not in repr(caught.value.__cause__)


@pytest.mark.parametrize('name', ['', 'a b', 'a:b', '{a}', '-a', 'a' * 101, 'ä', 'a\n'])
def test_a_namespace_is_a_short_plain_word(name: str) -> None:
    with pytest.raises(ConfigError, match='up to 100 letters'):
        open_store('memory://', namespace=name)


def test_a_namespace_is_given_once() -> None:
    with pytest.raises(ConfigError, match='give the namespace once'):
        open_store('memory://?namespace=a', namespace='b')


@pytest.mark.parametrize(
    ('scheme', 'module', 'extra'),
    [('redis', 'redis', 'redis'), ('valkeys', 'redis', 'redis'), ('postgresql', 'asyncpg', 'postgres')],
)
def test_a_missing_driver_is_named_with_the_command_that_installs_it(
    scheme: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.split('.')[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    for name in ('redis', '_redis', 'postgres', '_postgres'):
        monkeypatch.delitem(sys.modules, f'lamella.stores.{name}', raising=False)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=rf"pip install 'lamella\[{extra}\]'"):
        open_store(f'{scheme}://host/0')


def test_what_is_no_store_is_told_which_verbs_it_lacks() -> None:
    check_store(None)
    check_store(MemoryStore())
    with pytest.raises(ConfigError, match=r'a dict without put, put_if_absent'):
        check_store({})


def a_package(folder: Path, entry_point: str, module: str = '') -> None:
    """Installed there, as pip would have done it."""
    sys.modules.pop('lamella_attic', None)
    info = folder / 'lamella_attic-1.0.dist-info'
    info.mkdir()
    (info / 'METADATA').write_text('Metadata-Version: 2.1\nName: lamella-attic\nVersion: 1.0\n')
    (info / 'entry_points.txt').write_text(f'[lamella.stores]\n{entry_point}\n')
    (folder / 'lamella_attic.py').write_text(module)


def test_another_package_adds_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = (
        'from lamella.stores.memory import MemoryStore\n'
        'def from_url(parts, clock):\n'
        '    store = MemoryStore(clock=clock)\n'
        '    store.parts = parts\n'
        '    return store\n'
    )
    a_package(tmp_path, 'attic = lamella_attic', module)
    monkeypatch.syspath_prepend(tmp_path)
    store = open_store('attic://host/x', namespace='y')
    assert (store.parts.netloc, store.parts.path, store.parts.query) == ('host', '/x', 'namespace=y')
    with pytest.raises(ConfigError, match="did you mean 'attic'"):
        open_store('atticc://host')


@pytest.mark.parametrize(
    ('entry_point', 'problem'),
    [
        ('attic = no_such_module_at_all', 'cannot be imported'),
        ('attic = lamella_attic', 'has no from_url'),
        ('redis = lamella_attic', ''),
    ],
)
def test_a_package_that_adds_no_store_is_named(
    entry_point: str, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_package(tmp_path, entry_point)
    monkeypatch.syspath_prepend(tmp_path)
    if not problem:
        assert open_store('redis://host/0').__module__ == SCHEMES['redis']  # ours cannot be replaced
        return
    with pytest.raises(ConfigError, match=problem):
        open_store('attic://host')
