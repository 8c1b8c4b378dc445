// What the service says of the row: the prediction, how sure it is, and which features made it so.

import { Ranking, SignedBar, reachOf, signed } from "../shared/bars.js";
import { number, percent } from "../shared/format.js";
import { Card, Note, Status } from "../shared/parts.js";
import { html } from "../shared/view.js";

const SHOWN_CLASSES = 12;
const SHOWN_FEATURES = 12;

// The values of a prediction: {target: value}, by the name of the only target where there is one; null for classes.
export const valuesOf = (prediction, target) => prediction.values ?? ("value" in prediction ? { [target]: prediction.value } : null);

export const headline = (prediction) =>
  "values" in prediction ? Object.values(prediction.values).map((value) => number(value, 4)).join(" · ")
  : "value" in prediction ? number(prediction.value, 6) : `${prediction.label} · ${percent(prediction.probabilities[String(prediction.label)])}`;

const ranked = (probabilities) => Object.entries(probabilities).sort(([, one], [, other]) => other - one);

const Probabilities = ({ prediction }) => {
  const all = ranked(prediction.probabilities);
  const items = all.slice(0, SHOWN_CLASSES).map(([label, value]) => ({ label, value, kind: label === String(prediction.label) ? "strong" : "" }));
  return html`
    <${Ranking} items=${items} format=${(value) => percent(value)} label="Probability of each class" />
    ${all.length > SHOWN_CLASSES && html`<p class="soft small-text">and ${all.length - SHOWN_CLASSES} classes with less</p>`}`;
};

const Certainty = ({ prediction, target }) => {
  const intervals = prediction.intervals ?? (prediction.interval ? { [target]: prediction.interval } : null);
  if (intervals) {
    return Object.entries(intervals).map(([name, [low, high]]) => html`<p>With ${percent(prediction.coverage)} coverage, ${name} lies between <b>${number(low, 6)}</b> and <b>${number(high, 6)}</b>.</p>`);
  }
  if (prediction.set) {
    return html`<p>With ${percent(prediction.coverage)} coverage, ${target} is ${prediction.set.length === 1 ? "" : "one of "}<b>${prediction.set.map(String).join(", ")}</b>.</p>`;
  }
  return null;
};

// The refusal of one row: what is wrong with which feature, without the number of the row.
const refusalOf = (error) => {
  const [first, ...more] = error.details || [];
  if (!first?.feature) return error.message;
  return html`<b>${first.feature}</b>: ${first.message}${more.length ? `, and ${more.length} more` : ""}.`;
};

const USUAL_COVERAGES = [0.8, 0.9, 0.95, 0.99];
const offeredOf = (coverages) => {
  const usual = USUAL_COVERAGES.filter((one) => coverages.some((known) => Math.abs(known - one) < 1e-9));
  return usual.length ? usual : [coverages[coverages.length - 1]];
};

// The coverage that a form begins with; null for a model that has none.
export const startingCoverage = (coverages) => {
  if (!coverages?.length) return null;
  const offered = offeredOf(coverages);
  return offered.includes(0.9) ? 0.9 : offered[offered.length - 1];
};

const Coverage = ({ coverages, coverage, choose }) => {
  if (!coverages?.length) return null;
  return html`<label class="inline">Coverage <select value=${coverage} onChange=${(event) => choose(Number(event.target.value))}>${offeredOf(coverages).map((one) => html`<option value=${one}>${percent(one)}</option>`)}</select></label>`;
};

export const Prediction = ({ state, target, coverages, coverage, choose }) => {
  const { data, error, isStale } = state;
  const isClass = data && "label" in data;
  const results = data && (isClass ? { [target]: data.label } : valuesOf(data, target));
  return html`
    <${Card} title="Prediction" id="prediction" aside=${html`<${Coverage} coverages=${coverages} coverage=${coverage} choose=${choose} />`}>
      ${error && html`<${Note} kind="bad">${refusalOf(error)}<//>`}
      ${data && html`
        <div class=${`answer ${error || isStale ? "stale" : ""}`} aria-live="polite">
          ${Object.entries(results).map(([name, value]) => html`<p class="result"><span class="soft">${name}</span> <b>${isClass ? String(value) : number(value, 6)}</b></p>`)}
          ${isClass && html`<${Probabilities} prediction=${data} />`}
          ${data.quantiles && html`<p class="soft">${Object.entries(data.quantiles).map(([level, value]) => `quantile ${level}: ${number(value, 6)}`).join(" · ")}</p>`}
          <${Certainty} prediction=${data} target=${target} />
          ${data.saturated && html`<${Note} kind="warn">A hidden value of this row was clipped: its numbers lie far from those of the training rows.<//>`}
        </div>`}
      ${!data && !error && html`<p class="soft" role="status">Asking…</p>`}
    <//>`;
};

// The target whose contributions and curve are shown, where there are several.
export const TargetChoice = ({ targets, target, choose }) =>
  targets.length > 1 && html`<label class="inline">Target <select value=${target} onChange=${(event) => choose(event.target.value)}>${targets.map((one) => html`<option value=${one}>${one}</option>`)}</select></label>`;

export const Contributions = ({ state, isClass, label, explain, targets, target, choose }) => {
  const { data, error, isStale } = state;
  if (explain) {
    return html`<${Card} title="Contributions" aside=${html`<button type="button" class="small" onClick=${explain}>Explain</button>`}><p class="soft small-text">What each feature adds. With so many features that is thousands of rows of the model, so it waits until you ask.</p><//>`;
  }
  if (error && !data) {
    return html`<${Card} title="Contributions"><p class="soft">No explanation: ${error.message}</p><//>`;
  }
  if (!data) return html`<${Card} title="Contributions"><p class="soft" role="status">${isStale ? "Running the model for each feature…" : "They follow the prediction."}</p><//>`;
  const all = Object.entries(data.contributions).sort(([, one], [, other]) => Math.abs(other) - Math.abs(one));
  const reach = reachOf(all.map(([, value]) => value));
  const shown = all.slice(0, SHOWN_FEATURES);
  const rest = all.slice(SHOWN_FEATURES).reduce((sum, [, value]) => sum + value, 0);
  return html`
    <${Card} title="Contributions" id="contributions" aside=${html`<${TargetChoice} targets=${targets} target=${target} choose=${choose} />`}>
      <p class="soft small-text">What each feature adds to the ${isClass ? `score of ${label}` : targets.length > 1 ? `value of ${target}` : "value"}, from ${number(data.baseline)} for a typical row to ${number(data.score)} for this one.</p>
      <ul class=${`weights ${isStale ? "stale" : ""}`}>
        ${shown.map(([name, value]) => html`<li><span>${name}</span><${SignedBar} value=${value} reach=${reach} /><b>${signed(value)}</b></li>`)}
      </ul>
      ${all.length > SHOWN_FEATURES && html`<p class="soft small-text">The other ${all.length - SHOWN_FEATURES} add ${number(rest, 3)} together.</p>`}
    <//>`;
};

export const Novelty = ({ prediction }) => {
  if (!prediction) return null;
  const { unseen, out_of_range: outside } = prediction;
  if (!unseen.length && !outside.length) return null;
  return html`<${Note} kind="warn">
    ${unseen.length > 0 && html`<span><${Status} kind="warn">Unseen<//> ${unseen.join(", ")}: training had no such category. </span>`}
    ${outside.length > 0 && html`<span><${Status} kind="warn">Out of range<//> ${outside.join(", ")}: beyond what training had.</span>`}
  <//>`;
};
