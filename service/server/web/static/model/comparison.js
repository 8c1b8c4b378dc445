// Versions side by side: metrics, data, and the settings in which they differ.

import { getJson, modelPath, url } from "../shared/api.js";
import { count } from "../shared/format.js";
import { useData } from "../shared/frame.js";
import { Card, Failure, Loading } from "../shared/parts.js";
import { html } from "../shared/view.js";
import { verdictOf } from "../shared/words.js";
import { metricNames, metricText, titleOf } from "./metrics.js";

const MOST_VERSIONS = 6;

const rowsOf = (details) => {
  const names = [...new Set(details.flatMap((one) => metricNames(one.metrics)))];
  const settings = [...new Set(details.flatMap((one) => Object.keys(one.provenance.settings || {})))];
  const text = (value) => (value === null || value === undefined ? "automatic" : typeof value === "object" ? JSON.stringify(value) : String(value));
  const all = [
    ...names.map((name) => [titleOf(name), details.map((one) => metricText(name, one.metrics[name]))]),
    ["Test rows", details.map((one) => count(one.metrics.rows))],
    ["Trained", details.map((one) => (one.provenance.created || "").slice(0, 10))],
    ["Data", details.map((one) => (one.provenance.data ? `${one.provenance.data.file}, ${count(one.provenance.data.rows)} rows` : ""))],
    ["Verdict", details.map((one) => verdictOf(one.fingerprint.invariance).word)],
    ["Arithmetic", details.map((one) => one.fingerprint.arithmetic)],
    ["Features", details.map((one) => count(one.features))],
    ["Drift", details.map((one) => (one.drift?.windows || []).map((window) => window.drifted.length).reduce((sum, n) => sum + n, 0) || "none")],
    ["Bundle", details.map((one) => html`<code>${one.fingerprint.sha256.slice(0, 12)}</code>`)],
  ];
  const differing = settings
    .map((name) => [name.replaceAll("_", " "), details.map((one) => text(one.provenance.settings?.[name]))])
    .filter(([, values]) => new Set(values).size > 1);
  return [...all, ...differing].filter(([, values]) => values.some((value) => value !== ""));
};

export const Comparison = ({ detail }) => {
  const versions = detail.versions.slice(-MOST_VERSIONS);
  const { data, error } = useData(() => Promise.all(versions.map((version) => (version === detail.version ? detail : getJson(modelPath(detail.name, version))))), [detail.name]);
  return html`
    <${Card} title="Versions" id="versions" aside=${html`<span class="soft">settings are shown where they differ</span>`}>
      ${error ? html`<${Failure} error=${error} what="Other versions" />` : !data ? html`<${Loading} />` : html`
        <div class="scroll" tabindex="0" role="region" aria-label="Versions side by side"><table>
          <thead><tr><td></td>${data.map((one) => html`<th scope="col"><a href=${url(modelPath(one.name, one.version))}>Version ${one.version}</a></th>`)}</tr></thead>
          <tbody>${rowsOf(data).map(([title, values]) => html`<tr class=${new Set(values.map(String)).size > 1 ? "differs" : ""}><th scope="row">${title}</th>${values.map((value) => html`<td>${value}</td>`)}</tr>`)}</tbody>
        </table></div>`}
    <//>`;
};

