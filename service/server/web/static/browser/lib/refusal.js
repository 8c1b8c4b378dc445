// @ts-check
/** What is refused: one sentence, a stable code, and where the fault is. Codes and sentences are those of the service. */

/** @typedef {{row: number | null, feature: string | null, message: string}} Problem */

export class Refusal extends Error {
  /**
   * @param {string} code stable, such as `invalid_rows`
   * @param {string} message one sentence
   * @param {{details?: object[], truncated?: boolean}} [more] each problem, and whether there are more than are listed
   */
  constructor(code, message, { details = [], truncated = false } = {}) {
    super(message);
    this.name = 'Refusal';
    this.code = code;
    this.details = details;
    this.truncated = truncated;
  }
}

/** Return the refusal of a bundle. @param {string} clause without a full stop */
export const badBundle = (clause) => new Refusal('invalid_bundle', `${clause}.`);

/** Return the refusal of a request. @param {string} sentence */
export const badRequest = (sentence) => new Refusal('invalid_request', sentence);

/** Return the sentence about the first of some problems. @param {Problem[]} problems */
export function sentenceOf(problems) {
  const { row, feature, message } = problems[0];
  const places = [row === null ? '' : `row ${row}`, feature === null ? '' : `feature ${quoted(feature)}`];
  const more = problems.length > 1 ? ` (${problems.length - 1} more in details.)` : '';
  const sentence = `${places.filter(Boolean).join(', ') || 'The request'}: ${message}.`;
  return sentence.replaceAll('..', '.').replaceAll('?.', '?') + more;
}

const ESCAPES = new Map([['\\', '\\\\'], ['\n', '\\n'], ['\r', '\\r'], ['\t', '\\t']]);
const UNPRINTED = /[\\\p{C}\p{Z}]/gu;

/** Return a text in quotes, as the sentences of the service write it. @param {string} text */
export function quoted(text) {
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'";
  const escaped = text.replace(UNPRINTED, (sign) => (sign === ' ' ? sign : ESCAPES.get(sign) ?? hexadecimal(sign)));
  return quote + (quote === "'" ? escaped.replaceAll("'", "\\'") : escaped) + quote;
}

/** @param {string} sign */
function hexadecimal(sign) {
  const code = /** @type {number} */ (sign.codePointAt(0));
  const [letter, width] = code < 0x100 ? ['x', 2] : code < 0x10000 ? ['u', 4] : ['U', 8];
  return `\\${letter}${code.toString(16).padStart(/** @type {number} */ (width), '0')}`;
}
