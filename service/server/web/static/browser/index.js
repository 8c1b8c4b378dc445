// @ts-check
/**
 * Predict with a Batchproof bundle in a browser or in Node, on onnxruntime-web.
 *
 * `load` checks the bundle and runs its golden rows in this engine. A bundle of exact arithmetic then gives the bits that the
 * service gives; one whose golden rows come out otherwise here is refused.
 */

import { Explainer } from './explanations.js';
import { Answers } from './lib/answers.js';
import { checkFile, NEEDED, outputsOf, readGolden, readManifest } from './lib/bundle.js';
import { Encoder, invalidRows, LISTED_ERRORS } from './lib/encoder.js';
import { badBundle, badRequest, Refusal, sentenceOf } from './lib/refusal.js';

export { Refusal };

/** @typedef {import('./index.d.ts').LoadOptions} LoadOptions */
/** @typedef {import('./index.d.ts').PredictOptions} PredictOptions */
/** @typedef {import('./index.d.ts').Outputs} Outputs */
/** @typedef {import('./index.d.ts').Manifest} Manifest */
/** @typedef {import('./lib/encoder.js').Arrays} Arrays */

const RUN_ROWS = 1024; // of one run of the engine: more take memory and no less time for each
const TOLERANCE = 1e-5; // absolute and relative, for float32 bundles that may differ in their last bits
const FIELDS = ['columns', 'on_error', 'coverage', 'explain', 'detail'];

/**
 * Load a bundle, check it, and reproduce its golden rows in this engine.
 * @param {string | URL | Record<string, Uint8Array | ArrayBuffer>} source the address of the bundle's folder, or its files by name
 * @param {LoadOptions} [options]
 * @returns {Promise<Model>}
 * @throws {Refusal} where the bundle is damaged, or this engine does not reproduce it
 */
export async function load(source, options = {}) {
  const read = isAddress(source) ? reader(folder(source), options.fetch ?? fetch) : async (/** @type {string} */ name) => given(source, name);
  const manifest = await readManifest(await read('bundle.json'));
  const [graph, golden] = await Promise.all(
    NEEDED.map(async (name) => {
      const bytes = await read(name);
      await checkFile(manifest, name, bytes);
      return bytes;
    }),
  );
  const ort = options.ort ?? (await engine());
  if (ort.env?.wasm) ort.env.wasm.numThreads ||= 1; // more need cross-origin isolation, and small models gain nothing by them
  const session = await ort.InferenceSession.create(graph, { executionProviders: ['wasm'] });
  const model = new Model(manifest, session, ort);
  await model._reproduce(readGolden(golden, manifest), options.tolerate ?? false);
  return model;
}

/** A loaded bundle that has reproduced its golden rows in this engine. */
export class Model {
  /** @param {Manifest} manifest @param {any} session @param {any} ort */
  constructor(manifest, session, ort) {
    this.manifest = manifest;
    this.name = manifest.name;
    this.version = manifest.version;
    this.isExact = manifest.arithmetic.kind === 'exact';
    this.fingerprint = {
      sha256: manifest.sha256,
      arithmetic: manifest.arithmetic.kind,
      engine: `onnxruntime-web ${ort.env?.versions?.web ?? ''}`.trim(),
      device: 'wasm',
      golden: 'not run',
    };
    this._session = session;
    this._ort = ort;
    this._encoder = new Encoder(manifest.signature);
    this._answers = new Answers(manifest);
    this._explainer = new Explainer(manifest, this._encoder);
    this._last = Promise.resolve(); // runs of one session follow one another
  }

  /**
   * Predict rows, with the answer of `POST /predict`.
   * @param {readonly unknown[]} rows objects {feature: value}, or lists in the order of `columns` or of the signature
   * @param {PredictOptions} [options]
   * @returns {Promise<import('./index.d.ts').Answer>}
   * @throws {Refusal} with each row and feature that is wrong
   */
  async predict(rows, options = {}) {
    const { columns = null, on_error: onError = 'stop', coverage, explain = false, detail = false } = options;
    checkRequest(rows, options);
    const level = coverage === undefined ? null : this._answers.level(coverage);
    const limit = onError === 'row' ? null : LISTED_ERRORS;
    const { arrays, kept, problems, truncated } = this._encoder.encode(rows, columns, limit);
    if (problems.length && (onError !== 'row' || problems.some((problem) => problem.row === null))) {
      throw invalidRows(problems, truncated);
    }
    const outputs = await this._run(arrays);
    const good = this._answers.name(outputs, arrays.rows);
    if (detail) this._answers.addDetail(good, outputs, arrays);
    if (level !== null) this._answers.addUncertainty(good, outputs, level);
    if (explain) {
      for (const [row, prediction] of good.entries()) {
        const columns = this._answers.columns(outputs, row);
        this._answers.addExplanations(prediction, await this._explainer.explain(arrays, row, columns, (mixed) => this._run(mixed)));
      }
    }
    const predictions = placed(good, kept, problems, rows.length);
    return { predictions, model: { name: this.name, version: this.version, fingerprint: this.fingerprint } };
  }

