"""A bundle in sherpa-onnx through the command line: its figures, and what happens if it says other words."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from slimasr.data.files import DataFolder, read_cuts
from slimasr.errors import UserError
from slimasr.export.check.audio import Heard, synthetic_audio
from slimasr.export.check.bundle import CheckedBundle
from slimasr.export.check.runtime import Run, recognize
from tests.export.check.conftest import Place
from tests.export.check.test_files import change_manifest, check, half
from tests.results.kit import results_json
from tests.search.untrained import edit_distance


def test_sizes_say_what_torch_says(place: Place) -> None:
    result = check(place, "--data", str(place.data), "--set-name", "test", "--max-int8-loss", "1000")
    assert result.exit_code == 0, result.output
    models = json.loads((place.bundle / "check.json").read_text())["sizes"]["w0.5"]["models"]
    floats, int8 = models["float"], models["int8"]
    of_set = floats["sets"]["test"]
    # The references are what torch finds in the same audio.
    assert (of_set["wer"], of_set["torch_wer"], of_set["changed_tokens"]) == (0.0, 0.0, 0)
    assert of_set["identical"] == of_set["utterances"] == 3
    assert of_set["tokens"] > 20
    assert int8["sets"]["test"]["tokens"] == of_set["tokens"]
    assert int8["bytes"] < floats["bytes"]
    assert 0 < floats["before_mb"] < floats["peak_mb"] < 500
    assert all(floats[key] > 0 for key in ("rtf", "rtf_threads", "load_ms", "load_ms_threads"))
    assert results_json(place.exp)["subnets"]["w0.5"]["deployed"] == models
    manifest = json.loads((place.bundle / "manifest.json").read_text())
    assert manifest["sizes"][0]["float"]["wer"] == {"test": 0.0}
    assert manifest["sizes"][0]["int8"]["wer"] == {"test": int8["sets"]["test"]["wer"]}
    assert "3 of 3" in result.stdout


def spoil(place: Place) -> None:
    """Let int8 say something else, whatever the processor."""
    from tests.export.check.handmade import sign

    path = place.bundle / "weights.int8.bin"
    path.write_bytes(bytes(path.stat().st_size))
    sign(place.bundle)


def test_error_rate_is_that_of_the_runtime_here(place: Place) -> None:
    """int8 errors, counted from what sherpa-onnx says in this process."""
    import sherpa_onnx

    spoil(place)
    result = check(place, "--data", str(place.data), "--set-name", "test", "--max-int8-loss", "1000")
    assert result.exit_code == 0, result.output
    record = json.loads((place.bundle / "check.json").read_text())["sizes"]["w0.5"]["models"]["int8"]["sets"]["test"]
    recognizer = sherpa_onnx.OfflineRecognizer.from_transducer(
        encoder=str(place.bundle / "encoder.w0.5.int8.onnx"),
        decoder=str(place.bundle / "decoder.onnx"),
        joiner=str(place.bundle / "joiner.onnx"),
        tokens=str(place.bundle / "tokens.txt"),
    )
    errors = 0
    for cut in read_cuts(DataFolder(place.data).raw_cuts("test"), ""):
        stream = recognizer.create_stream()
        stream.accept_waveform(16000, cut.load_audio()[0])
        recognizer.decode_stream(stream)
        errors += edit_distance(cut.supervisions[0].text.split(), stream.result.text.split())
    assert record["errors"] == errors > 0
    assert record["identical"] < 3 and record["changed_tokens"] > 0


def test_int8_that_loses_too_much_is_refused(place: Place) -> None:
    spoil(place)
    result = check(place, "--data", str(place.data), "--set-name", "test")
    assert result.exit_code == 1
    assert "encoder.w0.5.int8.onnx: WER on test is" in result.stderr
    assert "not accepted: w0.5 int8" in result.stderr
    # It was exported all the same.
    manifest = json.loads((place.bundle / "manifest.json").read_text())
    manifest["sizes"][0]["int8"]["forced"] = True
    change_manifest(place.bundle, **manifest)
    again = check(place, "--data", str(place.data), "--set-name", "test")
    assert again.exit_code == 0, again.output


def test_figures_of_other_weights_are_dropped(place: Place) -> None:
    words = ("--data", str(place.data), "--max-int8-loss", "1000")
    assert check(place, *words).exit_code == 0
    path = place.exp / "results.json"
    results = results_json(place.exp)
    deployed = results["subnets"]["w0.5"]["deployed"]
    assert deployed["float"]["sets"].keys() == {"dev", "test"}
    # As an earlier training left them
    old = {name: {**rate, "weights": "0" * 16} for name, rate in deployed["float"]["sets"].items()}
    deployed["float"]["sets"]["dev"] = old["dev"]
    deployed["float, chunks of 320 ms"] = {**deployed["float"], "sets": old}
    path.write_text(json.dumps(results))
    assert check(place, *words, "--set-name", "test").exit_code == 0
    noted = results_json(place.exp)["subnets"]["w0.5"]["deployed"]
    assert {name: set(model["sets"]) for name, model in noted.items()} == {"float": {"test"}, "int8": {"dev", "test"}}


def test_files_of_other_rates_and_channels(place: Place, tmp_path: Path) -> None:
    (sound,) = [heard.samples for heard in synthetic_audio(16000) if heard.name == "synthetic 2.5 s"]
    path = tmp_path / "a.wav"
    soundfile.write(path, np.stack([sound[::2], sound[::2]], axis=1), 8000, subtype="PCM_24")
    result = check(place, "--wav", str(path))
    assert result.exit_code == 0, result.output
    of_files = json.loads((place.bundle / "check.json").read_text())["sizes"]["w0.5"]["models"]["float"]["sets"][
        "files"
    ]
    assert (of_files["utterances"], of_files["identical"], of_files.get("wer")) == (1, 1, None)
    # What is not a set of the experiment is not noted there.
    assert "deployed" not in results_json(place.exp).get("subnets", {}).get("w0.5", {})


@pytest.mark.parametrize("content", ["", "not a recording", 0])
def test_files_that_are_no_recordings_are_named(place: Place, tmp_path: Path, content: str | int) -> None:
    path = tmp_path / "b.wav"
    if isinstance(content, int):
        soundfile.write(path, np.zeros(content), 16000)
    elif content:
        path.write_text(content)
    result = check(place, "--wav", str(path))
    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: {path}: ")
    assert len(result.stderr.splitlines()) == 1


def test_files_of_less_than_a_frame_are_left_out(place: Place, tmp_path: Path) -> None:
    short, frame = tmp_path / "short.wav", tmp_path / "frame.wav"
    soundfile.write(short, np.ones(159) / 2, 16000)
    soundfile.write(frame, np.ones(160) / 2, 16000)
    result = check(place, "--wav", str(short))
    assert (result.exit_code, "files: no audio is as long as a feature frame" in result.stderr) == (1, True)
    result = check(place, "--wav", str(short), "--wav", str(frame))
    assert result.exit_code == 0, result.output
    assert "note: files: 1 of 2 are shorter than 10 ms and are left out" in result.stderr
    assert "1 of 1" in result.stdout


def test_altered_weights_say_other_words(place: Place) -> None:
    from tests.export.check.handmade import sign

    path = place.bundle / "weights.bin"
    weights = np.fromfile(path, np.float32)
    weights[::7] *= 1.5
    weights.tofile(path)
    sign(place.bundle)
    result = check(place, "--data", str(place.data), "--set-name", "test", "--max-int8-loss", "1000")
    assert result.exit_code == 1
    line = next(line for line in result.stderr.splitlines() if "differ" in line)
    assert "encoder.w0.5.onnx" in line
    assert "utterances differ from the search in torch: test-" in line
    largest = float(line.split("the largest difference of encoder outputs is ")[1].split(":")[0])
    assert 0.01 < largest < 100
    assert "not accepted: w0.5 float" in result.stderr
    # All sizes have been tried, and the table is there, but the figures are not noted as those of the subnet.
    assert "int8" in result.stdout
    assert results_json(place.exp)["subnets"]["w0.5"]["deployed"].keys() == {"int8"}
    assert json.loads((place.bundle / "manifest.json").read_text())["sizes"][0]["float"]["wer"] == {}


def test_ends_of_the_process_are_described(place: Place) -> None:
    from tests.export.check.handmade import rewrite
    from tests.export.check.test_files import stripped

    bundle = CheckedBundle.open(place.bundle)
    client = bundle.client(next(bundle.variants()))
    audio = (Heard("first", np.zeros(16000, np.float32)), Heard("second", np.zeros(8000, np.float32)))
    assert [len(one.said) for one in recognize(client, audio, [Run(), Run(batch=2)])] == [2, 2]

    # A file that takes one length alone
    def fix(model: object) -> None:
        model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 100  # type: ignore[attr-defined]

    rewrite(client.files["encoder"], fix)
    with pytest.raises(UserError, match="ended with status 1 at second .*invalid dimensions") as error:
        recognize(client, audio, [Run()])
    assert str(client.files["encoder"]) in str(error.value)

    stripped(place.bundle)
    with pytest.raises(UserError, match="ended with status 255 while it loaded the model .*vocab_size"):
        recognize(client, audio, [Run()])

    half("tokens.txt")(place.bundle)
    with pytest.raises(UserError, match="while it loaded the model"):
        recognize(client, audio, [Run()])
