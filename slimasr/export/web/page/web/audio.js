/** Audio at the model's sampling rate, from files and from the microphone. */

import { UserError } from "./errors.js";

/**
 * Decode a file: whatever the browser plays, any rate and number of channels.
 * @param {ArrayBuffer} content
 * @param {string} name for messages
 * @param {number} rate of the model, in Hz
 * @returns {Promise<Float32Array>} samples of one channel
 */
export async function decodeFile(content, name, rate) {
  if (!content.byteLength) throw new UserError(`${name} is empty: choose another file.`);
  let decoded;
  try {
    // A context of the model's rate resamples what it decodes.
    decoded = await new OfflineAudioContext(1, 1, rate).decodeAudioData(content);
  } catch {
    throw new UserError(`${name} is no audio file that this browser can decode: choose a WAV, FLAC or MP3 file.`);
  }
  return mixed(decoded);
}

/**
 * The mean of all channels.
 * @param {AudioBuffer} buffer
 * @returns {Float32Array}
 */
function mixed(buffer) {
  const samples = new Float32Array(buffer.length);
  for (let channel = 0; channel < buffer.numberOfChannels; channel += 1) {
    const values = buffer.getChannelData(channel);
    for (let i = 0; i < samples.length; i += 1) samples[i] += values[i] / buffer.numberOfChannels;
  }
  return samples;
}

/**
 * Convert samples to another rate.
 * @param {Float32Array} samples
 * @param {number} from rate in Hz
 * @param {number} to rate in Hz
 * @returns {Promise<Float32Array>}
 */
async function resampled(samples, from, to) {
  if (from === to || !samples.length) return samples;
  const context = new OfflineAudioContext(1, Math.max(1, Math.round((samples.length * to) / from)), to);
  const buffer = context.createBuffer(1, samples.length, from);
  buffer.getChannelData(0).set(samples);
  const source = context.createBufferSource();
  source.buffer = buffer;
  source.connect(context.destination);
  source.start();
  return (await context.startRendering()).getChannelData(0);
}

/** A recording in progress. */
export class Recording {
  /**
   * @param {AudioContext} context
   * @param {MediaStream} stream
   */
  constructor(context, stream) {
    this.context = context;
    this.stream = stream;
    /** @type {Float32Array[]} */
    this.chunks = [];
  }

  /**
   * Begin to record.
   * @param {(level: number, seconds: number) => void} onLevel is told the loudest sample of late and the duration
   * @returns {Promise<Recording>}
   */
  static async start(onLevel) {
    const stream = await openMicrophone();
    const context = new AudioContext();
    const recording = new Recording(context, stream);
    await context.audioWorklet.addModule(new URL("recorder.js", import.meta.url));
    const recorder = new AudioWorkletNode(context, "recorder", { numberOfOutputs: 0 });
    let length = 0;
    recorder.port.onmessage = ({ data }) => {
      recording.chunks.push(data);
      length += data.length;
      onLevel(loudest(data), length / context.sampleRate);
    };
    context.createMediaStreamSource(stream).connect(recorder);
    await context.resume();
    return recording;
  }

  /**
   * End the recording.
   * @param {number} rate of the model, in Hz
   * @returns {Promise<Float32Array>} samples at that rate
   */
  async stop(rate) {
    for (const track of this.stream.getTracks()) track.stop();
    const from = this.context.sampleRate;
    await this.context.close();
    const samples = new Float32Array(this.chunks.reduce((sum, chunk) => sum + chunk.length, 0));
    let offset = 0;
    for (const chunk of this.chunks) {
      samples.set(chunk, offset);
      offset += chunk.length;
    }
    return resampled(samples, from, rate);
  }
}

/**
 * @param {Float32Array} samples
 * @returns {number} the largest magnitude
 */
function loudest(samples) {
  return samples.reduce((most, sample) => Math.max(most, Math.abs(sample)), 0);
}

/** @returns {Promise<MediaStream>} */
async function openMicrophone() {
  if (!navigator.mediaDevices?.getUserMedia) {
    throw new UserError(
      "This browser gives the microphone to pages of https and of localhost only: serve the page by https, or choose " +
        "a file.",
    );
  }
  try {
    // The model has learnt from speech that no browser had cleaned.
    const audio = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    return await navigator.mediaDevices.getUserMedia({ audio });
  } catch (error) {
    throw new UserError(microphoneMessage(error instanceof DOMException ? error.name : String(error)));
  }
}

/**
 * @param {string} name of the error
 * @returns {string}
 */
function microphoneMessage(name) {
  if (name === "NotAllowedError") return "The microphone is not allowed: permit it in the browser, or choose a file.";
  if (name === "NotFoundError") return "This device has no microphone: connect one, or choose a file.";
  if (name === "NotReadableError") return "The microphone is in use by another program: close that, or choose a file.";
  return `The microphone cannot be opened (${name}): choose a file.`;
}

/**
 * A fixed sequence of noise, for measuring where no audio was chosen.
 * @param {number} seconds
 * @param {number} rate in Hz
 * @returns {Float32Array}
 */
export function noise(seconds, rate) {
  const samples = new Float32Array(Math.round(seconds * rate));
  let state = 1;
  for (let i = 0; i < samples.length; i += 1) {
    // Linear congruential generator of Numerical Recipes: the same on every device.
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    samples[i] = 0.1 * (state / 2 ** 31 - 1);
  }
  return samples;
}
