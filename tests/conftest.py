"""One thread a test process: the suite runs two of them, and small networks gain little from more."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
