import os

import pytest

from tests.support.network import move_apart

LONGEST = "test_pod.py"


@pytest.fixture(scope="session", autouse=True)
def apart() -> None:
    """Side by side, each process has a network of its own, since all of these tests use the same ports."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        move_apart()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # The others run beside it.
    items.sort(key=lambda item: item.path.name != LONGEST)
