// @ts-check
/** The graph's outputs to predictions: labels, probabilities, values, and what a caller asks for besides. */

import { badRequest } from './refusal.js';

/** @typedef {import('../index.d.ts').Manifest} Manifest */
/** @typedef {import('../index.d.ts').Outputs} Outputs */
/** @typedef {import('./encoder.js').Arrays} Arrays */

const SLACK = 1e-9; // so that a requested 0.9 equals a stored 0.9, however each was computed
const FLOAT32_DIGITS = 9; // enough for every float32

/** Return a class as text, as the keys of probabilities write it. @param {string | number | boolean} label */
export const classText = (label) => String(label);

/**
 * Return the Number whose own digits are the shortest that read back to the float32 `value`: 0.1, not 0.10000000149011612.
 * It is null where the value is not finite, as JSON has it.
 * @param {number} value
 */
export function shortest(value) {
  if (!Number.isFinite(value)) return null;
  if (value === 0) return value; // of either sign
  for (let digits = 1; digits < FLOAT32_DIGITS; digits += 1) {
    const nearest = Number(value.toPrecision(digits));
    if (Math.fround(nearest) === value) return nearest;
    // Below a power of two float32 numbers lie twice as dense: there the nearest decimal may fail, and the next above not.
    const [mantissa, exponent] = value.toExponential(digits - 1).split('e');
    const step = (value < 0 ? -1 : 1) * 10 ** (1 - digits);
    const next = Number(`${(Number(mantissa) + step).toFixed(digits - 1)}e${exponent}`);
    if (Math.fround(next) === value) return next;
  }
  return Number(value.toPrecision(FLOAT32_DIGITS));
}

/** The manifest, arranged for naming outputs. */
export class Answers {
  /** @param {Manifest} manifest */
  constructor(manifest) {
    this.manifest = manifest;
    this.labels = manifest.signature.classes ?? null;
    this.targets = manifest.signature.targets ?? null;
    /** The thresholds of each target, in their order. @type {import('../index.d.ts').Uncertainty[]} */
    this.uncertainties = manifest.uncertainties ?? (manifest.uncertainty ? [manifest.uncertainty] : []);
    this.keys = (this.labels ?? []).map(classText);
  }

  /** Return one prediction for each row. @param {Outputs} outputs @param {number} rows */
  name(outputs, rows) {
    return Array.from({ length: rows }, (_, row) => this._prediction(outputs, row));
  }

  /** @param {Outputs} outputs @param {number} row @returns {Record<string, unknown>} */
  _prediction(outputs, row) {
    const { labels } = this;
    if (this.targets !== null) return { values: this._byTarget([...rowOf(outputs.value, row)].map(shortest)) };
    if (labels === null) {
      const { quantiles } = this.manifest;
      const value = { value: shortest(outputs.value.data[row]) };
      if (!quantiles) return value;
      const numbers = rowOf(outputs.quantiles, row);
      return { ...value, quantiles: Object.fromEntries(quantiles.map((level, place) => [String(level), shortest(numbers[place])])) };
    }
    const probabilities = rowOf(outputs.probabilities, row);
    return {
      label: labels[this._placeOf(probabilities)],
      probabilities: Object.fromEntries(this.keys.map((key, place) => [key, shortest(probabilities[place])])),
    };
  }

  /** Return the columns that are explained: that of a row's label, or of each value. @param {Outputs} outputs @param {number} row */
  columns(outputs, row) {
    if (this.labels !== null) return [this._placeOf(rowOf(outputs.probabilities, row))];
    return (this.targets ?? ['']).map((_, place) => place);
  }

  /** Add the explanation, or that of each target. @param {Record<string, unknown>} prediction @param {unknown[]} explanations */
  addExplanations(prediction, explanations) {
    if (this.targets === null) [prediction.explanation] = explanations;
    else prediction.explanations = this._byTarget(explanations);
  }

  /** @param {unknown[]} values of all targets, in their order */
  _byTarget(values) {
    return Object.fromEntries((this.targets ?? []).map((target, place) => [target, values[place]]));
  }

