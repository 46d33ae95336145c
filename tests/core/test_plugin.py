"""The plugin port."""

from lamella.core.plugin import Plugin


async def test_a_plugin_offers_nothing_of_its_own_accord() -> None:
    plugin = Plugin()
    assert plugin.model('any') is None
    assert list(plugin.known_models()) == []
    assert dict(plugin.middleware()) == {}
    await plugin.aclose()
