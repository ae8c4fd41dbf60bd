"""What holds for all tests: two of them run at a time, so each has one core to itself."""

import os

# Before anything imports torch. With more threads than cores, OpenMP's wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
