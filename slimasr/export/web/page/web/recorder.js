/** Runs in the browser's audio thread: hands the microphone's samples to the page, a tenth of a second at a time. */

const CHUNK = Math.round(sampleRate / 10);

class Recorder extends AudioWorkletProcessor {
  constructor() {
    super();
    this.chunk = new Float32Array(CHUNK);
    this.length = 0;
  }

  /**
   * @param {Float32Array[][]} inputs of each input the channels
   * @returns {boolean} whether to go on
   */
  process(inputs) {
    // Without a channel, the microphone has not begun or has ended.
    for (const sample of inputs[0][0] ?? []) {
      this.chunk[this.length] = sample;
      this.length += 1;
      if (this.length === CHUNK) {
        this.port.postMessage(this.chunk.slice());
        this.length = 0;
      }
    }
    return true;
  }
}

registerProcessor("recorder", Recorder);
