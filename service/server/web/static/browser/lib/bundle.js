// @ts-check
/** A bundle's files, read as untrusted input: the seal, the checksums, and the fields of bundle.json and golden.json. */

import { classText } from './answers.js';
import { DateError, dateParser } from './dates.js';
import { parseStrict } from './json.js';
import { badBundle } from './refusal.js';
import { sha256 } from './sha256.js';

/** @typedef {import('../index.d.ts').Manifest} Manifest */
/** @typedef {import('../index.d.ts').Feature} Feature */
/** @typedef {{rows: unknown[][], outputs: Record<string, {dtype: string, shape: number[], bytes: Uint8Array}>}} Golden */
/** @typedef {(value: any) => boolean} Check */

export const NEEDED = ['model.onnx', 'golden.json'];
const LIMITS = new Map([['bundle.json', 2 ** 24], ['golden.json', 2 ** 24], ['reference.json', 2 ** 24], ['model.onnx', 2 ** 29]]);
const SHA256 = /^[0-9a-f]{64}$/;
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/;
const BLANK = '0'.repeat(64);
const BYTES = { float32: 4, bool: 1 };
const GOLDEN_ROWS = [32, 4096];
const VALUE_TYPES = { numeric: ['float', 'integer', 'boolean'], categorical: ['string', 'integer', 'boolean'], date: ['date'] };

const isText = (/** @type {any} */ value) => typeof value === 'string';
const isBoolean = (/** @type {any} */ value) => typeof value === 'boolean';
const isNumber = (/** @type {any} */ value) => typeof value === 'number';
const isCount = (/** @type {any} */ value) => Number.isSafeInteger(value) && value >= 0;
const isObject = (/** @type {any} */ value) => typeof value === 'object' && value !== null && !Array.isArray(value);
const isLabel = (/** @type {any} */ value) => isText(value) || isBoolean(value) || Number.isSafeInteger(value);
const isScalar = (/** @type {any} */ value) => isText(value) || isBoolean(value) || isNumber(value);
const isName = (/** @type {any} */ value) => isText(value) && value.length > 0;
const isLevel = (/** @type {any} */ value) => isNumber(value) && value >= 0.001 && value <= 0.999;
const listOf = (/** @type {Check} */ check) => (/** @type {any} */ value) => Array.isArray(value) && value.every(check);
const oneOf = (/** @type {any[]} */ ...values) => (/** @type {any} */ value) => values.includes(value);
/** Whether a value may be null, and its field absent. @param {Check} check */
const optional = (check) => Object.assign((/** @type {any} */ value) => value === null || check(value), { optional: true });
/** Whether a field may be absent, but not null. @param {Check} check */
const absent = (check) => Object.assign((/** @type {any} */ value) => check(value), { optional: true });
/** Whether a value is a text of so many code points. @param {any} value @param {number} least @param {number} most */
const isTextOf = (value, least, most) => isText(value) && [...value].length >= least && [...value].length <= most;

const FIELDS = {
  manifest: {
    format: oneOf('batchproof-bundle'),
    format_version: oneOf(1, 2, 3, 4, 5),
    sha256: (/** @type {any} */ value) => SHA256.test(value),
    name: (/** @type {any} */ value) => isText(value) && NAME.test(value),
    version: (/** @type {any} */ value) => isCount(value) && value > 0,
    task: oneOf('binary', 'multiclass', 'regression'),
    signature: isObject,
    arithmetic: isObject,
    files: isObject,
    metrics: isObject,
    provenance: isObject,
    uncertainty: optional(isObject),
    decision: optional(isObject),
    quantiles: optional((value) => listOf(isLevel)(value) && value.length > 0 && value.length <= 19 && ascends(value)),
    uncertainties: optional(listOf(isObject)),
  },
  signature: {
    inputs: listOf(isObject),
    target: optional(isText),
    targets: optional((value) => listOf(isName)(value) && value.length > 1 && value.length <= 100 && new Set(value).size === value.length),
    classes: optional(listOf(isLabel)),
    ignored: optional(listOf(isText)),
  },
  arithmetic: { kind: oneOf('float32', 'exact'), certificate: optional(isObject), accuracy: optional(isObject) },
  file: { sha256: (/** @type {any} */ value) => SHA256.test(value), bytes: isCount },
  feature: {
    name: (/** @type {any} */ value) => isText(value) && value.length > 0,
    kind: oneOf('numeric', 'categorical', 'date'),
    value_type: isText,
    missing: isBoolean,
    range: optional((value) => listOf(isNumber)(value) && value.length === 2 && value[0] <= value[1]),
    categories: optional(listOf(isText)),
    typical: optional(isScalar),
    text_rule: optional(isObject),
  },
  rule: {
    missing: absent(listOf((value) => isTextOf(value, 0, 1000))),
    usual_missing: absent(isBoolean),
    strip: absent(isBoolean),
    decimal: absent(oneOf('.', ',')),
    thousands: absent(oneOf('', ',', '.', ' ', "'", '_')),
    affixes: absent(listOf((value) => isTextOf(value, 1, 100))),
    date_format: optional((value) => isTextOf(value, 1, 100)),
  },
  decision: { threshold: (/** @type {any} */ value) => isNumber(value) && value > 0 && value < 1, rule: isText, rows: optional(isCount) },
  uncertainty: {
    method: oneOf('split-conformal'),
    calibration_rows: isCount,
    coverages: (/** @type {any} */ value) => listOf(isNumber)(value) && value.length > 0 && ascends(value),
    edges: (/** @type {any} */ value) => listOf(isNumber)(value) && ascends(value),
    thresholds: listOf(listOf(isNumber)),
    tested: isObject,
  },
};

