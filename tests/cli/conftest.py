"""`run`: the command line in a process of its own, forked from `serve.py`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """Run `robustgeom ARGUMENTS` in `cwd` on a terminal of 80 columns without colour."""
    command = [sys.executable, str(Path(__file__).with_name("serve.py"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:

        def run(*arguments, cwd, **environment):
            folder, words = tmp_path_factory.mktemp("streams"), list(map(str, arguments))
            files = {name: str(folder / name) for name in ("stdout", "stderr")}
            settings = {"COLUMNS": "80", "NO_COLOR": "1", **environment}
            asked = {"arguments": words, "cwd": str(cwd), "environment": settings, **files}
            server.stdin.write(json.dumps(asked) + "\n")
            server.stdin.flush()
            code = int(server.stdout.readline())
            return subprocess.CompletedProcess(words, code, *(Path(f).read_text() for f in files.values()))

        yield run
        server.stdin.close()
