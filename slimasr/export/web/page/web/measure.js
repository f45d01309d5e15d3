/** Speed of all sizes on this device, and the choice among them. */

/**
 * @typedef {import("./bundle.js").Size} Size
 * @typedef {import("./bundle.js").Manifest} Manifest
 * @typedef {import("./recognizer.js").PrecisionName} PrecisionName
 *
 * @typedef {object} Candidate  A size in one precision.
 * @property {Size} size
 * @property {PrecisionName} precision
 *
 * @typedef {Candidate & {load_ms: number, encoder_ms: number, encoder_ms_per_second: number, rtf: number,
 *   rtf_p90: number, bytes: number}} Row  What was measured of it.
 *
 * @typedef {object} Limits
 * @property {number} rtf
 * @property {number} megabytes
 * @property {string | null} set whose WER counts
 */

/** Runs of which the median counts, after one that warms up. */
export const RUNS = 5;

/**
 * All sizes of a bundle, in float and int8.
 * @param {Manifest} manifest
 * @returns {Candidate[]}
 */
export function candidates(manifest) {
  return manifest.sizes.flatMap((size) => [
    { size, precision: /** @type {PrecisionName} */ ("float") },
    ...(size.int8 ? [{ size, precision: /** @type {PrecisionName} */ ("int8") }] : []),
  ]);
}

/**
 * Measure one size; it is the one in use afterwards.
 * @param {import("./recognizer.js").Recognizer} recognizer
 * @param {Candidate} candidate
 * @param {Float32Array} samples
 * @param {() => Promise<void>} pause lets the page be drawn
 * @returns {Promise<Row>}
 */
export async function measure(recognizer, candidate, samples, pause) {
  const { size, precision } = candidate;
  const { opened } = await recognizer.use(size, precision);
  const { seconds } = await recognizer.recognize(samples);
  const results = [];
  for (let run = 0; run < RUNS; run += 1) {
    await pause();
    results.push(await recognizer.recognize(samples));
  }
  const encoder = quantile(results.map((result) => result.ms.encoder), 0.5);
  const factors = results.map((result) => result.rtf);
  return {
    ...candidate,
    load_ms: opened,
    encoder_ms: encoder,
    encoder_ms_per_second: encoder / seconds,
    rtf: quantile(factors, 0.5),
    rtf_p90: quantile(factors, 0.9),
    bytes: /** @type {import("./bundle.js").Precision} */ (size[precision]).bytes,
  };
}

/**
 * @param {number[]} values
 * @param {number} share 0.5 is the median
 * @returns {number} between two values, as numpy interpolates
 */
export function quantile(values, share) {
  const sorted = [...values].sort((a, b) => a - b);
  const place = share * (sorted.length - 1);
  const below = Math.floor(place);
  const above = Math.ceil(place);
  return sorted[below] + (place - below) * (sorted[above] - sorted[below]);
}

/**
 * The sets for which a manifest holds WERs.
 * @param {Manifest} manifest
 * @returns {string[]}
 */
export function measuredSets(manifest) {
  const sets = candidates(manifest).flatMap(({ size, precision }) => Object.keys(size[precision]?.wer ?? {}));
  return [...new Set(sets)];
}

/**
 * @param {Candidate} candidate
 * @param {string | null} set
 * @returns {number | null} WER in percent
 */
export function werOf(candidate, set) {
  return set === null ? null : (candidate.size[candidate.precision]?.wer?.[set] ?? null);
}

/**
 * The best size within the limits: the lowest WER of those measured on the set, or the most parameters where none was.
 * @param {Row[]} rows
 * @param {Limits} limits
 * @returns {{row: Row, misses: string[]} | null} with what the nearest misses where none fits
 */
export function choose(rows, limits) {
  const order = (/** @type {Row} */ row) => [
    Math.max(1, excess(row, limits)),
    werOf(row, limits.set) ?? Infinity,
    -row.size.params,
    row.bytes,
  ];
  // Sizes that were measured on another set may be for another language.
  const measured = rows.filter((row) => werOf(row, limits.set) !== null);
  const [row] = [...(measured.length ? measured : rows)].sort((a, b) => compared(order(a), order(b)));
  return row ? { row, misses: misses(row, limits) } : null;
}

/**
 * @param {number[]} a
 * @param {number[]} b as many
 * @returns {number} below 0 if `a` comes first
 */
function compared(a, b) {
  const place = a.findIndex((value, i) => value !== b[i]);
  if (place < 0) return 0;
  return a[place] < b[place] ? -1 : 1;
}

/**
 * @param {Row} row
 * @param {Limits} limits
 * @returns {number} the largest quotient of a figure and its limit
 */
function excess(row, limits) {
  return Math.max(row.rtf / limits.rtf, row.bytes / 1e6 / limits.megabytes);
}

/**
 * @param {Row} row
 * @param {Limits} limits
 * @returns {string[]} what is above its limit
 */
function misses(row, limits) {
  const found = [];
  if (row.rtf > limits.rtf) found.push(`RTF ${row.rtf.toPrecision(2)} (limit ${limits.rtf})`);
  if (row.bytes / 1e6 > limits.megabytes) found.push(`${(row.bytes / 1e6).toFixed(2)} MB (limit ${limits.megabytes})`);
  return found;
}

/**
 * The measured rows as the JSON of `run.py profile --json`, which `slimasr-search --latency` reads.
 * @param {Manifest} manifest
 * @param {Row[]} rows
 * @param {{name: string, seconds: number}} audio
 * @param {string} runtime version of onnxruntime-web
 * @returns {object}
 */
export function profile(manifest, rows, audio, runtime) {
  const { userAgent, platform, hardwareConcurrency } = navigator;
  return {
    format: "slimasr-profile",
    version: 1,
    model: manifest.model,
    streaming: manifest.streaming,
    machine: {
      name: `browser on ${platform}`,
      processor: `${hardwareConcurrency} cores`,
      system: userAgent,
      python: null,
      onnxruntime: `web ${runtime}`,
    },
    audio: { source: audio.name, seconds: [audio.seconds] },
    rows: rows.map(({ size, precision, ...figures }) => ({
      size: size.id,
      subnet: size.subnet,
      precision,
      threads: 1,
      ...figures,
      peak_mb: null,
    })),
  };
}
