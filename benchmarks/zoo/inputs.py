"""Samples that differ from one another as real ones do: images, films, texts and sounds.

White noise would not do: every average over it is the same, so that outputs hardly vary over
samples, and there is nothing to lose.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zoo.architecture import Arrays, Draw

__all__ = ["clips", "images", "sounds", "spectrograms", "tokens"]

Floats = NDArray[np.float32]


def images(size: int, *, name: str = "x") -> Draw:
    """Images of this height and width, float32 [n, 3, size, size], about mean 0 and variance 1."""

    def draw(random: np.random.Generator, count: int) -> Arrays:
        return {name: _fields(random, count, 3, (size, size))}

    return draw


def clips(frames: int, size: int, *, name: str = "x") -> Draw:
    """Short films, float32 [n, 3, frames, size, size]: an image that moves to the side."""

    def draw(random: np.random.Generator, count: int) -> Arrays:
        still = _fields(random, count, 3, (size, size))
        speed = random.integers(-2, 3, count)
        moved = [
            np.stack([np.roll(one, at * step, axis=-1) for at in range(frames)], axis=1)
            for one, step in zip(still, speed, strict=True)
        ]
        return {name: np.stack(moved)}

    return draw


def sounds(length: int, *, name: str = "input_values") -> Draw:
    """Chords that fade, in noise: float32 [n, length]."""

    def draw(random: np.random.Generator, count: int) -> Arrays:
        time = np.arange(length) / length
        tones = random.uniform(4, length / 8, (count, 3, 1))
        fading = np.exp(-random.uniform(0, 4, (count, 3, 1)) * time)
        found = (np.sin(2 * np.pi * tones * time) * fading).sum(1)
        found += random.normal(0, 0.1, found.shape)
        return {name: found.astype(np.float32)}

    return draw


def spectrograms(bins: int, frames: int, *, name: str) -> Draw:
    """Energies by frequency and time, float32 [n, bins, frames]."""

    def draw(random: np.random.Generator, count: int) -> Arrays:
        return {name: _fields(random, count, 1, (bins, frames))[:, 0]}

    return draw


def tokens(
    vocabulary: int,
    length: int,
    *,
    mask: str = "attention_mask",
    names: tuple[str, ...] = ("input_ids",),
    end: int | None = None,
) -> Draw:
    """Texts of several lengths, int64 [n, length], with a mask of what is there.

    Tokens are as unlike in frequency as words are. ``mask`` is the name of the mask, "" for none;
    ``names`` are the texts, each drawn anew: a second has ``mask`` with its own suffix. ``end`` is
    a token that every text ends in.
    """

    def draw(random: np.random.Generator, count: int) -> Arrays:
        found: Arrays = {}
        for name in names:
            lengths = random.integers(length // 2, length + 1, count) if mask else [length] * count
            there = np.arange(length) < np.asarray(lengths)[:, None]
            words = 3 + random.zipf(1.3, (count, length)) % (vocabulary - 4)
            if end is not None:
                words[np.arange(count), there.sum(1) - 1] = end
            found[name] = np.where(there, words, 1).astype(np.int64)
            if mask:
                found[mask + name.removeprefix("input_ids")] = there.astype(np.int64)
        return found

    return draw


def _fields(
    random: np.random.Generator, count: int, channels: int, shape: tuple[int, int]
) -> Floats:
    """Random fields with the spectrum of photographs, amplitudes as 1/frequency.

    Each sample has a brightness, a contrast and colours of its own. Source: Field, "Relations
    between the statistics of natural images and the response properties of cortical cells", 1987.
    """
    frequency = np.hypot(*np.meshgrid(*map(np.fft.fftfreq, shape), indexing="ij"))
    amplitude = 1 / np.maximum(frequency, 1 / max(shape))
    amplitude[0, 0] = 0
    noise = np.fft.fft2(random.normal(size=(count, channels + 1, *shape)))
    fields = np.fft.ifft2(noise * amplitude).real
    fields /= fields.std(axis=(2, 3), keepdims=True)
    mixed = 0.7 * fields[:, :1] + 0.7 * fields[:, 1:]  # what colours have in common, and what not
    contrast = random.uniform(0.5, 1.2, (count, 1, 1, 1))
    brightness = random.normal(0, 0.4, (count, channels, 1, 1))
    return np.asarray(contrast * mixed + brightness, np.float32)
