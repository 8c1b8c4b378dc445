// Watch: what the service does now. It keeps the last minutes itself; the service keeps only its counts.

import { ApiError, getJson, poll } from "../shared/api.js";
import { Ranking } from "../shared/bars.js";
import { Lines } from "../shared/chart.js";
import { between, figuresOf, keyOf } from "../shared/figures.js";
import { NONE, count, number, percent, plural, rate, seconds, time } from "../shared/format.js";
import { start } from "../shared/frame.js";
import { Card, Facts, Failure, Figures, Loading, Note, Status } from "../shared/parts.js";
import { html, useEffect, useMemo, useRef, useState } from "../shared/view.js";
import { spanOf } from "../shared/words.js";
import { Journal } from "./journal.js";

const POLL_S = 2;
const KEPT_S = 600; // of history, in this page alone
const STEADY_S = 20; // refusals, batch sizes and percentiles of the table are those of so long

// Readings of the counts, the newest last.
const useReadings = () => {
  const kept = useRef([]);
  const [state, setState] = useState({ readings: [] });
  useEffect(() => poll(async () => {
    try {
      const now = await getJson("metrics");
      const before = kept.current.at(-1);
      const isNew = before && now.time_s < before.time_s; // another clock: another service
      kept.current = [...(isNew ? [] : kept.current), now].filter((one) => now.time_s - one.time_s < KEPT_S);
      setState({ readings: kept.current });
    } catch (error) {
      setState((old) => ({ ...old, error }));
    }
  }, POLL_S), []);
  return state;
};

const partOf = (change, chosen) => (chosen ? change.models.get(chosen) : change.all);

// Each pair of neighbouring readings as one point of the charts.
const historyOf = (readings, chosen) => readings.slice(1).map((now, place) => {
  const change = between(now, readings[place]);
  const part = partOf(change, chosen);
  return { at: now.time_s, queue: now.queue_rows, ...(part ? figuresOf(part, change.seconds, now.bounds) : { requestRate: 0, rowRate: 0, refused: 0, refusedRate: 0 }), refusedRate: part ? figuresOf(part, change.seconds, now.bounds).refused / change.seconds : 0 };
});

const ms = (value) => (value === null || value === undefined ? null : value);

const Chart = ({ title, history, lines, format, note, isWhole }) => {
  const data = useMemo(() => [history.map((point) => point.at), ...lines.map((line) => history.map((point) => ms(line.value(point))))], [history]);
  const last = history.at(-1);
  const words = `${title}: ${lines.map((line) => `${line.label} ${last ? format(line.value(last)) : NONE}`).join(", ")} now`;
  return html`
    <${Card} title=${title} aside=${note && html`<span class="soft small-text">${note}</span>`}>
      <${Lines} data=${data} series=${lines} summary=${words} format=${format} isTime isWhole=${isWhole} />
    <//>`;
};

const LINES = {
  rate: [{ label: "requests", colour: "series-1", fill: true, value: (point) => point.requestRate }, { label: "rows", colour: "series-2", value: (point) => point.rowRate }],
  latency: [
    { label: "p50", colour: "series-1", value: (point) => point.p50 },
    { label: "p90", colour: "series-2", value: (point) => point.p90 },
    { label: "p99", colour: "series-3", value: (point) => point.p99 },
  ],
  batch: [{ label: "rows in a batch", colour: "series-4", fill: true, value: (point) => point.batchRows }],
  queue: [{ label: "rows waiting", colour: "series-5", fill: true, value: (point) => point.queue }],
  refused: [{ label: "refused", colour: "series-6", fill: true, value: (point) => point.refusedRate }],
};

const Refusals = ({ models, chosen }) => {
  const totals = {};
  for (const model of models) {
    if (chosen && keyOf(model) !== chosen) continue;
    for (const [code, value] of Object.entries(model.refusals)) totals[code] = (totals[code] || 0) + value;
  }
  const items = Object.entries(totals).sort((one, other) => other[1] - one[1]).map(([label, value]) => ({ label: label.replaceAll("_", " "), value, kind: "bad" }));
  return html`
    <${Card} title="Refusals by code" aside=${html`<span class="soft small-text">since the start</span>`}>
      ${items.length ? html`<${Ranking} label="Refusals by code" items=${items} />` : html`<p class="soft">None.</p>`}
    <//>`;
};

