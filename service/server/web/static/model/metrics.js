// How good a model is on rows that it did not learn from, with the interval of each figure where the bundle has one, beside a
// guess that knows nothing but the target.

import { number, percent, plural } from "../shared/format.js";
import { Card } from "../shared/parts.js";
import { html } from "../shared/view.js";

const NAMES = {
  accuracy: "Accuracy", balanced_accuracy: "Balanced accuracy", precision: "Precision", recall: "Recall", f1: "F1", threshold: "Threshold", cost: "Cost",
  log_loss: "Log loss", auc: "AUC", brier: "Brier score", calibration_error: "Calibration error", standardised_rmse: "RMSE in standard deviations", rmse: "RMSE", mae: "Mean absolute error", r2: "R²",
};
const SHARES = new Set(["accuracy", "balanced_accuracy", "precision", "recall"]);
const Z = 1.96; // of a 95 % interval

// Wilson's interval for a share of n rows: it holds for few rows and near 0 and 1 too.
export const interval = (share, n) => {
  const middle = (share + (Z * Z) / (2 * n)) / (1 + (Z * Z) / n);
  const half = (Z * Math.sqrt((share * (1 - share)) / n + (Z * Z) / (4 * n * n))) / (1 + (Z * Z) / n);
  return [middle - half, middle + half];
};

export const metricNames = (metrics) => Object.keys(metrics).filter((name) => name !== "rows" && !name.startsWith("constant_") && typeof metrics[name] === "number");
export const titleOf = (name) => NAMES[name] || name.replaceAll("_", " ");
export const metricText = (name, value) => (SHARES.has(name) ? percent(value) : number(value));

// The 95 % interval of a metric: what training measured, or Wilson's for the accuracy of a bundle that has none.
const intervalOf = (name, metrics) =>
  metrics.intervals?.[name] || (name === "accuracy" && metrics.rows ? interval(metrics[name], metrics.rows) : null);

export const Metrics = ({ detail }) => {
  const { metrics } = detail;
  const part = metrics.part || "test";
  const names = metricNames(metrics);
  // Of several targets: all together, then each by itself.
  const parts = [["", metrics], ...Object.entries(metrics.targets || {}).map(([target, own]) => [` of ${target}`, own])];
  const hasGuess = names.some((name) => typeof metrics[`constant_${name}`] === "number");
  return html`
    <${Card} title="Metrics" id="metrics" aside=${metrics.rows && html`<span class="soft">on ${plural(metrics.rows, `${part} row`)}</span>`}>
      ${names.length === 0 ? html`<p class="soft">The bundle has none.</p>` : html`
        <table>
          <thead><tr><th scope="col">Metric</th><th scope="col" class="number">Model</th>${hasGuess && html`<th scope="col" class="number">Without features</th>`}</tr></thead>
          <tbody>${parts.flatMap(([of, own]) => metricNames(own).map((name) => {
            const ends = intervalOf(name, own);
            return html`
              <tr><th scope="row">${titleOf(name)}${of}${ends && html`<br /><small class="soft">95 % interval ${ends.map((end) => metricText(name, end)).join(" to ")}</small>`}</th>
                <td class="number"><b>${metricText(name, own[name])}</b></td>
                ${hasGuess && html`<td class="number">${metricText(name, own[`constant_${name}`])}</td>`}</tr>`;
          }))}</tbody>
        </table>
        ${hasGuess && html`<p class="soft small-text">Without features: the same answer for every row, the best one for the target.</p>`}`}
    <//>`;
};
