/** Encoders that take an utterance chunk by chunk. */

/**
 * Encode an utterance.
 * @param {any} ort onnxruntime-web
 * @param {import("./runtime.js").Session} encoder (1, window, F) features, states, ... -> (1, T', J), states, ...
 * @param {any} features tensor (1, T, F); what fills no chunk at the end is dropped
 * @param {import("./bundle.js").Streaming} streaming
 * @param {number[][]} shapes of the states
 * @returns {Promise<{data: Float32Array, dims: number[]}>} frames of all chunks
 */
export async function encodeChunks(ort, encoder, features, streaming, shapes) {
  const [, length, bins] = features.dims;
  const { window_frames: window, chunk_frames: chunk } = streaming;
  let states = shapes.map((shape) => new ort.Tensor("float32", new Float32Array(product(shape)), shape));
  const outputs = [];
  // A chunk is run when there are more frames than it sees, as sherpa-onnx does.
  for (let first = 0; first + window < length; first += chunk) {
    const content = features.data.slice(first * bins, (first + window) * bins);
    const x = new ort.Tensor("float32", content, [1, window, bins]);
    // This carrier also hands over how many feature frames came before.
    const processed = new ort.Tensor("int64", BigInt64Array.of(BigInt(first)), [1]);
    const last = streaming.carrier === "conformer" ? [processed] : [];
    const [out, ...after] = await encoder.run(x, ...states, ...last);
    outputs.push(out);
    states = after;
  }
  return joined(outputs);
}

/**
 * @param {{data: Float32Array, dims: number[]}[]} outputs
 * @returns {{data: Float32Array, dims: number[]}}
 */
function joined(outputs) {
  const count = outputs.reduce((sum, { dims }) => sum + dims[1], 0);
  const dim = outputs[0]?.dims[2] ?? 0;
  const data = new Float32Array(count * dim);
  let offset = 0;
  for (const output of outputs) {
    data.set(output.data, offset);
    offset += output.data.length;
  }
  return { data, dims: [1, count, dim] };
}

/**
 * @param {number[]} numbers
 * @returns {number}
 */
function product(numbers) {
  return numbers.reduce((result, number) => result * number, 1);
}
