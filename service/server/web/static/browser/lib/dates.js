// @ts-check
/** Dates as texts to seconds since 1970-01-01T00:00:00Z, as float64: ISO 8601, and a format as strptime has it. */

const ISO =
  /^(\d{4})-(\d{2})-(\d{2})(?:[Tt ](\d{2}):(\d{2})(?::(\d{2})(?:[.,](\d{1,9}))?)?(?:([Zz])|([+-])(\d{2}):?(\d{2})?)?)?$/;
const DAY_FIRST = /^[ \t\n\r\f\v]*\d{1,2}([./-])\d{1,2}\1\d{2}(?:\d{2})?(?!\w).*$/;
const DAY_MS = 86_400_000;
const DAY_S = 86_400;
const MONTHS = ['jan', 'feb', 'mar', 'apr', 'may', 'jun', 'jul', 'aug', 'sep', 'oct', 'nov', 'dec'];
const MONTH_NAME = '(?<monthName>(?:jan|feb|mar|apr|may|jun|jul|aug|sept?|oct|nov|dec)[a-z]*\\.?)';
const DAY_NAME = '(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*';
/** @type {Record<string, string>} */
const DIRECTIVES = {
  Y: '(?<year>\\d{4})',
  y: '(?<shortYear>\\d{2})',
  m: '(?<month>\\d{1,2})',
  d: '(?<day>\\d{1,2})',
  b: MONTH_NAME,
  B: MONTH_NAME,
  a: DAY_NAME,
  A: DAY_NAME,
  H: '(?<hour>\\d{1,2})',
  I: '(?<hourOf12>\\d{1,2})',
  M: '(?<minute>\\d{2})',
  S: '(?<second>\\d{2})',
  f: '(?<fraction>\\d{1,9})',
  p: '(?<half>[ap])\\.?m\\.?',
  z: '(?<zone>z|utc|gmt|[+-]\\d{2}:?\\d{2})',
  Z: '(?:z|utc|gmt)',
  '%': '%',
};
const LATEST_2000 = 68; // two digits of a year up to here are of 2000 and later, as POSIX has it

/** A text that is no date; the message is a clause that says why. */
export class DateError extends Error {}

/**
 * Return the instant of an ISO 8601 text; without an offset it is UTC. Digits beyond the microsecond are dropped.
 * @param {string} text
 * @throws {DateError}
 */
export function epochSeconds(text) {
  const match = ISO.exec(text);
  if (match === null) {
    const hint = DAY_FIRST.test(text) ? ', write 2024-02-29 for 29.02.2024 and 2/29/2024' : '';
    throw new DateError(`it is not in that form${hint}`);
  }
  const [year, month, day, hour, minute, second] = match.slice(1, 7).map((digits) => Number(digits ?? 0));
  const offset = clock(Number(match[10] ?? 0), Number(match[11] ?? 0), 0);
  const ahead = match[9] === '-' ? -offset : offset;
  return instant([year, month, day], [hour, minute, second], match[7] ?? '0', ahead);
}

/**
 * Return the function from a text in `format` to seconds since 1970; it throws a DateError for other texts.
 * @param {string} format
 * @returns {(text: string) => number}
 * @throws {DateError} for a format that cannot be used
 */
export function dateParser(format) {
  const pattern = patternOf(format);
  return (text) => {
    const parts = pattern.exec(lower(text))?.groups;
    if (parts === undefined) throw new DateError(`it is neither ISO 8601 nor in the format ${format}`);
    return instant(
      [yearOf(parts), monthOf(parts), Number(parts.day ?? 1)],
      [hourOf(parts), Number(parts.minute ?? 0), Number(parts.second ?? 0)],
      parts.fraction ?? '0',
      offsetOf(parts.zone ?? ''),
    );
  };
}

