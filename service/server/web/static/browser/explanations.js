// @ts-check
/**
 * What each feature adds to a row's score: Shapley values of the graph itself, against the typical row.
 *
 * Mixed rows, with some values of the row and some of the typical row, run like any other rows. Up to 8 features all of them run; above that
 * those along 16 fixed random orders and their reverses. Sums run in the order of the service's, so that their bits are the service's.
 */

import { badBundle } from './lib/refusal.js';
import { InvalidValue } from './lib/values.js';

/** @typedef {import('./index.d.ts').Manifest} Manifest */
/** @typedef {import('./index.d.ts').Outputs} Outputs */
/** @typedef {import('./lib/encoder.js').Arrays} Arrays */
/** @typedef {import('./lib/encoder.js').Encoder} Encoder */
/**
 * Which mixed rows run, and how their scores combine. A mask has true where the row's own value stands; the first has none, the last all.
 * A step [from, to] of an estimate is one feature's: the score of mixed row `to` less that of `from`, times the weight at the same place.
 * @typedef {{masks: boolean[][], steps: [number, number][][], weights: number[][], isExact: boolean}} Plan
 */

const EXACT_FEATURES = 8; // 2^8 runs of a row
const ORDER_PAIRS = 16;
const WORD = (1n << 64n) - 1n;
const STATE = (1n << 128n) - 1n;

/** Explains rows of one model. */
export class Explainer {
  /** @param {Manifest} manifest @param {Encoder} encoder */
  constructor(manifest, encoder) {
    this.names = encoder.names;
    this.output = manifest.signature.classes ? 'scores' : 'value';
    this.isCode = encoder.readers.map((reader) => reader.isCode);
    this.typical = encoder.readers.map(typicalOf);
    /** @type {Plan | null} */
    this.plan = null; // made for the first row that is explained
  }

  /**
   * Return the explanations of one row's scores in these columns of the output.
   * @param {Arrays} arrays @param {number} row @param {number[]} columns
   * @param {(arrays: Arrays) => Promise<Outputs>} run
   */
  async explain(arrays, row, columns, run) {
    this.plan ??= planOf(this.names.length);
    const { plan } = this;
    const { [this.output]: { data, dims } } = await run(this._mixed(plan, arrays, row));
    const scoresOf = (/** @type {number} */ place) => data.subarray(place * dims[1], (place + 1) * dims[1]);
    return columns.map((column) =>
      this._explanation(plan, plan.masks.map((_, place) => (this.output === 'value' ? scoresOf(place)[column] : centred(scoresOf(place), column)))));
  }

  /** @param {Plan} plan @param {number[]} scores of the mixed rows */
  _explanation(plan, scores) {
    const { values, errors } = reduce(plan, scores);
    return {
      score: finite(scores[scores.length - 1]),
      baseline: finite(scores[0]),
      contributions: Object.fromEntries(this.names.map((name, place) => [name, finite(values[place])])),
      standard_errors: Object.fromEntries(this.names.map((name, place) => [name, finite(errors[place])])),
    };
  }

  /** Return the mixed rows of one row. @param {Plan} plan @param {Arrays} arrays @param {number} row @returns {Arrays} */
  _mixed({ masks }, arrays, row) {
    /** @type {(of: boolean) => number[]} */
    const places = (of) => this.isCode.flatMap((isCode, place) => (isCode === of ? [place] : []));
    /** @type {(values: Float64Array | BigInt64Array | null, of: boolean) => any} */
    const mix = (values, of) => {
      const own = places(of);
      return masks.flatMap((mask) => own.map((place, at) => (mask[place] ? Number(values?.[row * own.length + at]) : this.typical[place])));
    };
    return {
      numeric: arrays.numeric && Float64Array.from(mix(arrays.numeric, false)),
      categorical: arrays.categorical && BigInt64Array.from(mix(arrays.categorical, true), BigInt),
      rows: masks.length,
    };
  }
}

/** Return the number of a feature's typical value, or of the middle of its range. @param {import('./lib/values.js').ValueReader} reader */
function typicalOf(reader) {
  const { name, typical = null, range = null } = reader.feature;
  if (typical === null) return reader.isCode || range === null ? 0 : range[0] / 2 + range[1] / 2;
  try {
    return reader.number(typical);
  } catch (error) {
    if (!(error instanceof InvalidValue)) throw error;
    throw badBundle(`bundle.json has a typical value of '${name}' that the feature refuses: ${error.message}`);
  }
}

/** Return the plan for rows of `features` features. @param {number} features */
export const planOf = (features) => (features <= EXACT_FEATURES ? allSets(features) : someOrders(features));

