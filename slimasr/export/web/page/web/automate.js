/**
 * Use of the page without hands, for tests and links. The query may hold:
 *
 *     wav=NAME      a file of this web server to recognise; may be repeated
 *     mic=SECONDS   record for so long and recognise that
 *     all=1         each audio at all sizes, in float and int8, not only at the first
 *     measure=1     measure all sizes
 *     samples=1     add the samples of the audio to the report
 *     post=ADDRESS  where on this web server the report goes, as JSON
 */

import { UserError, describe } from "./errors.js";
import { request } from "./files.js";
import { candidates } from "./measure.js";
import { element, showError, showStatus } from "./view.js";

/**
 * Do what the query asks for.
 * @param {URLSearchParams} query
 * @param {import("./page.js").Page | null} page null if it could not start
 * @param {string | null} error why it could not start
 */
export async function automate(query, page, error) {
  /** @type {object[]} */
  const results = [];
  let failure = error;
  try {
    if (page) await run(query, page, results);
    if (page) showStatus("Ready");
  } catch (problem) {
    failure = describe(problem);
    showError(failure);
    showStatus("Stopped");
  }
  const post = query.get("post");
  if (post === null) return;
  const profile = page?.rows.length ? page.profile() : null;
  const report = { error: failure, results, profile, shown: document.body.innerText };
  await fetch(sameOrigin(post), { method: "POST", body: JSON.stringify(report) });
}

/**
 * @param {URLSearchParams} query
 * @param {import("./page.js").Page} page
 * @param {object[]} results filled with one entry per audio and size
 */
async function run(query, page, results) {
  for (const name of query.getAll("wav")) {
    await page.open(await (await request(sameOrigin(name))).arrayBuffer(), name);
    await report(query, page, results);
  }
  if (query.has("mic")) {
    await record(page, Number(query.get("mic")));
    await report(query, page, results);
  }
  if (query.has("measure")) await page.measureAll();
}

/**
 * @param {URLSearchParams} query
 * @param {import("./page.js").Page} page
 * @param {object[]} results
 */
async function report(query, page, results) {
  const all = query.has("all") ? candidates(page.manifest) : [page.chosen];
  for (const candidate of all) {
    if (candidate !== page.chosen) await page.pick(candidate);
    const samples = query.has("samples") ? Array.from(page.audio?.samples ?? []) : null;
    const { size, precision } = candidate;
    results.push({ audio: page.audio?.name, size: size.id, precision, ...page.result, change: page.change, samples });
  }
}

/**
 * Press the button, and press it again after some seconds of recording.
 * @param {import("./page.js").Page} page
 * @param {number} seconds
 */
async function record(page, seconds) {
  const done = page.speak();
  const failed = done.then(() => true);
  while (!page.recording) {
    const ended = await Promise.race([failed, new Promise((resolve) => setTimeout(() => resolve(false), 20))]);
    if (ended) throw new UserError(element("error").textContent ?? "");
  }
  await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
  page.endRecording();
  await done;
}

/**
 * @param {string} address
 * @returns {string} the same address, if it is one of this web server
 */
function sameOrigin(address) {
  const url = new URL(address, document.baseURI);
  if (url.origin !== location.origin) throw new UserError(`${address} is on another web server, which is not allowed.`);
  return url.href;
}
