// Sends a file to the streaming route and reads the answer as it comes: rows, bad rows with their lines, and the bytes to keep.

import { ask, modelPath } from "../shared/api.js";
import { CsvReader } from "./csv.js";

export const FORMATS = {
  csv: { type: "text/csv", word: "CSV", pattern: /\.csv$/i, isText: true },
  tsv: { type: "text/tab-separated-values", word: "TSV", pattern: /\.(tsv|tab)$/i, isText: true },
  jsonl: { type: "application/x-ndjson", word: "JSON Lines", pattern: /\.(jsonl|ndjson)$/i, isText: true },
  parquet: { type: "application/vnd.apache.parquet", word: "Parquet", pattern: /\.(parquet|pq)$/i, isText: false },
  arrow: { type: "application/vnd.apache.arrow.stream", word: "Arrow", pattern: /\.(arrow|arrows)$/i, isText: false },
};
export const KEPT_ERRORS = 200; // of bad rows that are listed
export const KEPT_ROWS = 10; // of answered rows that are shown
const SAID_MS = 100;

// The format of a file, by its name and then by how it begins; null for one that the service does not read.
export const formatOf = async (file) => {
  const named = Object.keys(FORMATS).find((key) => FORMATS[key].pattern.test(file.name));
  if (named) return named;
  const text = new TextDecoder().decode(await file.slice(0, 4096).arrayBuffer());
  if (text.startsWith("PAR1")) return "parquet";
  if (text.startsWith("{")) return "jsonl";
  return /\.(xlsx?|zip|gz|json|pdf|png|jpe?g)$/i.test(file.name) || text.includes("\0") ? null : "csv";
};

// How many lines a text file has below its header, counted without keeping it.
export const countRows = async (file, format, signal) => {
  if (!FORMATS[format].isText) return null;
  const reader = file.stream().getReader();
  let lines = 0;
  let last = 10;
  for (;;) {
    const { done, value } = await reader.read();
    if (done || signal.aborted) break;
    for (const byte of value) if (byte === 10) lines += 1;
    last = value[value.length - 1];
  }
  return lines + (last === 10 ? 0 : 1) - (format === "jsonl" ? 0 : 1);
};

// Reads the rows of an answer in CSV, TSV or JSON Lines as its bytes arrive.
class AnswerRows {
  constructor(format) {
    this.decoder = new TextDecoder();
    this.csv = format === "jsonl" ? null : new CsvReader(format === "tsv" ? "\t" : ",");
    this.rest = "";
    this.names = null;
    this.rows = 0;
    this.bad = 0;
    this.first = [];
    this.errors = [];
    this.ending = null; // why the service ended the answer early
  }

  push(bytes) {
    const text = this.decoder.decode(bytes, { stream: true });
    if (this.csv) this.csv.push(text).forEach((record) => this.#record(record));
    else this.#lines(text);
  }

  end() {
    if (this.csv) this.csv.end().forEach((record) => this.#record(record));
    else if (this.rest) this.#line(this.rest);
  }

  #record({ cells }) {
    if (this.names === null) { this.names = cells; return; }
    if (cells[0].startsWith("#error ")) { this.ending = reasonOf(cells.join(",").slice(7)); return; }
    this.#row(cells, cells[this.names.lastIndexOf("error")]);
  }

  #lines(text) {
    const lines = (this.rest + text).split("\n");
    this.rest = lines.pop();
    lines.forEach((line) => line && this.#line(line));
  }

  #line(line) {
    const row = JSON.parse(line);
    const error = row.error?.message ?? row.prediction?.error?.message;
    if (row.error && !("prediction" in row) && this.rows > 0 && row.error.code) { this.ending = row.error.message; return; }
    const flat = Object.entries(row).map(([name, value]) => [name, typeof value === "object" && value !== null ? JSON.stringify(value) : String(value ?? "")]);
    this.names ??= flat.map(([name]) => name);
    this.#row(flat.map(([, value]) => value), error);
  }

  #row(cells, error) {
    this.rows += 1;
    if (this.first.length < KEPT_ROWS) this.first.push(cells);
    if (!error) return;
    this.bad += 1;
    if (this.errors.length < KEPT_ERRORS) this.errors.push({ row: this.rows, message: error });
  }
}

const reasonOf = (text) => {
  try {
    const content = JSON.parse(text.replaceAll('""', '"'));
    return content.message ?? content.error?.message ?? text;
  } catch {
    return text;
  }
};

// Scores `file`; `say` hears {rows, bad, bytes, names, first, errors} now and then. Returns the same with `blob`. Raises ApiError
// for a refusal, and Error with the service's reason where the answer ends early.
export const score = async ({ file, format, answer, name, version, onError, extra, signal, say }) => {
  const query = new URLSearchParams({ on_error: onError, extra });
  const response = await ask(`${modelPath(name, version)}/predict?${query}`, {
    method: "POST",
    body: file,
    headers: { "content-type": FORMATS[format].type, accept: FORMATS[answer].type },
    signal,
  });
  const rows = FORMATS[answer].isText ? new AnswerRows(answer) : null;
  const parts = [];
  let bytes = 0;
  let said = 0;
  const state = () => ({ bytes, rows: rows?.rows ?? null, bad: rows?.bad ?? null, names: rows?.names ?? [], first: rows?.first ?? [], errors: rows?.errors ?? [] });
  const reader = response.body.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      parts.push(value);
      bytes += value.length;
      rows?.push(value);
      if (performance.now() - said > SAID_MS) { say(state()); said = performance.now(); }
    }
    rows?.end();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    rows?.end();
    throw new Error(rows?.ending || "The service closed the connection before the answer was complete; its log has the cause.");
  }
  if (rows?.ending) throw new Error(rows.ending);
  return { ...state(), blob: new Blob(parts, { type: FORMATS[answer].type }) };
};