/** Return each feature's contribution and its standard error. @param {Plan} plan @param {number[]} scores of the mixed rows */
export function reduce({ steps, weights, isExact }, scores) {
  const marginal = steps.map((estimate) => estimate.map(([from, to]) => scores[to] - scores[from]));
  const values = weights[0].map(() => 0);
  marginal.forEach((estimate, number) => estimate.forEach((step, place) => { values[place] += step * weights[number][place]; }));
  const errors = values.map((mean, place) => {
    if (isExact) return 0;
    let sum = 0;
    for (let pair = 0; pair < ORDER_PAIRS; pair += 1) {
      const deviation = (marginal[2 * pair][place] + marginal[2 * pair + 1][place]) / 2 - mean;
      sum += deviation * deviation;
    }
    return Math.sqrt(sum / (ORDER_PAIRS * (ORDER_PAIRS - 1)));
  });
  return { values, errors };
}

/** Return a class's score less the mean over classes. @param {Float32Array | Uint8Array} scores of one row @param {number} column */
function centred(scores, column) {
  let total = 0;
  for (const score of scores) total += score;
  return scores[column] - total / scores.length;
}

/** Return the plan that runs every set of features; set number s holds feature i where bit i is 1. @param {number} features @returns {Plan} */
function allSets(features) {
  const sets = Array.from({ length: 2 ** features }, (_, set) => set);
  const masks = sets.map((set) => Array.from({ length: features }, (_, place) => ((set >> place) & 1) === 1));
  const bySize = Array.from({ length: features }, (_, size) => (factorial(size) * factorial(features - size - 1)) / factorial(features));
  const without = Array.from({ length: features }, (_, place) => sets.filter((set) => !masks[set][place]));
  const estimates = without[0].map((_, number) => without.map((those) => those[number]));
  return {
    masks,
    steps: estimates.map((those) => those.map((set, place) => [set, set | (1 << place)])),
    weights: estimates.map((those) => those.map((set) => bySize[masks[set].filter(Boolean).length])),
    isExact: true,
  };
}

/** @param {number} number @returns {number} */
const factorial = (number) => (number < 2 ? 1 : number * factorial(number - 1));

/** Return the plan that replaces the features one after another, in fixed orders. @param {number} features @returns {Plan} */
function someOrders(features) {
  const draw = generator();
  const orders = Array.from({ length: ORDER_PAIRS }, () => permutation(features, draw)).flatMap((order) => [order, [...order].reverse()]);
  const last = 1 + orders.length * (features - 1); // every order ends in the row itself: one run serves them all
  const masks = [new Array(features).fill(false)];
  const steps = orders.map((order, number) => {
    const first = 1 + number * (features - 1);
    /** @type {[number, number][]} */
    const those = new Array(features);
    order.forEach((place, at) => {
      those[place] = [at === 0 ? 0 : first + at - 1, at === features - 1 ? last : first + at];
      if (at > 0) masks.push(maskOf(order.slice(0, at), features));
    });
    return those;
  });
  masks.push(new Array(features).fill(true));
  return { masks, steps, weights: orders.map(() => new Array(features).fill(1 / orders.length)), isExact: false };
}

/** @param {number[]} places @param {number} features */
function maskOf(places, features) {
  const mask = new Array(features).fill(false);
  for (const place of places) mask[place] = true;
  return mask;
}

/**
 * Return a random order of 0 … length − 1 as NumPy's Generator.permutation makes it: Fisher and Yates, with numbers by masks and rejection.
 * @param {number} length @param {() => number} draw
 */
function permutation(length, draw) {
  const order = Array.from({ length }, (_, place) => place);
  for (let place = length - 1; place > 0; place -= 1) {
    const mask = 2 ** (32 - Math.clz32(place)) - 1;
    let other = draw() & mask;
    while (other > place) other = draw() & mask;
    [order[place], order[other]] = [order[other], order[place]];
  }
  return order;
}

/** Return a source of 32-bit numbers: PCG64 as NumPy's default_rng(20261122) has it, each 64 bits as two halves, the lower first. */
function generator() {
  let state = 281776022383248833235790369681545423085n;
  const [increment, factor] = [227545092632529702032305629452684732711n, 0x2360ed051fc65da44385df649fccf645n];
  /** @type {number | null} */
  let upper = null;
  return () => {
    if (upper !== null) {
      const half = upper;
      upper = null;
      return half;
    }
    state = (state * factor + increment) & STATE;
    const [mixed, turn] = [(state >> 64n) ^ (state & WORD), state >> 122n];
    const word = ((mixed >> turn) | (mixed << (64n - turn))) & WORD;
    upper = Number(word >> 32n);
    return Number(word & 0xffffffffn);
  };
}

/** @param {number} value */
const finite = (value) => (Number.isFinite(value) ? value : null);
