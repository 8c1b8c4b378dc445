// Rows of the form: texts to JSON values and back, pasted rows, rows drawn at random, and the points of a what-if curve.

import { cellReader } from "../browser/lib/texts.js";
import { readCsv } from "../score/csv.js";

export const MISSING = Symbol("missing");
const DAY_S = 86400;
const DIGITS = 5; // of numbers that a slider or a draw makes

const rounded = (value, digits = DIGITS) => Number(value.toPrecision(digits));
const iso = (seconds) => new Date(seconds * 1000).toISOString().replace(".000Z", "Z");
export const dateText = (seconds) => iso(seconds).replace("T00:00:00Z", "");

// What is sent for the text in a field. A text that cannot be read is sent as it is: the service says what is wrong with it.
export const jsonOf = (feature, text) => {
  if (text === MISSING) return null;
  if (feature.value_type === "boolean" && (text === "true" || text === "false")) return text === "true";
  if (feature.kind === "numeric" || feature.value_type === "integer") {
    const number = Number(text);
    return text.trim() !== "" && Number.isFinite(number) ? number : text;
  }
  return text;
};

export const textOf = (value) => (value === null || value === undefined ? MISSING : typeof value === "bigint" ? String(value) : String(value));

// The texts of all fields for a row {feature: value}; what it lacks is missing.
export const textsOf = (features, row) => new Map(features.map((feature) => [feature.name, textOf(row[feature.name])]));