const Stages = ({ part }) => {
  const stages = part?.stages || {};
  const total = Object.values(stages).reduce((sum, value) => sum + value, 0);
  return html`
    <${Card} title="Where time goes" aside=${html`<span class="soft small-text">last ${STEADY_S} s</span>`}>
      ${total > 0
        ? html`<${Ranking} label="Share of time by stage" format=${percent} items=${["decode", "queue", "run", "encode"].map((label) => ({ label, value: (stages[label] || 0) / total, kind: label === "run" ? "strong" : "" }))} />`
        : html`<p class="soft">No request.</p>`}
    <//>`;
};

// The sizes that a bucket counts: those beyond the bound before it, up to its own.
const sizesOf = (bounds, place) => {
  const least = place ? bounds[place - 1] + 1 : 1;
  if (place >= bounds.length) return `${count(least)} rows and more`;
  return least === bounds[place] ? plural(least, "row") : `${count(least)} to ${plural(bounds[place], "row")}`;
};

const Batches = ({ part, bounds }) => {
  const runs = part?.runs || [];
  const items = runs.map((value, place) => ({ label: sizesOf(bounds, place), value })).filter((one) => one.value > 0);
  return html`
    <${Card} title="Batches by size" aside=${html`<span class="soft small-text">last ${STEADY_S} s</span>`}>
      ${items.length ? html`<${Ranking} label="Batches by size" items=${items} />` : html`<p class="soft">No batch.</p>`}
    <//>`;
};

const Health = ({ now }) => {
  const same = now.models.reduce((total, one) => total + (one.audits.same || 0), 0);
  const different = now.models.reduce((total, one) => total + (one.audits.different || 0), 0);
  const { reloads, events, journal } = now;
  const odd = Object.entries(events).filter(([, value]) => value);
  return html`
    <${Card} title="Audits, reloads, events" aside=${html`<${Status} kind=${different ? "bad" : same ? "good" : "plain"}>${different ? "bits differed" : same ? "bits held" : "no audit yet"}<//>`}>
      <${Facts} items=${[
        ["Rows run again alone", same + different ? `${count(same + different)}: ${different ? `${count(different)} with other bits` : "all with the same bits"}` : "none yet"],
        ["Last loaded", time(reloads.last_good_s)],
        ["Reloads", `${count(reloads.ok || 0)} done, ${count(reloads.refused || 0)} refused`],
        ["Workers", count(now.workers)],
        ["Journal", isKept(now) ? `${plural(journal.written_rows, "row")} written, ${count(journal.dropped_rows)} dropped, ${count(journal.refused_rows)} refused` : "off"],
        ["Unexpected events", odd.length ? html`<${Status} kind="bad">${odd.map(([name, value]) => `${name.replaceAll("_", " ")} ${count(value)}`).join(", ")}<//>` : "none"],
      ]} />
    <//>`;
};

const Shadows = ({ now, chosen }) => now.models.filter((model) => !chosen || keyOf(model) === chosen).flatMap((model) => Object.entries(model.shadows).map(([version, found]) => {
  const rows = found.by_difference.reduce((total, value) => total + value, 0);
  const bounds = now.bounds.differences;
  const items = found.by_difference.map((value, place) => ({ label: place === 0 ? "equal" : place < bounds.length ? `up to ${number(bounds[place])}` : "more", value })).filter((one) => one.value > 0);
  return html`
    <${Card} title=${`${model.name}: version ${model.version} and challenger ${version}`} aside=${html`<span class="soft small-text">since the start</span>`}>
      <${Facts} items=${[["Rows compared", count(rows)], ["Another label", rows ? `${count(found.labels_changed)} (${percent(found.labels_changed / rows)})` : NONE], ["Batches", `${count(found.batches)} compared, ${count(found.dropped)} dropped, ${count(found.failed)} failed`]]} />
      ${items.length > 0 && html`<h3>Largest difference of a row</h3><${Ranking} label="Rows by difference" items=${items} />`}
    <//>`;
}));

