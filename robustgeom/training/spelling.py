"""Settings of objectives and manipulations as a command line spells them, read and written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from robustgeom.errors import InputError

__all__ = ["read_manipulation", "read_setting", "written"]


def read_setting(text: str) -> tuple[str, Any]:
    """Return a name and a value from NAME=VALUE: a whole number, a number, true or false, or text.

    >>> read_setting("steps=5"), read_setting("all=true"), read_setting("keep=gap")
    (('steps', 5), ('all', True), ('keep', 'gap'))
    """
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise InputError("NAME=VALUE", got=repr(text), fix="steps=5")
    if value in ("true", "false"):
        return name, value == "true"
    if re.fullmatch(r"[-+]?\d+", value):
        return name, int(value)
    try:
        return name, float(value)
    except ValueError:
        return name, value


def read_manipulation(text: str) -> dict[str, Any]:
    """Return a manipulation's name and arguments from NAME[:KEY=VALUE,...].

    >>> read_manipulation("top_k:k=3")
    {'name': 'top_k', 'arguments': {'k': 3}}
    """
    name, _, rest = text.partition(":")
    return {"name": name, "arguments": dict(read_setting(part) for part in rest.split(",") if part)}


def written(arguments: Mapping[str, Any], usual: Mapping[str, Any]) -> str:
    """Return arguments that differ from the usual ones, as `read_setting` takes each.

    >>> written({"steps": 5, "all": True, "size": 0.1}, {"steps": 10, "all": False, "size": 0.1})
    'all=true,steps=5'
    """
    told = {k: v for k, v in sorted(arguments.items()) if v != usual.get(k)}
    return ",".join(f"{k}={str(v).lower() if isinstance(v, bool) else v}" for k, v in told.items())
