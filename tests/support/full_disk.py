"""A disk that takes no large file, in the place of a full one.

with small_files():
    save_file(weights, file)     # SafetensorError: ... File too large (os error 27)
"""

import resource
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def small_files(limit: int = 100_000) -> Iterator[None]:
    """Lets this process write no file beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
