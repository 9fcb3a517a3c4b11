"""Processes share the machine's cores: torch's threads and those of numpy's matrix products alike."""

import os

import torch
from threadpoolctl import threadpool_info

from robustgeom.harness.processes import POOLS, Processes


def test_each_process_has_its_share_of_the_cores_and_ours_keeps_its_own():
    before = {name: os.environ.get(name) for name in POOLS}
    with Processes(2) as executor:
        share = max(torch.get_num_threads() // 2, 1)
        assert executor.submit(torch.get_num_threads).result() == share
        pools = executor.submit(threadpool_info).result()
    assert {pool["user_api"] for pool in pools} == {"blas", "openmp"}
    assert {pool["num_threads"] for pool in pools} == {share}
    assert {name: os.environ.get(name) for name in POOLS} == before
