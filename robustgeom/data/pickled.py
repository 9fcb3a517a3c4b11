"""Pickles of plain values and byte arrays, read without running anything that a file names."""

from __future__ import annotations

import io
import pickle
import pickletools
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustgeom.errors import ContentError

__all__ = ["read_pickle"]


def read_pickle(path: Path) -> dict[bytes, Any]:
    """Return the dictionary in a pickle of containers, numbers, strings (as bytes) and numpy arrays of bytes.

    Nothing is imported or called but stand-ins for numpy's arrays. Raises `ContentError` on a damaged file and on
    one that names anything else.
    """
    try:
        raw = path.read_bytes()
        _refuse_wide_memo(raw)
        found = _Plain(io.BytesIO(raw), encoding="bytes").load()
        if not isinstance(found, dict):
            raise pickle.UnpicklingError(f"it holds one {type(found).__name__}")
    except Exception as error:  # what a damaged pickle raises is not documented
        got = f"{path}: {type(error).__name__}: {error}"
        raise ContentError(
            "an intact pickle of plain values", got=got, fix="unpacking the original archive again"
        ) from error
    return {k: v.values if isinstance(v, _Bytes) else v for k, v in found.items()}


def _refuse_wide_memo(raw: bytes) -> None:
    """Raise `UnpicklingError` on an index of the memo that no pickle reaches, as memory is taken up to there."""
    for operation, argument, where in pickletools.genops(raw):
        if operation.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(argument or 0) > (where or 0):
            raise pickle.UnpicklingError(f"memo index {argument} at byte {where}")


class _Kind:
    """Stands in for numpy.dtype: what the array's elements are, such as u1."""

    def __init__(self, code: str | bytes = "", *_: object) -> None:
        self.code = code.decode() if isinstance(code, bytes) else code

    def __setstate__(self, state: object) -> None:
        """Ignore byte order and fields: single bytes have none."""


class _Bytes:
    """Stands in for numpy.ndarray."""

    values: NDArray[np.uint8]

    def __init__(self, *_: object) -> None: ...

    def __setstate__(self, state: tuple[Any, tuple[int, ...], _Kind, bool, bytes]) -> None:
        _, shape, kind, columns_first, raw = state
        if kind.code != "u1" or columns_first:
            raise pickle.UnpicklingError(f"arrays of bytes (u1) by rows, got {kind.code!r}")
        self.values = np.frombuffer(raw, dtype=np.uint8).reshape(shape)


def _latin1(text: str, *_: object) -> bytes:
    """Stand in for codecs.encode, by which Python 3 writes bytes into the pickles of Python 2."""
    return text.encode("latin1")


_STAND_INS: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _Bytes,
    ("numpy._core.multiarray", "_reconstruct"): _Bytes,
    ("numpy", "ndarray"): None,
    ("numpy", "dtype"): _Kind,
    ("_codecs", "encode"): _latin1,
}


class _Plain(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str, /) -> Any:
        """Return the stand-in for what a file names; nothing else is imported."""
        if (module_name, global_name) not in _STAND_INS:
            raise pickle.UnpicklingError(f"it names {module_name}.{global_name}, which is not run")
        return _STAND_INS[module_name, global_name]
