// Start: what is served, how it does, and what was refused.

import { ApiError, getJson, key, modelPath, poll, url } from "../shared/api.js";
import { between, figuresOf, keyOf } from "../shared/figures.js";
import { NONE, count, percent, plural, rate, seconds } from "../shared/format.js";
import { start, useData } from "../shared/frame.js";
import { Card, Code, Failure, Figures, Loading, Note, Status, Table } from "../shared/parts.js";
import { html, useEffect, useMemo, useRef, useState } from "../shared/view.js";
import { driftOf, predictedOf, verdictOf } from "../shared/words.js";

const POLL_S = 5;

// The counts since the page was opened: {now, change: of the last few seconds, error}.
const useActivity = () => {
  const readings = useRef([]);
  const [state, setState] = useState({});
  useEffect(() => poll(async () => {
    try {
      const now = await getJson("metrics");
      const kept = [...readings.current, now].filter((one) => now.time_s - one.time_s < 60);
      readings.current = kept;
      setState({ now, change: kept.length > 1 ? between(now, kept[0]) : null, total: between(now, { time_s: 0, models: [] }) });
    } catch (error) {
      setState({ error });
    }
  }, POLL_S), []);
  return state;
};

const isHidden = (error) => error instanceof ApiError && (error.status === 401 || error.status === 403);

const Summary = ({ listed, activity }) => {
  const { now, change, total, error } = activity;
  const figures = change && figuresOf(change.all, change.seconds, now.bounds);
  const isIdle = figures?.p50 == null;
  const waits = isIdle ? total && figuresOf(total.all, total.seconds, now.bounds) : figures;
  const audits = now ? now.models.reduce((total, one) => total + (one.audits.same || 0) + (one.audits.different || 0), 0) : null;
  const different = now ? now.models.reduce((total, one) => total + (one.audits.different || 0), 0) : 0;
  const unknown = error ? (isHidden(error) ? "needs a key with the scope metrics" : "not readable") : "measuring"; // what stands below a figure until there is one
  return html`<${Figures} items=${[
    { label: "Models", value: count(listed.models.length), note: plural(listed.models.reduce((sum, one) => sum + one.versions.length, 0), "version") },
    { label: "Requests", value: rate(figures?.requestRate), note: figures ? rate(figures.rowRate, "rows") : unknown },
    { label: "Median latency", value: seconds(waits?.p50), note: !now ? unknown : waits?.p99 == null ? "no request yet" : `p99 ${seconds(waits.p99)}${isIdle ? ", since the start" : ""}` },
    { label: "Refused", value: figures ? percent(figures.refusedShare) : NONE, note: figures ? `${plural(figures.refused, "request")} of ${count(figures.requests)}` : unknown, kind: figures?.refused ? "warn" : "" },
    { label: "Audits", value: now ? count(audits) : NONE, note: !now ? unknown : different ? `${count(different)} with different bits` : audits ? "rows run again alone: same bits" : "no row was run again yet", kind: different ? "bad" : "" },
  ]} />`;
};

const columnsOf = (activity) => {
  const { now, change } = activity;
  const byKey = new Map((now?.models || []).map((one) => [keyOf(one), one]));
  const figuresByKey = new Map([...(change?.models || [])].map(([name, one]) => [name, figuresOf(one, change.seconds, now.bounds)]));
  const figures = (row) => figuresByKey.get(keyOf(row));
  return [
    { key: "name", title: "Model", value: (row) => `${row.name} ${Object.keys(row.label_versions).join(" ")} ${row.target}`, cell: (row) => html`
      <a href=${url(modelPath(row.name))}><b>${row.name}</b></a>${row.default && html` <span class="soft">default</span>`}<br />
      <span class="soft small-text">predicts ${row.target}, ${predictedOf(row)}, from ${plural(row.features, "feature")}</span> <a class="small-text" href=${url(`${modelPath(row.name)}/try`)} aria-label=${`Try ${row.name}`}>Try</a>` },
    { key: "version", title: "Version", value: (row) => row.version, cell: (row) => html`
      ${row.version}${row.versions.length > 1 && html` <span class="soft">of ${row.versions.join(", ")}</span>`}
      ${Object.entries(row.label_versions).map(([label, version]) => html`<br /><span class="soft small-text">${label} → ${version}</span>`)}` },
    { key: "verdict", title: "Same bits in any batch", value: (row) => verdictOf(row.fingerprint.invariance).word, cell: (row) => {
      const verdict = verdictOf(row.fingerprint.invariance);
      return html`<a class="plain" href=${`${url(modelPath(row.name))}#invariance`} title=${verdict.sentence}><${Status} kind=${verdict.kind}>${verdict.word}<//></a>`;
    } },
    { key: "rate", title: "Requests", isNumber: true, value: (row) => figures(row)?.requestRate || 0, cell: (row) => (change ? rate(figures(row)?.requestRate || 0) : NONE) },
    { key: "p50", title: "p50", isNumber: true, value: (row) => figures(row)?.p50 || 0, cell: (row) => seconds(figures(row)?.p50) },
    { key: "p99", title: "p99", isNumber: true, value: (row) => figures(row)?.p99 || 0, cell: (row) => seconds(figures(row)?.p99) },
    { key: "refused", title: "Refused", isNumber: true, value: (row) => figures(row)?.refused || 0, cell: (row) => (change ? count(figures(row)?.refused || 0) : NONE) },
    { key: "drift", title: "Drift", value: (row) => driftOf(byKey.get(keyOf(row))?.drift).word, cell: (row) => {
      const drift = driftOf(byKey.get(keyOf(row))?.drift);
      return drift.kind === "plain" ? html`<span class="soft">${now ? drift.word : NONE}</span>` : html`<${Status} kind=${drift.kind}>${drift.word}<//>`;
    } },
  ];
};

