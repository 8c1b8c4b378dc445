// @ts-check
/** The known name that is most similar to an unknown one, by the measure of Ratcliff and Obershelp (1988). */

const LEAST_RATIO = 0.6;
const POPULAR_FROM = 200; // in longer names, signs that make up over 1 % begin no match

/**
 * Return the known name that is most similar to `wanted`; null where none is similar.
 * @param {string} wanted
 * @param {string[]} known
 * @returns {string | null}
 */
export function closest(wanted, known) {
  const places = placesOf([...wanted]);
  let best = null;
  let bestRatio = 0;
  for (const name of known) {
    const ratio = similarity([...name], wanted, places);
    if (ratio >= LEAST_RATIO && (ratio > bestRatio || (ratio === bestRatio && best !== null && name > best))) {
      [best, bestRatio] = [name, ratio];
    }
  }
  return best;
}

/** @param {string[]} signs @returns {Map<string, number[]>} */
function placesOf(signs) {
  /** @type {Map<string, number[]>} */
  const places = new Map();
  signs.forEach((sign, place) => places.set(sign, [...(places.get(sign) ?? []), place]));
  if (signs.length >= POPULAR_FROM) {
    const most = Math.floor(signs.length / 100) + 1;
    for (const [sign, all] of places) if (all.length > most) places.delete(sign);
  }
  return places;
}

/** Return twice the matching signs over all signs. @param {string[]} a @param {string} wanted @param {Map<string, number[]>} places */
function similarity(a, wanted, places) {
  const b = [...wanted];
  const total = a.length + b.length;
  if (total === 0) return 1;
  const pending = [[0, a.length, 0, b.length]];
  let matches = 0;
  while (pending.length) {
    const [aLow, aHigh, bLow, bHigh] = /** @type {number[]} */ (pending.pop());
    const [aStart, bStart, size] = longestMatch(a, b, places, aLow, aHigh, bLow, bHigh);
    if (!size) continue;
    matches += size;
    pending.push([aLow, aStart, bLow, bStart], [aStart + size, aHigh, bStart + size, bHigh]);
  }
  return (2 * matches) / total;
}

/**
 * Return [start in a, start in b, length] of the longest run of equal signs, the earliest among equally long ones.
 * @param {string[]} a @param {string[]} b @param {Map<string, number[]>} places
 * @param {number} aLow @param {number} aHigh @param {number} bLow @param {number} bHigh
 */
function longestMatch(a, b, places, aLow, aHigh, bLow, bHigh) {
  let [aStart, bStart, size] = [aLow, bLow, 0];
  /** @type {Map<number, number>} */
  let lengths = new Map(); // of the run that ends at a place of b
  for (let i = aLow; i < aHigh; i += 1) {
    /** @type {Map<number, number>} */
    const longer = new Map();
    for (const j of places.get(a[i]) ?? []) {
      if (j < bLow) continue;
      if (j >= bHigh) break;
      const length = (lengths.get(j - 1) ?? 0) + 1;
      longer.set(j, length);
      if (length > size) [aStart, bStart, size] = [i - length + 1, j - length + 1, length];
    }
    lengths = longer;
  }
  while (aStart > aLow && bStart > bLow && a[aStart - 1] === b[bStart - 1]) [aStart, bStart, size] = [aStart - 1, bStart - 1, size + 1];
  while (aStart + size < aHigh && bStart + size < bHigh && a[aStart + size] === b[bStart + size]) size += 1;
  return [aStart, bStart, size];
}
