"""What the machine has to give.

if (free := free_memory()) is not None and free < needed: ...
"""

from pathlib import Path

# Of a container, whose limit the figures of the machine know nothing of: the newer layout of
# control groups, and the older one.
_GROUPS = (
    ("sys/fs/cgroup", "memory.max", "memory.current"),
    ("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
)


def free_memory(root: Path = Path("/")) -> int | None:
    """Bytes that programs can still take without swapping; None where the system does not say.

    Args:
        root: Where the system's files are.
    """
    try:
        free = [_fields(root / "proc/meminfo")["MemAvailable:"] * 1024]
    except (OSError, KeyError):
        return None
    for folder, limit, used in _GROUPS:
        try:
            most, now = (int((root / folder / name).read_text()) for name in (limit, used))
            cached = _fields(root / folder / "memory.stat")  # is given back when it is needed
        except (OSError, ValueError):  # there is none, or it says "max"
            continue
        kept = cached.get("inactive_file", 0) + cached.get("active_file", 0)
        free.append(max(0, most - now + kept))
    return min(free)


def _fields(file: Path) -> dict[str, int]:
    lines = (line.split() for line in file.read_text().splitlines())
    return {words[0]: int(words[1]) for words in lines if len(words) > 1}
