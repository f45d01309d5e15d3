/** From samples to text, at a size that can be switched. */

import { textOf } from "./bundle.js";
import { UserError } from "./errors.js";
import { Session } from "./runtime.js";
import { searchCtc, searchTransducer } from "./search.js";

/**
 * @typedef {import("./bundle.js").Bundle} Bundle
 * @typedef {import("./bundle.js").Size} Size
 * @typedef {"float" | "int8"} PrecisionName
 *
 * @typedef {object} Switch  What it took to open a size.
 * @property {number} fetched ms until its files were here
 * @property {number} opened ms until the runtime had opened its encoder
 *
 * @typedef {object} Result  What was recognised.
 * @property {number[]} tokens
 * @property {string} text
 * @property {number} seconds of audio
 * @property {{features: number, encoder: number, search: number}} ms
 * @property {number} rtf real time factor: time of all three parts / duration of the audio
 */

/** Runs one encoder at a time; features, decoder and joiner are the same for all sizes. */
export class Recognizer {
  /**
   * @param {any} ort onnxruntime-web
   * @param {Bundle} bundle
   * @param {{features: Session, decoder: Session | null, joiner: Session | null}} parts
   */
  constructor(ort, bundle, parts) {
    this.ort = ort;
    this.bundle = bundle;
    this.parts = parts;
    /** @type {Session | null} */
    this.encoder = null;
    const { blank_id: blank, unk_id: unk, context_size: context } = bundle.manifest;
    /** @type {import("./search.js").Labels} */
    this.labels = { blank, unk, context: context ?? 0 };
  }

  /**
   * Open the networks that all sizes share.
   * @param {any} ort onnxruntime-web
   * @param {Bundle} bundle
   * @returns {Promise<Recognizer>}
   */
  static async open(ort, bundle) {
    const { manifest, files } = bundle;
    const open = async (/** @type {string} */ name) => Session.open(ort, name, await files.read(name));
    return new Recognizer(ort, bundle, {
      features: await open(manifest.features),
      decoder: manifest.decoder ? await open(manifest.decoder) : null,
      joiner: manifest.joiner ? await open(manifest.joiner) : null,
    });
  }

  /**
   * Switch to a size.
   * @param {Size} size
   * @param {PrecisionName} precision
   * @returns {Promise<Switch>}
   */
  async use(size, precision) {
    const { files } = this.bundle;
    const entry = size[precision];
    if (!entry) throw new UserError(`${size.id} is not in this bundle in ${precision}.`);
    const start = performance.now();
    // A graph whose weights are in another file is small, so it is kept as the weights are.
    const graph = entry.weights ? await files.share(entry.encoder) : await files.read(entry.encoder);
    const weights = entry.weights ? await files.share(entry.weights) : null;
    const fetched = performance.now();
    await this.encoder?.close();
    this.encoder = null;
    this.encoder = await Session.open(this.ort, entry.encoder, graph, entry.weights, weights);
    return { fetched: fetched - start, opened: performance.now() - fetched };
  }

  /**
   * The samples as a tensor (1, S), at least as long as one frame.
   * @param {Float32Array} samples
   * @returns {any}
   */
  #input(samples) {
    const { sample_rate: rate, frame_shift: shift } = this.bundle.manifest.audio;
    const padded = new Float32Array(Math.max(samples.length, Math.round(rate * shift)));
    padded.set(samples);
    return new this.ort.Tensor("float32", padded, [1, padded.length]);
  }

  /**
   * Recognise an utterance at the size in use.
   * @param {Float32Array} samples in [-1, 1], at the model's rate
   * @returns {Promise<Result>}
   */
  async recognize(samples) {
    const { ort, labels, encoder } = this;
    const { decoder, joiner } = this.parts;
    if (!encoder) throw new UserError("No size is open: pick one.");
    if (!samples.length) throw new UserError("The audio has no samples: record again or choose another file.");
    const start = performance.now();
    const [features] = await this.parts.features.run(this.#input(samples));
    const made = performance.now();
    const lens = new ort.Tensor("int64", BigInt64Array.of(BigInt(features.dims[1])), [1]);
    const [frames, frameLens] = await encoder.run(features, lens);
    const encoded = performance.now();
    const count = Number(frameLens.data[0]);
    const tokens =
      decoder && joiner
        ? await searchTransducer(ort, decoder, joiner, frames, count, labels)
        : searchCtc(frames, count, labels);
    const end = performance.now();
    const seconds = samples.length / this.bundle.manifest.audio.sample_rate;
    return {
      tokens,
      text: textOf(tokens, this.bundle.symbols),
      seconds,
      ms: { features: made - start, encoder: encoded - made, search: end - encoded },
      rtf: (end - start) / 1000 / seconds,
    };
  }
}
