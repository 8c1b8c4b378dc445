// The form: a field for each feature, made from the signature, with what training knew of it and what the service says of it.

import { count, number } from "../shared/format.js";
import { Bars } from "../shared/bars.js";
import { html, useMemo, useState } from "../shared/view.js";
import { MISSING, STEPS, dateText, densityOf, placeOf, textAt } from "./rows.js";

const SHOWN = 30; // fields that are drawn at a time
const LISTED = 40; // categories that fit into a choice; more are typed, with suggestions
const OTHER = "\u0000other";
const NONE = "\u0000none";

const boundText = (feature, value) => (feature.kind === "date" ? dateText(value).slice(0, 10) : number(value));

const Density = ({ feature, entry }) => {
  const density = useMemo(() => densityOf(feature, entry), [feature, entry]);
  if (!density) return null;
  const total = density.counts.reduce((sum, one) => sum + one, 0) || 1;
  const bars = density.counts.map((value) => ({ label: "", share: value / total }));
  const [low, high] = feature.range;
  return html`<div class="density"><${Bars} bars=${bars} height=${26} summary=${`Training values from ${boundText(feature, low)} to ${boundText(feature, high)}`} /></div>`;
};

const Slider = ({ id, feature, text, set, entry, isInvalid, described }) => html`
  <div class=${`slide ${feature.kind === "date" ? "wide" : ""}`}>
    ${feature.range && feature.range[1] > feature.range[0] && html`
      <div class="track">
        <${Density} feature=${feature} entry=${entry} />
        <input type="range" min="0" max=${STEPS} step="1" value=${placeOf(feature, text)} aria-label=${`${feature.name}, slider`}
          aria-valuetext=${text === MISSING ? "missing" : text} class=${text === MISSING ? "idle" : ""}
          onInput=${(event) => set(textAt(feature, Number(event.target.value)))} />
        <div class="ends" aria-hidden="true"><span>${boundText(feature, feature.range[0])}</span><span>${boundText(feature, feature.range[1])}</span></div>
      </div>`}
    <input id=${id} type="text" class="value" inputmode=${feature.kind === "date" ? "text" : "decimal"} autocomplete="off" spellcheck=${false}
      value=${text === MISSING ? "" : text} placeholder=${text === MISSING ? "missing" : ""}
      aria-invalid=${isInvalid ? "true" : undefined} aria-describedby=${described}
      onInput=${(event) => set(event.target.value === "" && feature.missing ? MISSING : event.target.value)} />
  </div>`;

const Category = ({ id, feature, text, set, isInvalid, described }) => {
  const known = feature.kind === "categorical" ? feature.categories : ["false", "true"];
  const isListed = text !== MISSING && known.includes(text);
  const isTyped = feature.value_type === "boolean" ? false : text !== MISSING && !isListed;
  const pick = (value) => set(value === NONE ? MISSING : value === OTHER ? "" : value);
  if (known.length > LISTED) {
    return html`
      <input id=${id} type="text" list=${`${id}-known`} autocomplete="off" value=${text === MISSING ? "" : text} placeholder=${text === MISSING ? "missing" : ""}
        aria-invalid=${isInvalid ? "true" : undefined} aria-describedby=${described}
        onInput=${(event) => set(event.target.value === "" && feature.missing ? MISSING : event.target.value)} />
      <datalist id=${`${id}-known`}>${known.slice(0, 1000).map((one) => html`<option value=${one} />`)}</datalist>`;
  }
  return html`
    <div class="pick">
      <select id=${id} value=${text === MISSING ? NONE : isListed ? text : OTHER} aria-invalid=${isInvalid ? "true" : undefined} aria-describedby=${described}
        onChange=${(event) => pick(event.target.value)}>
        ${known.map((one) => html`<option value=${one}>${one === "" ? "(empty text)" : one}</option>`)}
        ${(feature.missing || text === MISSING) && html`<option value=${NONE}>– missing –</option>`}
        ${feature.value_type !== "boolean" && html`<option value=${OTHER}>another value…</option>`}
      </select>
      ${isTyped && html`<input type="text" aria-label=${`${feature.name}, another value`} autocomplete="off" value=${text} onInput=${(event) => set(event.target.value)} />`}
    </div>`;
};

