from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from api_world import World


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    await made.open()
    yield made
    await made.close()
