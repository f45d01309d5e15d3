"""A microphone as a source of speech, by sounddevice (PortAudio)."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np

from slimasr.decoding.streaming.sources import POLL_SECONDS, AudioSource, Stopped
from slimasr.errors import UserError


class MicrophoneSource(AudioSource):
    """Samples of an input device."""

    is_live = True

    def __init__(self, name: str, sampling_rate: int) -> None:
        """Choose the device.

        Args:
            name: a part of the name of an input device, or its number; empty = the default one.
            sampling_rate: the model's, in Hz, which is used if the device allows it, else the device's own.

        Raises:
            UserError: sounddevice or PortAudio is not installed, or there is no such device.
        """
        self._library = _sounddevice()
        self._device: int | str | None = int(name) if name.isdigit() else name or None
        try:
            found = self._library.query_devices(self._device, "input")
        except (ValueError, self._library.PortAudioError) as error:
            raise UserError(_no_device(self._library, name)) from error
        self.name = f"microphone {found['name']}"
        self.sampling_rate = self._allowed(sampling_rate, found)

    def _allowed(self, sampling_rate: int, found: Any) -> int:
        """Return the sampling rate if the device allows it, else that of the device."""
        try:
            self._library.check_input_settings(self._device, channels=1, dtype="float32", samplerate=sampling_rate)
        except self._library.PortAudioError:
            return int(found["default_samplerate"])
        return sampling_rate

    def pieces(self, seconds: float, stopped: Stopped) -> Iterator[np.ndarray]:
        arrived: queue.Queue[np.ndarray] = queue.Queue()

        def take(block: np.ndarray, *_: object) -> None:
            # (T, 1), in memory that the library uses again
            arrived.put(block[:, 0].copy())

        try:
            stream = self._library.InputStream(
                samplerate=self.sampling_rate,
                blocksize=max(1, round(seconds * self.sampling_rate)),
                device=self._device,
                channels=1,
                dtype="float32",
                callback=take,
            )
            with stream:
                yield from _until_stopped(arrived, stopped)
        except self._library.PortAudioError as error:
            raise UserError(f"{self.name}: cannot be read ({error})") from error


def _until_stopped(arrived: queue.Queue[np.ndarray], stopped: Stopped) -> Iterator[np.ndarray]:
    """Yield blocks as they arrive; those that have arrived before a stop are part of the stream."""
    while True:
        try:
            yield arrived.get(timeout=POLL_SECONDS)
        except queue.Empty:
            if stopped():
                return
        if stopped() and arrived.empty():
            return


def _sounddevice() -> ModuleType:
    """Import the optional library."""
    try:
        import sounddevice
    except ImportError:
        raise UserError("--microphone needs sounddevice: pip install 'slimasr[microphone]'") from None
    except OSError as error:
        # The package is there, but not the C library that it loads.
        raise UserError(
            f"--microphone needs the library PortAudio ({error}): install it, on Debian by apt install libportaudio2"
        ) from error
    found: ModuleType = sounddevice
    return found


def _no_device(library: ModuleType, name: str) -> str:
    """Describe that there is no such input device, and which ones there are."""
    inputs = [device["name"] for device in library.query_devices() if device["max_input_channels"] > 0]
    if not inputs:
        return "--microphone: this machine has no input device"
    wanted = f"no input device {name!r}" if name else "no default input device"
    return f"--microphone: {wanted}; there are: {', '.join(inputs)}"
