"""What holds for all tests: two or three run at a time, so each computes on one core."""

import os

import pytest

# Before anything imports torch. With more threads than cores, OpenMP's wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# The few tests of several threads share a core with whatever runs beside them.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# Or else each program that a test starts would compile the package anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

LONGEST = ("test_demo.py", "test_sweep.py", "test_ranks.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long comes first, so that none of it is left alone at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}

    def turn(item: pytest.Item) -> tuple[bool, ...]:
        path = item.path
        return path.name not in LONGEST, "integration" not in path.parts, path not in slow

    items.sort(key=turn)
