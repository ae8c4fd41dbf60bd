"""What holds for all tests: two of them run at a time, so each has one core to itself."""

import os

import pytest

# Before anything imports torch. With more threads than cores, OpenMP's wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole programs and files with slow tests come first: none is left alone at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path.parent.name != "integration", item.path not in slow))
