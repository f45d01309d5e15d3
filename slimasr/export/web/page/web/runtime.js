/** onnxruntime-web: its sessions, with inputs and outputs by position. */

import { UserError } from "./errors.js";
import { request } from "./files.js";

/** The two files of the runtime. */
const SCRIPT = "web/ort.wasm.bundle.min.mjs";
const BINARY = "web/ort-wasm-simd-threaded.wasm";

/**
 * Load the runtime: script and WebAssembly module.
 * @returns {Promise<any>} the module of onnxruntime-web
 */
export async function loadRuntime() {
  const binary = await (await request(BINARY)).arrayBuffer();
  const ort = await import(new URL(SCRIPT, document.baseURI).href).catch(() => {
    throw new UserError(`${SCRIPT} is missing or damaged: copy the whole bundle to the web server.`);
  });
  ort.env.wasm.wasmBinary = binary;
  // More threads need headers that simple web servers do not send. One thread also makes figures comparable.
  ort.env.wasm.numThreads = 1;
  ort.env.logLevel = "error";
  return ort;
}

/** A network in the runtime. */
export class Session {
  /** @param {any} session of onnxruntime-web */
  constructor(session) {
    this.session = session;
  }

  /**
   * Open a network.
   * @param {any} ort onnxruntime-web
   * @param {string} name of its file
   * @param {Uint8Array} graph
   * @param {string | null} weights name of its external data
   * @param {Uint8Array | null} content of its external data
   * @returns {Promise<Session>}
   */
  static async open(ort, name, graph, weights = null, content = null) {
    const options = { executionProviders: ["wasm"], logSeverityLevel: 3 };
    const external = weights ? { externalData: [{ path: weights, data: content }] } : {};
    try {
      return new Session(await ort.InferenceSession.create(graph, { ...options, ...external }));
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      throw new UserError(`${name} cannot be opened by onnxruntime-web (${reason}): export the bundle again.`);
    }
  }

  /**
   * Run the network.
   * @param {...any} inputs tensors, in the order of the file
   * @returns {Promise<any[]>} tensors, in the order of the file
   */
  async run(...inputs) {
    const feeds = Object.fromEntries(inputs.map((input, place) => [this.session.inputNames[place], input]));
    const outputs = await this.session.run(feeds);
    return this.session.outputNames.map((/** @type {string} */ name) => outputs[name]);
  }

  /** Free its memory. */
  async close() {
    await this.session.release();
  }
}