/** @param {string} format */
function patternOf(format) {
  let source = '';
  const signs = [...format];
  for (let place = 0; place < signs.length; place += 1) {
    if (signs[place] === '%') {
      place += 1;
      if (!Object.hasOwn(DIRECTIVES, signs[place] ?? '')) throw new DateError(`the date format has %${signs[place] ?? ''}`);
      source += DIRECTIVES[signs[place]];
    } else {
      source += signs[place] === ' ' ? '[ \\t\\n\\r\\f\\v]+' : lower(signs[place]).replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&');
    }
  }
  if (!/<year>|<shortYear>/.test(source)) throw new DateError('the date format has no year');
  if (/<day>/.test(source) && !/<month>|<monthName>/.test(source)) throw new DateError('the date format has a day but no month');
  // The pair %y %Y, or any part twice, is no date format: a regular expression with a name twice does not compile.
  try {
    return new RegExp(`^(?:${source})$`);
  } catch {
    throw new DateError('the date format names a part of the date twice');
  }
}

/** Return the text with small letters in place of A to Z: the case of other scripts counts. @param {string} text */
const lower = (text) => text.replace(/[A-Z]/g, (letter) => letter.toLowerCase());

/** @param {Record<string, string>} parts */
function yearOf({ year, shortYear }) {
  if (year) return Number(year);
  return Number(shortYear) + (Number(shortYear) <= LATEST_2000 ? 2000 : 1900);
}

/** @param {Record<string, string>} parts */
function monthOf({ month, monthName }) {
  return monthName ? MONTHS.indexOf(monthName.slice(0, 3)) + 1 : Number(month ?? 1);
}

/** @param {Record<string, string>} parts */
function hourOf({ hour, hourOf12, half }) {
  if (!hourOf12) return Number(hour ?? 0);
  if (Number(hourOf12) < 1 || Number(hourOf12) > 12) throw new DateError('the time of day does not exist');
  return (Number(hourOf12) % 12) + (half === 'p' ? 12 : 0);
}

/** Return how many seconds local time is ahead of UTC. @param {string} zone */
function offsetOf(zone) {
  if (!/^[+-]/.test(zone)) return 0;
  const digits = zone.slice(1).replace(':', '');
  const seconds = clock(Number(digits.slice(0, 2)), Number(digits.slice(2)), 0);
  return zone[0] === '+' ? seconds : -seconds;
}

/**
 * Return float64 seconds since 1970: the nearest to the instant.
 * @param {number[]} date year, month, day
 * @param {number[]} time hour, minute, second
 * @param {string} fraction digits of the second's fraction
 * @param {number} aheadS how far the clock is ahead of UTC
 */
function instant([year, month, day], [hour, minute, second], fraction, aheadS) {
  const midnight = new Date(0);
  midnight.setUTCFullYear(year, month - 1, day);
  if (year < 1) throw new DateError('year 0 is out of range');
  if (month < 1 || month > 12) throw new DateError('month must be in 1..12');
  if (midnight.getUTCMonth() !== month - 1) throw new DateError('day is out of range for month');
  if (midnight.getUTCDate() !== day) throw new DateError('day is out of range for month');
  const seconds = (midnight.getTime() / DAY_MS) * DAY_S + clock(hour, minute, second) - aheadS;
  const ticks = BigInt(seconds) * 1_000_000n + BigInt(fraction.padEnd(6, '0').slice(0, 6)); // microseconds
  const size = ticks < 0n ? -ticks : ticks;
  // A decimal text is rounded once when it is read, whatever its length; a quotient of two float64 might round twice.
  const text = `${size / 1_000_000n}.${String(size % 1_000_000n).padStart(6, '0')}`;
  return ticks < 0n ? -Number(text) : Number(text);
}

/** @param {number} hours @param {number} minutes @param {number} seconds */
function clock(hours, minutes, seconds) {
  if (hours > 23 || minutes > 59 || seconds > 59) throw new DateError('the time of day does not exist');
  return hours * 3600 + minutes * 60 + seconds;
}
