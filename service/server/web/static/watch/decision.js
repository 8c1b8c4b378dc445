// One row of the journal: its values, its answer, what made it so, and its bits when they are computed again.

import { Ranking, Weight, reachOf } from "../shared/bars.js";
import { number, percent } from "../shared/format.js";
import { Facts, Note, Status, Table } from "../shared/parts.js";
import { html, useMemo, useState } from "../shared/view.js";

const SEARCHED = 20; // features from which on the table has a search
const SHOWN_CLASSES = 12;

// Whether the bits are the same again: {kind, word, sentence}.
const replayOf = (again) => {
  if (!again.was_run) return { kind: "warn", word: "not run again", sentence: `The row was not run again: ${again.why}.` };
  const differing = [[again.equal_alone, "alone"], [again.equal_in_batch, `in a batch of ${again.batch_rows} rows`]].filter(([isEqual]) => !isEqual).map(([, where]) => where);
  if (!differing.length) return { kind: "good", word: "bits equal", sentence: `Run again here, every bit of the answer is the same: alone, and in a batch of ${again.batch_rows} rows.` };
  return { kind: "bad", word: "bits differ", sentence: `Run again ${differing.join(" and ")}, the bits are not those that were answered.` };
};

const answerOf = (prediction) => (prediction === null ? "no model here" : "values" in prediction ? Object.values(prediction.values).map((value) => number(value, 4)).join(" · ") : "value" in prediction ? number(prediction.value, 6) : String(prediction.label));

const Answer = ({ decision }) => {
  const { prediction, model } = decision;
  if (prediction === null) return html`<p class="soft">The model is not here any more: its raw outputs are below.</p>`;
  if ("values" in prediction) {
    return Object.entries(prediction.values).map(([target, value]) => html`<p>${target} <b class="value">${number(value, 6)}</b></p>`);
  }
  if ("value" in prediction) {
    return html`<p>${model.target} <b class="value">${number(prediction.value, 6)}</b></p>
      ${prediction.quantiles && html`<p class="soft">${Object.entries(prediction.quantiles).map(([level, value]) => `quantile ${level}: ${number(value, 6)}`).join(" · ")}</p>`}`;
  }
  const items = Object.entries(prediction.probabilities).sort(([, one], [, other]) => other - one).slice(0, SHOWN_CLASSES)
    .map(([label, value]) => ({ label, value, kind: label === String(prediction.label) ? "strong" : "" }));
  return html`<p>${model.target} <b>${String(prediction.label)}</b></p><${Ranking} items=${items} format=${(value) => percent(value)} label="Probability of each class" />`;
};

const valueOf = ({ value, note }) => (value === null ? "" : typeof value === "number" ? number(value, 12) : String(value)) + (note ? `${value === null ? "" : ", "}${note}` : "");

const Values = ({ decision }) => {
  const { inputs } = decision;
  const explanations = decision.explanations ?? (decision.explanation ? [decision.explanation] : []);
  const [place, choose] = useState(0);
  const explanation = explanations[place];
  const shares = explanation?.contributions;
  const reach = reachOf(shares ? Object.values(shares) : []);
  const columns = useMemo(() => [
    { key: "name", title: "Feature", value: (one) => one.name },
    { key: "value", title: "Value", value: (one) => one.value ?? one.note, cell: (one) => (one.value === null ? html`<span class="soft">${one.note}</span>` : html`${valueOf({ ...one, note: "" })}${one.note && html` <${Status} kind="warn">${one.note}<//>`}`) },
    ...(shares ? [{ key: "share", title: "Adds to the score", value: (one) => Math.abs(shares[one.name]), cell: (one) => html`<${Weight} value=${shares[one.name]} reach=${reach} />`, isNumber: true }] : []),
  ], [decision, place]);
  return html`
    ${explanations.length > 1 && html`<label class="inline">Contributions to <select value=${place} onChange=${(event) => choose(Number(event.target.value))}>${explanations.map((one, number) => html`<option value=${number}>${one.of}</option>`)}</select></label>`}
    ${explanation && html`<p class="soft small-text">What each value adds to the ${explanation.of}, from ${number(explanation.baseline)} for a typical row to ${number(explanation.score)} for this one${explanation.is_exact ? "" : " (estimated)"}.</p>`}
    <${Table} columns=${columns} rows=${inputs} keyOf=${(one) => one.name} label=${`Values of row ${decision.request.row}`} search=${inputs.length > SEARCHED ? "Search features" : undefined} pageSize=${SEARCHED} />`;
};

const Bits = ({ decision }) => html`
  <div class="scroll" tabindex="0" role="region" aria-label=${`Outputs of row ${decision.request.row} and their bits`}>
    <table class="stacked"><thead><tr><th scope="col">Output</th><th scope="col">Values</th><th scope="col">Bits, in hex</th></tr></thead>
      <tbody>${Object.entries(decision.outputs).map(([name, values]) => html`<tr><td><div>${name}</div></td><td data-label="Values"><div>${values.map((one) => (typeof one === "number" ? number(one, 9) : String(one))).join(", ")}</div></td><td data-label="Bits"><div><code>${decision.bits[name]}</code></div></td></tr>`)}</tbody>
    </table>
  </div>`;

const wordsOf = (time) => `${time.slice(0, 23).replace("T", " ")} UTC`;
const changed = (then, now) => (now && now !== then ? `${then} then, ${now} here` : then);

const Provenance = ({ decision: { request, model, proof } }) => html`
  <${Facts} items=${[
    ["Answered", wordsOf(request.time)],
    ["Caller", request.caller || "no key was needed"],
    ["Protocol", request.protocol],
    ["Model", html`${model.name}, version ${model.version}`],
    ["Checksum of the bundle", html`<code>${model.sha256}</code>`],
    ["Arithmetic", proof.arithmetic],
    ["Invariance", changed(proof.when_answered, proof.now)],
    ["Engine", changed(proof.engine_when_answered, proof.engine_now)],
    ["Signer of the bundle", proof.signer_when_answered],
    ["Segment", html`<code>${request.segment}</code>${request.segment_finished ? "" : ", still open"}`],
    ["Its SHA-256 up to there", html`<code>${request.segment_sha256}</code>`],
  ]} />`;

export const Decision = ({ decision, isOpen }) => {
  const { kind, word, sentence } = replayOf(decision.again);
  return html`
    <details class="decision" open=${isOpen}>
      <summary><span class="row">Row ${decision.request.row}</span> <b>${answerOf(decision.prediction)}</b> <${Status} kind=${kind}>${word}<//></summary>
      <div class="parts">
        <${Note} kind=${kind}>${sentence}<//>
        <div class="columns">
          <section><h4>Answer</h4><${Answer} decision=${decision} /></section>
          <section><h4>Request</h4><${Provenance} decision=${decision} /></section>
        </div>
        <h4>Values</h4><${Values} decision=${decision} />
        <h4>Outputs and their bits</h4><${Bits} decision=${decision} />
      </div>
    </details>`;
};
