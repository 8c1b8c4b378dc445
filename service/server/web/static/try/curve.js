// What if one feature were another: the prediction along its training range, or for each of its categories.

import { Lines } from "../shared/chart.js";
import { postJson } from "../shared/api.js";
import { number, percent } from "../shared/format.js";
import { Card, Note } from "../shared/parts.js";
import { html, useMemo, useState } from "../shared/view.js";
import { useAsked } from "./asking.js";
import { valuesOf } from "./results.js";
import { curvePoints, dateText } from "./rows.js";

const PAUSE_MS = 250;
const LINES = 4; // classes with a line of their own
const COLOURS = ["series-1", "series-2", "series-3", "series-4"];

const seriesOf = (predictions, isClass, target) => {
  if (!isClass) return [{ label: target, values: predictions.map((one) => valuesOf(one, target)[target]) }];
  const labels = Object.keys(predictions[0].probabilities);
  const reach = (label) => Math.max(...predictions.map((one) => one.probabilities[label]));
  const kept = labels.length === 2 ? [labels[1]] : [...labels].sort((one, other) => reach(other) - reach(one)).slice(0, LINES);
  return labels.filter((label) => kept.includes(label)).map((label) => ({ label, values: predictions.map((one) => one.probabilities[label]) }));
};

const nearest = (points, x) => points.reduce((best, one) => (Math.abs(one.x - x) < Math.abs(best.x - x) ? one : best));

const Ordered = ({ points, series, feature, format, isClass, now }) => {
  const data = useMemo(() => [points.map((point) => point.x), ...series.map((one) => one.values), ...(now ? [points.map((point) => (point === nearest(points, now.x) ? now.y : null))] : [])], [points, series, now]);
  const shape = series.map((one) => one.label).join();
  const words = series.map((one) => `${one.label}: ${format(Math.min(...one.values))} to ${format(Math.max(...one.values))}`).join("; ");
  const summary = `Prediction for ${feature.name} from ${points[0].label} to ${points[points.length - 1].label}. ${words}`;
  const lines = [...series.map((one, place) => ({ label: one.label, colour: COLOURS[place] })), ...(now ? [{ label: "now", colour: "ink", isPoint: true }] : [])];
  return html`<${Lines} key=${`${feature.name}|${shape}|${Boolean(now)}`} xLabel=${feature.name} data=${data} series=${lines} summary=${summary} format=${format} height=${220}
    xFormat=${feature.kind === "date" ? (at) => dateText(Math.round(at / 86400) * 86400) : (at) => number(at)} yRange=${isClass ? () => [0, 1] : (_, low, high) => [low - (high - low || 1) * 0.08, high + (high - low || 1) * 0.08]} />`;
};

const Listed = ({ points, series, format, current }) => {
  const widest = Math.max(...series.flatMap((one) => one.values.map(Math.abs)), 1e-12);
  return html`
    <div class="scroll" tabindex="0" role="region" aria-label="Prediction for each value"><table class="what-if"><thead><tr><th scope="col">value</th>${series.map((one) => html`<th scope="col">${one.label}</th>`)}</tr></thead>
      <tbody>${points.map((point, place) => html`
        <tr class=${point.value === current ? "current" : ""}><th scope="row">${point.label}${point.value === current && html` <span class="soft">now</span>`}</th>
          ${series.map((one, line) => html`<td><svg viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true"><rect class=${COLOURS[line]} width=${(100 * Math.abs(one.values[place])) / widest} height="8" rx="1" /></svg><b>${format(one.values[place])}</b></td>`)}
        </tr>`)}</tbody></table></div>`;
};

// Where the row stands on the curve of its class, or of the value: its own answer.
const nowOf = (feature, row, prediction, series) => {
  const value = row[feature.name];
  const x = feature.kind === "date" ? Date.parse(value) / 1000 : value;
  if (!prediction || typeof x !== "number" || !Number.isFinite(x) || x < feature.range[0] || x > feature.range[1]) return null;
  const own = series.find((one) => one.label === String(prediction.label)) || series[0];
  return { x, y: (valuesOf(prediction, own.label) ?? prediction.probabilities)[own.label] };
};

export const WhatIf = ({ path, features, row, isClass, target, preferred, prediction }) => {
  const usable = useMemo(() => features.filter((feature) => curvePoints(feature, 2).length > 1), [features]);
  const [picked, pick] = useState("");
  const name = picked || preferred || usable[0]?.name;
  const feature = usable.find((one) => one.name === name) || usable[0];
  const points = useMemo(() => (feature ? curvePoints(feature) : []), [feature]);
  const others = feature ? `${path}|${feature.name}|${JSON.stringify({ ...row, [feature.name]: 0 })}` : null;
  const { data, error, isStale } = useAsked(async (signal) => {
    const { predictions } = await postJson(path, { rows: points.map((point) => ({ ...row, [feature.name]: point.value })) }, { signal });
    return { predictions, points, feature };
  }, others, PAUSE_MS);
  const series = useMemo(() => data && seriesOf(data.predictions, isClass, target), [data, target]);
  if (!feature) return null;
  const format = isClass ? (value) => percent(value) : (value) => number(value);
  const isOrdered = data && data.points[0].x !== undefined;
  return html`
    <${Card} title="What if" id="what-if" aside=${html`<label class="inline">Feature <select value=${feature.name} onChange=${(event) => pick(event.target.value)}>${usable.map((one) => html`<option value=${one.name}>${one.name}</option>`)}</select></label>`}>
      <p class="soft small-text">${isClass ? "The probabilities" : `The predicted ${target}`} if only ${feature.name} changes${isOrdered || !data ? ` within its training range; it is ${String(row[feature.name] ?? "missing")} now` : ""}.</p>
      ${error && html`<${Note}>The rest of the row is refused: ${error.message}<//>`}
      ${!error && data?.feature !== feature && html`<p class="soft" role="status">Asking…</p>`}
      ${data && data.feature === feature && html`<div class=${isStale ? "stale" : ""}>${isOrdered
        ? html`<${Ordered} points=${data.points} feature=${feature} series=${series} now=${nowOf(feature, row, prediction, series)} format=${format} isClass=${isClass} />`
        : html`<${Listed} points=${data.points} series=${series} format=${format} current=${row[feature.name]} />`}</div>`}
    <//>`;
};