const Verdict = ({ models }) => {
  const broken = models.filter((one) => verdictOf(one.fingerprint.invariance).kind !== "good");
  if (!models.length) return null;
  const [one] = broken;
  if (one) {
    return html`<${Note} kind="bad"><b>${broken.length === 1 ? `${one.name} ${one.version}` : plural(broken.length, "model")}:</b> ${verdictOf(one.fingerprint.invariance).sentence} <a href=${`${url(modelPath(one.name))}#invariance`}>What was found</a><//>`;
  }
  const proved = models.filter((row) => row.fingerprint.invariance === "proved").length;
  const how = proved === models.length ? "proved from the model’s file and tested on this host" : proved ? `proved for ${plural(proved, "model")}, tested on this host for all` : "tested on this host";
  return html`<${Note} kind="good">Every row gets the same answer, bit for bit, whatever it is batched with: ${how}. <a href=${`${url(modelPath(models[0].name))}#invariance`}>How that is known</a><//>`;
};

const REFUSED_COLUMNS = [
  { key: "name", title: "Bundle", value: (row) => row.name, cell: (row) => html`<b>${row.name}</b>${row.version ? ` ${row.version}` : ""}` },
  { key: "message", title: "Reason", value: (row) => row.message },
];

const Refused = ({ refused }) => html`
  <${Card} title="Not served" id="refused" aside=${html`<${Status} kind="bad">${count(refused.length)}<//>`}>
    <${Table} label="Refused bundles" columns=${REFUSED_COLUMNS} rows=${refused} keyOf=${keyOf} search=${refused.length > 10 && "Search refused bundles"} />
  <//>`;

const Example = ({ models }) => {
  const chosen = models.find((one) => one.default) || models[0];
  const { data } = useData(() => getJson(modelPath(chosen.name)), [chosen.name]);
  if (!data) return null;
  const path = chosen.default ? "predict" : `${modelPath(chosen.name)}/predict`;
  const body = JSON.stringify(data.example).replaceAll("'", "'\\''");
  return html`<${Card} title="Try it"><${Code} label="A request that works" text=${`curl ${url(path)}${key.get() ? ' -H "Authorization: Bearer $KEY"' : ""} -d '${body}'`} /><//>`;
};

const Start = () => {
  const { data: listed, error } = useData(() => getJson("models"));
  const { data: ready } = useData(() => getJson("health/ready").catch(() => ({ ready: false })));
  const activity = useActivity();
  const columns = useMemo(() => columnsOf(activity), [activity]);
  const title = html`
    <div class="title"><h1>Models</h1>${ready && html`<${Status} kind=${ready.ready ? "good" : "bad"}>${ready.ready ? "Ready" : "Not ready"}<//>`}
      <p class="lead">Predictions that do not depend on what they were batched with.</p></div>`;
  if (error) return html`${title}<${Failure} error=${error} what="The list of models" />`;
  if (!listed) return html`${title}<${Loading} />`;
  const { models, refused } = listed;
  return html`
    ${title}
    <${Verdict} models=${models} />
    <${Summary} listed=${listed} activity=${activity} />
    ${refused.length > 0 && html`<${Refused} refused=${refused} />`}
    <${Card} title="Served">
      <${Table} label="Served models" columns=${columns} rows=${models} keyOf=${keyOf} search=${models.length > 8 && "Search by name, label or target"}
        empty="No model is loaded: a bundle stands in NAME/VERSION/bundle.json of the models folder." />
      ${activity.change && html`<p class="soft small-text">Rates and percentiles of the last ${seconds(Math.round(activity.change.seconds))}; percentiles lie between the bounds of a histogram.</p>`}
    <//>
    ${models.length > 0 && html`<${Example} models=${models} />`}`;
};

start(Start);
