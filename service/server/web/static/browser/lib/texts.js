// @ts-check
/** Texts to values: numbers in decimal and hexadecimal digits, what a rule says of separators and units, and cells of CSV. */

/** @typedef {import('../index.d.ts').Feature} Feature */
/** @typedef {import('../index.d.ts').TextRule} TextRule */

const NUMBER = /^[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?$/;
const HEXADECIMAL = /^([+-]?)0[xX]([0-9a-fA-F]{1,16})$/; // up to 64 bits; longer ones are names, such as checksums
const INFINITY = /^[+-]?inf(?:inity)?$/i;
const NAN = /^[+-]?nan(?:\([^()]*\))?$/i;
const WHOLE = /^[+-]?[0-9]{1,18}$/;
const COMMA = /^[ \t\n\r\f\v]*[+-]?(?:[0-9][0-9.]*)?,[0-9][0-9.,]*(?:[eE][+-]?[0-9]+)?[ \t\n\r\f\v]*$/;
const BLANK = '[\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]+';
const LEADING = new RegExp(`^${BLANK}`);
const TRAILING = new RegExp(`${BLANK}$`);
const BOOLEANS = new Map([['true', true], ['false', false], ['1', true], ['0', false]]);

/** Cells of text tables that are missing values. In JSON, which has null, they are texts. */
export const MISSING = ['', 'NA', 'N/A', 'n/a', 'NaN', 'nan', 'NULL', 'null', 'None', 'none', '#N/A', '?'];

/** @type {TextRule} */
const USUAL = { missing: [], usual_missing: true, strip: false, decimal: '.', thousands: '', affixes: [], date_format: null };

/** Return the text without blanks around it. @param {string} text */
export const stripped = (text) => text.replace(LEADING, '').replace(TRAILING, '');

/** Return whether a text would be a number without the comma in it. @param {string} text */
export const hasComma = (text) => COMMA.test(text);

/** Return a feature's rule with every field. @param {Feature} feature @returns {TextRule} */
export const ruleOf = (feature) => ({ ...USUAL, ...feature.text_rule });

/**
 * Return the number, infinities included, that a text without blanks around it means; null if it is not a number.
 * @param {string} text
 * @param {TextRule} rule
 */
export function parseNumber(text, rule) {
  const number = rule.decimal === '.' ? plainNumber(text) : null;
  if (number !== null || !(rule.affixes.length || rule.thousands || rule.decimal === ',')) return number;
  const bare = withoutAffixes(text, rule.affixes);
  return bare === null ? null : plainNumber(normalNumber(bare, rule));
}

/** @param {string} text */
function plainNumber(text) {
  if (NUMBER.test(text)) return Number(text);
  const hexadecimal = HEXADECIMAL.exec(text);
  if (hexadecimal) return Number((hexadecimal[1] === '-' ? -1n : 1n) * BigInt(`0x${hexadecimal[2]}`)); // -0x0 is 0, not -0
  if (INFINITY.test(text)) return text.startsWith('-') ? -Infinity : Infinity;
  return null;
}

/** Return the number without the affixes around it, its sign first. @param {string} text @param {string[]} affixes */
function withoutAffixes(text, affixes) {
  const sign = /^[+-]/.test(text) ? text[0] : '';
  let rest = sign ? text.slice(1).replace(LEADING, '') : text;
  for (const affix of affixes) {
    if (rest.startsWith(affix)) rest = rest.slice(affix.length);
    rest = rest.replace(LEADING, '');
    if (rest.endsWith(affix)) rest = rest.slice(0, rest.length - affix.length);
    rest = rest.replace(TRAILING, '');
  }
  return sign && /^[+-]/.test(rest) ? null : sign + rest;
}

/** Return the number with a decimal point and without separators, or '' where its groups are wrong. @param {string} text @param {TextRule} rule */
function normalNumber(text, { decimal, thousands }) {
  const point = text.indexOf(decimal);
  let whole = point < 0 ? text : text.slice(0, point);
  const fraction = point < 0 ? '' : text.slice(point + 1);
  if (thousands === ' ') whole = whole.replace(/[\u00a0\u202f]/g, ' ');
  if (thousands && whole.includes(thousands)) {
    const [first, ...groups] = whole.split(thousands);
    if (!/^[+-]?[0-9]{1,3}$/.test(first) || !groups.every((group) => /^[0-9]{3}$/.test(group))) return '';
    whole = whole.replaceAll(thousands, '');
  }
  if (decimal !== '.' && (whole + fraction).includes('.')) return '';
  return `${whole}${point < 0 ? '' : '.'}${fraction}`;
}

/**
 * Return the function from a cell of a text table to the JSON value that it means for `feature`. A cell that cannot be
 * read stays a text, which encoding refuses in the words for such a value.
 * @param {Feature} feature
 * @returns {(cell: string) => unknown}
 */
export function cellReader(feature) {
  const rule = ruleOf(feature);
  const missing = new Set([...(rule.usual_missing ? MISSING : ['']), ...rule.missing]);
  const number = (/** @type {string} */ cell) => {
    const text = stripped(cell);
    return missing.has(text) || NAN.test(text) ? null : parseNumber(text, rule) ?? cell;
  };
  if (feature.value_type === 'boolean') {
    return (cell) => (missing.has(stripped(cell)) ? null : BOOLEANS.get(stripped(cell).toLowerCase()) ?? number(cell));
  }
  if (feature.kind === 'numeric') return number;
  if (feature.value_type === 'integer') {
    return (cell) => {
      const text = stripped(cell);
      if (missing.has(text)) return null;
      return WHOLE.test(text) ? BigInt(text.replace('+', '')) : number(cell); // a Number would round what is beyond 2^53
    };
  }
  if (feature.kind === 'date') return (cell) => (missing.has(stripped(cell)) ? null : stripped(cell));
  // Typed tables may have taught the model a category that is spelled like a missing value: then it is that category.
  const listed = (feature.categories ?? []).filter((category) => !rule.missing.includes(category));
  listed.forEach((category) => missing.delete(category));
  return (cell) => {
    const text = rule.strip ? stripped(cell) : cell;
    return missing.has(text) ? null : text;
  };
}
