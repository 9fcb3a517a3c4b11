"""The command line: one file per verb, results on stdout, talk on stderr."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path

import click

from robustgeom.cli.analyze import analyze
from robustgeom.cli.check import check
from robustgeom.cli.cp import cp
from robustgeom.cli.distill import distill
from robustgeom.cli.doctor import doctor
from robustgeom.cli.download import download
from robustgeom.cli.evaluate import evaluate
from robustgeom.cli.export import export
from robustgeom.cli.ls import ls
from robustgeom.cli.report import report
from robustgeom.cli.show import show
from robustgeom.cli.study import study
from robustgeom.cli.train import train
from robustgeom.cli.verify import verify
from robustgeom.errors import UserError

__all__ = ["cli", "main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(version("robustgeom"), message="%(version)s")
def cli() -> None:
    """How robust is a network, can that number be believed, and why.

    Exit codes: 0 done, 1 an error of ours, 2 a mistake of yours, 3 done but a check failed, 130 interrupted.
    """


_COMMANDS = (
    evaluate,
    analyze,
    study,
    report,
    export,
    ls,
    show,
    cp,
    check,
    doctor,
    train,
    distill,
    verify,
    download,
)
for _command in _COMMANDS:
    cli.add_command(_command)


def main() -> None:
    """Run the command line; a user's mistake ends in one message and exit code 2."""
    sys.path.append(str(Path.cwd()))  # so that pkg.mod:attr works from the folder that holds pkg
    try:
        code = cli.main(standalone_mode=False)
    except UserError as error:
        click.echo(f"robustgeom: {error}", err=True)
        code = 2
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        code = 130
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
