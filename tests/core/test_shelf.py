"""The stores of one app: opened once for each URL, on the app's clock, closed with the app."""

from pathlib import Path

import pytest

from lamella import Lamella
from lamella.stores.memory import MemoryStore
from lamella.testing import FakeClock, ScriptedModel
from lamella.types import ConfigError


async def test_layers_share_the_apps_own_store_by_default() -> None:
    seen = []

    async def model(request, ctx):  # type: ignore[no-untyped-def]
        seen.append(ctx.store)
        return (await ScriptedModel(['hi']).generate(request, ctx)).replace(model=None)

    ai = Lamella(model=model)
    for _ in range(2):
        await ai.generate(prompt='hi')
    assert isinstance(seen[0], MemoryStore)
    assert seen[0] is seen[1] is ai.resolve_store(None)


async def test_memory_expires_by_the_apps_clock() -> None:
    clock = FakeClock()
    store = Lamella(clock=clock).resolve_store(None)
    await store.put('k', b'v', expire_s=10)
    await clock.advance(11)
    assert await store.get('k') is None


async def test_a_url_is_opened_once_and_a_store_is_taken_as_it_is(tmp_path: Path) -> None:
    url, own = f'sqlite:///{tmp_path}/s.db', MemoryStore()
    ai = Lamella(store=url)
    assert ai.resolve_store(None) is ai.resolve_store(url)
    assert ai.resolve_store(own) is own
    await ai.resolve_store(url).put('k', b'v')
    await ai.aclose()
    assert (tmp_path / 's.db').exists()


@pytest.mark.parametrize(('store', 'problem'), [('sqlit:///x', "'sqlite'"), (3, 'is a int without get')])
def test_a_wrong_store_is_an_error_when_the_app_is_built(store, problem: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ConfigError, match=problem):
        Lamella(store=store)