const hintOf = (feature) => {
  const kinds = { float: "number", integer: feature.kind === "categorical" ? "whole number, a category" : "whole number", boolean: "true or false", string: "category", date: "date, ISO 8601" };
  return kinds[feature.value_type];
};

const Field = ({ feature, place, text, set, entry, problem, marks }) => {
  const id = `feature-${place}`;
  const described = [problem && `${id}-problem`, marks.length && `${id}-marks`].filter(Boolean).join(" ") || undefined;
  const isChoice = feature.kind === "categorical" || feature.value_type === "boolean";
  const common = { id, feature, text, set, isInvalid: Boolean(problem), described };
  return html`
    <div class=${`field ${problem ? "bad" : ""}`}>
      <div class="name">
        <label for=${id}>${feature.name}</label>
        <span class="soft small-text">${hintOf(feature)}</span>
        ${feature.missing && html`
          <label class="missing"><input type="checkbox" checked=${text === MISSING} aria-label=${`${feature.name} is missing`}
            onChange=${(event) => set(event.target.checked ? MISSING : initialOf(feature))} />missing</label>`}
      </div>
      ${isChoice ? html`<${Category} ...${common} />` : html`<${Slider} ...${common} entry=${entry} />`}
      ${marks.length > 0 && html`<p class="mark" id=${`${id}-marks`}>${marks.join("; ")}</p>`}
      ${problem && html`<p class="problem" id=${`${id}-problem`} role="alert">${problem}</p>`}
    </div>`;
};

// A value to begin with: the typical one, the middle of the range, or the first category.
export const initialOf = (feature) => {
  if (feature.typical !== null && feature.typical !== undefined) return String(feature.typical).replace("T00:00:00Z", "");
  if (feature.categories?.length) return feature.categories[0];
  if (feature.value_type === "boolean") return "false";
  return feature.range ? textAt(feature, STEPS / 2) : "0";
};

// props: features, texts (Map), change(name, text), reference, problems (Map), marks (Map of lists), weights (Map) of contributions
export const Form = ({ features, texts, change, reference, problems, marks, weights }) => {
  const [query, setQuery] = useState("");
  const [most, setMost] = useState(SHOWN);
  const [order, setOrder] = useState("signature");
  const isLong = features.length > 12;
  const found = useMemo(() => {
    const words = query.toLowerCase().split(/\s+/).filter(Boolean);
    const list = features.map((feature, place) => ({ feature, place })).filter(({ feature }) => words.every((word) => feature.name.toLowerCase().includes(word)));
    if (order === "weight" && weights) list.sort((one, other) => Math.abs(weights.get(other.feature.name) || 0) - Math.abs(weights.get(one.feature.name) || 0));
    return list;
  }, [features, query, order, order === "weight" ? weights : null]);
  const hidden = [...problems.keys()].filter((name) => !found.slice(0, most).some(({ feature }) => feature.name === name));
  return html`
    ${isLong && html`
      <div class="tools">
        <input type="search" placeholder="Search features" aria-label="Search features" value=${query} onInput=${(event) => { setQuery(event.target.value); setMost(SHOWN); }} />
        ${weights && html`<label class="inline">Order <select value=${order} onChange=${(event) => setOrder(event.target.value)}>
          <option value="signature">as trained</option><option value="weight">largest contribution first</option></select></label>`}
        <span class="soft" role="status">${count(found.length)} of ${count(features.length)} features</span>
      </div>`}
    ${hidden.length > 0 && html`<p class="problem" role="alert">${hidden.slice(0, 3).map((name) => html`<b>${name}</b>: ${problems.get(name)} `)}</p>`}
    <div class="fields">
      ${found.slice(0, most).map(({ feature, place }) => html`
        <${Field} key=${feature.name} feature=${feature} place=${place} text=${texts.get(feature.name)} entry=${reference?.features?.[place]}
          set=${(text) => change(feature.name, text)} problem=${problems.get(feature.name)} marks=${marks.get(feature.name) || []} />`)}
    </div>
    ${found.length > most && html`<button type="button" onClick=${() => setMost(most + SHOWN)}>Show ${count(Math.min(SHOWN, found.length - most))} more of ${count(found.length)}</button>`}`;
};