// Reads what somebody pasted: a JSON row, a list of them, a request, or CSV with or without a header. Raises Error.
export const parsePasted = (text, features) => {
  const trimmed = text.trim();
  if (!trimmed) throw new Error("There is nothing to read. Paste a row as JSON or CSV.");
  return /^[[{]/.test(trimmed) ? parseJson(trimmed, features) : parseCsv(trimmed, features);
};

const parseJson = (text, features) => {
  let content;
  try {
    content = JSON.parse(text);
  } catch (error) {
    const lines = text.split("\n").filter((line) => line.trim());
    if (lines.length < 2) throw new Error(`This is not JSON: ${error.message}.`);
    try {
      content = lines.map((line) => JSON.parse(line));
    } catch {
      throw new Error(`This is not JSON: ${error.message}.`);
    }
  }
  const list = content.rows || content.instances || (Array.isArray(content) && !isRow(content, features) ? content : [content]);
  if (!Array.isArray(list) || !list.length) throw new Error("This JSON holds no row.");
  return list.map((row, place) => named(row, features, content.columns, place));
};

const isRow = (list, features) => list.length === features.length && list.every((value) => typeof value !== "object" || value === null);

const named = (row, features, columns, place) => {
  const names = columns || features.map((feature) => feature.name);
  if (Array.isArray(row)) {
    if (row.length !== names.length) throw new Error(`Row ${place} has ${row.length} values, but there are ${names.length} features.`);
    return Object.fromEntries(names.map((name, at) => [name, row[at]]));
  }
  if (typeof row !== "object" || row === null) throw new Error(`Row ${place} is neither an object nor a list.`);
  return row;
};

const parseCsv = (text, features) => {
  const { names, records } = readCsv(text);
  const known = new Map(features.map((feature) => [feature.name, cellReader(feature)]));
  const found = names.filter((name) => known.has(name));
  if (found.length) {
    if (!records.length) throw new Error("There is a header, but no row below it.");
    return records.map(({ cells }) => Object.fromEntries(names.map((name, at) => [name, known.get(name)?.(cells[at] ?? "")]).filter(([name]) => known.has(name))));
  }
  if (names.length !== features.length) {
    throw new Error(`The first line names no feature, and has ${names.length} cells where ${features.length} features are: paste a header too.`);
  }
  return [{ cells: names }, ...records].map(({ cells }) => Object.fromEntries(features.map((feature, at) => [feature.name, known.get(feature.name)(cells[at] ?? "")])));
};

// The counts of a numeric feature's training rows in `bins` cells of equal width from its least to its greatest value.
export const densityOf = (feature, entry, bins = 40) => {
  if (!entry?.edges || !feature.range) return null;
  const [low, high] = feature.range;
  if (!(high > low)) return null;
  const bounds = [low, ...entry.edges.filter((edge) => edge > low && edge < high), high];
  const counts = new Array(bins).fill(0);
  const width = (high - low) / bins;
  cellsOf(feature, entry).forEach(({ from, to, count }) => {
    if (to <= from) { counts[Math.min(Math.floor((from - low) / width), bins - 1)] += count; return; }
    const [first, last] = [Math.floor((from - low) / width), Math.min(Math.floor((to - low) / width), bins - 1)];
    for (let bin = Math.max(first, 0); bin <= last; bin += 1) {
      const overlap = Math.min(to, low + (bin + 1) * width) - Math.max(from, low + bin * width);
      if (overlap > 0) counts[bin] += (count * overlap) / (to - from);
    }
  });
  return { counts, bounds };
};

// The cells of a numeric entry within the training range: [{from, to, count}].
const cellsOf = (feature, { edges, counts }) => {
  const [low, high] = feature.range;
  return counts.slice(0, -1).map((count, place) => ({
    from: place === 0 ? low : Math.max(edges[place - 1], low),
    to: place < edges.length ? Math.min(edges[place], high) : high,
    count,
  }));
};

const drawn = (weights) => {
  let left = Math.random() * weights.reduce((sum, weight) => sum + weight, 0);
  for (let place = 0; place < weights.length; place += 1) {
    left -= weights[place];
    if (left < 0) return place;
  }
  return weights.length - 1;
};

const typed = (feature, category) =>
  feature.value_type === "integer" ? Number(category) : feature.value_type === "boolean" ? category === "true" : category;

const unseenOf = (feature) => {
  if (feature.value_type === "boolean") return typed(feature, feature.categories[0] ?? "true");
  if (feature.value_type === "integer") return 1 + Math.max(0, ...feature.categories.map(Number));
  return "never seen";
};

const randomCategory = (feature, entry) => {
  const listed = feature.categories.length;
  const any = () => (listed ? typed(feature, feature.categories[Math.floor(Math.random() * listed)]) : unseenOf(feature));
  if (!entry?.codes) return any();
  const place = drawn(entry.counts);
  if (place < entry.codes.length) return typed(feature, feature.categories[entry.codes[place]]);
  const kind = place - entry.codes.length; // other listed ones, missing, unseen
  return kind === 0 ? any() : kind === 1 && feature.missing ? null : unseenOf(feature);
};

const randomNumber = (feature, entry) => {
  const [low, high] = feature.range || [0, 1];
  let value = low + Math.random() * (high - low);
  if (entry?.edges && feature.range) {
    const place = drawn(entry.counts);
    if (place === entry.counts.length - 1) return feature.missing ? null : value;
    const { from, to } = cellsOf(feature, entry)[place];
    value = from + Math.random() * Math.max(to - from, 0);
  }
  if (feature.kind === "date") return iso(Math.round(value));
  if (feature.value_type === "boolean") return value >= 0.5;
  return feature.value_type === "integer" ? Math.round(value) : rounded(value, 6);
};

// A row whose values are drawn one by one as training had them, or within the training range where there are no counts.
export const randomRow = (features, reference) => Object.fromEntries(features.map((feature, place) => {
  const entry = reference?.features?.[place];
  return [feature.name, feature.kind === "categorical" ? randomCategory(feature, entry) : randomNumber(feature, entry)];
}));

// The values of one feature that a curve runs over: [{value, x, label}]; x is a number where they have an order.
export const curvePoints = (feature, points = 60) => {
  if (feature.kind === "categorical" || feature.value_type === "boolean") {
    const values = feature.kind === "categorical" ? feature.categories.slice(0, 40).map((one) => typed(feature, one)) : [false, true];
    const listed = values.map((value) => ({ value, label: String(value) }));
    return feature.missing ? [...listed, { value: null, label: "missing" }] : listed;
  }
  if (!feature.range || !(feature.range[1] > feature.range[0])) return [];
  const [low, high] = feature.range;
  const numbers = Array.from({ length: points + 1 }, (_, place) => low + ((high - low) * place) / points);
  const whole = feature.value_type === "integer" ? [...new Set(numbers.map(Math.round))] : numbers;
  return whole.map((x) => (feature.kind === "date" ? { value: iso(Math.round(x)), x, label: dateText(Math.round(x)) } : { value: x, x, label: String(rounded(x)) }));
};

// A slider's place, 0 to 1000, to the text of a field and back.
export const STEPS = 1000;
export const textAt = (feature, place) => {
  const [low, high] = feature.range;
  const value = low + ((high - low) * place) / STEPS;
  if (feature.kind === "date") return high - low > 3 * DAY_S ? dateText(Math.round(value / DAY_S) * DAY_S) : iso(Math.round(value));
  if (feature.value_type === "integer") return String(Math.round(value));
  if (place === 0) return String(low);
  if (place === STEPS) return String(high);
  return String(rounded(value));
};
export const placeOf = (feature, text) => {
  if (text === MISSING || !feature.range) return STEPS / 2;
  const [low, high] = feature.range;
  const value = feature.kind === "date" ? Date.parse(/T|^\D/.test(text) ? text : `${text}T00:00:00Z`) / 1000 : Number(text);
  if (!Number.isFinite(value) || !(high > low)) return STEPS / 2;
  return Math.max(0, Math.min(STEPS, Math.round((STEPS * (value - low)) / (high - low))));
};
