"""A federation for the tests of one client."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.clients.stage import stage


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Give where the controls of a federation are."""
    with stage(tmp_path_factory.mktemp("stage") / "lab") as address:
        yield address
