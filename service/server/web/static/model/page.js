// A model: what it takes and gives, how good it is, why its bits hold, and how to ask it.

import { addressed, getJson, modelPath, url } from "../shared/api.js";
import { count, momentOf, number, percent, plural, seconds } from "../shared/format.js";
import { start, useData } from "../shared/frame.js";
import { Card, Choice, Facts, Failure, Loading, Note, Status } from "../shared/parts.js";
import { html, useEffect, useState } from "../shared/view.js";
import { driftOf, spanOf, predictedOf, verdictOf } from "../shared/words.js";
import { Certificate } from "./certificate.js";
import { Comparison } from "./comparison.js";
import { Files } from "./files.js";
import { Metrics } from "./metrics.js";
import { Requests } from "./requests.js";
import { Signature } from "./signature.js";

const load = async ({ name, version }) => {
  const detail = await getJson(modelPath(name, version));
  const evidence = await getJson(`${modelPath(name, detail.version)}/evidence`);
  return { detail, evidence };
};

const Provenance = ({ detail }) => {
  const { provenance: made } = detail;
  const data = made.data || {};
  if (!Object.keys(made).length) return null;
  const split = made.split ? Object.entries(made.split).map(([part, rows]) => `${part} ${count(rows)}`).join(", ") : null;
  return html`
    <${Card} title="Provenance" id="provenance">
      <${Facts} items=${[
        ["Trained", made.created && momentOf(made.created)],
        ["Data", data.file && `${data.file}: ${plural(data.rows, "row")}, ${plural(data.columns, "column")}`],
        ["SHA-256 of the data", data.sha256 && html`<code>${data.sha256}</code>`],
        ["Rows", split],
        ["Fit", made.chosen && `${made.chosen.name}${made.epochs ? `, ${plural(made.epochs.run, "epoch")}, best at ${made.epochs.best}` : ""}`],
        ["Training took", made.seconds && seconds(made.seconds)],
        ["Warnings", made.warnings?.length ? html`<ul class="plain-list">${made.warnings.map((one) => html`<li>${one.replace(/^warning: /, "")}</li>`)}</ul>` : null],
        ["Libraries", made.versions && Object.entries(made.versions).map(([name, version]) => `${name} ${version}`).join(", ")],
      ]} />
      ${made.settings && html`<details><summary>Settings of the run</summary><pre tabindex="0" role="region" aria-label="Settings of the run">${JSON.stringify(made.settings, null, 1)}</pre></details>`}
    <//>`;
};

const Drift = ({ drift }) => {
  if (!drift) return null;
  const windows = drift.windows;
  const drifted = windows.flatMap((window) => window.figures.filter((one) => one.drift).map((one) => ({ ...one, window: window.window })));
  const light = driftOf(windows);
  return html`
    <${Card} title="Drift" id="drift" aside=${html`<${Status} kind=${light.kind}>${light.word}<//>`}>
      <${Facts} items=${windows.map((window) => [
        `Last ${spanOf(window.window)}`,
        window.figures.length
          ? `${plural(window.rows, "row")}: ${window.drifted.length ? `${window.drifted.join(", ")} left the training data behind` : "like the training rows"}`
          : `${plural(window.rows, "row")}; at least ${count(window.min_rows)} are needed`,
      ])} />
      ${drifted.length > 0 && html`<ul>${drifted.slice(0, 20).map((one) => html`<li><b>${one.feature}</b> ${one.kind.replaceAll("_", " ")} ${number(one.value)}, expected up to ${number(one.threshold)} (last ${spanOf(one.window)})</li>`)}</ul>`}
    <//>`;
};

const Shadow = ({ shadow, version }) => shadow && html`
  <${Card} title=${`Challenger: version ${shadow.version}`} id="shadow">
    <${Facts} items=${[
      ["Rows compared", count(shadow.rows)],
      ["Another label", `${count(shadow.labels_changed)}${shadow.rows ? ` (${percent(shadow.labels_changed / shadow.rows)})` : ""}`],
      ...Object.entries(shadow.rows_by_difference).filter(([, rows]) => rows).map(([bound, rows]) => [`Difference ${bound}`, plural(rows, "row")]),
    ]} />
    <p class="soft">Of a sample of batches; callers get the answers of version ${version}.</p>
  <//>`;

const Head = ({ detail, choose }) => {
  const verdict = verdictOf(detail.fingerprint.invariance);
  const labels = Object.entries(detail.label_versions).filter(([, version]) => version === detail.version).map(([label]) => label);
  return html`
    <div class="title">
      <h1>${detail.name}</h1>
      ${detail.versions.length > 1
        ? html`<${Choice} label="Version" chosen=${detail.version} choose=${choose} items=${detail.versions.map((version) => ({ key: version, label: `Version ${version}` }))} />`
        : html`<span class="soft">version ${detail.version}</span>`}
      ${labels.map((label) => html`<${Status}>${label}<//>`)}
      ${detail.default && html`<${Status}>default<//>`}
      <p class="lead">Predicts <b>${detail.target}</b>, ${predictedOf(detail)}${detail.signature.classes ? `: ${listOf(detail.signature.classes)}` : ""}, from ${plural(detail.features, "feature")}.</p>
    </div>
    <${Note} kind=${verdict.kind}>${verdict.sentence} <a href="#invariance">How that is known</a><//>
    <nav class="tools" aria-label="Parts of this page">
      ${[["signature", "Features"], ["metrics", "Metrics"], ["requests", "Requests"], ["invariance", "Certificate"], ["provenance", "Provenance"], ["files", "Download"]].map(([id, label]) => html`<a href=${`#${id}`}>${label}</a>`)}
      <a href=${url(`${modelPath(detail.name, detail.version)}/try`)}>Try</a>
      <a href=${url(`${modelPath(detail.name, detail.version)}/score`)}>Score a file</a>
      <a href=${`${url("docs")}?model=${encodeURIComponent(detail.name)}`}>API</a>
      ${detail.report && html`<a href=${url(`${modelPath(detail.name, detail.version)}/report`)}>Training report</a>`}
    </nav>`;
};

const MOST_CLASSES = 6;
const listOf = (classes) => (classes.length <= MOST_CLASSES ? classes.join(", ") : `${classes.slice(0, MOST_CLASSES).join(", ")} and ${classes.length - MOST_CLASSES} more`);

const ModelPage = () => {
  const [wanted] = useState(addressed);
  const { data, error } = useData(() => load(wanted), [wanted.name, wanted.version]);
  useEffect(() => {
    if (data) document.title = `${data.detail.name} ${data.detail.version} · Batchproof`;
    if (data && location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView();
  }, [data]);
  if (error) return html`<h1>${wanted.name}</h1><${Failure} error=${error} what="This model" />`;
  if (!data) return html`<h1>${wanted.name}</h1><${Loading} />`;
  const { detail, evidence } = data;
  const choose = (version) => location.assign(url(modelPath(detail.name, version))); // its relative links need a page of its own
  return html`
    <${Head} detail=${detail} choose=${choose} />
    <${Signature} detail=${detail} evidence=${evidence} />
    <div class="columns">
      <div>
        <${Metrics} detail=${detail} />
        <${Drift} drift=${detail.drift} />
        <${Shadow} shadow=${detail.shadow} version=${detail.version} />
        <${Provenance} detail=${detail} />
        <${Files} detail=${detail} evidence=${evidence} />
      </div>
      <${Certificate} detail=${detail} evidence=${evidence} />
    </div>
    ${detail.versions.length > 1 && html`<${Comparison} detail=${detail} />`}
    <${Requests} detail=${detail} evidence=${evidence} />`;
};

start(ModelPage);
