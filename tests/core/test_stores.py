"""A store's URL: what it opens, and what is wrong with one that opens nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from lamella.stores import open_store
from lamella.stores.memory import MemoryStore
from lamella.types import ConfigError


def test_memory_is_a_store_of_its_own_each_time() -> None:
    first, second = open_store('memory://'), open_store('memory://')
    assert isinstance(first, MemoryStore)
    assert first is not second


async def test_a_sqlite_url_names_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for url in ('sqlite:///near%20by.db', f'sqlite:///{tmp_path}/far.db'):
        store = open_store(url)
        await store.put('k', b'x')
        await store.aclose()
    assert (tmp_path / 'near by.db').exists()
    assert (tmp_path / 'far.db').exists()


@pytest.mark.parametrize(
    ('url', 'problem'),
    [
        ('sqlit:///x.db', "unknown scheme 'sqlit': did you mean 'sqlite'"),
        ('x.db', "unknown scheme ''"),
        ('sqlite://x.db', 'write sqlite:///state.db'),
        ('sqlite:///', 'write sqlite:///state.db'),
        ('memory://name', 'memory:// has no name'),
        (3, 'give a URL'),
    ],
)
def test_a_wrong_url_is_one_clear_error(url, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_store(url)
    assert problem in str(caught.value)


def test_an_error_never_shows_a_password() -> None:
    with pytest.raises(ConfigError) as caught:
        open_store('redisx://user:hunter2@db.example/0')
    assert 'hunter2' not in str(caught.value)
    assert 'db.example' in str(caught.value)
