"""The Postgres store keeps the ports' promises."""

from __future__ import annotations

from uuid import uuid4

import pytest

from lamella.stores import open_store
from lamella.testing.stores import StoreConformance


class TestPostgresStore(StoreConformance):
    @pytest.fixture
    async def store(self, postgres_url: str):
        store = open_store(postgres_url, namespace=f'test-{uuid4().hex}')
        yield store
        await store.aclose()
