/** Files of the bundle: fetched at most once where they are shared, checked against the manifest. */

import { UserError } from "./errors.js";

/**
 * @typedef {{bytes: number, sha256: string}} FileEntry  What the manifest says about a file.
 * @typedef {(name: string, received: number, total: number) => void} Progress  Bytes that have arrived so far.
 */

/**
 * Fetch a file beside the page.
 * @param {string} name path relative to the page
 * @returns {Promise<Response>} a response with status 200
 */
export async function request(name) {
  let response;
  try {
    // A bundle may be exported again under the same address, so the browser asks whether its copy is still valid.
    response = await fetch(name, { cache: "no-cache" });
  } catch {
    throw new UserError(`${name} cannot be fetched: check that the web server of this page is still running.`);
  }
  if (response.status === 404) {
    throw new UserError(`${name} is missing beside this page: copy the whole bundle to the web server.`);
  }
  if (!response.ok) {
    throw new UserError(`${name} cannot be fetched: the web server answers with status ${response.status}.`);
  }
  return response;
}

/** The files of one bundle. */
export class BundleFiles {
  /**
   * @param {Record<string, FileEntry>} entries the manifest's `files`
   * @param {Progress} onProgress is told how many bytes of a file have arrived
   */
  constructor(entries, onProgress) {
    this.entries = entries;
    this.onProgress = onProgress;
    /** @type {Map<string, Promise<Uint8Array>>} */
    this.kept = new Map();
  }

  /**
   * The content of a file that is needed once.
   * @param {string} name
   * @returns {Promise<Uint8Array>}
   */
  async read(name) {
    const entry = this.entries[name];
    if (!entry) throw new UserError(`manifest.json does not list ${name}: export the bundle again.`);
    const content = await this.#receive(await request(name), name, entry.bytes);
    await check(name, content, entry);
    return content;
  }

  /**
   * The content of a file that several sessions share: it is fetched once and stays in memory.
   * @param {string} name
   * @returns {Promise<Uint8Array>}
   */
  share(name) {
    let content = this.kept.get(name);
    if (!content) {
      content = this.read(name);
      this.kept.set(name, content);
      // A failed attempt may be repeated.
      content.catch(() => this.kept.delete(name));
    }
    return content;
  }

  /**
   * Collect the body of a response.
   * @param {Response} response
   * @param {string} name
   * @param {number} total bytes that the manifest announces
   * @returns {Promise<Uint8Array>}
   */
  async #receive(response, name, total) {
    const chunks = [];
    let received = 0;
    const reader = /** @type {ReadableStream<Uint8Array>} */ (response.body).getReader();
    for (;;) {
      const { done, value } = await reader.read().catch(() => {
        throw new UserError(`${name} arrived in part only: check the connection and reload the page.`);
      });
      if (done) break;
      chunks.push(value);
      received += value.length;
      this.onProgress(name, received, total);
    }
    return joined(chunks, received);
  }
}

/**
 * @param {Uint8Array[]} chunks
 * @param {number} length bytes of all chunks
 * @returns {Uint8Array}
 */
function joined(chunks, length) {
  const content = new Uint8Array(length);
  let offset = 0;
  for (const chunk of chunks) {
    content.set(chunk, offset);
    offset += chunk.length;
  }
  return content;
}

/**
 * Compare a file with the manifest: altered weights would give no error, but wrong text.
 * @param {string} name
 * @param {Uint8Array} content
 * @param {FileEntry} entry
 */
async function check(name, content, entry) {
  const remedy = "the bundle is damaged or mixed with another one: copy it again.";
  if (content.length !== entry.bytes) {
    throw new UserError(`${name} has ${content.length} bytes where manifest.json says ${entry.bytes}: ${remedy}`);
  }
  // Browsers compute digests for https and localhost only.
  if (!globalThis.crypto?.subtle) return;
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", /** @type {BufferSource} */ (content)));
  const hex = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
  if (hex !== entry.sha256) throw new UserError(`${name} differs from what manifest.json says (SHA-256): ${remedy}`);
}
