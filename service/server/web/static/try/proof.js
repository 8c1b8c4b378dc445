// Prove it: the same row alone, among strangers, and in the engine of this browser, bit by bit; and in another version.

import { ask, postJson, url, modelPath } from "../shared/api.js";
import { count, number, percent, seconds } from "../shared/format.js";
import { Card, Note, Status } from "../shared/parts.js";
import { html, useEffect, useState } from "../shared/view.js";
import { predictPath, useAsked } from "./asking.js";
import { bitsOf, numbersOf } from "./bits.js";
import { randomRow } from "./rows.js";

const STRANGERS = 1000;
const SHOWN = 8; // numbers whose bits are shown
let engine = null; // loads once

// Loads the engine and the bundle into this page; the bundle's golden rows are run before it predicts.
const loadHere = async (name, version) => {
  const [{ load }, ort] = await Promise.all([import("../browser/index.js"), (engine ||= import("../vendor/onnxruntime-web/ort.wasm.min.mjs"))]);
  return load(url(`${modelPath(name, version)}/bundle/`), { ort, fetch: (address) => ask(address, {}) });
};
const models = new Map();
const modelHere = (name, version) => {
  const key = `${name}/${version}`;
  if (!models.has(key)) models.set(key, loadHere(name, version).catch((error) => { models.delete(key); throw error; }));
  return models.get(key);
};

const timed = async (work) => {
  const begun = performance.now();
  const prediction = await work();
  return { prediction, tookS: (performance.now() - begun) / 1000 };
};

const amongStrangers = async (path, row, features, reference) => {
  const place = Math.floor(Math.random() * (STRANGERS + 1));
  const strangers = Array.from({ length: STRANGERS }, () => randomRow(features, reference));
  const rows = [...strangers.slice(0, place), row, ...strangers.slice(place)];
  return (await postJson(path, { rows })).predictions[place];
};

const COLUMNS = [
  { key: "alone", title: "Alone", words: "a request of one row" },
  { key: "among", title: `Among ${count(STRANGERS)} strangers`, words: "at a random place in one request" },
  { key: "here", title: "In this browser", words: "WebAssembly, no server" },
];

const sameBits = (one, other) => {
  const [mine, theirs] = [numbersOf(one), numbersOf(other)];
  return mine.length === theirs.length && mine.every(({ value }, place) => bitsOf(value) === bitsOf(theirs[place].value));
};

const Verdict = ({ results }) => {
  const alone = results.alone?.prediction;
  const others = COLUMNS.slice(1).filter(({ key }) => results[key]);
  const answered = others.filter(({ key }) => results[key].prediction);
  if (!alone || others.length < 2) return null;
  const different = answered.filter(({ key }) => !sameBits(alone, results[key].prediction));
  const numbers = numbersOf(alone).length;
  if (different.length) return html`<${Note} kind="bad">The bits differ: ${different.map((one) => one.title.toLowerCase()).join(" and ")}.<//>`;
  if (!answered.length) return null;
  const where = answered.map((one) => one.title.toLowerCase()).join(" and ");
  return html`<${Note} kind="good">All ${count(32 * numbers)} bits of the ${numbers === 1 ? "number" : `${count(numbers)} numbers`} are equal alone, ${where}.<//>`;
};

const Cell = ({ title, result, alone, label }) => {
  if (!result?.prediction) return html`<td class="soft" data-label=${title}>${result ? "–" : "…"}</td>`;
  const value = numbersOf(result.prediction).find((one) => one.label === label).value;
  const isEqual = !alone || bitsOf(value) === bitsOf(numbersOf(alone).find((one) => one.label === label).value);
  return html`<td data-label=${title}><span><code class=${isEqual ? "equal" : "differs"}>${bitsOf(value)}</code> <span class=${isEqual ? "tick" : "cross"} role="img" aria-label=${isEqual ? "equal" : "different"}>${isEqual ? "✓" : "✗"}</span></span></td>`;
};

const Bits = ({ results }) => {
  const alone = results.alone?.prediction;
  const numbers = alone ? numbersOf(alone).sort((one, other) => other.value - one.value) : [];
  return html`
    <div class="scroll" tabindex="0" role="region" aria-label="Bits of the answers">
      <table class="bits stacked"><thead><tr><th scope="col">float32</th>${COLUMNS.map(({ title, words }) => html`<th scope="col">${title}<br /><span class="soft small-text">${words}</span></th>`)}</tr></thead>
        <tbody>${numbers.slice(0, SHOWN).map(({ label, value }) => html`
          <tr><td><b>${label}</b> <span class="soft">${number(value, 9)}</span></td>
            ${COLUMNS.map(({ key, title }) => html`<${Cell} title=${title} result=${results[key]} alone=${key === "alone" ? null : alone} label=${label} />`)}</tr>`)}
          <tr class="took"><td class="soft">time in all</td>${COLUMNS.map(({ key, title }) => html`<td class="soft" data-label=${title}>${results[key]?.tookS !== undefined ? seconds(results[key].tookS) : "–"}</td>`)}</tr>
        </tbody></table>
      ${numbers.length > SHOWN && html`<p class="soft small-text">The ${count(SHOWN)} greatest of ${count(numbers.length)}; all are compared.</p>`}
    </div>`;
};