  /**
   * Return the graph's outputs for rows, every bit of them: `probabilities` and `scores`, or `value`, and `saturated`.
   * @param {readonly unknown[]} rows as `predict` takes them
   * @param {{columns?: string[] | null}} [options]
   * @returns {Promise<Outputs>}
   * @throws {Refusal}
   */
  async outputs(rows, { columns = null } = {}) {
    checkRequest(rows, {});
    const { arrays, problems, truncated } = this._encoder.encode(rows, columns);
    if (problems.length) throw invalidRows(problems, truncated);
    return this._run(arrays);
  }

  /** Free the engine's memory. */
  async close() {
    await this._last;
    await this._session.release();
  }

  /** @param {Arrays} arrays @returns {Promise<Outputs>} */
  async _run(arrays) {
    /** @type {Outputs[]} */
    const parts = [];
    for (let start = 0; start < arrays.rows; start += RUN_ROWS) {
      const run = this._last.then(() => this._runPart(arrays, start, Math.min(start + RUN_ROWS, arrays.rows)));
      this._last = run.then(() => {}, () => {});
      parts.push(await run);
    }
    const joined = outputsOf(this.manifest).map(([name, dtype, width]) => {
      const data = new (dtype === 'bool' ? Uint8Array : Float32Array)(arrays.rows * width);
      parts.forEach((part, place) => data.set(part[name].data, place * RUN_ROWS * width));
      return [name, { data, dims: [arrays.rows, width] }];
    });
    return Object.fromEntries(joined);
  }

  /** @param {Arrays} arrays @param {number} start @param {number} end */
  async _runPart({ numeric, categorical }, start, end) {
    const { numericWidth, categoricalWidth } = this._encoder;
    const feeds = {};
    if (numeric) {
      feeds.numeric = new this._ort.Tensor('float64', numeric.slice(start * numericWidth, end * numericWidth), [end - start, numericWidth]);
    }
    if (categorical) {
      const codes = categorical.slice(start * categoricalWidth, end * categoricalWidth);
      feeds.categorical = new this._ort.Tensor('int64', codes, [end - start, categoricalWidth]);
    }
    return this._session.run(feeds);
  }

  /** Refuse the bundle where this engine does not give the stored outputs. @param {import('./lib/bundle.js').Golden} golden @param {boolean} tolerate */
  async _reproduce(golden, tolerate) {
    const { arrays, problems } = this._encoder.encode(golden.rows);
    if (problems.length) throw badBundle(`golden.json ${sentenceOf(problems.slice(0, 1))}`.replace(/\.$/, ''));
    const outputs = await this._run(arrays);
    let isEqual = true;
    for (const [name, stored] of Object.entries(golden.outputs)) {
      const { data } = outputs[name];
      const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
      const place = bytes.findIndex((byte, at) => byte !== stored.bytes[at]);
      if (place < 0) continue;
      isEqual = false;
      if (this.isExact || !tolerate || stored.dtype === 'bool') this._refuse(name, data, stored, Math.floor(place / data.BYTES_PER_ELEMENT), 0);
      const far = data.findIndex((value, at) => !isNear(value, numberAt(stored, at)));
      if (far >= 0) this._refuse(name, data, stored, far, TOLERANCE);
    }
    this.fingerprint.golden = isEqual ? 'bit for bit' : `within ${TOLERANCE}`;
  }

