// Bars as SVG: of a distribution, and of counts by kind. Colours are those of shared/style.css.

import { count, number } from "./format.js";
import { html } from "./view.js";

// A distribution as bars: [{label, share, kind: "strong" | "other" | undefined}]. The widths of bars are equal.
export const Bars = ({ bars, height = 40, summary }) => {
  const most = Math.max(...bars.map((bar) => bar.share), 1e-12);
  const width = 100 / Math.max(bars.length, 1);
  const words = summary || bars.map((bar) => `${bar.label}: ${number(100 * bar.share, 2)} %`).join(", ");
  return html`
    <svg class="bars" role="img" aria-label=${words} viewBox="0 0 100 ${height}" height=${height} preserveAspectRatio="none">
      ${bars.map((bar, place) => {
        const tall = Math.max((bar.share / most) * (height - 1), bar.share > 0 ? 1 : 0);
        return html`<rect class=${bar.kind || ""} x=${place * width + width * 0.06} y=${height - tall} width=${width * 0.88} height=${tall}><title>${`${bar.label}: ${number(100 * bar.share, 3)} %`}</title></rect>`;
      })}
    </svg>`;
};

// Bars that lie, with their names: [{label, value, kind}]; for counts by kind.
export const Ranking = ({ items, format = count, label }) => {
  const most = Math.max(...items.map((item) => item.value), 1e-12);
  return html`
    <ul class="ranking" aria-label=${label}>
      ${items.map((item) => html`
        <li><span>${item.label}</span><svg viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true"><rect class=${item.kind || ""} width=${(100 * item.value) / most} height="8" rx="1" /></svg><b>${format(item.value)}</b></li>`)}
    </ul>`;
};

// The largest of numbers, without their signs: how far bars around a middle reach.
export const reachOf = (values) => Math.max(...values.map(Math.abs), 1e-12);

// A number as a bar to the right of a middle where it is positive, and to the left where it is not.
export const SignedBar = ({ value, reach }) => {
  const share = 50 * Math.min(Math.abs(value) / reach, 1);
  return html`
    <svg class="signed" viewBox="-50 0 100 8" preserveAspectRatio="none" aria-hidden="true"><line x1="0" x2="0" y1="0" y2="8" />
      <rect class=${value > 0 ? "up" : "down"} x=${value > 0 ? 0 : -share} width=${share} height="8" /></svg>`;
};

export const signed = (value) => `${value > 0 ? "+" : ""}${number(value, 3)}`;
// The bar with its number, in a cell of a table.
export const Weight = ({ value, reach }) => html`<span class="weight"><${SignedBar} value=${value} reach=${reach} /><b>${signed(value)}</b></span>`;
