// Prints what the package makes of values: node cells.mjs MODULE_FOLDER, with {"inputs": […]} and then lines [feature, value] on standard input.
import { readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';

const { Encoder } = await import(`${pathToFileURL(process.argv[2]).href}/lib/encoder.js`);
const [signature, ...asked] = readFileSync(0, 'utf8').split('\n');
const encoders = JSON.parse(signature).inputs.map((feature) => new Encoder({ inputs: [feature], target: 'y' }));
const view = new DataView(new ArrayBuffer(8));

/** Whole numbers beyond 2^53 are BigInt, as the package asks for. */
function valueOf(text) {
  const whole = /^-?[0-9]+$/.test(text) && !Number.isSafeInteger(Number(text));
  return whole ? BigInt(text) : JSON.parse(text);
}

const answers = asked.map((line) => {
  const [, place, text] = /^\[([0-9]+), ([^]*)\]$/.exec(line);
  const { arrays, problems } = encoders[Number(place)].encode([[valueOf(text)]]);
  if (problems.length) return `refused: ${problems[0].message}`;
  if (arrays.categorical) return String(arrays.categorical[0]);
  view.setFloat64(0, Number.isNaN(arrays.numeric[0]) ? NaN : arrays.numeric[0]);
  return view.getBigUint64(0).toString(16).padStart(16, '0');
});
process.stdout.write(answers.map((answer) => `${answer.replaceAll('\n', ' ')}\n`).join(''));
