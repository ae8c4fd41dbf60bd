"""The free memory is what the system says, within what a container may have of it."""

from pathlib import Path

import pytest

from phi3v.machine import free_memory

GROUPS = {
    "newer": ("sys/fs/cgroup", "memory.max", "memory.current"),
    "older": ("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
}


@pytest.fixture
def root(tmp_path):
    (tmp_path / "proc").mkdir()
    text = "MemTotal:       32000000 kB\nMemFree:         1000000 kB\nMemAvailable:   8000000 kB\n"
    (tmp_path / "proc/meminfo").write_text(text)
    return tmp_path


def test_it_is_what_the_system_calls_available(root):
    assert free_memory(root) == 8_000_000 * 1024
    assert free_memory(root / "another system") is None


@pytest.mark.parametrize("layout", GROUPS)
def test_a_container_has_its_limit_less_what_cannot_be_given_back(root, layout):
    place, limit, used = GROUPS[layout]
    folder = root / place
    folder.mkdir(parents=True)
    (folder / "memory.stat").write_text("anon 1000\nactive_file 300\ninactive_file 500\n")
    (folder / used).write_text("1800\n")
    for written, free in (("5000\n", 4000), ("900\n", 0), ("max\n", 8_000_000 * 1024)):
        (folder / limit).write_text(written)
        assert free_memory(root) == free


def test_this_machine_says_it_where_it_can():
    assert (free_memory() or 0) < 2**60
    assert (free_memory() is not None) == Path("/proc/meminfo").exists()
