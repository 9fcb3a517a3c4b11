"""Words spoken by espeak-ng: run by path in a process of its own, as what it says depends on what it said before.

Reads a JSON list of [voice, rate, pitch, text] from stdin; rate in words a minute, pitch from 0 to 100. Writes to
stdout the sampling rate, then for every text the number of its samples and the samples: 4-byte and 2-byte integers, in
the machine's order. Imports nothing of the package, so that it starts at once.
"""

import ctypes
import json
import sys
from typing import Any

import espeakng_loader

SYNCHRONOUS, BUFFER_MS, NO_EXIT, UTF8, CHARACTER = 2, 500, 0x8000, 1, 1
RATE, PITCH = 1, 3
CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


def check(code: int, what: str) -> None:
    """Raise where espeak-ng says that something went wrong."""
    if code != 0:
        raise RuntimeError(f"espeak-ng: {what}: error {code}")


def main() -> None:
    """Say what stdin asks for."""
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    library.espeak_Synth.argtypes = [
        *(ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int),
        *(ctypes.c_uint, ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p),
    ]
    folder = espeakng_loader.get_data_path().encode()
    rate = library.espeak_Initialize(SYNCHRONOUS, BUFFER_MS, folder, NO_EXIT)
    if rate <= 0:
        raise RuntimeError("espeak-ng does not start")
    said = bytearray()

    def keep(samples: Any, count: int, _events: Any) -> int:
        if samples and count > 0:
            said.extend(ctypes.string_at(samples, 2 * count))
        return 0

    kept = CALLBACK(keep)  # the library holds only a pointer
    library.espeak_SetSynthCallback(kept)
    out = sys.stdout.buffer
    out.write(rate.to_bytes(4, sys.byteorder))
    library.espeak_ng_SetRandSeed.argtypes = [ctypes.c_long]
    for voice, pace, pitch, text in json.load(sys.stdin):
        library.espeak_ng_SetRandSeed(1)  # breath is noise, seeded with the clock unless told otherwise
        check(library.espeak_SetVoiceByName(voice.encode()), f"voice {voice}")
        check(library.espeak_SetParameter(RATE, pace, 0), "rate")
        check(library.espeak_SetParameter(PITCH, pitch, 0), "pitch")
        said.clear()
        raw = text.encode()
        check(library.espeak_Synth(raw, len(raw) + 1, 0, CHARACTER, 0, UTF8, None, None), text)
        check(library.espeak_Synchronize(), "waiting")
        out.write((len(said) // 2).to_bytes(4, sys.byteorder) + said)


if __name__ == "__main__":
    main()
