/** Starts the page: loads bundle and runtime, and connects the controls. */

import { automate } from "./automate.js";
import { readBundle } from "./bundle.js";
import { describe } from "./errors.js";
import { Page } from "./page.js";
import { Recognizer } from "./recognizer.js";
import { loadRuntime } from "./runtime.js";
import * as view from "./view.js";

/** @returns {Promise<Page>} the page with its first size open */
async function start() {
  const bundle = await readBundle((name, received, total) => {
    view.showStatus(`Fetching ${name}: ${view.megabytes(received)} of ${view.megabytes(total)}`);
  });
  view.showSummary(bundle.manifest);
  view.showStatus("Loading the runtime");
  const page = new Page(await Recognizer.open(await loadRuntime(), bundle));
  page.showSizes();
  await page.pick(page.chosen);
  for (const name of ["sizes", "audio", "measure"]) view.element(`${name}-section`).hidden = false;
  return page;
}

/** @param {Page} page */
function connect(page) {
  const file = /** @type {HTMLInputElement} */ (view.element("file"));
  file.addEventListener("change", () => {
    const chosen = file.files?.[0];
    // The same file may be chosen again.
    file.value = "";
    if (chosen) page.act(async () => page.open(await chosen.arrayBuffer(), chosen.name));
  });
  view.element("speak").addEventListener("click", () => (page.recording ? page.endRecording() : page.speak()));
  view.element("measure").addEventListener("click", () => page.act(() => page.measureAll()));
  view.element("take").addEventListener("click", () => page.act(() => page.take()));
  view.element("save").addEventListener("click", () => page.saveProfile());
  for (const name of ["max-rtf", "max-mb", "set"]) view.element(name).addEventListener("input", () => page.showRows());
}

const query = new URLSearchParams(location.search);
try {
  const page = await start();
  connect(page);
  view.showStatus("Ready");
  await automate(query, page, null);
} catch (error) {
  console.error(error);
  view.showError(describe(error));
  view.element("status").hidden = true;
  await automate(query, null, describe(error));
}
