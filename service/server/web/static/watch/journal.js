// A request looked up in the journal: what was asked and answered, and whether the rows give the same bits again.

import { ask, getJson, save } from "../shared/api.js";
import { count, plural } from "../shared/format.js";
import { Card, Failure, Note } from "../shared/parts.js";
import { html, useState } from "../shared/view.js";
import { Decision } from "./decision.js";

// A day as UTC begins and ends it; the service takes `until` as before.
const DAY_MS = 86_400_000;
const dayAfter = (day) => new Date(Date.parse(`${day}T00:00:00Z`) + DAY_MS).toISOString();
const pathOf = ({ id, row, since, until }) => {
  const query = new URLSearchParams({ id: id.trim() });
  if (row !== "") query.set("row", row);
  if (since) query.set("since", `${since}T00:00:00Z`);
  if (until) query.set("until", dayAfter(until));
  return `journal/request?${query}`;
};

const Scope = ({ found }) => {
  const { rows, decisions, segments, segments_searched: searched, problems } = found;
  return html`
    ${problems.map(({ segment, what }) => html`<${Note} kind="bad"><code>${segment}</code>: ${what}.<//>`)}
    ${searched < segments && html`<${Note} kind="warn">Only the ${count(searched)} newest of ${plural(segments, "segment")} could be searched in time: the journal may hold more of this request. Choose days to search others.<//>`}
    ${rows > decisions.length && html`<p class="soft">${count(decisions.length)} of ${plural(rows, "row")} are shown; choose a row to see another.</p>`}`;
};

const Result = ({ asked, found }) => {
  const [error, setError] = useState(null);
  const [isSaving, setSaving] = useState(false);
  const keep = async () => {
    setSaving(true);
    setError(null);
    try {
      const page = await ask(pathOf(asked), { headers: { accept: "text/html" } });
      save(await page.blob(), `decision-${found.request_id.replace(/[^\w.-]+/g, "_")}.html`);
    } catch (failed) {
      setError(failed);
    }
    setSaving(false);
  };
  return html`
    <div class="found">
      <div class="head"><h3>${found.request_id}</h3>${found.decisions.length > 0 && html`<button type="button" class="small" disabled=${isSaving} onClick=${keep}>${isSaving ? "Running it again…" : "Save as a page"}</button>`}</div>
      ${error && html`<${Failure} error=${error} what="The page" />`}
      <${Scope} found=${found} />
      ${found.decisions.map((decision, place) => html`<${Decision} key=${`${decision.request.segment} ${decision.request.time} ${decision.request.row}`} decision=${decision} isOpen=${place === 0} />`)}
    </div>`;
};

const Field = ({ label, value, set, ...more }) => html`<label>${label}<input ...${more} value=${value} onInput=${(event) => set(event.target.value)} /></label>`;

export const Journal = () => {
  const [asked, setAsked] = useState({ id: "", row: "", since: "", until: "" });
  const [state, setState] = useState({});
  const setOf = (name) => (value) => setAsked((old) => ({ ...old, [name]: value }));
  const find = async (event) => {
    event.preventDefault();
    if (!asked.id.trim() || state.isAsking) return;
    setState({ isAsking: true });
    try {
      setState({ asked, found: await getJson(pathOf(asked)) });
    } catch (error) {
      setState({ error });
    }
  };
  const { isAsking, error, found } = state;
  return html`
    <${Card} title="Look a request up" id="journal" aside=${html`<span class="soft small-text">in the journal, as it is now</span>`}>
      <form class="lookup" onSubmit=${find}>
        <${Field} label="Request id" value=${asked.id} set=${setOf("id")} required maxlength="128" autocomplete="off" spellcheck=${false} placeholder="X-Request-Id of the answer" />
        <button type="submit" class="primary" disabled=${isAsking}>${isAsking ? "Searching…" : "Find"}</button>
        <details><summary>One row, or some days</summary>
          <div class="narrow">
            <${Field} label="Row, from 0" type="number" min="0" step="1" value=${asked.row} set=${setOf("row")} />
            <${Field} label="From this day (UTC)" type="date" value=${asked.since} set=${setOf("since")} />
            <${Field} label="To this day (UTC)" type="date" value=${asked.until} set=${setOf("until")} />
          </div>
        </details>
      </form>
      <div aria-live="polite">
        ${isAsking && html`<p class="soft" role="status">Searching, and running the rows again. Predictions go first, so this may take a while…</p>`}
        ${error && (error.status === 404 ? html`<${Note} kind="warn">${error.message}<//>` : html`<${Failure} error=${error} what="The request" />`)}
        ${error?.status === 403 && error.code === "scope_missing" && html`<p>Rows of callers are personal data: reading them needs a key with the scope <code>admin</code>.</p>`}
      </div>
      ${found && html`<${Result} asked=${state.asked} found=${found} />`}
    <//>`;
};
