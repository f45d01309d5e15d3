/** What the page shows: functions from data to elements. They hold no state. */

import { candidates, werOf } from "./measure.js";

/**
 * @typedef {import("./bundle.js").Manifest} Manifest
 * @typedef {import("./measure.js").Candidate} Candidate
 * @typedef {import("./measure.js").Row} Row
 */

/**
 * An element of the page.
 * @template {HTMLElement} [T=HTMLElement]
 * @param {string} id
 * @returns {T}
 */
export function element(id) {
  return /** @type {T} */ (document.getElementById(id));
}

/**
 * @param {string} tag
 * @param {string} [text]
 * @returns {HTMLElement}
 */
function make(tag, text = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  return made;
}

/** @param {string} text */
export function showStatus(text) {
  element("status").textContent = text;
}

/** @param {string} message empty to hide the box */
export function showError(message) {
  element("error").textContent = message;
  element("error").hidden = !message;
}

/**
 * @param {number} count of bytes
 * @returns {string}
 */
export function megabytes(count) {
  return `${(count / 1e6).toFixed(count < 1e5 ? 3 : 2)} MB`;
}

/**
 * @param {number} count
 * @returns {string}
 */
function thousands(count) {
  if (count >= 1e4) return count >= 1e6 ? `${(count / 1e6).toPrecision(3)} M` : `${Math.round(count / 1e3)} k`;
  return String(count);
}

/**
 * @param {number} duration in ms
 * @returns {string}
 */
export function milliseconds(duration) {
  return `${duration < 10 ? duration.toFixed(1) : Math.round(duration)} ms`;
}

/**
 * @param {number} factor
 * @returns {string}
 */
function realTimeFactor(factor) {
  return factor < 0.1 ? factor.toFixed(4) : factor.toFixed(2);
}

/**
 * @param {Record<string, number> | null | undefined} wer by set
 * @returns {string}
 */
function werText(wer) {
  const parts = Object.entries(wer ?? {}).map(([set, value]) => `${set} ${value.toFixed(1)} %`);
  return parts.length ? parts.join(", ") : "not measured";
}

/** @param {Manifest} manifest */
export function showSummary(manifest) {
  const { model, sizes, kind, audio } = manifest;
  const many = sizes.length === 1 ? "one size" : `${sizes.length} sizes`;
  const type = kind === "ctc" ? "CTC model" : "transducer";
  const parts = [`${model.name}: a ${type} in ${many}, for speech of ${audio.sample_rate / 1000} kHz.`];
  parts.push("It runs in this browser.");
  if (manifest.graph) parts.push("The page searches greedily, without the bundle's graph.");
  element("summary").textContent = parts.join(" ");
}

/**
 * The controls by which a size and its precision are picked.
 * @param {Manifest} manifest
 * @param {Candidate} chosen
 * @param {(candidate: Candidate) => void} onPick
 */
export function showSizes(manifest, chosen, onPick) {
  const focused = /** @type {HTMLInputElement | null} */ (document.activeElement)?.name;
  const precisions = [...new Set(candidates(manifest).map(({ precision }) => precision))];
  element("precisions").hidden = precisions.length === 1;
  element("precisions").replaceChildren(
    ...precisions.map((precision) => {
      const offered = chosen.size[precision] !== null;
      const label = radio("precision", precision === chosen.precision, offered, () => onPick({ ...chosen, precision }));
      label.append(precision);
      return label;
    }),
  );
  element("sizes").replaceChildren(
    ...manifest.sizes.map((size) => {
      const picked = { size, precision: chosen.precision };
      const entry = size[chosen.precision];
      const label = radio("size", size === chosen.size, entry !== null, () => onPick(picked));
      label.className = "size";
      label.append(make("strong", size.language ? `${size.id} (${size.language})` : size.id));
      label.append(make("span", `${thousands(size.params)} parameters`));
      if (entry) label.append(make("span", megabytes(entry.bytes)), make("span", `WER: ${werText(entry.wer)}`));
      else label.append(make("span", `not in ${chosen.precision}`));
      if (entry?.forced) label.append(make("span", "int8 was written without passing the limit of the export"));
      return label;
    }),
  );
  // The arrow keys go on working after a change.
  if (focused !== "size" && focused !== "precision") return;
  /** @type {HTMLElement | null} */ (document.querySelector(`input[name=${focused}]:checked`))?.focus();
}

/**
 * @param {string} name of the group
 * @param {boolean} checked
 * @param {boolean} enabled
 * @param {() => void} onPick
 * @returns {HTMLElement} a label with the control in it
 */
function radio(name, checked, enabled, onPick) {
  const input = document.createElement("input");
  Object.assign(input, { type: "radio", name, checked, disabled: !enabled });
  input.addEventListener("change", onPick);
  const label = make("label");
  label.append(input);
  return label;
}

