// The parts that pages are made of: status, notes, copyable code, tables with search and pages, key figures.

import { html, useEffect, useMemo, useState } from "./view.js";
import { key } from "./api.js";
import { count } from "./format.js";

// kind: good, warn, bad or plain. The word says it too, so colour is never alone.
export const Status = ({ kind = "plain", children }) => html`<span class=${`status ${kind}`}>${children}</span>`;

export const Note = ({ kind = "", children }) => html`<p class=${`note ${kind}`} role=${kind === "bad" ? "alert" : undefined}>${children}</p>`;

// The refusal of a service with keys tells programs which header to send; a person who has entered none needs the button.
export const Failure = ({ error, what = "This" }) => (error.status === 401 && !key.get()
  ? html`<${Note} kind="bad">${what} could not be loaded: the service asks for a key. Enter one at the top of this page.<//>`
  : html`<${Note} kind="bad">${what} could not be loaded: ${error.message}${error.requestId ? html` <span class="soft">(request ${error.requestId})</span>` : ""}<//>`);

export const Loading = ({ what = "Loading" }) => html`<p class="soft" role="status">${what}…</p>`;

// Key figures in a row: [{label, value, note, kind}].
export const Figures = ({ items }) => html`
  <dl class="figures">
    ${items.map(({ label, value, note, kind }) => html`
      <div class=${kind || ""}><dt>${label}</dt><dd>${value}${note ? html`<small>${note}</small>` : ""}</dd></div>`)}
  </dl>`;

export const Card = ({ title, id, aside, children }) => html`
  <section class="card" id=${id} aria-label=${title}>
    <div class="head"><h2>${title}</h2>${aside}</div>
    ${children}
  </section>`;

// Facts as names and values: [[name, value]]; empty values are left out.
export const Facts = ({ items }) => html`
  <dl class="facts">
    ${items.filter(([, value]) => value !== undefined && value !== null && value !== "").map(([name, value]) => html`
      <div><dt>${name}</dt><dd>${value}</dd></div>`)}
  </dl>`;

export const Copy = ({ text, label = "Copy" }) => {
  const [said, say] = useState("");
  useEffect(() => {
    if (!said) return undefined;
    const timer = setTimeout(() => say(""), 1500);
    return () => clearTimeout(timer);
  }, [said]);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
    } catch { // plain HTTP has no clipboard of its own
      const area = Object.assign(document.createElement("textarea"), { value: text, readOnly: true });
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    say("Copied");
  };
  return html`<button type="button" class="small copy" onClick=${copy}>${said || label}<span class="hidden" role="status">${said}</span></button>`;
};

export const Code = ({ text, label }) => html`
  <div class="code"><pre tabindex="0" role="region" aria-label=${label || "Code"}>${text}</pre><${Copy} text=${text} /></div>`;

// Choices of which one is shown: [{key, label}].
export const Choice = ({ items, chosen, choose, label }) => html`
  <div class="choice" role="group" aria-label=${label}>
    ${items.map(({ key, label: text }) => html`
      <button type="button" aria-pressed=${key === chosen} onClick=${() => choose(key)}>${text}</button>`)}
  </div>`;

const textOf = (value) => (value === null || value === undefined ? "" : String(value));
const compare = (one, other) =>
  typeof one === "number" && typeof other === "number" ? one - other : textOf(one).localeCompare(textOf(other), "en", { numeric: true });

// A table of any length: sorted by its heads, searched, and drawn a page at a time.
// columns: [{key, title, value(row) to sort and search by, cell(row) to show, isNumber}].
export const Table = ({ columns, rows, keyOf, search, label, pageSize = 50, empty = "Nothing here." }) => {
  const [query, setQuery] = useState("");
  const [order, setOrder] = useState(null);
  const [page, setPage] = useState(0);
  const found = useMemo(() => {
    const words = query.toLowerCase().split(/\s+/).filter(Boolean);
    const matching = words.length
      ? rows.filter((row) => { const text = columns.map((one) => textOf(one.value?.(row))).join(" ").toLowerCase(); return words.every((word) => text.includes(word)); })
      : rows;
    const column = order && columns.find((one) => one.key === order.key);
    if (!column) return matching;
    return [...matching].sort((one, other) => order.sign * compare(column.value(one), column.value(other)));
  }, [rows, columns, query, order]);
  const pages = Math.max(Math.ceil(found.length / pageSize), 1);
  const shown = Math.min(page, pages - 1);
  const sort = (one) => setOrder(order?.key === one.key ? { key: one.key, sign: -order.sign } : { key: one.key, sign: one.isNumber ? -1 : 1 });
  return html`
    ${search && html`
      <div class="tools">
        <input type="search" placeholder=${search} aria-label=${search} value=${query} onInput=${(event) => { setQuery(event.target.value); setPage(0); }} />
        <span class="soft" role="status">${query ? `${count(found.length)} of ${count(rows.length)}` : count(rows.length)}</span>
      </div>`}
    ${found.length === 0
      ? html`<p class="soft">${query ? "Nothing matches." : empty}</p>`
      : html`
        <div class="scroll" tabindex="0" role="region" aria-label=${`${label}, table`}>
          <table class="stacked">
            <thead><tr>${columns.map((one) => html`
              <th scope="col" class=${one.isNumber ? "number" : ""} aria-sort=${order?.key === one.key ? (order.sign > 0 ? "ascending" : "descending") : undefined}>
                ${one.value ? html`<button type="button" class="sort" onClick=${() => sort(one)}>${one.title}</button>` : one.title}
              </th>`)}</tr></thead>
            <tbody>${found.slice(shown * pageSize, (shown + 1) * pageSize).map((row) => html`
              <tr key=${keyOf(row)}>${columns.map((one) => html`<td class=${one.isNumber ? "number" : ""} data-label=${one.title}><div>${one.cell ? one.cell(row) : textOf(one.value(row))}</div></td>`)}</tr>`)}</tbody>
          </table>
        </div>`}
    ${pages > 1 && html`
      <nav class="tools" aria-label=${`Pages of ${label}`}>
        <button type="button" class="small" disabled=${shown === 0} onClick=${() => setPage(shown - 1)}>Previous</button>
        <span class="soft">${count(shown * pageSize + 1)}–${count(Math.min((shown + 1) * pageSize, found.length))} of ${count(found.length)}</span>
        <button type="button" class="small" disabled=${shown === pages - 1} onClick=${() => setPage(shown + 1)}>Next</button>
      </nav>`}`;
};
