// Where a row comes from: the example, a draw, what is pasted, or a table that is dropped here.

import { count } from "../shared/format.js";
import { Note } from "../shared/parts.js";
import { html, useEffect, useRef, useState } from "../shared/view.js";
import { parsePasted, randomRow } from "./rows.js";

const READ_BYTES = 1 << 20; // of a dropped file: its first rows are enough to try

const beginning = async (file) => {
  const text = await file.slice(0, READ_BYTES).text();
  return file.size > READ_BYTES ? text.slice(0, text.lastIndexOf("\n") + 1) : text;
};

export const Sources = ({ features, example, reference, take }) => {
  const [rows, setRows] = useState([]);
  const [place, setPlace] = useState(0);
  const [error, setError] = useState("");
  const [from, setFrom] = useState("");
  const [isPasting, setPasting] = useState(false);
  const [isOver, setOver] = useState(false);
  const area = useRef(null);
  const file = useRef(null);

  useEffect(() => { if (isPasting) area.current.focus(); }, [isPasting]);

  const show = (list, at, source) => {
    setRows(list);
    setPlace(at);
    setFrom(source);
    setError("");
    take(list[at]);
  };
  const read = (text, source) => {
    try {
      show(parsePasted(text, features), 0, source);
      setPasting(false);
    } catch (problem) {
      setError(problem.message);
    }
  };
  const open = async (given) => {
    if (!given) return;
    if (/\.(parquet|arrow|feather|gz|zip|xlsx?)$/i.test(given.name)) setError(`${given.name} is not text. Drop a CSV, TSV or JSON Lines file here; whole Parquet files are scored on the page Score a file.`);
    else read(await beginning(given), given.name);
  };
  const drop = (event) => { event.preventDefault(); setOver(false); open(event.dataTransfer.files[0]); };
  return html`
    <div class=${`sources ${isOver ? "over" : ""}`} onDragOver=${(event) => { event.preventDefault(); setOver(true); }} onDragLeave=${() => setOver(false)} onDrop=${drop}>
      <div class="tools">
        <button type="button" class="small" onClick=${() => show([example], 0, "")}>Example row</button>
        <button type="button" class="small" onClick=${() => show([randomRow(features, reference)], 0, "")}>Random row</button>
        <button type="button" class="small" aria-expanded=${isPasting} onClick=${() => { setPasting(!isPasting); setError(""); }}>Paste a row</button>
        <button type="button" class="small" onClick=${() => file.current.click()}>Open a CSV</button>
        <input ref=${file} class="hidden" type="file" tabindex="-1" aria-label="A CSV, TSV or JSON Lines file" accept=".csv,.tsv,.txt,.jsonl,.ndjson,.json" onChange=${(event) => { open(event.target.files[0]); event.target.value = ""; }} />
        <span class="soft small-text wide-only">or drop a file here</span>
      </div>
      ${isPasting && html`
        <form class="paste" onSubmit=${(event) => { event.preventDefault(); read(area.current.value, "pasted"); }}>
          <label>A row as JSON, or CSV lines with their header<textarea ref=${area} spellcheck=${false} placeholder=${JSON.stringify(example).slice(0, 300)}></textarea></label>
          <div class="tools"><button type="submit" class="small primary">Use it</button></div>
        </form>`}
      ${error && html`<${Note} kind="bad">${error}<//>`}
      ${rows.length > 1 && html`
        <div class="tools" role="group" aria-label="Rows">
          <button type="button" class="small" disabled=${place === 0} onClick=${() => show(rows, place - 1, from)}>Previous</button>
          <span role="status">Row ${count(place + 1)} of ${count(rows.length)}${from ? html` <span class="soft">${from}</span>` : ""}</span>
          <button type="button" class="small" disabled=${place === rows.length - 1} onClick=${() => show(rows, place + 1, from)}>Next</button>
        </div>`}
    </div>`;
};