const Drifts = ({ now, chosen }) => {
  const windows = now.models.filter((model) => !chosen || keyOf(model) === chosen)
    .flatMap((model) => model.drift.filter((window) => window.figures.length).map((window) => ({ model, window })));
  if (!windows.length) return html`<${Card} title="Drift by feature"><p class="soft">No window has ended with enough rows yet: at least 1 000 in an hour or a day.</p><//>`;
  return windows.map(({ model, window }) => html`
    <${Card} title=${`Drift of ${model.name} ${model.version}, last ${spanOf(window.window)}`} aside=${html`<${Status} kind=${window.drifted.length ? "warn" : "good"}>${window.drifted.length ? plural(window.drifted.length, "feature") : "none"}<//>`}>
      <p class="soft small-text">Each figure as a share of what chance alone explains, over ${plural(window.rows, "row")}; beyond 100 % it is drift.</p>
      <${Ranking} label="Drift by feature" format=${(value) => percent(value, 2)} items=${window.figures
        .map((one) => ({ label: `${one.feature}, ${one.kind.replaceAll("_", " ")}`, value: one.threshold ? one.value / one.threshold : 0, kind: one.drift ? "bad" : "" }))
        .sort((one, other) => other.value - one.value)
        .slice(0, 12)} />
    <//>`);
};

const isKept = ({ journal }) => journal.written_rows !== undefined;

const Counts = ({ readings, error }) => {
  const [chosen, choose] = useState("");
  const now = readings.at(-1);
  const history = useMemo(() => historyOf(readings, chosen), [readings, chosen]);
  if (error && !now) {
    const isClosed = error instanceof ApiError && error.status === 403;
    return html`<${Failure} error=${error} what="The counts" />${isClosed && html`<p>They need a key with the scope <code>metrics</code>.</p>`}`;
  }
  if (!now) return html`<${Loading} />`;
  const steady = readings.find((one) => now.time_s - one.time_s <= STEADY_S);
  const change = steady !== now ? between(now, steady) : null;
  const part = change && partOf(change, chosen);
  const figures = part && figuresOf(part, change.seconds, now.bounds);
  return html`
    ${error && html`<${Note} kind="warn">The service did not answer the last request: ${error.message}<//>`}
    ${now.models.length > 1 && html`
      <div class="tools"><label>Model
        <select value=${chosen} onChange=${(event) => choose(event.target.value)}>
          <option value="">All models</option>
          ${now.models.map((model) => html`<option value=${keyOf(model)}>${model.name} ${model.version}</option>`)}
        </select></label></div>`}
    <${Figures} items=${[
      { label: "Requests", value: rate(figures?.requestRate), note: rate(figures?.rowRate, "rows") },
      { label: "p50", value: seconds(figures?.p50), note: "answered requests" },
      { label: "p99", value: seconds(figures?.p99), note: "answered requests" },
      { label: "Rows in a batch", value: figures?.batchRows ? number(figures.batchRows, 3) : NONE, note: "on average" },
      { label: "Queue", value: count(now.queue_rows), note: "rows waiting now" },
      { label: "Refused", value: figures ? percent(figures.refusedShare) : NONE, note: "of requests", kind: figures?.refused ? "warn" : "" },
    ]} />
    <div class="charts">
      <${Chart} title="Requests and rows a second" history=${history} lines=${LINES.rate} format=${(value) => rate(value)} />
      <${Chart} title="Latency" history=${history} lines=${LINES.latency} format=${(value) => seconds(value)} note="between the bounds of a histogram" />
      <${Chart} title="Rows in a batch" history=${history} lines=${LINES.batch} format=${(value) => number(value, 3)} />
      <${Chart} title="Queue" history=${history} lines=${LINES.queue} format=${(value) => count(value)} isWhole note="rows, of all models" />
    </div>
    <div class="packed">
      <${Chart} title="Refusals a second" history=${history} lines=${LINES.refused} format=${(value) => rate(value)} />
      <${Refusals} models=${now.models} chosen=${chosen} />
      <${Stages} part=${part} />
      <${Batches} part=${part} bounds=${now.bounds.rows} />
      <${Health} now=${now} />
      <${Shadows} now=${now} chosen=${chosen} />
      <${Drifts} now=${now} chosen=${chosen} />
    </div>`;
};

// The journal is for those who may not see the counts, too.
const Watch = () => {
  const { readings, error } = useReadings();
  const now = readings.at(-1);
  return html`
    <div class="title"><h1>Watch</h1>
      <p class="lead">What the service does now, every ${POLL_S} s while you look. This page keeps ${plural(KEPT_S / 60, "minute")}; the service keeps its counts.${now && isKept(now) ? html` <a href="#journal">Look a request up</a>` : ""}</p></div>
    <${Counts} readings=${readings} error=${error} />
    ${(now ? isKept(now) : error?.status === 403) && html`<${Journal} />`}`;
};

start(Watch);