export const ProveIt = ({ name, version, features, row, rowKey, reference }) => {
  const [results, setResults] = useState(null);
  const [isBusy, setBusy] = useState(false);
  useEffect(() => setResults(null), [rowKey, version]);
  const path = predictPath(name, version);
  const prove = async () => {
    setBusy(true);
    setResults({});
    const works = {
      alone: async () => (await postJson(path, { rows: [row] })).predictions[0],
      among: () => amongStrangers(path, row, features, reference),
      here: async () => (await (await modelHere(name, version)).predict([row])).predictions[0],
    };
    for (const { key } of COLUMNS) {
      const result = await timed(works[key]).catch((error) => ({ error }));
      setResults((old) => ({ ...old, [key]: result }));
    }
    setBusy(false);
  };
  const refused = results && COLUMNS.filter(({ key }) => results[key]?.error);
  return html`
    <${Card} title="Prove it" id="prove" aside=${html`<button type="button" class="small primary" onClick=${prove} disabled=${isBusy}>${isBusy ? "Running…" : "Prove it"}</button>`}>
      <p class="soft small-text">The same row three times: alone, between ${count(STRANGERS)} rows drawn at random, and by this browser itself, which loads the model and its engine (4 MB, once).</p>
      <div aria-live="polite">
        ${results && html`<${Verdict} results=${results} />`}
        ${results?.alone?.prediction && html`<${Bits} results=${results} />`}
        ${refused?.map(({ key, title }) => html`<${Note} kind="warn"><b>${title}:</b> ${results[key].error.message}<//>`)}
      </div>
    <//>`;
};

// Another version of the model on the same row, side by side.
export const OtherVersion = ({ name, version, versions, row, rowKey, prediction }) => {
  const others = versions.filter((one) => one !== version);
  const [picked, pick] = useState(null);
  const other = picked ?? others[others.length - 1];
  const { data, error, isStale } = useAsked(async (signal) => (await postJson(predictPath(name, other), { rows: [row] }, { signal })).predictions[0], other ? `${other}|${rowKey}` : null);
  if (!others.length) return null;
  const isValue = prediction && !("label" in prediction);
  const show = isValue ? (value) => number(value, 6) : (value) => percent(value);
  const values = data && new Map(numbersOf(data).map(({ label, value }) => [label, value]));
  const isComparable = data && prediction && !("label" in data) === isValue;
  return html`
    <${Card} title="Versions side by side" id="versions" aside=${html`<label class="inline">Compare with <select value=${other} onChange=${(event) => pick(Number(event.target.value))}>${others.map((one) => html`<option value=${one}>version ${one}</option>`)}</select></label>`}>
      ${error && html`<${Note}>Version ${other} refuses the row: ${error.message}<//>`}
      ${isComparable && !error && html`
        <p>${isValue ? null : String(data.label) === String(prediction.label) ? html`Both versions say <b>${String(data.label)}</b>.` : html`<${Status} kind="warn">Other class<//> version ${version} says <b>${String(prediction.label)}</b>, version ${other} <b>${String(data.label)}</b>.`}</p>
        <div class=${`scroll ${isStale ? "stale" : ""}`} tabindex="0" role="region" aria-label="Both versions"><table><thead><tr><th scope="col">${isValue ? "number" : "class"}</th><th scope="col" class="number">version ${version}</th><th scope="col" class="number">version ${other}</th><th scope="col" class="number">difference${isValue ? "" : html`<br /><span class="soft small-text">in percentage points</span>`}</th></tr></thead>
          <tbody>${numbersOf(prediction).slice(0, 12).map(({ label, value }) => html`<tr><th scope="row">${label}</th><td class="number">${show(value)}</td>
            <td class="number">${values.has(label) ? show(values.get(label)) : "–"}</td>
            <td class="number">${!values.has(label) ? "–" : bitsOf(value) === bitsOf(values.get(label)) ? "same bits" : `${values.get(label) > value ? "+" : ""}${isValue ? number(values.get(label) - value, 4) : `${number(100 * (values.get(label) - value), 3)}`}`}</td></tr>`)}</tbody></table></div>`}
    <//>`;
};
