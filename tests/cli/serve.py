"""The command line in processes of its own that are forked from one that has imported everything.

A start costs four seconds, most of it torch's; a fork costs none. Stdin names a command a line, stdout its exit code.
"""

import contextlib
import json
import os
import sys
from importlib import import_module


def serve() -> None:
    """Run each command in a fork, with its folder, environment and output files."""
    for name in ("cli.main", "harness.jobs", "harness.analyze", "report.html", "training.train"):
        import_module(f"robustgeom.{name}")
    main = sys.modules["robustgeom.cli.main"].main
    for line in sys.stdin:
        asked = json.loads(line)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.chdir(asked["cwd"])
                os.environ.update(asked["environment"])
                for number, name in ((1, "stdout"), (2, "stderr")):
                    os.dup2(os.open(asked[name], os.O_WRONLY | os.O_CREAT), number)
                sys.argv = ["robustgeom", *asked["arguments"]]
                main()
            except SystemExit as stop:
                code = stop.code
            except BaseException:
                sys.excepthook(*sys.exc_info())
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    serve()
