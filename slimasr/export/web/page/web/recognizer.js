/** From samples to text, at a size that can be switched. */

import { filesOf, textOf } from "./bundle.js";
import { UserError } from "./errors.js";
import { Session } from "./runtime.js";
import { searchCtc, searchTransducer } from "./search.js";
import { encodeChunks } from "./streaming.js";

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

/** Runs one encoder at a time; features, and mostly decoder and joiner, are the same for all sizes. */
export class Recognizer {
  /**
   * @param {any} ort onnxruntime-web
   * @param {Bundle} bundle
   * @param {Session} features
   */
  constructor(ort, bundle, features) {
    this.ort = ort;
    this.bundle = bundle;
    this.features = features;
    /** @type {Session | null} */
    this.encoder = null;
    /** @type {Record<"decoder" | "joiner", {name: string, session: Session} | null>} */
    this.parts = { decoder: null, joiner: null };
    /** @type {number[][]} */
    this.states = [];
    const { blank_id: blank, unk_id: unk, context_size: context } = bundle.manifest;
    /** @type {import("./search.js").Labels} */
    this.labels = { blank, unk, context: context ?? 0 };
  }

  /**
   * Open what all sizes share; `use` opens a size.
   * @param {any} ort onnxruntime-web
   * @param {Bundle} bundle
   * @returns {Promise<Recognizer>}
   */
  static async open(ort, bundle) {
    const name = bundle.manifest.features;
    return new Recognizer(ort, bundle, await Session.open(ort, name, await bundle.files.read(name)));
  }

  /**
   * Switch to a size.
   * @param {Size} size
   * @param {PrecisionName} precision
   * @returns {Promise<Switch>}
   */
  async use(size, precision) {
    const { files, manifest } = this.bundle;
    const names = filesOf(manifest, size, precision);
    const start = performance.now();
    // A graph whose weights are in another file is small, so it is kept as the weights are.
    const graph = names.weights ? await files.share(names.encoder) : await files.read(names.encoder);
    const weights = names.weights ? await files.share(names.weights) : null;
    const others = { decoder: await this.#fetched("decoder", names), joiner: await this.#fetched("joiner", names) };
    const fetched = performance.now();
    await this.encoder?.close();
    this.encoder = null;
    this.encoder = await Session.open(this.ort, names.encoder, graph, names.weights, weights);
    this.states = size[precision]?.states ?? manifest.streaming?.states ?? [];
    await this.#open("decoder", names, others.decoder);
    await this.#open("joiner", names, others.joiner);
    return { fetched: fetched - start, opened: performance.now() - fetched };
  }

  /**
   * The file of a part, unless it is open already.
   * @param {"decoder" | "joiner"} role
   * @param {ReturnType<typeof filesOf>} names
   * @returns {Promise<Uint8Array | null>}
   */
  async #fetched(role, names) {
    const name = names[role];
    return name && name !== this.parts[role]?.name ? this.bundle.files.share(name) : null;
  }

  /**
   * @param {"decoder" | "joiner"} role
   * @param {ReturnType<typeof filesOf>} names
   * @param {Uint8Array | null} content null if it is open already
   */
  async #open(role, names, content) {
    const name = names[role];
    if (!name || !content) return;
    await this.parts[role]?.session.close();
    this.parts[role] = null;
    this.parts[role] = { name, session: await Session.open(this.ort, name, content) };
  }

  /**
   * The samples as a tensor (1, S). A streaming model needs silence at the end; audio shorter than a frame is silence.
   * @param {Float32Array} samples
   * @returns {any}
   */
  #input(samples) {
    const { audio, streaming } = this.bundle.manifest;
    const { sample_rate: rate, frame_shift: shift } = audio;
    const shortest = Math.floor(rate * shift + 1e-6);
    const tail = Math.round((streaming?.tail_seconds ?? 0) * rate);
    const padded = new Float32Array(Math.max(samples.length, shortest) + tail);
    if (samples.length >= shortest) padded.set(samples);
    return new this.ort.Tensor("float32", padded, [1, padded.length]);
  }

  /**
   * @param {Session} encoder
   * @param {any} features tensor (1, T, F)
   * @returns {Promise<[any, number]>} (1, T', J or V) frames, and how many of them belong to the utterance
   */
  async #encode(encoder, features) {
    const { streaming } = this.bundle.manifest;
    if (streaming) {
      const chunks = await encodeChunks(this.ort, encoder, features, streaming, this.states);
      return [chunks, chunks.dims[1]];
    }
    const lens = new this.ort.Tensor("int64", BigInt64Array.of(BigInt(features.dims[1])), [1]);
    const [frames, frameLens] = await encoder.run(features, lens);
    return [frames, Number(frameLens.data[0])];
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
    const [features] = await this.features.run(this.#input(samples));
    const made = performance.now();
    const [frames, count] = await this.#encode(encoder, features);
    const encoded = performance.now();
    const tokens =
      decoder && joiner
        ? await searchTransducer(ort, decoder.session, joiner.session, frames, count, labels)
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