/**
 * Return the manifest of the bytes of bundle.json.
 * @param {Uint8Array} bytes
 * @returns {Promise<Manifest>}
 */
export async function readManifest(bytes) {
  checkSize('bundle.json', bytes);
  const content = parseStrict(bytes, 'bundle.json');
  checkFields(content, FIELDS.manifest, '');
  await checkSeal(bytes, content.sha256);
  checkFields(content.signature, FIELDS.signature, 'signature.');
  checkFields(content.arithmetic, FIELDS.arithmetic, 'arithmetic.');
  for (const [name, entry] of Object.entries(content.files)) checkFields(entry, FIELDS.file, `files.${name}.`);
  for (const name of NEEDED) if (!Object.hasOwn(content.files, name)) throw badBundle(`bundle.json lists no ${name}`);
  content.signature.inputs.forEach((/** @type {any} */ feature, /** @type {number} */ place) => {
    checkFeature(feature, `signature.inputs.${place}.`);
  });
  checkSignature(content);
  if (content.uncertainty ?? null) checkUncertainty(content.uncertainty, 'uncertainty');
  checkTargets(content);
  if (content.decision ?? null) checkDecision(content);
  if ((content.quantiles ?? null) && (content.task !== 'regression' || content.format_version < 4)) {
    throw badBundle('bundle.json quantiles are of regression bundles, of format_version 4 or later');
  }
  return content;
}

/** Refuse a file that is not the one that bundle.json lists. @param {Manifest} manifest @param {string} name @param {Uint8Array} bytes */
export async function checkFile(manifest, name, bytes) {
  checkSize(name, bytes);
  const entry = Object.hasOwn(manifest.files, name) ? manifest.files[name] : null;
  if (entry === null) throw badBundle(`${name} is not listed in bundle.json`);
  if (bytes.length !== entry.bytes) throw badBundle(`${name} has ${bytes.length} bytes, but bundle.json lists ${entry.bytes}`);
  const found = await sha256(bytes);
  if (found !== entry.sha256) throw badBundle(`${name} has SHA-256 ${found}, but bundle.json lists ${entry.sha256}`);
}

/** Return the names, types and widths of the graph's outputs. @param {Manifest} manifest */
export function outputsOf({ signature, arithmetic, quantiles }) {
  const targets = signature.targets?.length ?? 1;
  const width = signature.classes?.length ?? 0;
  const values = [['value', 'float32', targets], ...(quantiles ? [['quantiles', 'float32', quantiles.length]] : [])];
  const numbers = width ? [['probabilities', 'float32', width], ['scores', 'float32', width]] : values;
  const saturated = arithmetic.kind === 'exact' ? [['saturated', 'bool', 1]] : [];
  return /** @type {[string, 'float32' | 'bool', number][]} */ ([...numbers, ...saturated]);
}

