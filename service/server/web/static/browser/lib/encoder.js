// @ts-check
/** Rows of named values to the graph's inputs, by the signature. No arithmetic on values. */

import { closest } from './names.js';
import { quoted, Refusal, sentenceOf } from './refusal.js';
import { InvalidValue, ValueReader } from './values.js';

/** @typedef {import('../index.d.ts').Signature} Signature */
/** @typedef {import('./refusal.js').Problem} Problem */
/** @typedef {{numeric: Float64Array | null, categorical: BigInt64Array | null, rows: number}} Arrays */

export const LISTED_ERRORS = 20; // of one call
const NAME_CHARACTERS = 200; // of an unknown name that are repeated to the caller
const LISTED_NAMES = 10; // of features that one sentence names

/** The signature, arranged for encoding. */
export class Encoder {
  /** @param {Signature} signature */
  constructor(signature) {
    this.names = signature.inputs.map((feature) => feature.name);
    this.readers = signature.inputs.map((feature) => new ValueReader(feature));
    this.allowed = new Set([...this.names, ...(signature.targets ?? [signature.target ?? '']), ...(signature.ignored ?? [])]);
    this.numericWidth = signature.inputs.filter((feature) => feature.kind !== 'categorical').length;
    this.categoricalWidth = this.names.length - this.numericWidth;
  }

  /**
   * Encode rows that are objects {feature: value}, or lists in the order of `columns` or of the signature.
   * A row with a problem is left out of the arrays. Looking stops after `limit` problems, if that is not null.
   * @param {readonly unknown[]} rows
   * @param {readonly unknown[] | null} columns
   * @param {number | null} limit
   * @returns {{arrays: Arrays, kept: number[], problems: Problem[], truncated: boolean}}
   */
  encode(rows, columns = null, limit = LISTED_ERRORS) {
    /** @type {Problem[]} */
    const problems = [];
    /** @type {number[]} */
    const kept = [];
    /** @type {number[][]} */
    const encoded = [];
    const wrong = columns === null ? null : this._columnProblem(columns);
    if (wrong) return { arrays: this._arrays([]), kept, problems: [wrong], truncated: false };
    for (let row = 0; row < rows.length; row += 1) {
      const values = this._row(row, rows[row], /** @type {string[] | null} */ (columns), problems);
      if (limit !== null && problems.length > limit) {
        return { arrays: this._arrays(encoded), kept, problems: problems.slice(0, limit), truncated: true };
      }
      if (values === null) continue;
      kept.push(row);
      encoded.push(values);
    }
    return { arrays: this._arrays(encoded), kept, problems, truncated: false };
  }

  /** @param {readonly unknown[]} columns @returns {Problem | null} */
  _columnProblem(columns) {
    for (const name of columns) {
      if (typeof name !== 'string' || !this.allowed.has(name)) return this._unknown(null, String(name), 0);
    }
    const given = /** @type {string[]} */ (columns);
    for (const name of given) {
      const times = given.filter((other) => other === name).length;
      if (times > 1) return { row: null, feature: name, message: `columns must name it once, not ${times} times` };
    }
    const has = new Set(given);
    const [first, ...others] = this.names.filter((name) => !has.has(name));
    if (first === undefined) return null;
    const also = others.length ? `, as ${others.length === 1 ? 'is' : 'are'} ${listed(others)}` : '';
    return { row: null, feature: first, message: `it is missing from columns${also}` };
  }

  /** Return the row's numbers, or null after adding its problems. @param {number} row @param {unknown} given @param {string[] | null} columns @param {Problem[]} problems */
  _row(row, given, columns, problems) {
    const named = this._named(row, given, columns, problems);
    if (named === null) return null;
    const before = problems.length;
    for (const name of named.keys()) {
      if (!this.allowed.has(name)) problems.push(this._unknown(row, name, problems.length));
    }
    const values = this.readers.map((reader) => {
      try {
        return read(reader, named);
      } catch (error) {
        if (!(error instanceof InvalidValue)) throw error;
        problems.push({ row, feature: reader.feature.name, message: error.message });
        return NaN;
      }
    });
    return problems.length === before ? values : null;
  }

  /** @param {number} row @param {unknown} given @param {string[] | null} columns @param {Problem[]} problems @returns {Map<string, unknown> | null} */
  _named(row, given, columns, problems) {
    const names = columns ?? this.names;
    const isList = Array.isArray(given) || ArrayBuffer.isView(given);
    if (typeof given === 'object' && given !== null && !isList && columns === null) {
      return new Map(Object.entries(given).filter(([, value]) => value !== undefined));
    }
    if (!isList) {
      const wanted = columns ? 'a list of values in the order of columns' : 'an object {feature: value} or a list';
      problems.push({ row, feature: null, message: `a row is ${wanted}` });
      return null;
    }
    const values = Array.from(/** @type {ArrayLike<unknown>} */ (/** @type {unknown} */ (given)));
    if (values.length === names.length) return new Map(names.map((name, place) => [name, values[place]]));
    const what = columns === null ? 'features' : 'columns';
    problems.push({ row, feature: null, message: `the row has ${values.length} values, but there are ${names.length} ${what}` });
    return null;
  }

  /** @param {number | null} row @param {string} name @param {number} problems that are known so far @returns {Problem} */
  _unknown(row, name, problems) {
    const text = short(name);
    // The search takes time for each known name, so only the first few unknown names of a call get a suggestion.
    const near = problems < LISTED_ERRORS ? closest(text, this.names) : null;
    return { row, feature: text, message: near === null ? 'unknown feature' : `unknown feature; did you mean ${quoted(near)}?` };
  }

  /** @param {number[][]} encoded [rows][features] @returns {Arrays} */
  _arrays(encoded) {
    const numeric = this.numericWidth ? new Float64Array(encoded.length * this.numericWidth) : null;
    const categorical = this.categoricalWidth ? new BigInt64Array(encoded.length * this.categoricalWidth) : null;
    let [numbers, codes] = [0, 0];
    for (const values of encoded) {
      values.forEach((value, place) => {
        if (this.readers[place].isCode) /** @type {BigInt64Array} */ (categorical)[codes++] = BigInt(value);
        else /** @type {Float64Array} */ (numeric)[numbers++] = value;
      });
    }
    return { numeric, categorical, rows: encoded.length };
  }
}

/** Return the refusal of rows with problems. @param {Problem[]} problems @param {boolean} truncated */
export const invalidRows = (problems, truncated) =>
  new Refusal('invalid_rows', sentenceOf(problems), { details: problems, truncated });

/** @param {ValueReader} reader @param {Map<string, unknown>} row */
function read(reader, row) {
  if (!row.has(reader.feature.name)) {
    const instead = reader.feature.missing ? 'send null if it is not known' : 'it was never missing in training';
    throw new InvalidValue(`the feature is not in the row; ${instead}`);
  }
  return reader.number(row.get(reader.feature.name));
}

/** @param {string} name */
const short = (name) => [...name].slice(0, NAME_CHARACTERS).join('');

/** @param {string[]} names */
function listed(names) {
  const shown = names.slice(0, LISTED_NAMES).map((name) => quoted(short(name))).join(', ');
  return names.length > LISTED_NAMES ? `${shown} and ${names.length - LISTED_NAMES} more` : shown;
}
