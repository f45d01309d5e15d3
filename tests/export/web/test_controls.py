"""The controls of the web page, as a user works them: in a frame, by a script."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from slimasr.export.web import add_web
from tests.export.web.browser import find_browser, find_runtime, reports_of, serving
from tests.export.web.bundle import RATE, draw_weights, text_of, transducer_tokens, write_bundle

pytest.importorskip("onnx", reason="the extra export is not installed")

SCRIPT = """
  const page = document.querySelector("iframe").contentDocument;
  const get = (id) => page.getElementById(id);
  const until = async (done) => { while (!done()) await new Promise((resolve) => setTimeout(resolve, 20)); };
  const ready = () => until(() => get("status").textContent === "Ready" && !page.body.classList.contains("busy"));
  const checked = (group) => page.querySelector(`input[name=${group}]:checked`).closest("label").textContent;
  const shown = {};
  await ready();

  page.querySelectorAll("input[name=size]")[1].click();
  await ready();
  const files = new DataTransfer();
  files.items.add(new File([await (await fetch("a.wav")).arrayBuffer()], "chosen.wav"));
  get("file").files = files.files;
  get("file").dispatchEvent(new Event("change"));
  await until(() => get("text").textContent);
  await ready();
  shown.half = { size: checked("size"), text: get("text").textContent, source: get("source").textContent };

  page.querySelectorAll("input[name=size]")[0].click();
  await ready();
  shown.whole = { size: checked("size"), text: get("text").textContent, figures: get("figures").innerText };

  get("measure").click();
  await ready();
  shown.rows = [...page.querySelectorAll("#rows tr")].map((row) => row.cells[0].textContent);
  shown.unlimited = get("choice").textContent;
  const limit = (value) => {
    get("max-mb").value = value;
    get("max-mb").dispatchEvent(new Event("input"));
    return get("choice").textContent;
  };
  shown.none = limit("0.001");
  shown.limited = limit("0.0055");
  get("take").click();
  await until(() => checked("size").startsWith("w0.5"));
  await ready();
  shown.taken = [checked("size"), checked("precision")];
  await fetch("/report/controls", { method: "POST", body: JSON.stringify(shown) });
"""


def test_controls_switch_sizes_open_files_measure_and_choose(tmp_path: Path) -> None:
    find_browser()
    dist = find_runtime()
    weights, folder = draw_weights(blank=1.0), tmp_path / "all"
    write_bundle(folder / "bundle", weights, "transducer")
    force(folder / "bundle" / "manifest.json")
    add_web(folder / "bundle", dist)
    generator = np.random.default_rng(4)
    samples = (np.repeat(generator.uniform(0, 0.3, 20), RATE // 20) * generator.normal(size=RATE)).clip(-0.9, 0.9)
    soundfile.write(folder / "a.wav", samples, RATE, subtype="PCM_16")
    heard = soundfile.read(folder / "a.wav", dtype="float32")[0]
    # The script waits until the frame is there.
    frame = '<iframe src="bundle/index.html"></iframe>'
    script = f'<script>addEventListener("load", async () => {{{SCRIPT}}})</script>'
    (folder / "all.html").write_text(f"<!doctype html>{frame}{script}", encoding="utf-8")
    with serving(folder) as served:
        shown = reports_of(served, tmp_path, "all.html", 1)["controls"]

    texts = {width: text_of(transducer_tokens(weights, heard, width)) for width in (1.0, 0.5)}
    assert texts[1.0] != texts[0.5]
    assert shown["half"]["size"].startswith("w0.5") and shown["half"]["source"] == "chosen.wav"
    # What was recognised is recognised again at the other size.
    assert shown["whole"]["size"].startswith("w1.0")
    assert (shown["half"]["text"], shown["whole"]["text"]) == (texts[0.5], texts[1.0])
    assert "1.00 s" in shown["whole"]["figures"]
    assert shown["rows"] == ["Size", "w1.0", "w0.5", "w0.5 int8", "w0.25", "w0.25 int8"]
    assert shown["unlimited"].startswith("Take w1.0:")
    # The int8 files alone are below 5.5 kB.
    assert (
        shown["limited"] == "Take w0.5 in int8: of the sizes within the limits, it has the lowest WER, 12.1 % on dev."
    )
    assert shown["none"].startswith("No size is within these limits. The nearest is w0.5 in int8; it misses:")
    assert shown["taken"][0].startswith("w0.5") and shown["taken"][1] == "int8"
    # Why is not known: it may lose too much, or may not have been measured.
    assert shown["taken"][0].endswith("int8 was written without passing the limit of the export")


def force(path: Path) -> None:
    """Note in a manifest that all int8 files were written by force."""
    manifest = json.loads(path.read_text(encoding="utf-8"))
    for size in manifest["sizes"]:
        size["int8"] = size["int8"] and {**size["int8"], "forced": True}
    path.write_text(json.dumps(manifest), encoding="utf-8")
