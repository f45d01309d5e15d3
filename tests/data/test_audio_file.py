"""Audio files cut, joined and spoilt in every format, against what soundfile wrote before."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from lhotse import CutSet, MonoCut

from slimasr.data.audio.file import MAX_PEAK, open_audio
from slimasr.data.audio.recordings import AudioError, load_samples, read_recording
from slimasr.decoding.transcription.audio import read_pieces
from slimasr.errors import UserError
from tests.data.spoilt import (
    ALL,
    HEADERED,
    NUM_SAMPLES,
    RATE,
    Kind,
    flac_without_length,
    patched,
    speech,
    wav_with_size,
    write,
)

WAV = Kind("WAV", "PCM_16")
LIST = b"LIST" + struct.pack("<I", 26) + b"INFOISFT" + struct.pack("<I", 14) + b"Lavf58.29.100\0"


def trained_on(path: Path) -> np.ndarray:
    """The samples that stages 1 and 2 would take from a file."""
    recording = read_recording(path, "u")
    samples = load_samples(MonoCut("u", 0.0, recording.duration, 0, recording=recording))
    assert samples.shape == (1, recording.num_samples)
    return samples[0]


def transcribed(path: Path) -> np.ndarray:
    """The samples that would be recognised."""
    return np.concatenate(list(read_pieces(path, RATE, 1.0)))


def refused(path: Path) -> str:
    """The message of a file that neither training nor transcription takes."""
    with pytest.raises(AudioError) as in_training:
        trained_on(path)
    with pytest.raises(UserError) as in_transcription:
        transcribed(path)
    for message in (str(in_training.value), str(in_transcription.value)):
        assert message.startswith(f"{path}: ")
        assert "\n" not in message
    return str(in_training.value)


@pytest.mark.parametrize("kind", ALL, ids=str)
def test_whole_files_are_read_as_soundfile_reads_them(tmp_path: Path, kind: Kind) -> None:
    path = tmp_path / "a"
    write(path, kind)
    expected = soundfile.read(path, dtype="float32")[0]
    assert abs(len(expected) - NUM_SAMPLES) < 600
    # mpg123 itself does not round alike in every run.
    tolerance = 1e-6 if kind.format == "MP3" else 0
    np.testing.assert_allclose(trained_on(path), expected, rtol=0, atol=tolerance)
    np.testing.assert_allclose(transcribed(path), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("kind", HEADERED, ids=str)
def test_a_file_cut_anywhere_is_refused_by_its_header(tmp_path: Path, kind: Kind) -> None:
    path = tmp_path / "a"
    content = write(path, kind)
    # One byte less may be but the padding behind an odd number of bytes.
    for length in (len(content) - 2, len(content) - 700, len(content) * 2 // 3, len(content) // 2):
        path.write_bytes(content[:length])
        with pytest.raises(AudioError, match="truncated"):
            read_recording(path, "u")
        refused(path)


def test_a_flac_cut_anywhere_is_refused_when_it_is_decoded(tmp_path: Path) -> None:
    path = tmp_path / "a"
    content = write(path, Kind("FLAC", "PCM_16"))
    for length in (len(content) - 1, len(content) * 2 // 3, len(content) // 2, 100):
        path.write_bytes(content[:length])
        assert "truncated" in refused(path)


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_an_ogg_cut_between_pages_is_refused(tmp_path: Path, subtype: str) -> None:
    path = tmp_path / "a"
    content = write(path, Kind("OGG", subtype), speech(5 * RATE))
    starts = [place for place in range(len(content)) if content[place : place + 4] == b"OggS"]
    assert len(starts) > 4
    for start in starts[3:]:
        path.write_bytes(content[:start])
        assert "the page that ends its stream is missing" in refused(path)
    path.write_bytes(content[: starts[3]] + content[starts[4] :])
    assert "truncated" in refused(path)
    path.write_bytes(content + b"junk" * 100)
    assert len(trained_on(path)) == 5 * RATE


def test_oggs_in_a_row_are_refused(tmp_path: Path) -> None:
    """libsndfile would read the first one alone."""
    path = tmp_path / "a"
    content = write(path, Kind("OGG", "VORBIS"))
    path.write_bytes(content + content.replace(content[14:18], b"abcd"))
    assert soundfile.info(path).frames == NUM_SAMPLES
    assert "several streams" in refused(path)


@pytest.mark.parametrize(
    "claimed", [0, 0x7FFFF000, 0x7FFFF000 - 4, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFF - 36]
)
@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
def test_a_streamed_wav_is_read_to_its_end(tmp_path: Path, claimed: int, subtype: str) -> None:
    path = tmp_path / "a.wav"
    content = write(path, Kind("WAV", subtype))
    expected = soundfile.read(path, dtype="float32")[0]
    path.write_bytes(wav_with_size(content, claimed))
    np.testing.assert_array_equal(trained_on(path), expected)
    np.testing.assert_array_equal(transcribed(path), expected)


def unknown_length(kind: Kind, content: bytes) -> bytes:
    if kind.format == "FLAC":
        return flac_without_length(content)
    if kind.format == "NIST":
        return content[:1024].replace(b"sample_count", b"other_number") + content[1024:]
    if kind.format == "AU":
        return patched(content, 8, bytes(4))
    if kind.format == "AIFF":
        content = patched(content, content.index(b"COMM") + 10, struct.pack(">I", 0x7F000000 // 2))
        return patched(content, content.index(b"SSND") + 4, struct.pack(">I", 0x7F000000 + 8))
    if kind.format == "RF64":
        return patched(content, content.index(b"ds64") + 8, b"\xff" * 24)
    if kind.format == "CAF":
        return patched(content, content.index(b"data", 60) + 4, b"\xff" * 8)
    return patched(content, content.index(b"data") + 16, b"\xff" * 7 + b"\x7f")


@pytest.mark.parametrize("name", ["FLAC", "NIST", "AU", "AIFF", "RF64", "CAF", "W64"])
def test_other_headers_of_unknown_length(tmp_path: Path, name: str) -> None:
    path, kind = tmp_path / "a", Kind(name, "PCM_16")
    content = write(path, kind)
    expected = soundfile.read(path, dtype="float32")[0]
    path.write_bytes(unknown_length(kind, content))
    np.testing.assert_array_equal(trained_on(path), expected)
    np.testing.assert_array_equal(transcribed(path), expected)


def test_a_part_of_a_file_of_unknown_length(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    path.write_bytes(flac_without_length(write(path, Kind("FLAC", "PCM_16"))))
    recording = read_recording(path, "u")
    part = MonoCut("u", 0.25, 0.125, 0, recording=recording)
    np.testing.assert_array_equal(load_samples(part)[0], trained_on(path)[4000:6000])


def test_a_flac_of_unknown_length_that_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    path.write_bytes(flac_without_length(write(path, Kind("FLAC", "PCM_16")))[:10_000])
    assert "truncated" in refused(path)


@pytest.mark.parametrize("behind", [LIST, b"\0" * 1000, b"junk", b""])
@pytest.mark.parametrize("num_samples", [NUM_SAMPLES, NUM_SAMPLES + 1])
def test_what_follows_the_samples_of_a_wav_is_left_alone(tmp_path: Path, behind: bytes, num_samples: int) -> None:
    path = tmp_path / "a.wav"
    expected = np.round(speech(num_samples) * 127) / 128
    content = write(path, Kind("WAV", "PCM_U8"), expected)
    path.write_bytes(content + behind)
    np.testing.assert_array_equal(trained_on(path), expected)
    data_end = content.index(b"data") + 8 + num_samples
    path.write_bytes(content[:data_end])
    np.testing.assert_array_equal(trained_on(path), expected)
    path.write_bytes(content[: data_end - 1])
    assert "truncated" in refused(path)


def test_a_large_chunk_before_the_samples(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    content = write(path, WAV)
    place = content.index(b"data")
    for length in (100_000, 100_001):
        extra = b"JUNK" + struct.pack("<I", length) + bytes(length + length % 2)
        path.write_bytes(content[:place] + extra + content[place:])
        assert len(trained_on(path)) == NUM_SAMPLES
        path.write_bytes(content[:place] + extra + content[place:-1000])
        assert "truncated" in refused(path)


@pytest.mark.parametrize("kind", [kind for kind in ALL if kind.format not in ("OGG", "MP3", "CAF", "FLAC")], ids=str)
def test_no_samples(tmp_path: Path, kind: Kind) -> None:
    write(tmp_path / "a", kind, np.zeros(0))
    assert "holds no samples" in refused(tmp_path / "a")


@pytest.mark.parametrize("kind", [Kind("CAF", "PCM_16"), Kind("OGG", "VORBIS"), Kind("MP3", "MPEG_LAYER_III")], ids=str)
def test_no_samples_in_formats_that_cannot_say_so(tmp_path: Path, kind: Kind) -> None:
    write(tmp_path / "a", kind, np.zeros(0))
    refused(tmp_path / "a")


def test_metadata_behind_an_empty_wav_is_no_speech(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(wav_with_size(write(path, WAV, np.zeros(0)), 0) + LIST)
    assert "holds no samples" in refused(path)


def test_a_flac_without_frames(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    content = write(path, Kind("FLAC", "PCM_16"))
    path.write_bytes(flac_without_length(content)[: content.index(b"\xff\xf8")])
    assert "holds no samples" in refused(path)


def without_xing(content: bytes) -> bytes:
    """An MP3 without its first frame, the one with the Xing header."""
    return content[content.index(content[:2], 4) :]


def write_mp3(path: Path, mode: str) -> bytes:
    with soundfile.SoundFile(path, "w", RATE, 1, "MPEG_LAYER_III", format="MP3", bitrate_mode=mode) as file:
        # Loud, then quiet: the first frames tell nothing about the others' lengths.
        file.write(np.concatenate([speech(NUM_SAMPLES), speech(NUM_SAMPLES, 0.001)]))
    return path.read_bytes()


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE", "AVERAGE"])
def test_an_mp3_without_a_header_is_read_to_its_end(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.mp3"
    content = write_mp3(path, mode)
    expected = trained_on(path)
    plain = without_xing(content)
    path.write_bytes(plain)
    # Encoder and decoder delay it by a frame, which the lost header would have said.
    found = trained_on(path)
    np.testing.assert_allclose(found[576 : 576 + len(expected)][2000:-2000], expected[2000:-2000], atol=1e-4)
    np.testing.assert_allclose(transcribed(path), found, rtol=0, atol=1e-6)
    tags = b"ID3\x04\0\0\0\0\x01\0" + bytes(128), b"TAG" + bytes(125), b"APETAGEX" + bytes(range(256)) * 4
    path.write_bytes(tags[0] + plain + tags[2] + tags[1])
    np.testing.assert_allclose(trained_on(path), found, rtol=0, atol=1e-6)
    for length in (len(plain) - 1, len(plain) - 20):
        path.write_bytes(plain[:length])
        assert "its last frame is cut" in refused(path)


def test_mp3_files_in_a_row_are_read_to_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    content = write_mp3(path, "AVERAGE")
    path.write_bytes(content + content)
    assert len(trained_on(path)) > 1.9 * len(soundfile.read(path)[0])


@pytest.mark.parametrize(
    "kind", [Kind("WAV", "FLOAT"), Kind("WAV", "DOUBLE"), Kind("AIFF", "FLOAT"), Kind("AU", "FLOAT")], ids=str
)
@pytest.mark.parametrize(("peak", "divisor"), [(3000, 2**15), (-32768, 2**15), (50_000, 2**23), (2**30, 2**31)])
def test_floats_in_the_range_of_integers_are_refused(tmp_path: Path, kind: Kind, peak: float, divisor: int) -> None:
    path = tmp_path / "a"
    samples = speech() * 0.9
    samples[7000] = 1
    write(path, kind, samples * peak)
    message = refused(path)
    assert f"reaches {abs(peak):.6g} where full scale is 1" in message
    assert f"divide its samples by {divisor}" in message


def test_floats_above_full_scale_are_audio(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    for peak in (1.5, 4.0, MAX_PEAK):
        write(path, Kind("WAV", "FLOAT"), speech(peak=peak))
        assert np.abs(trained_on(path)).max() == pytest.approx(peak)
        transcribed(path)
    for format, subtype in (("MP3", "MPEG_LAYER_III"), ("OGG", "VORBIS")):
        write(path, Kind(format, subtype), np.sign(speech()))
        assert np.abs(trained_on(path)).max() > 1


def test_one_loud_channel_is_noticed(tmp_path: Path) -> None:
    """Although the mean of both is silence."""
    loud = speech(peak=20_000)
    soundfile.write(tmp_path / "a.wav", np.stack([loud, -loud], axis=1), RATE, subtype="FLOAT")
    with pytest.raises(UserError, match="reaches 20000"):
        transcribed(tmp_path / "a.wav")


def test_a_file_that_changes_after_stage_1(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    write(path, Kind("WAV", "FLOAT"))
    recording = read_recording(path, "u")
    cut = MonoCut("u", 0.0, recording.duration, 0, recording=recording)
    noisy = next(iter(CutSet.from_cuts([cut]).mix(CutSet.from_cuts([cut.with_id("noise")]), snr=10, mix_prob=1.0)))
    assert load_samples(noisy).shape == (1, NUM_SAMPLES)
    content = write(path, Kind("WAV", "FLOAT"), speech(peak=3000))
    for heard in (cut, noisy, cut.perturb_speed(0.9), cut.resample(8000)):
        with pytest.raises(AudioError, match=r"a\.wav: reaches 3000 .* by 32768$"):
            load_samples(heard)
    path.write_bytes(content[:-4000])
    with pytest.raises(AudioError, match=r"a\.wav: is truncated: .* the file holds 44004$"):
        load_samples(cut)
    write(path, Kind("WAV", "FLOAT"), speech(2000))
    with pytest.raises(AudioError, match=r"a\.wav: is not as long as when stage 1 read it; run stage 1 again"):
        load_samples(cut)


def test_what_is_no_regular_file_is_named_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty.wav").touch()
    (tmp_path / "loop.wav").symlink_to(tmp_path / "loop.wav")
    for path, reason in (
        (tmp_path, "is a folder"),
        (tmp_path / "pipe", "is not a regular file"),
        (Path("/dev/null"), "is not a regular file"),
        (tmp_path / "empty.wav", "is empty"),
        (tmp_path / "loop.wav", "cannot be opened"),
        (tmp_path / ("x" * 300), "cannot be opened"),
        (tmp_path / "empty.wav" / "a.wav", "no such file"),
    ):
        assert reason in refused(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", WAV)
    (tmp_path / "a.wav").chmod(0)
    assert "Permission denied" in refused(tmp_path / "a.wav")


def test_names_do_not_matter(tmp_path: Path) -> None:
    """soundfile takes a format from some names, and cannot encode others."""
    for name in (b"a.raw", b"caf\xe9.wav", b"two\nlines.wav", b"#1 ?%20.sph"):
        path = tmp_path / os.fsdecode(name)
        write(tmp_path / "plain.wav", WAV)
        (tmp_path / "plain.wav").rename(path)
        with open_audio(path) as file:
            assert sum(block.shape[1] for block in file.blocks()) == NUM_SAMPLES
    (tmp_path / "b.raw").write_bytes(bytes(range(200)))
    assert "not a readable audio file" in refused(tmp_path / "b.raw")
