// Print, for each {features, scores} that standard input holds as JSON, the plan of explanations and what the scores are reduced to:
// node plans.mjs MODULE
import { readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';

const { planOf, reduce } = await import(pathToFileURL(process.argv[2]).href);
const made = JSON.parse(readFileSync(0, 'utf8')).map(({ features, scores }) => {
  const plan = planOf(features);
  return { ...plan, ...reduce(plan, scores) };
});
process.stdout.write(JSON.stringify(made));
