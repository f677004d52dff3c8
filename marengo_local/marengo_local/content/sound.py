"""Audio features: loudness and spectral shape, in blocks of 0.25 seconds."""

from typing import Final

import numpy as np

from marengo_local.content.media import RATE_HZ, Sound
from marengo_local.content.space import ATTRIBUTES, BANDS, NAMED, Array, unit

BLOCK_SEC: Final = 0.25
BLOCK: Final = int(RATE_HZ * BLOCK_SEC)
BAND_COUNT: Final = BANDS.stop - BANDS.start
SILENCE_DB: Final = -55.0


class AudioAnalyzer:
    """Receives samples as they are decoded; keeps 26 numbers for each block of 0.25 seconds."""

    def __init__(self) -> None:
        self._rest: list[Sound] = []
        self._waiting = 0
        self._secs: list[float] = []
        self._measures: list[Array] = []

    def add(self, sound: Sound) -> None:
        """Add the next samples in time."""
        self._rest.append(sound)
        self._waiting += len(sound.samples)
        if self._waiting >= BLOCK:
            self._measure()

    def attributes(self, start_sec: float, end_sec: float) -> Array:
        """The attributes (48,) of [start_sec, end_sec): silence, quiet, loud, tone, noise and spectral shape."""
        found = np.zeros(ATTRIBUTES, np.float32)
        if self._waiting:
            self._measure(padded=True)
        secs = np.asarray(self._secs)
        inside = [self._measures[place] for place in np.flatnonzero((secs >= start_sec) & (secs < end_sec))]
        if not inside:
            found[NAMED["silence"]] = 1.0
            return found
        measures = np.stack(inside)
        power, flatness, peak = measures[:, :3].mean(0)
        loudness_db = 10 * np.log10(power + 1e-12)
        if loudness_db < SILENCE_DB:
            found[NAMED["silence"]] = 1.0
            return found
        weight = measures[:, 0] / (measures[:, 0].sum() + 1e-12)
        flatness, peak = weight @ measures[:, 1], weight @ measures[:, 2]
        shares = {
            "quiet": (-30 - loudness_db) / 20,
            "loud": (loudness_db + 20) / 15,
            "tone": (peak - 0.6) / 0.3,
            "noise": (flatness - 0.25) / 0.3,
        }
        for name, share in shares.items():
            found[NAMED[name]] = np.clip(share, 0.0, 1.0)
        shape = np.log(measures[:, 3:].mean(0) + 1e-9)
        found[BANDS] = unit(shape - shape.mean())
        return found

    def _measure(self, padded: bool = False) -> None:
        """Measure the complete blocks; with `padded`, also the last one, padded with silence."""
        start_sec = self._rest[0].sec
        samples = np.concatenate([sound.samples for sound in self._rest])
        if padded:
            samples = np.pad(samples, (0, -len(samples) % BLOCK))
        whole = len(samples) // BLOCK
        for place in range(whole):
            self._secs.append(start_sec + (place + 0.5) * BLOCK_SEC)
            self._measures.append(_measures(samples[place * BLOCK : (place + 1) * BLOCK]))
        rest = samples[whole * BLOCK :]
        self._rest = [Sound(start_sec + whole * BLOCK_SEC, rest)] if len(rest) else []
        self._waiting = len(rest)


def _measures(samples: Array) -> Array:
    """Power, spectral flatness (1 is white noise), share of the strongest partial, and power per band."""
    spectrum = np.abs(np.fft.rfft(samples * _WINDOW)).astype(np.float32)[_LOWEST:] ** 2 + 1e-9
    flatness = np.exp(np.log(spectrum).mean()) / spectrum.mean()
    top = int(spectrum.argmax())
    peak = spectrum[max(0, top - 3) : top + 4].sum() / spectrum.sum()
    bands = np.add.reduceat(spectrum, _BAND_STARTS)
    return np.concatenate([[np.mean(samples**2), flatness, peak], bands]).astype(np.float32)


_WINDOW: Final = np.hanning(BLOCK).astype(np.float32)
_LOWEST: Final = int(60 * BLOCK_SEC)
# Bands at even steps on the mel scale, from 60 Hz to 8 kHz.
_MELS: Final = np.linspace(np.log1p(60 / 700), np.log1p(RATE_HZ / 2 / 700), BAND_COUNT + 1)[:-1]
_BAND_STARTS: Final = np.round(np.expm1(_MELS) * 700 * BLOCK_SEC).astype(int) - _LOWEST
