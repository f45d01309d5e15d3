/** Greedy search, with at most one token per frame, as sherpa-onnx does it. */

/**
 * @typedef {import("./runtime.js").Session} Session
 * @typedef {object} Labels
 * @property {number} blank
 * @property {number | null} unk a token that counts as blank
 * @property {number} context tokens that the decoder sees; 0 for CTC models
 */

/**
 * Tokens of a transducer.
 * @param {any} ort onnxruntime-web
 * @param {Session} decoder (1, context) token ids -> (1, J)
 * @param {Session} joiner (1, J), (1, J) -> (1, V)
 * @param {any} frames tensor (1, T, J), the encoder's output
 * @param {number} count frames that belong to the utterance
 * @param {Labels} labels
 * @returns {Promise<number[]>}
 */
export async function searchTransducer(ort, decoder, joiner, frames, count, labels) {
  const dim = frames.dims[2];
  /** @type {number[]} */
  const tokens = [];
  // -1 stands for no token yet; the search begins after a blank.
  const context = [...new Array(labels.context - 1).fill(-1), labels.blank];
  let state = await decode(ort, decoder, context);
  for (let frame = 0; frame < count; frame += 1) {
    const row = new ort.Tensor("float32", frames.data.subarray(frame * dim, (frame + 1) * dim), [1, dim]);
    const [logits] = await joiner.run(row, state);
    const token = largest(logits.data, 0, logits.data.length);
    if (token === labels.blank || token === labels.unk) continue;
    tokens.push(token);
    context.push(token);
    state = await decode(ort, decoder, context.slice(-labels.context));
  }
  return tokens;
}

/**
 * @param {any} ort
 * @param {Session} decoder
 * @param {number[]} context
 * @returns {Promise<any>} tensor (1, J)
 */
async function decode(ort, decoder, context) {
  const [out] = await decoder.run(new ort.Tensor("int64", BigInt64Array.from(context, BigInt), [1, context.length]));
  return out;
}

/**
 * Tokens of a CTC model: the best label of each frame, without repetitions and blanks.
 * @param {any} frames tensor (1, T, V) of log-probabilities
 * @param {number} count frames that belong to the utterance
 * @param {Labels} labels
 * @returns {number[]}
 */
export function searchCtc(frames, count, labels) {
  const size = frames.dims[2];
  const tokens = [];
  let before = labels.blank;
  for (let frame = 0; frame < count; frame += 1) {
    const token = largest(frames.data, frame * size, size);
    if (token !== before && token !== labels.blank && token !== labels.unk) tokens.push(token);
    before = token;
  }
  return tokens;
}

/**
 * The place of the largest of some values; the first of several.
 * @param {Float32Array} values
 * @param {number} start
 * @param {number} count
 * @returns {number} counted from `start`
 */
function largest(values, start, count) {
  let best = 0;
  for (let place = 1; place < count; place += 1) {
    if (values[start + place] > values[start + best]) best = place;
  }
  return best;
}
