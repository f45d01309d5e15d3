/** What can be done on the page: pick a size, give audio, measure. One action runs at a time. */

import { Recording, decodeFile, noise } from "./audio.js";
import { describe } from "./errors.js";
import { RUNS, candidates, choose, measure, measuredSets, profile } from "./measure.js";
import * as view from "./view.js";

/**
 * @typedef {import("./measure.js").Candidate} Candidate
 * @typedef {import("./measure.js").Row} Row
 * @typedef {{name: string, samples: Float32Array}} Audio
 */

/** Seconds of noise with which sizes are measured where no audio was given. */
const NOISE = 10;
/** Seconds after which a recording ends by itself, since an utterance is recognised as a whole. */
const LONGEST = 120;

/** The page's state. */
export class Page {
  /** @param {import("./recognizer.js").Recognizer} recognizer */
  constructor(recognizer) {
    this.recognizer = recognizer;
    this.manifest = recognizer.bundle.manifest;
    this.rate = this.manifest.audio.sample_rate;
    /** @type {Candidate} */
    this.chosen = candidates(this.manifest)[0];
    /** @type {import("./recognizer.js").Switch} */
    this.change = { fetched: 0, opened: 0 };
    /** @type {Audio | null} */
    this.audio = null;
    /** @type {import("./recognizer.js").Result | null} */
    this.result = null;
    /** @type {Row[]} */
    this.rows = [];
    /** @type {Candidate | null} */
    this.proposed = null;
    this.measuredOn = { name: "", seconds: 0 };
    /** @type {Recording | null} */
    this.recording = null;
    /** @type {((value: null) => void) | null} */
    this.onRecorded = null;
    this.busy = false;
  }

  /**
   * Run an action unless another one runs, and show its error.
   * @param {() => Promise<void>} action
   */
  async act(action) {
    if (this.busy) return;
    this.#setBusy(true);
    view.showError("");
    try {
      await action();
      view.showStatus("Ready");
    } catch (error) {
      console.error(error);
      view.showError(describe(error));
      view.showStatus("Stopped");
    } finally {
      this.#setBusy(false);
    }
  }

  /** @param {boolean} busy */
  #setBusy(busy) {
    this.busy = busy;
    document.body.classList.toggle("busy", busy);
  }

  /**
   * Switch to a size, and recognise the audio again.
   * @param {Candidate} candidate
   */
  async pick(candidate) {
    view.showStatus(`Opening ${candidate.size.id}`);
    await pause();
    try {
      this.change = await this.recognizer.use(candidate.size, candidate.precision);
      this.chosen = candidate;
    } finally {
      this.showSizes();
    }
    await this.recognize();
  }

  /** Switch to the size that suits the limits. */
  async take() {
    const { proposed } = this;
    if (proposed) await this.pick({ size: proposed.size, precision: proposed.precision });
  }

  /** Show the sizes, and let users pick one. */
  showSizes() {
    view.showSizes(this.manifest, this.chosen, (candidate) => this.act(() => this.pick(candidate)));
  }

  /** Recognise the audio at hand. */
  async recognize() {
    if (!this.audio) return;
    view.showStatus("Recognising");
    await pause();
    this.result = await this.recognizer.recognize(this.audio.samples);
    view.showResult(this.result, this.change, this.chosen);
  }

  /**
   * Recognise a file.
   * @param {ArrayBuffer} content
   * @param {string} name
   */
  async open(content, name) {
    view.showStatus(`Decoding ${name}`);
    this.audio = { name, samples: await decodeFile(content, name, this.rate) };
    view.element("source").textContent = name;
    await this.recognize();
  }

  /** Record until `endRecording`, and recognise that. */
  speak() {
    return this.act(async () => {
      this.recording = await Recording.start((level, seconds) => {
        view.showLevel(level);
        view.showStatus(`Recording, ${seconds.toFixed(1)} s`);
        if (seconds > LONGEST) this.endRecording();
      });
      view.showRecording(true);
      await new Promise((resolve) => (this.onRecorded = resolve));
      const { recording } = this;
      this.recording = null;
      view.showRecording(false);
      this.audio = { name: "microphone", samples: await recording.stop(this.rate) };
      view.element("source").textContent = "Recorded by the microphone";
      await this.recognize();
    });
  }

  /** End the recording; its text follows. */
  endRecording() {
    this.onRecorded?.(null);
  }

  /** Measure all sizes on the audio at hand, or on noise; then go back to the size in use. */
  async measureAll() {
    const { name, samples } = this.audio ?? { name: "noise", samples: noise(NOISE, this.rate) };
    /** @type {Candidate | null} */
    this.proposed = null;
    this.measuredOn = { name, seconds: samples.length / this.rate };
    view.showMeasured(this.measuredOn, RUNS);
    this.rows = [];
    const all = candidates(this.manifest);
    for (const [place, candidate] of all.entries()) {
      view.showStatus(`Measuring ${place + 1} of ${all.length}: ${candidate.size.id}, ${candidate.precision}`);
      await pause();
      this.rows.push(await measure(this.recognizer, candidate, samples, pause));
      this.showRows();
    }
    this.change = await this.recognizer.use(this.chosen.size, this.chosen.precision);
  }

  /** Show what was measured, and the choice within the limits that the user has set. */
  showRows() {
    const limits = view.readLimits(measuredSets(this.manifest));
    const choice = choose(this.rows, limits);
    this.proposed = choice?.row ?? null;
    view.showRows(this.rows, choice && !choice.misses.length ? choice.row : null, limits.set);
    view.showChoice(choice, limits.set);
  }

  /**
   * The measurements in the layout of run.py.
   * @returns {object}
   */
  profile() {
    const version = this.recognizer.ort.env.versions?.web ?? "unknown";
    return profile(this.manifest, this.rows, this.measuredOn, version);
  }

  /** The measurements as a file. */
  saveProfile() {
    view.download("profile.json", JSON.stringify(this.profile(), null, 2));
  }
}

/** Let the browser draw what has changed: the runtime works in the same thread. */
export function pause() {
  return new Promise((/** @type {(value: void) => void} */ resolve) => setTimeout(resolve));
}
