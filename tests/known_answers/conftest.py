"""Where all golden data are: the tests ship a part of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture
def golden():
    """The folder of all golden data, named by the environment."""
    if not (folder := os.environ.get("ROBUSTGEOM_GOLDEN")):
        pytest.skip("ROBUSTGEOM_GOLDEN names no folder with all golden data")
    return Path(folder)