  /** Return the place of the label: by the bundle's threshold, or the most probable class. @param {Float32Array | Uint8Array} probabilities */
  _placeOf(probabilities) {
    const decision = this.manifest.decision ?? null;
    return decision === null ? winner(probabilities) : Number(probabilities[1] >= decision.threshold);
  }

  /** Return the place of the least stored coverage that is at least `coverage`. @param {unknown} coverage */
  level(coverage) {
    const [uncertainty = null] = this.uncertainties;
    if (uncertainty === null) {
      throw badRequest('coverage is not available: the model was trained without the rows that measure it.');
    }
    if (typeof coverage !== 'number') throw badRequest('coverage must be a number, such as 0.9.');
    const { coverages, calibration_rows: rows } = uncertainty;
    const place = coverages.findIndex((stored) => stored >= coverage - SLACK);
    if (!(coverage > 0 && coverage < 1) || place < 0) {
      const most = Number(coverages[coverages.length - 1].toPrecision(6));
      throw badRequest(`coverage must be above 0 and at most ${most}, the most that ${rows} calibration rows can support.`);
    }
    return place;
  }

  /** Add `set`, `interval` or `intervals`, and the coverage that it is made for. @param {Record<string, unknown>[]} predictions @param {Outputs} outputs @param {number} level */
  addUncertainty(predictions, outputs, level) {
    const [{ coverages, thresholds }] = this.uncertainties;
    predictions.forEach((prediction, row) => {
      if (this.labels === null) {
        const intervals = [...rowOf(outputs.value, row)].map((value, place) => interval(this.uncertainties[place], value, level));
        if (this.targets === null) [prediction.interval] = intervals;
        else prediction.intervals = this._byTarget(intervals);
      } else {
        const probabilities = rowOf(outputs.probabilities, row);
        const best = winner(probabilities);
        prediction.set = this.labels.filter((_, place) => place === best || 1 - probabilities[place] <= thresholds[0][level]);
      }
      prediction.coverage = coverages[level];
    });
  }

  /** Add which values training did not have and, of exact models, whether a hidden value was clipped. @param {Record<string, unknown>[]} predictions @param {Outputs} outputs @param {Arrays} arrays */
  addDetail(predictions, outputs, arrays) {
    const { inputs } = this.manifest.signature;
    const numeric = inputs.filter((feature) => feature.kind !== 'categorical');
    const categorical = inputs.filter((feature) => feature.kind === 'categorical');
    predictions.forEach((prediction, row) => {
      prediction.unseen = categorical
        .filter(({ categories }, place) => codeAt(arrays, row * categorical.length + place) === (categories ?? []).length + 1)
        .map((feature) => feature.name);
      prediction.out_of_range = numeric
        .filter(({ range }, place) => isOutside(range, numberAt(arrays, row * numeric.length + place)))
        .map((feature) => feature.name);
      if (outputs.saturated) prediction.saturated = outputs.saturated.data[row] === 1;
    });
  }
}

/** @param {import('../index.d.ts').Uncertainty} uncertainty @param {number} value @param {number} level */
function interval({ edges, thresholds }, value, level) {
  const half = thresholds[edges.filter((edge) => edge <= value).length][level];
  return [value - half, value + half].map((bound) => shortest(Math.fround(bound)));
}

/** @param {Arrays} arrays @param {number} place */
const codeAt = (arrays, place) => Number(/** @type {BigInt64Array} */ (arrays.categorical)[place]);

/** @param {Arrays} arrays @param {number} place */
const numberAt = (arrays, place) => /** @type {Float64Array} */ (arrays.numeric)[place];

/** @param {[number, number] | null | undefined} range @param {number} value NaN where it is missing */
const isOutside = (range, value) => range != null && (value < range[0] || value > range[1]);

/** @param {import('../index.d.ts').Output} output @param {number} row */
function rowOf({ data, dims }, row) {
  return data.subarray(row * dims[1], (row + 1) * dims[1]);
}

/** Return the place of the greatest number, the first of equal ones. @param {Float32Array | Uint8Array} values */
function winner(values) {
  let best = 0;
  for (let place = 1; place < values.length; place += 1) if (values[place] > values[best]) best = place;
  return best;
}