/** Return the golden rows and their outputs as bytes. @param {Uint8Array} bytes of golden.json @param {Manifest} manifest @returns {Golden} */
export function readGolden(bytes, manifest) {
  const content = parseStrict(bytes, 'golden.json');
  const width = manifest.signature.inputs.length;
  if (!isObject(content) || Object.keys(content).sort().join() !== 'outputs,rows') {
    throw badBundle('golden.json must be an object with exactly the fields rows and outputs');
  }
  const { rows, outputs } = content;
  if (!Array.isArray(rows) || rows.length < GOLDEN_ROWS[0] || rows.length > GOLDEN_ROWS[1]) {
    throw badBundle(`golden.json rows must be a list of ${GOLDEN_ROWS[0]} to ${GOLDEN_ROWS[1]} rows`);
  }
  rows.forEach((row, number) => {
    if (!Array.isArray(row) || row.length !== width) throw badBundle(`golden.json row ${number} must be a list of ${width} values`);
  });
  const wanted = outputsOf(manifest);
  if (!isObject(outputs) || Object.keys(outputs).sort().join() !== wanted.map(([name]) => name).sort().join()) {
    throw badBundle(`golden.json outputs must be exactly ${wanted.map(([name]) => name).join(', ')}`);
  }
  const stored = wanted.map(([name, dtype, columns]) => [name, storedOutput(outputs[name], name, dtype, [rows.length, columns])]);
  return { rows, outputs: Object.fromEntries(stored) };
}

/** @param {any} stored @param {string} name @param {'float32' | 'bool'} dtype @param {number[]} shape */
function storedOutput(stored, name, dtype, shape) {
  const field = `golden.json outputs.${name}`;
  if (!isObject(stored) || Object.keys(stored).sort().join() !== 'dtype,hex,shape') {
    throw badBundle(`${field} must be an object with exactly the fields dtype, shape and hex`);
  }
  if (stored.dtype !== dtype || String(stored.shape) !== String(shape)) {
    throw badBundle(`${field} must have dtype ${dtype} and shape [${shape.join(', ')}]`);
  }
  const length = shape[0] * shape[1] * BYTES[dtype];
  if (!isText(stored.hex) || stored.hex.length !== 2 * length || !/^[0-9a-f]*$/i.test(stored.hex)) {
    throw badBundle(`${field}.hex must be ${shape[0] * shape[1]} values of ${BYTES[dtype]} bytes as hex digits`);
  }
  const bytes = Uint8Array.from({ length }, (_, place) => parseInt(stored.hex.substr(2 * place, 2), 16));
  return { dtype, shape, bytes };
}

/** Refuse fields that are missing, unknown or of another type. @param {any} content @param {Record<string, Check & {optional?: boolean}>} fields @param {string} prefix */
function checkFields(content, fields, prefix) {
  if (!isObject(content)) throw badBundle(`bundle.json ${prefix.slice(0, -1) || 'content'} must be an object`);
  for (const name of Object.keys(content)) {
    if (!Object.hasOwn(fields, name)) throw badBundle(`bundle.json has an unknown field ${prefix}${name.slice(0, 80)}`);
  }
  for (const [name, check] of Object.entries(fields)) {
    if (!Object.hasOwn(content, name) && check.optional) continue;
    if (!Object.hasOwn(content, name)) throw badBundle(`bundle.json lacks the field ${prefix}${name}`);
    if (!check(content[name])) throw badBundle(`bundle.json ${prefix}${name} is not what the format allows`);
  }
}

/** @param {Uint8Array} bytes of bundle.json @param {string} digest that it states */
async function checkSeal(bytes, digest) {
  const blanked = bytes.slice();
  const sign = digest.charCodeAt(0);
  const places = [];
  for (let at = bytes.indexOf(sign); at >= 0; at = bytes.indexOf(sign, at + 1)) {
    if (String.fromCharCode(...bytes.subarray(at, at + 64)) === digest) places.push(at);
  }
  for (const at of places) blanked.set(new TextEncoder().encode(BLANK), at);
  if (places.length !== 1 || (await sha256(blanked)) !== digest) {
    throw badBundle('bundle.json was changed since it was sealed: its SHA-256 is not the one that it states');
  }
}