/**
 * @param {import("./recognizer.js").Result} result
 * @param {import("./recognizer.js").Switch} change how the size was opened
 * @param {Candidate} candidate
 */
export function showResult(result, change, candidate) {
  element("result-section").hidden = false;
  element("text").textContent = result.text || "no words recognised";
  element("text").classList.toggle("empty", !result.text);
  const entry = candidate.size[candidate.precision];
  const figures = {
    "Real time factor": realTimeFactor(result.rtf),
    Features: milliseconds(result.ms.features),
    Encoder: milliseconds(result.ms.encoder),
    Search: milliseconds(result.ms.search),
    Audio: `${result.seconds.toFixed(2)} s`,
    "Switch to this size": milliseconds(change.opened),
    "Its files fetched in": milliseconds(change.fetched),
    "Size of its files": megabytes(entry?.bytes ?? 0),
    WER: werText(entry?.wer),
  };
  const items = Object.entries(figures).map(([name, value]) => {
    const item = make("div");
    item.append(make("dt", name), make("dd", value));
    return item;
  });
  element("figures").replaceChildren(...items);
}

/**
 * The table of all sizes.
 * @param {Row[]} rows
 * @param {Row | null} chosen
 * @param {string | null} set whose WER is shown
 */
export function showRows(rows, chosen, set) {
  element("measured").hidden = element("save").hidden = !rows.length;
  const head = make("tr");
  const names = ["Size", "WER", "RTF", "p90", "Encoder per s", "Open", "Files", "Parameters"];
  head.append(...names.map((name) => make("th", name)));
  const body = rows.map((row) => {
    const line = make("tr");
    line.classList.toggle("chosen", row === chosen);
    const wer = werOf(row, set);
    const cells = [
      row.precision === "int8" ? `${row.size.id} int8` : row.size.id,
      wer === null ? "–" : `${wer.toFixed(1)} %`,
      realTimeFactor(row.rtf),
      realTimeFactor(row.rtf_p90),
      milliseconds(row.encoder_ms_per_second),
      milliseconds(row.load_ms),
      megabytes(row.bytes),
      thousands(row.size.params),
    ];
    line.append(...cells.map((cell) => make("td", cell)));
    return line;
  });
  element("rows").replaceChildren(head, ...body);
}

/**
 * How it was measured, in words.
 * @param {{name: string, seconds: number}} measuredOn the audio
 * @param {number} runs
 */
export function showMeasured({ name, seconds }, runs) {
  const audio = `${name} (${seconds.toFixed(1)} s)`;
  element("note").textContent = `RTF: features, encoder and search of ${audio}, one thread, median of ${runs} runs.`;
}

/**
 * The choice in words.
 * @param {{row: Row, misses: string[]} | null} choice
 * @param {string | null} set
 */
export function showChoice(choice, set) {
  if (!choice) return;
  const { row, misses } = choice;
  const name = row.precision === "int8" ? `${row.size.id} in int8` : row.size.id;
  const wer = werOf(row, set);
  const reason = wer === null ? "it has the most parameters" : `it has the lowest WER, ${wer.toFixed(1)} % on ${set}`;
  element("choice").textContent = misses.length
    ? `No size is within these limits. The nearest is ${name}; it misses: ${misses.join(", ")}.`
    : `Take ${name}: of the sizes within the limits, ${reason}.`;
  element("take").hidden = false;
}

/**
 * The limits that the user has set. The choice of a set is offered where there are several.
 * @param {string[]} sets for which there are WERs
 * @returns {import("./measure.js").Limits}
 */
export function readLimits(sets) {
  const select = /** @type {HTMLSelectElement} */ (element("set"));
  if (select.length !== sets.length) select.replaceChildren(...sets.map((set) => make("option", set)));
  element("set-label").hidden = sets.length < 2;
  const limit = (/** @type {string} */ id) => {
    const value = /** @type {HTMLInputElement} */ (element(id)).valueAsNumber;
    return value > 0 ? value : Infinity;
  };
  return { rtf: limit("max-rtf"), megabytes: limit("max-mb"), set: select.value || null };
}

/** @param {number} level the loudest sample of late, at most 1 */
export function showLevel(level) {
  // A square root, so that soft speech is seen as well.
  /** @type {HTMLMeterElement} */ (element("level")).value = Math.sqrt(level);
}

/** @param {boolean} on */
export function showRecording(on) {
  element("level").hidden = !on;
  element("speak").textContent = on ? "Stop" : "Speak";
  element("speak").classList.toggle("recording", on);
}

/**
 * Offer text as a file.
 * @param {string} name
 * @param {string} text
 */
export function download(name, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
