"""The mel spectrogram of torchaudio, compressed as a cochleagram is: the usual front end, to compare with."""

from __future__ import annotations

import warnings

from torch import Tensor

from robustgeom.errors import InputError
from robustgeom.models.cochleagram import Hearing

__all__ = ["MelSpectrogram"]


class MelSpectrogram(Hearing):
    """Waveforms (n, samples) to compressed mel magnitudes (n, 1, filters, frames).

    rate: samples a second; frames: a second, from windows (Hann) that overlap by two thirds, centred on each frame;
    low and high: in Hz, by default 50 and half the rate; power and cap: those of `compressed`. Raises `InputError` on
    counts that do not fit and on waveforms of another length.

    >>> import torch
    >>> MelSpectrogram(8000, rate=8000)(torch.zeros(2, 8000)).shape
    torch.Size([2, 1, 45, 101])
    """

    def __init__(
        self,
        samples: int,
        *,
        rate: int,
        filters: int = 45,
        frames: int = 100,
        low: float = 50.0,
        high: float | None = None,
        power: float = 0.3,
        cap: float = 5.0,
    ) -> None:
        from torchaudio.transforms import MelSpectrogram as Mel  # a second, which nobody waits for who sees

        super().__init__(samples, rate=rate, power=power, cap=cap)
        stride, left = divmod(rate, max(frames, 1))
        if frames < 1 or left or stride < 1 or filters < 1 or samples <= 3 * stride:
            got = f"{filters} filters of {samples} samples at {rate} a second, {frames} frames a second"
            raise InputError("filters and a whole number of samples a frame", got=got, fix="frames=100")
        top = rate / 2 if high is None else high
        if not 0 <= low < top <= rate / 2:
            got = f"{low:g} to {top:g} Hz at {rate} a second"
            raise InputError("low below high, and high at most half the rate", got=got, fix="high=rate / 2")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of empty filters, which are refused below
            self.mel = Mel(
                sample_rate=rate,
                n_fft=1 << (3 * stride - 1).bit_length(),
                win_length=3 * stride,
                hop_length=stride,
                f_min=low,
                f_max=top,
                n_mels=filters,
                power=1.0,
            )
        self.shape = filters, samples // stride + 1
        if bool((self.mel.mel_scale.fb.sum(0) == 0).any()):
            got = f"{filters} from {low:g} to {top:g} Hz, some of them empty"
            raise InputError("filters that let something through", got=got, fix="fewer filters or frames")

    def filtered(self, x: Tensor) -> Tensor:
        """Return the magnitudes (n, filters, frames) of waveforms."""
        # A tone's magnitude becomes about its amplitude, as its envelope is.
        found: Tensor = self.mel(x) * (2 / self.mel.spectrogram.window.sum())
        return found