/** @param {any} feature @param {string} field */
function checkFeature(feature, field) {
  checkFields(feature, FIELDS.feature, field);
  const { kind, value_type: type, categories = null, range = null, text_rule: rule = null } = feature;
  const types = VALUE_TYPES[/** @type {keyof typeof VALUE_TYPES} */ (kind)];
  if (!types.includes(type)) throw badBundle(`bundle.json ${field}value_type: a ${kind} feature cannot have value_type ${type}`);
  if ((categories !== null) !== (kind === 'categorical')) {
    throw badBundle(`bundle.json ${field}categories are given for categorical features and for no others`);
  }
  if (categories !== null && new Set(categories).size !== categories.length) throw badBundle(`bundle.json ${field}categories repeat`);
  if (range !== null && kind === 'categorical') throw badBundle(`bundle.json ${field}range is of numeric and date features`);
  if (rule === null) return;
  checkFields(rule, FIELDS.rule, `${field}text_rule.`);
  if ((rule.thousands ?? '') === (rule.decimal ?? '.')) throw badBundle(`bundle.json ${field}text_rule: decimal and thousands are the same sign`);
  try {
    if (rule.date_format) dateParser(rule.date_format);
  } catch (error) {
    if (error instanceof DateError) throw badBundle(`bundle.json ${field}text_rule.date_format: ${error.message}`);
    throw error;
  }
}

/** @param {any} content of bundle.json */
function checkSignature({ task, signature: { inputs, classes = null } }) {
  const names = inputs.map((/** @type {Feature} */ feature) => feature.name);
  if (!names.length) throw badBundle('bundle.json signature.inputs must not be empty');
  if (new Set(names).size !== names.length) throw badBundle('bundle.json signature.inputs: feature names repeat');
  const count = classes?.length ?? 0;
  if (new Set((classes ?? []).map(classText)).size !== count) throw badBundle('bundle.json signature.classes repeat');
  const fits = { binary: count === 2, multiclass: count >= 3, regression: classes === null };
  if (!fits[/** @type {keyof typeof fits} */ (task)]) {
    throw badBundle(`bundle.json signature.classes has ${count} classes, which does not fit a ${task} task`);
  }
}

/** @param {any} content of bundle.json */
function checkTargets({ task, format_version: version, signature, quantiles = null, uncertainty = null, uncertainties = null }) {
  const targets = signature.targets ?? null;
  if ((targets === null) === ((signature.target ?? null) === null)) {
    throw badBundle('bundle.json signature: there is either a target or a list of targets');
  }
  if (targets === null && uncertainties === null) return;
  if (targets === null) throw badBundle('bundle.json uncertainties are of bundles with several targets');
  if (task !== 'regression' || version < 5) {
    throw badBundle('bundle.json signature.targets: several targets are of regression bundles, of format_version 5 or later');
  }
  if (quantiles !== null || uncertainty !== null) throw badBundle('bundle.json quantiles and uncertainty are of bundles with one target');
  if (uncertainties === null) return;
  if (uncertainties.length !== targets.length) {
    throw badBundle(`bundle.json uncertainties has ${uncertainties.length} entries for ${targets.length} targets`);
  }
  uncertainties.forEach((/** @type {any} */ one, /** @type {number} */ place) => checkUncertainty(one, `uncertainties.${place}`));
  if (uncertainties.some((/** @type {any} */ one) => String(one.coverages) !== String(uncertainties[0].coverages))) {
    throw badBundle('bundle.json uncertainties: all have the same coverages');
  }
}

/** @param {any} content @param {string} field */
function checkUncertainty(content, field) {
  checkFields(content, FIELDS.uncertainty, `${field}.`);
  const { coverages, edges, thresholds } = content;
  const isWhole = thresholds.every((/** @type {number[]} */ bin) => bin.length === coverages.length);
  if (thresholds.length !== edges.length + 1 || !isWhole) {
    throw badBundle(`bundle.json ${field}.thresholds must have one list for each bin, with one threshold for each coverage`);
  }
}

/** @param {any} content */
function checkDecision({ task, format_version: version, decision }) {
  checkFields(decision, FIELDS.decision, 'decision.');
  if (task !== 'binary' || version < 3) throw badBundle('bundle.json decision is of binary bundles, of format_version 3 or later');
}

/** @param {string} name @param {Uint8Array} bytes */
function checkSize(name, bytes) {
  const limit = LIMITS.get(name) ?? 2 ** 31;
  if (bytes.length > limit) throw badBundle(`${name} has ${bytes.length} bytes; at most ${limit} are read`);
}

/** @param {number[]} values */
const ascends = (values) => values.every((value, place) => place === 0 || values[place - 1] < value);
