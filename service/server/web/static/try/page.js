// Try: a form made from the model's signature, and the prediction as its values change.

import { addressed, getJson, modelPath, url } from "../shared/api.js";
import { plural } from "../shared/format.js";
import { start, useData } from "../shared/frame.js";
import { Card, Failure, Loading } from "../shared/parts.js";
import { html, useMemo, useState } from "../shared/view.js";
import { predictedOf } from "../shared/words.js";
import { predictPath, useExplanation, usePrediction } from "./asking.js";
import { WhatIf } from "./curve.js";
import { Form } from "./fields.js";
import { OtherVersion, ProveIt } from "./proof.js";
import { Contributions, Novelty, Prediction, headline, startingCoverage } from "./results.js";
import { jsonOf, textsOf } from "./rows.js";
import { Sources } from "./sources.js";

const { name: NAME, version: VERSION } = addressed();
const NO_PROBLEMS = new Map();
const LONG_FORM = 8; // features beside which the answers stay in sight
const MANY_FEATURES = 60; // more are explained when somebody asks

const load = async () => {
  const detail = await getJson(modelPath(NAME, VERSION));
  const reference = detail.reference ? await getJson(`${modelPath(NAME, detail.version)}/bundle/reference.json`).catch(() => null) : null;
  return { detail, reference };
};

// Whose field a refusal concerns: {feature: sentence}.
const problemsOf = (error) => {
  const details = (error?.details || []).filter((one) => one.feature);
  return details.length ? new Map(details.map((one) => [one.feature, `${one.message[0].toUpperCase()}${one.message.slice(1)}.`])) : NO_PROBLEMS;
};

const marksOf = (prediction) => {
  const marks = new Map();
  for (const name of prediction?.unseen || []) marks.set(name, ["unseen in training"]);
  for (const name of prediction?.out_of_range || []) marks.set(name, ["outside the training range"]);
  return marks;
};

const Trial = ({ detail, reference }) => {
  const { name, version, versions, signature, task, target: predicted, targets } = detail;
  const features = signature.inputs;
  const [texts, setTexts] = useState(() => textsOf(features, detail.example.rows[0]));
  const [coverage, setCoverage] = useState(() => startingCoverage(detail.coverages));
  const [explainedKey, setExplainedKey] = useState(""); // the row that somebody asked to explain, where there are many features
  const row = useMemo(() => Object.fromEntries(features.map((feature) => [feature.name, jsonOf(feature, texts.get(feature.name))])), [texts]);
  const rowKey = useMemo(() => JSON.stringify(row), [row]);
  const path = predictPath(name, version);
  const asked = usePrediction(path, row, detail.coverages?.length ? coverage : null, rowKey);
  const isMany = features.length > MANY_FEATURES;
  const [target, setTarget] = useState(targets[0]); // whose contributions and curve are shown
  const answered = useExplanation(path, row, rowKey, !asked.error && (!isMany || explainedKey === rowKey));
  const explained = { ...answered, data: answered.data && (answered.data.explanation ?? answered.data.explanations[target]) };
  const problems = useMemo(() => problemsOf(asked.error), [asked.error]);
  const marks = useMemo(() => marksOf(asked.error ? null : asked.data), [asked]);
  const weights = useMemo(() => (explained.data ? new Map(Object.entries(explained.data.contributions)) : null), [answered.data, target]);
  const strongest = useMemo(() => weights && [...weights].sort(([, one], [, other]) => Math.abs(other) - Math.abs(one))[0]?.[0], [Boolean(weights), target]);
  const change = (feature, text) => setTexts((old) => new Map(old).set(feature, text));
  const isClass = task !== "regression";
  return html`
    <div class="title"><h1>Try ${name}</h1><span class="soft">version ${version}</span>
      <p class="lead">Predicts ${predicted}, ${predictedOf(detail)}, from ${plural(features.length, "feature")}. <a href=${url(modelPath(name, VERSION))}>About the model</a> · <a href=${url(`${modelPath(name, VERSION)}/score`)}>Score a file</a></p></div>
    <div class=${`trial ${features.length > LONG_FORM ? "long" : ""}`}>
      <div class="inputs"><${Card} title="Row">
        <${Sources} features=${features} example=${detail.example.rows[0]} reference=${reference} take=${(given) => setTexts(textsOf(features, given))} />
        <${Form} features=${features} texts=${texts} change=${change} reference=${reference} problems=${problems} marks=${marks} weights=${weights} />
      <//></div>
      <div class="outputs">
        <${Prediction} state=${asked} target=${predicted} coverages=${detail.coverages} coverage=${coverage} choose=${setCoverage} />
        <${Novelty} prediction=${asked.error ? null : asked.data} />
        <${Contributions} state=${explained} isClass=${isClass} label=${asked.data?.label} targets=${targets} target=${target} choose=${setTarget} explain=${isMany && explainedKey !== rowKey && !asked.error ? () => setExplainedKey(rowKey) : null} />
        <${WhatIf} path=${path} features=${features} row=${row} isClass=${isClass} target=${target} preferred=${strongest} prediction=${asked.error ? null : asked.data} />
        <${ProveIt} name=${name} version=${version} features=${features} row=${row} rowKey=${rowKey} reference=${reference} />
        <${OtherVersion} name=${name} version=${version} versions=${versions} row=${row} rowKey=${rowKey} prediction=${asked.data} />
      </div>
    </div>
    ${asked.data && html`<p class=${`follow ${asked.error || asked.isStale ? "stale" : ""}`} aria-hidden="true"><a href="#prediction" tabindex="-1"><span class="soft">${predicted}</span> <b>${asked.error ? "refused" : headline(asked.data)}</b></a></p>`}`;
};

const Try = () => {
  const { data, error } = useData(load);
  if (error) return html`<div class="title"><h1>Try</h1></div><${Failure} error=${error} what="The model" />`;
  if (!data) return html`<div class="title"><h1>Try</h1></div><${Loading} />`;
  return html`<${Trial} ...${data} />`;
};

start(Try);
