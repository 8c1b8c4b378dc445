// Why each row has the same bits in any batch: the check on this host, the proof in the file, and who signed it.

import { count, momentOf, number, plural, seconds } from "../shared/format.js";
import { Card, Facts, Status } from "../shared/parts.js";
import { html } from "../shared/view.js";
import { verdictOf } from "../shared/words.js";

const Check = ({ check }) => check && html`
  <h3>Tested on this host</h3>
  <${Facts} items=${[
    ["When", momentOf(check.when)],
    ["Compared", `${plural(check.rows_compared, "row")} in batches of ${count(check.batch_sizes[0])} to ${count(check.batch_sizes.at(-1))} rows, ${plural(check.positions, "position")}`],
    ["Rows that differed", check.rows_changed ? html`<${Status} kind="bad">${plural(check.rows_changed, "row")}<//>` : html`<${Status} kind="good">none<//>`],
    ["Size of runs", check.tile_rows ? `always ${plural(check.tile_rows, "row")}: smaller batches are padded` : "as many rows as a batch has"],
    ["Engine", `${check.engine}, ${check.device}, ${plural(check.threads, "thread")}`],
    ["Processor", check.cpu_features?.join(", ")],
    ["Took", seconds(check.seconds)],
  ]} />`;

const Proof = ({ certificate }) => certificate && html`
  <h3>Proved from the file</h3>
  <p>${certificate.claim}</p>
  <${Facts} items=${[
    ["Operators", Object.entries(certificate.operators || {}).map(([kind, names]) => `${kind.replaceAll("_", " ")}: ${Object.keys(names).join(", ")}`).join("; ")],
    ["Graph", certificate.sha256 && html`<code>${certificate.sha256}</code>`],
    ["Least room left in a sum", `${number(certificate.least_margin_bits)} bits`],
  ]} />
  ${certificate.sums?.length > 0 && html`
    <details><summary>${plural(certificate.sums.length, "sum")} without rounding</summary>
      <div class="scroll" tabindex="0" role="region" aria-label="Sums without rounding"><table>
        <thead><tr>${["Node", "Terms", "Largest sum", "Room left"].map((title, place) => html`<th scope="col" class=${place ? "number" : ""}>${title}</th>`)}</tr></thead>
        <tbody>${certificate.sums.map((sum) => html`<tr><td>${sum.node} <span class="soft">${sum.operator}</span></td><td class="number">${count(sum.terms)}</td><td class="number">2^${number(sum.bound_bits, 5)} units</td><td class="number">${number(sum.margin_bits)} bits</td></tr>`)}</tbody>
      </table></div>
      <p class="soft small-text">A float64 holds every whole number of units up to 2^53, so a sum that stays below is exact in any order.</p>
    </details>`}`;

export const Certificate = ({ detail, evidence }) => {
  const verdict = verdictOf(detail.fingerprint.invariance);
  const violated = detail.fingerprint.invariance === "violated";
  return html`
    <${Card} title="Certificate" id="invariance" aside=${html`<${Status} kind=${verdict.kind}>${verdict.word}<//>`}>
      <p>${verdict.sentence}</p>
      ${violated && html`<p>It was withdrawn if the settings say so; the log has the record of the row.</p>`}
      <${Check} check=${detail.verification} />
      <${Proof} certificate=${evidence.certificate} />
      <h3>Identity</h3>
      <${Facts} items=${[
        ["Bundle", html`<code>${detail.fingerprint.sha256}</code>`],
        ["Arithmetic", detail.fingerprint.arithmetic === "exact" ? "exact: the same bits on every machine" : `${detail.fingerprint.arithmetic}: the same bits on machines like this one`],
        ["Bits of the test rows", evidence.bits && html`<code>${evidence.bits}</code>`],
        ["Golden rows", `${plural(evidence.golden_rows, "row")} reproduced at the start`],
        ["Signed by", evidence.signer ? html`<${Status} kind="good">${evidence.signer}<//>` : evidence.unsigned ? html`<${Status} kind="warn">${evidence.unsigned}<//>` : html`<span class="soft">signatures are not checked here</span>`],
      ]} />
    <//>`;
};
