// @ts-check
/** JSON files read the strict way: UTF-8, no key twice in an object, no number beyond float64, no deep nesting. */

import { badBundle } from './refusal.js';

const MAX_DEPTH = 32;
const TOKEN = /"(?:[^"\\]|\\.)*"(\s*:)?|[{}[\]]/gs;

/** Return the parsed file. @param {Uint8Array} bytes @param {string} file its name, for sentences @returns {any} */
export function parseStrict(bytes, file) {
  let text;
  let value;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw badBundle(`${file} is not UTF-8`);
  }
  try {
    value = JSON.parse(text, (_, number) => {
      if (typeof number === 'number' && !Number.isFinite(number)) throw badBundle(`${file} holds a number beyond float64`);
      return number;
    });
  } catch (error) {
    if (error instanceof SyntaxError) throw badBundle(`${file} is not JSON: ${error.message}`);
    if (error instanceof RangeError) throw badBundle(`${file} is nested deeper than ${MAX_DEPTH} levels`);
    throw error;
  }
  checkKeys(text, file);
  return value;
}

/** Refuse keys that an object has twice, of which JSON.parse keeps the last, and deep nesting. @param {string} text JSON @param {string} file */
function checkKeys(text, file) {
  /** @type {Set<string>[]} */
  const open = [];
  for (const [token, colon] of text.matchAll(TOKEN)) {
    if (token === '{' || token === '[') {
      open.push(new Set());
      if (open.length > MAX_DEPTH) throw badBundle(`${file} is nested deeper than ${MAX_DEPTH} levels`);
    } else if (token === '}' || token === ']') {
      open.pop();
    } else if (colon !== undefined) {
      const key = JSON.parse(token.slice(0, token.length - colon.length));
      const keys = open[open.length - 1];
      if (keys.has(key)) throw badBundle(`${file} repeats the key ${JSON.stringify(key).slice(0, 80)}`);
      keys.add(key);
    }
  }
}
