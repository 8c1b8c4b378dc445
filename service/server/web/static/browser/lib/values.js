// @ts-check
/** One JSON value to one number: the types that a feature accepts, missing values, categories as text. */

import { DateError, dateParser, epochSeconds } from './dates.js';
import { cellReader, hasComma, parseNumber, ruleOf, stripped } from './texts.js';

/** @typedef {import('../index.d.ts').Feature} Feature */

/** @type {Record<string, string>} */
const WANTED = {
  float: 'a number',
  integer: 'a number',
  boolean: 'true, false, 1 or 0',
  string: 'a string',
  date: 'an ISO 8601 date such as 2024-02-29 or 2024-02-29T12:30:00Z',
};
const NOT_FINITE = 'expected a finite number within float64';
const VALUE_CHARACTERS = 40; // of a number that a sentence repeats

/** A value that the feature does not accept; the message says what it accepts. */
export class InvalidValue extends Error {}

/** Reads the values of one feature; made once for each feature. */
export class ValueReader {
  /** @param {Feature} feature */
  constructor(feature) {
    this.feature = feature;
    this.isCode = feature.kind === 'categorical';
    this.codes = new Map((feature.categories ?? []).map((category, code) => [category, code]));
    this.missingCode = this.codes.size;
    this.unseenCode = this.codes.size + 1;
    this.hasRule = feature.text_rule !== undefined && feature.text_rule !== null;
    this.rule = ruleOf(feature);
    this.missingTexts = new Set(this.rule.missing);
    this.cell = cellReader(feature);
    this.parseDate = this.rule.date_format === null ? null : dateParser(this.rule.date_format);
    const numbers = this.rule.missing.map((text) => this._missingNumber(stripped(text)));
    this.missingNumbers = new Set(numbers.filter((number) => number !== null));
  }

  /**
   * Return float64, epoch seconds or a category code; NaN is a missing number.
   * @param {unknown} value as JSON has it; NaN and undefined are null, a Date its text, a bigint a whole number
   * @throws {InvalidValue}
   */
  number(value) {
    const json = this._byRule(asJson(value));
    if (json === null) return this._missing();
    if (this.isCode) return this.codes.get(this._categoryText(json)) ?? this.unseenCode;
    return this.feature.kind === 'date' ? this._seconds(json) : this._finite(json);
  }

  /** @param {unknown} value */
  _finite(value) {
    const { value_type: type } = this.feature;
    if (typeof value === 'boolean' && type !== 'boolean') throw new InvalidValue(this._wanted(value));
    if (typeof value === 'string' && hasComma(value)) {
      throw new InvalidValue(`expected ${WANTED[type]}, got a number with a comma: write 3.14 for 3,14, 1234 for 1,234`);
    }
    if (value === 'inf' || value === '-inf') throw new InvalidValue(NOT_FINITE);
    if (!['number', 'bigint', 'boolean'].includes(typeof value)) throw new InvalidValue(this._wanted(value));
    const number = Number(value);
    if (!Number.isFinite(number)) throw new InvalidValue(NOT_FINITE);
    if (type === 'boolean' && number !== 0 && number !== 1) {
      throw new InvalidValue(`expected ${WANTED.boolean}, got the number ${numberText(value).slice(0, VALUE_CHARACTERS)}`);
    }
    return number;
  }

  /** Return a category as bundle.json lists it: `a`, `3`, `true`. @param {unknown} value */
  _categoryText(value) {
    const { value_type: type } = this.feature;
    if (type === 'string' && typeof value === 'string') return value;
    const isNumber = typeof value === 'number' || typeof value === 'bigint';
    if (type === 'boolean' && (typeof value === 'boolean' || (isNumber && (Number(value) === 0 || Number(value) === 1)))) {
      return Number(value) === 1 ? 'true' : 'false';
    }
    if (type === 'integer' && isNumber) {
      if (typeof value === 'bigint') return String(value);
      if (!Number.isInteger(value)) throw new InvalidValue('expected a whole number: the numbers are categories');
      if (!Number.isSafeInteger(value) && this._hasLongCategories()) {
        throw new InvalidValue('a Number holds whole numbers up to 2^53 only, and this feature has longer categories: use a BigInt');
      }
      return String(BigInt(value));
    }
    throw new InvalidValue(this._wanted(value));
  }

