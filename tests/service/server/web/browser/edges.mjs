// What JSON cannot hold, and what a page without TLS lacks: node edges.mjs MODULE_FOLDER. It ends with 0 where all holds.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { pathToFileURL } from 'node:url';

const base = `${pathToFileURL(process.argv[2]).href}/lib/`;
const { sha256 } = await import(`${base}sha256.js`);
const { shortest } = await import(`${base}answers.js`);
const { ValueReader } = await import(`${base}values.js`);
const { Encoder } = await import(`${base}encoder.js`);

// The digest in plain JavaScript is that of Web Crypto, at every length around a block's end.
for (const length of [0, 1, 55, 56, 63, 64, 65, 119, 120, 1000, 100_003]) {
  const bytes = Uint8Array.from({ length }, (_, place) => (place * 31) % 256);
  const wanted = createHash('sha256').update(bytes).digest('hex');
  assert.equal(await sha256(bytes), wanted);
  assert.equal(await sha256(bytes, {}), wanted);
}

// The digits read back to the same float32, and no fewer do, at powers of two and elsewhere.
const view = new DataView(new ArrayBuffer(4));
const bits = (number) => (view.setUint32(0, number), view.getFloat32(0));
for (let exponent = 0; exponent < 255; exponent += 1) {
  for (const fraction of [0, 1, 0x3fffff, 0x7fffff, (exponent * 7919) % 0x800000]) {
    for (const sign of [0, 2 ** 31]) {
      const value = bits(sign + exponent * 2 ** 23 + fraction);
      const found = shortest(value);
      assert.ok(Object.is(Math.fround(found), value), `${value} is written ${found}`);
      if (value === 0) continue;
      const digits = found.toExponential().replace(/e.*|[-.]/g, '').length;
      if (digits > 1) assert.notEqual(Math.fround(Number(value.toPrecision(digits - 1))), value);
    }
  }
}

const feature = (fields) => ({ name: 'f', missing: true, range: null, categories: null, typical: null, ...fields });
const number = new ValueReader(feature({ kind: 'numeric', value_type: 'float' }));
assert.ok(Number.isNaN(number.number(NaN)), 'NaN is missing, as JSON.stringify writes it');
assert.ok(Number.isNaN(number.number(undefined)));
assert.equal(number.number(12n), 12);
assert.throws(() => number.number(Infinity), /finite number within float64/);
assert.throws(() => number.number(10n ** 400n), /finite number within float64/);
assert.throws(() => number.number(() => 1), /got a function/);

const long = new ValueReader(feature({ kind: 'categorical', value_type: 'integer', categories: ['9007199254740993', '5'] }));
assert.equal(long.number(9007199254740993n), 0);
assert.equal(long.number(5), 1);
assert.throws(() => long.number(2 ** 53), /use a BigInt/);

const date = new ValueReader(feature({ kind: 'date', value_type: 'date' }));
assert.equal(date.number(new Date(1_709_210_045_250)), 1_709_210_045.25);
assert.ok(Number.isNaN(date.number(new Date(NaN))));

// Rows may be typed arrays, and a name such as __proto__ is a name like any other.
const encoder = new Encoder({ inputs: [feature({ name: '__proto__', kind: 'numeric', value_type: 'float' })], target: 'y' });
assert.deepEqual([...encoder.encode([Float32Array.of(0.5)]).arrays.numeric], [0.5]);
assert.deepEqual([...encoder.encode([JSON.parse('{"__proto__": 2}')]).arrays.numeric], [2]);
assert.match(encoder.encode([{}]).problems[0].message, /the feature is not in the row/);
process.stdout.write('1 passed, 0 failed\n');
