"""Speech synthesis by espeak-ng through ctypes, without an external program or a sound device."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from slimasr.errors import UserError

# Constants of espeak-ng's speak_lib.h: parameters, then modes and flags.
_RATE = 1
_PITCH = 3
_RANGE = 4
_SYNCHRONOUS = 2
_DONT_EXIT = 0x8000
_UTF8 = 1
# int callback(short *samples, int count, espeak_EVENT *events)
_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


@dataclass(frozen=True)
class Voice:
    """A voice: ``accent`` is an espeak-ng language, ``timbre`` a variant; pitch and range are 0 to 99."""

    accent: str
    timbre: str
    words_per_minute: int
    pitch: int
    pitch_range: int


class Espeak:
    """The synthesiser; the library allows one per process at a time.

    Its output depends on everything it has said before in this process, so reproducible speech needs a new process.
    """

    def __init__(self) -> None:
        library, data = _find_library()
        self._library = ctypes.CDLL(str(library))
        self._timbres = {path.name for path in (data / "voices" / "!v").iterdir()}
        self.sampling_rate = int(self._library.espeak_Initialize(_SYNCHRONOUS, 0, str(data).encode(), _DONT_EXIT))
        if self.sampling_rate <= 0:
            raise UserError(
                f"espeak-ng cannot read its data in {data}: run pip install --force-reinstall slimasr[demo]"
            )
        self._parts: list[np.ndarray] = []
        # Kept as an attribute: the library calls it after this method has returned.
        self._callback = _Callback(self._collect)
        self._library.espeak_SetSynthCallback(self._callback)

    def __enter__(self) -> Espeak:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._library.espeak_Terminate()

    def say(self, text: str, voice: Voice, seed: int) -> np.ndarray:
        """Synthesise a text: (num_samples,) float32 in [-1, 1].

        Raises:
            UserError: the installed espeak-ng lacks the voice.
        """
        name = f"{voice.accent}+{voice.timbre}"
        # The library silently replaces an unknown variant, but not an unknown language.
        if voice.timbre not in self._timbres or self._library.espeak_SetVoiceByName(name.encode()) != 0:
            raise UserError(f"espeak-ng has no voice {name}: run pip install --upgrade slimasr[demo]")
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(seed))
        for parameter, value in (
            (_RATE, voice.words_per_minute),
            (_PITCH, voice.pitch),
            (_RANGE, voice.pitch_range),
        ):
            self._library.espeak_SetParameter(parameter, value, 0)
        self._parts.clear()
        content = text.encode()
        # The size includes the NUL byte that ends a C string.
        self._library.espeak_Synth(content, ctypes.c_size_t(len(content) + 1), 0, 1, 0, _UTF8, None, None)
        self._library.espeak_Synchronize()
        return np.concatenate(self._parts).astype(np.float32) / 32768

    def _collect(self, samples: Any, count: int, events: Any) -> int:
        if count > 0:
            # A copy, because the library reuses its buffer after this call.
            self._parts.append(np.ctypeslib.as_array(samples, (count,)).copy())
        # The synthesis continues only if the result is 0.
        return 0


def _find_library() -> tuple[Path, Path]:
    """The paths of the shared library and of its data folder."""
    try:
        import espeakng_loader
    except ImportError as error:
        raise UserError("corpus digits is made with espeak-ng: run pip install slimasr[demo]") from error
    return Path(espeakng_loader.get_library_path()), Path(espeakng_loader.get_data_path())
