"""One thread a test process: the suite runs two of them, and small networks gain little from more."""

import os

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def same_run():
    """Return whether two processes made the same record: bit for bit where they ran the network in the same form.

    The form is chosen by timing in each process; another one may move the last bits, and no verdict.
    """

    def same(first, second):
        if first.header.plan["engine"] == second.header.plan["engine"]:
            return first.fingerprint() == second.fingerprint()
        radii = first.header.threat.grid
        return all((first.robust_mask(r) == second.robust_mask(r)).all() for r in radii)

    return same
