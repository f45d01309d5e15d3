/** The bundle's manifest and its tokens. */

import { UserError } from "./errors.js";
import { BundleFiles, request } from "./files.js";

/** Version of manifest.json that this page reads. */
const VERSION = 1;

/**
 * @typedef {object} Precision  A size in one precision.
 * @property {string} encoder file
 * @property {string | null} weights file of external data; null if the encoder's file holds its weights
 * @property {number} bytes of all files that the runtime opens
 * @property {Record<string, number> | null} wer in percent, by set
 * @property {boolean} forced whether int8 was written without passing the limit of the export
 * @property {number[][] | null} [states] shapes of a streaming encoder's states, if they are the size's own
 *
 * @typedef {object} Size  A subnet of the supernet.
 * @property {string} id
 * @property {object} subnet
 * @property {string | null} language
 * @property {number} params
 * @property {number} macs
 * @property {string | null} [decoder] file, if it is the size's own
 * @property {string | null} [joiner] file, if it is the size's own
 * @property {Precision} float
 * @property {Precision | null} int8
 *
 * @typedef {object} Streaming  How a streaming encoder is fed.
 * @property {"lstm" | "conformer"} carrier
 * @property {number} chunk_frames by which it advances
 * @property {number} window_frames that it sees
 * @property {number} tail_seconds of silence that it needs at the end
 * @property {number[][]} states shapes, for one stream
 *
 * @typedef {object} Manifest  manifest.json, see docs/bundle.md.
 * @property {string} format
 * @property {number} version
 * @property {"transducer" | "ctc"} kind
 * @property {{name: string, weights: string, architecture: string}} model
 * @property {{sample_rate: number, num_mel_bins: number, frame_shift: number}} audio
 * @property {string} tokens
 * @property {number} vocab_size
 * @property {number} blank_id
 * @property {number | null} unk_id
 * @property {number | null} context_size
 * @property {string} features
 * @property {string | null} decoder
 * @property {string | null} joiner
 * @property {string | null} joiner_int8
 * @property {string | null} graph file
 * @property {Streaming | null} streaming
 * @property {Size[]} sizes
 * @property {Record<string, import("./files.js").FileEntry>} files
 *
 * @typedef {object} Bundle
 * @property {Manifest} manifest
 * @property {string[]} symbols by token id
 * @property {BundleFiles} files
 */

/**
 * Read manifest.json and the tokens.
 * @param {import("./files.js").Progress} onProgress
 * @returns {Promise<Bundle>}
 */
export async function readBundle(onProgress) {
  const manifest = checked(await parse(await request("manifest.json")));
  const files = new BundleFiles(manifest.files, onProgress);
  const text = new TextDecoder().decode(await files.read(manifest.tokens));
  return { manifest, symbols: parseTokens(text, manifest), files };
}

/**
 * @param {Response} response
 * @returns {Promise<any>}
 */
async function parse(response) {
  try {
    return await response.json();
  } catch {
    throw new UserError("manifest.json is no valid JSON: export the bundle again.");
  }
}

/**
 * Refuse a manifest that this page cannot run.
 * @param {any} manifest
 * @returns {Manifest}
 */
function checked(manifest) {
  if (manifest?.format !== "slimasr-bundle") {
    throw new UserError("manifest.json is not that of a slimasr bundle: open the page from the folder of a bundle.");
  }
  if (manifest.version > VERSION) {
    const versions = `manifest.json has version ${manifest.version}, and this page reads version ${VERSION}`;
    throw new UserError(`${versions}: export the bundle again with --web, which adds the page that belongs to it.`);
  }
  if (manifest.kind !== "transducer" && manifest.kind !== "ctc") {
    throw new UserError(`The page runs transducers and CTC models, and this bundle has the kind '${manifest.kind}'.`);
  }
  if (!manifest.sizes?.length) throw new UserError("manifest.json lists no sizes: export the bundle again.");
  return manifest;
}

/**
 * @param {string} text of tokens.txt: a symbol and its id on each line; a line with an id alone is a space
 * @param {Manifest} manifest
 * @returns {string[]} the symbols in the order of their ids
 */
function parseTokens(text, manifest) {
  const symbols = new Array(manifest.vocab_size);
  for (const line of text.split("\n")) {
    const match = line.match(/^(?:(.*)\s)?(\d+)\s*$/);
    if (match) symbols[Number(match[2])] = match[1] || " ";
  }
  const known = symbols.filter((symbol) => symbol !== undefined).length;
  if (known !== manifest.vocab_size || symbols.length !== manifest.vocab_size) {
    throw new UserError(
      `${manifest.tokens} has ${known} usable lines where manifest.json says ${manifest.vocab_size} tokens: ` +
        "export the bundle again.",
    );
  }
  return symbols;
}

/**
 * The files of a size.
 * @param {Manifest} manifest
 * @param {Size} size
 * @param {"float" | "int8"} precision
 * @returns {{encoder: string, weights: string | null, decoder: string | null, joiner: string | null}}
 */
export function filesOf(manifest, size, precision) {
  const entry = size[precision];
  if (!entry) throw new UserError(`${size.id} is not in this bundle in ${precision}: pick another size.`);
  const rounded = precision === "int8" ? manifest.joiner_int8 : null;
  const joiner = size.joiner ?? rounded ?? manifest.joiner;
  return { encoder: entry.encoder, weights: entry.weights, decoder: size.decoder ?? manifest.decoder, joiner };
}

/**
 * The text of tokens: in words that are spelt, "▁" is a space; phonemes have spaces between them. "<0xE2>" is a byte.
 * @param {number[]} tokens
 * @param {string[]} symbols
 * @returns {string}
 */
export function textOf(tokens, symbols) {
  const between = symbols.some((symbol) => symbol.includes("▁")) ? "" : " ";
  const encoder = new TextEncoder();
  const pieces = tokens.map((token) => symbols[token]).filter((symbol) => symbol !== "<sos/eos>");
  const bytes = pieces.flatMap((piece, place) => {
    const byte = piece.match(/^<0x([0-9A-Fa-f]{2})>$/);
    const content = byte ? [parseInt(byte[1], 16)] : [...encoder.encode(piece.replaceAll("▁", " "))];
    return place ? [...encoder.encode(between), ...content] : content;
  });
  return new TextDecoder().decode(new Uint8Array(bytes)).trim();
}
