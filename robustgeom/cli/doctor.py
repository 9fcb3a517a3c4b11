"""`robustgeom doctor`."""

from __future__ import annotations

import sys
from collections.abc import Callable

import click

from robustgeom.cli.peers import PEERS
from robustgeom.errors import UserError

__all__ = ["doctor"]


@click.command()
def doctor() -> None:
    """Say what works on this machine, and what to do about the rest."""
    broken = 0
    for name, probe, needed in (
        ("packages", _packages, True),
        ("device", _device, True),
        ("content", _content, True),
        ("evaluation images", _shipped, True),
        ("Fashion-MNIST, all images", _original, False),
        *((name, probe, False) for name, probe in PEERS),
    ):
        good, text = _ask(probe)
        broken += needed and not good
        click.echo(f"{'ok  ' if good else 'FAIL' if needed else 'no  '}  {name}: {text}")
    sys.exit(1 if broken else 0)


def _ask(probe: Callable[[], str]) -> tuple[bool, str]:
    try:
        return True, probe()
    except (UserError, ImportError, OSError) as error:
        return False, str(error)


def _packages() -> str:
    from robustgeom.harness.provenance import packages

    return ", ".join(f"{name} {version}" for name, version in packages().items())


def _device() -> str:
    import torch

    from robustgeom.harness.provenance import device_text

    cuda = torch.cuda.is_available()
    return device_text(torch.device("cuda" if cuda else "cpu")) + ("" if cuda else "; no GPU")


def _content() -> str:
    from robustgeom import content
    from robustgeom.harness.suite import load_suite
    from robustgeom.models.load import load_model

    models, suites = content.names("model"), content.names("suite")
    for model in models:
        load_model(model)
    for suite in suites:
        load_suite(suite)
    return f"{len(models)} models, {len(suites)} suites, all intact"


def _shipped() -> str:
    from robustgeom.data.fashion_mnist import fashion_mnist

    return f"{len(fashion_mnist('eval'))} images"


def _original() -> str:
    from robustgeom.data.fashion_mnist import fashion_mnist

    return f"{len(fashion_mnist('test')):,} test images"
