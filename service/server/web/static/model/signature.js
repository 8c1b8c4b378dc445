// The features of a model, with the distribution of the training rows.

import { Bars } from "../shared/bars.js";
import { NONE, number, percent, plural } from "../shared/format.js";
import { Card, Table } from "../shared/parts.js";
import { html, useMemo } from "../shared/view.js";

const TYPES = { integer: "whole number", float: "number", string: "text", bool: "true or false", boolean: "true or false", date: "date" };

// The bars of a distribution: intervals of about as many rows each are drawn by their density, so that their shape is seen.
export const barsOf = (feature, distribution, rows) => {
  if (!distribution) return [];
  const { edges, codes, counts, missing } = distribution;
  if (codes) {
    const bars = codes.map((code, place) => ({ label: feature.categories?.[code] ?? String(code), share: counts[place] / rows }));
    const others = counts[codes.length];
    const unlisted = (feature.categories || []).filter((_, code) => !codes.includes(code));
    const isOne = unlisted.length === 1; // then the cell of all others is that category's
    const absent = missing ? [{ label: "missing", share: missing / rows, kind: "other" }] : [];
    return [...bars, ...(others ? [{ label: isOne ? unlisted[0] : "others", share: others / rows, kind: isOne ? undefined : "other" }] : []), ...absent];
  }
  const [low, high] = endsOf(feature, edges);
  const ends = [low, ...edges, high];
  const width = (high - low) / BINS || 1;
  // The rows of each interval are spread evenly over bins of equal width.
  const bars = Array.from({ length: BINS }, (_, bin) => {
    const [from, until] = [low + bin * width, low + (bin + 1) * width];
    let inside = 0;
    for (let place = 0; place < counts.length; place += 1) {
      const [start, end] = [ends[place], ends[place + 1]];
      const overlap = Math.min(until, end) - Math.max(from, start);
      if (end > start && overlap > 0) inside += (counts[place] * overlap) / (end - start);
      else if (end === start && start >= from && (start < until || bin === BINS - 1)) inside += counts[place];
    }
    const text = feature.kind === "date" ? dayOf : (value) => number(value, 3);
    return { label: `${text(from)} to ${text(until)}`, share: inside / rows };
  });
  return bars;
};
const BINS = 20;

// The least and the greatest number of a feature: its range, or the outermost edges where the range is not of numbers.
const endsOf = ({ range }, edges) =>
  (typeof range?.[0] === "number" && typeof range?.[1] === "number" ? range : [edges[0], edges[edges.length - 1]]);

const dayOf = (value) => {
  const date = new Date(typeof value === "number" ? value * 1000 : value); // in seconds since 1970
  return Number.isNaN(date.getTime()) ? String(value) : date.toISOString().slice(0, 10);
};

const rangeOf = (feature) => {
  if (feature.categories) {
    const shown = feature.categories.slice(0, 6).map(String).join(", ");
    return feature.categories.length > 6 ? `${shown} and ${feature.categories.length - 6} more` : shown;
  }
  if (!feature.range) return NONE;
  if (feature.kind === "date") return feature.range.map(dayOf).join(" to ");
  return `${number(feature.range[0])} to ${number(feature.range[1])}`;
};

export const Signature = ({ detail, evidence }) => {
  const rows = useMemo(() => detail.signature.inputs.map((feature, place) => ({ place, feature, distribution: evidence.features[place] })), [detail, evidence]);
  const total = evidence.training_rows;
  const columns = useMemo(() => [
    { key: "name", title: "Feature", value: (row) => row.feature.name, cell: (row) => html`<b>${row.feature.name}</b>` },
    { key: "type", title: "Type", value: (row) => (row.feature.kind === "categorical" ? "category" : TYPES[row.feature.value_type] || row.feature.value_type) },
    { key: "range", title: "Values", value: (row) => rangeOf(row.feature) },
    { key: "typical", title: "Typical", value: (row) => (typeof row.feature.typical === "number" ? number(row.feature.typical) : String(row.feature.typical ?? NONE)) },
    { key: "missing", title: "Missing", isNumber: true, value: (row) => (row.feature.missing ? (row.distribution ? row.distribution.missing / total : 0) : -1), cell: (row) =>
      (row.feature.missing ? (row.distribution ? percent(row.distribution.missing / total, 2) : "allowed") : html`<span class="soft">no</span>`) },
    ...(total ? [{ key: "distribution", title: "Training rows", cell: (row) => (row.distribution
      ? html`<div class="distribution"><${Bars} bars=${barsOf(row.feature, row.distribution, total)} height=${36} /></div>`
      : html`<span class="soft">not kept</span>`) }] : []),
  ], [detail, evidence]);
  return html`
    <${Card} title="Features" id="signature" aside=${html`<span class="soft">${total ? `distributions of ${plural(total, "training row")}` : "no statistics of the training rows in this bundle"}</span>`}>
      <${Table} label="Features" columns=${columns} rows=${rows} keyOf=${(row) => row.place} search=${rows.length > 12 && "Search features"} pageSize=${25} />
    <//>`;
};