  _hasLongCategories() {
    return [...this.codes.keys()].some((category) => !Number.isSafeInteger(Number(category)));
  }

  /** @param {unknown} value */
  _seconds(value) {
    if (typeof value !== 'string') throw new InvalidValue(`expected ${WANTED.date}, got ${jsonType(value)}`);
    if (!this.hasRule || this.parseDate === null) {
      try {
        return this._known(epochSeconds(value));
      } catch (error) {
        if (error instanceof DateError) throw new InvalidValue(`expected ${WANTED.date}: ${error.message}`);
        throw error;
      }
    }
    const seconds = this._date(value);
    if (seconds === null) throw new InvalidValue(`expected a date in ISO 8601 or in the format ${this.rule.date_format}`);
    return this._known(seconds);
  }

  /** Return the date's seconds, or what stands for a missing one. @param {number} seconds */
  _known(seconds) {
    return this.missingNumbers.has(seconds) ? this._missing() : seconds;
  }

  /** Return the seconds of a date in ISO 8601 or in the rule's format; null for other texts. @param {string} text */
  _date(text) {
    for (const parse of [epochSeconds, this.parseDate]) {
      try {
        if (parse !== null) return parse(text);
      } catch (error) {
        if (!(error instanceof DateError)) throw error;
      }
    }
    return null;
  }

  /** @param {string} text */
  _missingNumber(text) {
    if (this.feature.kind === 'date') return this._date(text);
    if (!this.isCode) return parseNumber(text, this.rule);
    const number = /^[+-]?[0-9]+$/.test(text) ? BigInt(text.replace('+', '')) : parseNumber(text, this.rule);
    return number === null ? null : exact(number);
  }

  /** Return the JSON value that `value` means by the feature's rule. @param {unknown} value */
  _byRule(value) {
    if (!this.hasRule) return value;
    if (typeof value === 'string' && this.isCode) {
      const text = this.rule.strip ? stripped(value) : value;
      return this.missingTexts.has(text) ? null : text;
    }
    const read = typeof value === 'string' ? this.cell(value) : value;
    const isNumber = (typeof read === 'number' || typeof read === 'bigint') && this.feature.kind !== 'date'; // a date is a text
    return isNumber && this.missingNumbers.has(this.isCode ? exact(read) : Number(read)) ? null : read;
  }

  _missing() {
    if (!this.feature.missing) {
      throw new InvalidValue(`expected ${this._type()}: null is not allowed, because the feature was never missing in training`);
    }
    return this.isCode ? this.missingCode : NaN;
  }

  /** @param {unknown} value */
  _wanted(value) {
    return `expected ${this._type()}, got ${jsonType(value)}`;
  }

  _type() {
    return this.isCode && this.feature.value_type === 'integer' ? 'a whole number' : WANTED[this.feature.value_type];
  }
}

/** Return a value as JSON.stringify would send it, but for infinite numbers, which it would make missing. @param {unknown} value */
function asJson(value) {
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? null : value.toISOString();
  return value === undefined || Number.isNaN(value) ? null : value;
}

/** Return one value for equal numbers: whole numbers of any size are compared exactly. @param {number | bigint} number */
const exact = (number) => (Number.isInteger(number) ? BigInt(number) : number);

/** @param {unknown} value */
function jsonType(value) {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'a list';
  const names = { boolean: 'a boolean', number: 'a number', bigint: 'a number', string: 'a string', object: 'an object' };
  return names[/** @type {keyof names} */ (typeof value)] ?? `a ${typeof value}`;
}

/** Return a number's digits, with an exponent where the service writes one: below 1e-4, and for fractions from 1e16 on. @param {unknown} value */
function numberText(value) {
  const size = Math.abs(Number(value));
  if (typeof value !== 'number' || (size >= 1e-4 && size < 1e16)) return String(value);
  return value.toExponential().replace(/e([+-])(\d)$/, 'e$10$2');
}
