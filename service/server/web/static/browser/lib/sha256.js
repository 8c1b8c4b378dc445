// @ts-check
/** SHA-256: by Web Crypto, and in plain JavaScript where a page without TLS has none. */

const SIZE = 64; // bytes of a block
const primes = Array.from({ length: 312 }, (_, n) => n).filter((n) => n > 1 && isPrime(n));
const STATE = Uint32Array.from(primes.slice(0, 8), (prime) => fractionBits(Math.sqrt(prime)));
const ROUNDS = Uint32Array.from(primes.slice(0, 64), (prime) => fractionBits(Math.cbrt(prime)));

/** Return the digest as 64 lower-case hex digits. @param {Uint8Array} bytes @param {Crypto | undefined} [provider] */
export async function sha256(bytes, provider = globalThis.crypto) {
  const subtle = provider?.subtle; // absent outside of secure contexts
  const digest = subtle ? new Uint8Array(await subtle.digest('SHA-256', /** @type {BufferSource} */ (bytes))) : computed(bytes);
  return hex(digest);
}

/** Return two lower-case hex digits for each byte. @param {Uint8Array} bytes */
export const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');

/** @param {number} n */
function isPrime(n) {
  for (let divisor = 2; divisor * divisor <= n; divisor += 1) if (n % divisor === 0) return false;
  return true;
}

/** Return the first 32 bits of the fraction. @param {number} value */
function fractionBits(value) {
  return Math.floor((value - Math.floor(value)) * 2 ** 32);
}

/** @param {Uint8Array} bytes */
function computed(bytes) {
  const padded = new Uint8Array(Math.ceil((bytes.length + 9) / SIZE) * SIZE);
  padded.set(bytes);
  padded[bytes.length] = 0x80;
  const view = new DataView(padded.buffer);
  view.setBigUint64(padded.length - 8, BigInt(bytes.length) * 8n);
  const state = STATE.slice();
  const words = new Uint32Array(64);
  for (let start = 0; start < padded.length; start += SIZE) compress(state, words, view, start);
  const digest = new DataView(new ArrayBuffer(32));
  state.forEach((word, place) => digest.setUint32(4 * place, word));
  return new Uint8Array(digest.buffer);
}

/** @param {Uint32Array} state @param {Uint32Array} words @param {DataView} view @param {number} start */
function compress(state, words, view, start) {
  for (let i = 0; i < 16; i += 1) words[i] = view.getUint32(start + 4 * i);
  for (let i = 16; i < 64; i += 1) {
    const [early, late] = [words[i - 15], words[i - 2]];
    const first = rotated(early, 7) ^ rotated(early, 18) ^ (early >>> 3);
    const second = rotated(late, 17) ^ rotated(late, 19) ^ (late >>> 10);
    words[i] = words[i - 16] + first + words[i - 7] + second;
  }
  let [a, b, c, d, e, f, g, h] = state;
  for (let i = 0; i < 64; i += 1) {
    const sum1 = rotated(e, 6) ^ rotated(e, 11) ^ rotated(e, 25);
    const one = (h + sum1 + ((e & f) ^ (~e & g)) + ROUNDS[i] + words[i]) | 0;
    const sum0 = rotated(a, 2) ^ rotated(a, 13) ^ rotated(a, 22);
    const two = (sum0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
    [h, g, f, e, d, c, b, a] = [g, f, e, (d + one) | 0, c, b, a, (one + two) | 0];
  }
  [a, b, c, d, e, f, g, h].forEach((word, place) => { state[place] += word; });
}

/** @param {number} word @param {number} bits */
const rotated = (word, bits) => (word >>> bits) | (word << (32 - bits));