  /** @param {string} name @param {Float32Array | Uint8Array} data @param {{dtype: string, shape: number[], bytes: Uint8Array}} stored @param {number} place @param {number} tolerance */
  _refuse(name, data, stored, place, tolerance) {
    const [row, column] = [Math.floor(place / stored.shape[1]), place % stored.shape[1]];
    const wanted = tolerance ? `tolerance ${tolerance} + ${tolerance}·|value|` : 'the bits must be equal';
    const differ = `golden row ${row} gives ${name}[${column}] = ${data[place]} in this engine, but golden.json has ${numberAt(stored, place)} (${wanted})`;
    const remedy = this.isExact || tolerance ? '' : '. Serve a bundle of exact arithmetic for equal bits, or load with tolerate: true';
    throw new Refusal('not_reproduced', `${differ}${remedy}.`);
  }
}

/** @param {unknown} rows @param {PredictOptions} options */
function checkRequest(rows, options) {
  if (!Array.isArray(rows)) throw badRequest('rows must be a list of rows.');
  for (const name of Object.keys(options)) {
    if (!FIELDS.includes(name)) throw badRequest(`Unknown field '${name}'; known are ${FIELDS.join(', ')}.`);
  }
  const { columns = null, on_error: onError = 'stop' } = options;
  if (columns !== null && !Array.isArray(columns)) throw badRequest('columns must be a list of feature names.');
  if (!['stop', 'request', 'row'].includes(onError)) {
    throw badRequest('on_error must be "stop" (or "request", which means the same) or "row".');
  }
  for (const name of /** @type {const} */ (['explain', 'detail'])) {
    const { [name]: wanted = false } = options;
    if (typeof wanted !== 'boolean') throw badRequest(`${name} must be true or false.`);
  }
}

/** Return the predictions of all rows, with each bad row's error in its place. @param {any[]} good @param {number[]} kept @param {import('./lib/refusal.js').Problem[]} problems @param {number} rows */
function placed(good, kept, problems, rows) {
  const all = new Array(rows);
  kept.forEach((row, place) => { all[row] = good[place]; });
  /** @type {Map<number, import('./lib/refusal.js').Problem[]>} */
  const faults = new Map();
  for (const problem of problems) {
    const row = /** @type {number} */ (problem.row);
    faults.set(row, [...(faults.get(row) ?? []), problem]);
  }
  for (const [row, details] of faults) all[row] = { error: { code: 'invalid_row', message: sentenceOf(details), details } };
  return all;
}

/** @param {{dtype: string, bytes: Uint8Array}} stored @param {number} place */
function numberAt({ dtype, bytes }, place) {
  return dtype === 'bool' ? bytes[place] : new DataView(bytes.buffer, bytes.byteOffset).getFloat32(4 * place, true);
}

/** @param {number} value @param {number} stored */
const isNear = (value, stored) => Math.abs(value - stored) <= TOLERANCE + TOLERANCE * Math.abs(stored);

/** Return the module onnxruntime-web. @returns {Promise<any>} */
async function engine() {
  return import(/** @type {string} */ ('onnxruntime-web/wasm')).catch((error) => {
    throw new Refusal('no_engine', `onnxruntime-web cannot be loaded (${error.message}): install it, or give it as the option ort.`);
  });
}

/** @param {unknown} source @returns {source is string | URL} */
const isAddress = (source) => typeof source === 'string' || source instanceof URL;

/** Return the address of a folder, which ends in a slash. @param {string | URL} address */
function folder(address) {
  const base = globalThis.document?.baseURI;
  const url = new URL(address, base);
  if (!url.pathname.endsWith('/')) url.pathname += '/';
  return url;
}

/** Return what reads a file of the folder. @param {URL} base @param {typeof fetch} get */
function reader(base, get) {
  return async (/** @type {string} */ name) => {
    const url = new URL(name, base);
    url.search = base.search; // a signed address has its signature there
    if (url.protocol === 'file:') {
      const { readFile } = await import(/* webpackIgnore: true */ 'node:fs/promises');
      return new Uint8Array(await readFile(url).catch((error) => { throw badBundle(`${name} cannot be read: ${error.message}`); }));
    }
    const response = await get(url);
    if (!response.ok) throw badBundle(`${name} cannot be fetched from ${url.origin}${url.pathname}: status ${response.status}`);
    return new Uint8Array(await response.arrayBuffer());
  };
}

/** @param {Record<string, Uint8Array | ArrayBuffer>} files @param {string} name */
function given(files, name) {
  if (!Object.hasOwn(files, name)) throw badBundle(`${name} is not among the files`);
  const bytes = files[name];
  return bytes instanceof ArrayBuffer ? new Uint8Array(bytes) : bytes;
}
