// Answer calls with the JavaScript package: reads {engine, module, jobs: [{bundle, tolerate, calls: [{rows, ...options}]}]} as JSON
// from standard input, and writes one list of results for each job: {answer}, or {error} as the service words it.
import { readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';

const { engine, module, jobs } = JSON.parse(readFileSync(0, 'utf8'));
const ort = await import(pathToFileURL(engine).href);
ort.env.wasm.numThreads = 1;
const { load, Refusal } = await import(pathToFileURL(module).href);

async function result(call) {
  try {
    return { answer: await call() };
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    return { error: { code: error.code, message: error.message, details: error.details, truncated: error.truncated } };
  }
}

async function results({ bundle, tolerate, calls }) {
  const loaded = await result(() => load(pathToFileURL(bundle), { ort, tolerate }));
  if (loaded.error) return [loaded];
  const answers = [];
  for (const { rows, ...options } of calls) answers.push(await result(() => loaded.answer.predict(rows, options)));
  return answers;
}

const all = [];
for (const job of jobs) all.push(await results(job));
process.stdout.write(JSON.stringify(all));
