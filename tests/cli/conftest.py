"""The command line in a process of its own: `run`, forked from `serve.py`, or `start`, from the beginning."""

import json
import signal
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


@pytest.fixture(scope="session")
def start():
    """Start `robustgeom ARGUMENTS` in `cwd` as a process that heeds Ctrl-C."""

    def started(*arguments, cwd):
        return subprocess.Popen(
            [sys.executable, "-m", "robustgeom", *map(str, arguments)],
            cwd=cwd,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A shell's background jobs ignore Ctrl-C, and so would their children.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - no threads here
        )

    return started
