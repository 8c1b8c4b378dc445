// Score a file: drop a table, see its beginning, send it, watch the rows come back, and keep the answers.

import { addressed, getJson, modelPath, save, url } from "../shared/api.js";
import { bytes, count, rate, seconds } from "../shared/format.js";
import { start, useData } from "../shared/frame.js";
import { Card, Choice, Facts, Failure, Loading, Note, Status, Table } from "../shared/parts.js";
import { html, useEffect, useMemo, useRef, useState } from "../shared/view.js";
import { readCsv } from "./csv.js";
import { FORMATS, KEPT_ERRORS, countRows, formatOf, score } from "./scoring.js";

const { name: NAME, version: VERSION } = addressed();
const PREVIEW_BYTES = 1 << 16;
const PREVIEW_ROWS = 8;
const SHOWN_COLUMNS = 60;

// The beginning of a text file as {names, rows}; null for a format that only the service reads.
const previewOf = async (file, format) => {
  if (!FORMATS[format].isText) return null;
  const text = await file.slice(0, PREVIEW_BYTES).text();
  const whole = file.size > PREVIEW_BYTES ? text.slice(0, text.lastIndexOf("\n") + 1) : text;
  if (format !== "jsonl") {
    const { names, records } = readCsv(whole);
    return { names, rows: records.slice(0, PREVIEW_ROWS).map((record) => record.cells) };
  }
  const rows = whole.split("\n").filter((line) => line.trim()).slice(0, PREVIEW_ROWS).map((line) => JSON.parse(line));
  const names = [...new Set(rows.flatMap(Object.keys))];
  return { names, rows: rows.map((row) => names.map((name) => (name in row ? JSON.stringify(row[name]) : ""))) };
};

const Cells = ({ names, rows, label, marked = new Set() }) => html`
  <div class="scroll" tabindex="0" role="region" aria-label=${label}>
    <table class="cells"><thead><tr>${names.slice(0, SHOWN_COLUMNS).map((name) => html`<th scope="col" class=${marked.has(name) ? "marked" : ""}>${name}</th>`)}</tr></thead>
      <tbody>${rows.map((cells) => html`<tr>${names.slice(0, SHOWN_COLUMNS).map((name, place) => html`<td class=${marked.has(name) ? "marked" : ""}>${cells[place] ?? ""}</td>`)}</tr>`)}</tbody></table>
  </div>
  ${names.length > SHOWN_COLUMNS && html`<p class="soft small-text">The first ${SHOWN_COLUMNS} of ${count(names.length)} columns.</p>`}`;

// Which columns the model needs and the file lacks, and which it does not know.
const Fit = ({ preview, signature }) => {
  const names = new Set(preview.names);
  const wanted = signature.inputs.map((feature) => feature.name);
  const lacking = wanted.filter((name) => !names.has(name));
  const passing = new Set([...wanted, ...(signature.targets || [signature.target]), ...(signature.ignored || [])]);
  const extra = preview.names.filter((name) => !passing.has(name));
  const few = (list) => `${list.slice(0, 8).join(", ")}${list.length > 8 ? ` and ${list.length - 8} more` : ""}`;
  return html`
    ${lacking.length > 0 && html`<${Note} kind="bad">The file lacks ${lacking.length === 1 ? "the feature" : "the features"} ${few(lacking)}; it will be refused.<//>`}
    ${extra.length > 0 && html`<${Note}>Training did not have ${few(extra)}: copied to the answers.<//>`}
    ${lacking.length === 0 && html`<p><${Status} kind="good">All ${count(wanted.length)} features are there<//></p>`}`;
};

const Drop = ({ take, error }) => {
  const input = useRef(null);
  const [isOver, setOver] = useState(false);
  const drop = (event) => { event.preventDefault(); setOver(false); if (event.dataTransfer.files[0]) take(event.dataTransfer.files[0]); };
  return html`
    <div class=${`drop ${isOver ? "over" : ""}`} onDragOver=${(event) => { event.preventDefault(); setOver(true); }} onDragLeave=${() => setOver(false)} onDrop=${drop}>
      <p><b>Drop a table here</b></p>
      <p class="soft">CSV, TSV, JSON Lines, Parquet or Arrow, of any length: it is read and answered in blocks.</p>
      <button type="button" class="primary" onClick=${() => input.current.click()}>Choose a file</button>
      <input ref=${input} class="hidden" type="file" tabindex="-1" aria-label="A table" onChange=${(event) => { if (event.target.files[0]) take(event.target.files[0]); event.target.value = ""; }} />
      ${error && html`<${Note} kind="bad">${error}<//>`}
    </div>`;
};

// The columns of the answer before those of the table, which may be many.
const answersFirst = ({ names, first }, added) => {
  const order = [...names.keys()].sort((one, other) => added.has(names[other]) - added.has(names[one]));
  return { names: order.map((place) => names[place]), rows: first.map((cells) => order.map((place) => cells[place])) };
};

const Progress = ({ state, total, begunAt, isOver }) => {
  const [now, tick] = useState(performance.now());
  useEffect(() => {
    if (isOver) return undefined;
    const timer = setInterval(() => tick(performance.now()), 250);
    return () => clearInterval(timer);
  }, [isOver]);
  const tookS = ((isOver ? isOver : now) - begunAt) / 1000;
  const share = total && state?.rows ? Math.min(state.rows / total, 1) : null;
  const words = !state ? "Sending the file; the answer begins when its first rows are done." : state.rows === null ? `${bytes(state.bytes)} of answers` : `${count(state.rows)}${total ? ` of about ${count(total)}` : ""} rows answered`;
  return html`
    ${!isOver && html`<progress aria-label="Rows answered" max="1" value=${share === null ? undefined : share}></progress>`}
    <p role="status">${words}<span class="soft"> · ${seconds(Math.max(tookS, 0.001))}${state?.rows ? ` · ${rate(state.rows / tookS, "rows")}` : ""}</span></p>`;
};

const Errors = ({ state, format }) => {
  if (!state.bad) return null;
  const columns = [
    { key: "row", title: format === "jsonl" ? "Line" : "Row", isNumber: true, value: (one) => one.row, cell: (one) => html`<span class="narrow-only">${format === "jsonl" ? "Line" : "Row"} </span>${one.row}` },
    { key: "message", title: "What is wrong", value: (one) => one.message },
  ];
  return html`
    <${Card} title="Bad rows" id="errors" aside=${html`<${Status} kind="warn">${count(state.bad)}<//>`}>
      <p class="soft small-text">These rows have no prediction; the column <code>error</code> of the answers says why.${state.bad > KEPT_ERRORS ? ` The first ${KEPT_ERRORS} are listed.` : ""}</p>
      <${Table} label="Rows that were refused" columns=${columns} rows=${state.errors} keyOf=${(one) => one.row} pageSize=${20} search=${state.errors.length > 20 && "Search bad rows"} />
    <//>`;
};

const answerName = (file, answer) => `${file.name.replace(/\.[^.]+$/, "")}.scored.${answer}`;

const Scoring = ({ detail }) => {
  const { name, version, signature } = detail;
  const [given, setGiven] = useState(null); // {file, format, preview}
  const [problem, setProblem] = useState("");
  const [answer, setAnswer] = useState("csv");
  const [onError, setOnError] = useState("row");
  const [run, setRun] = useState(null); // {state, total, begunAt, endedAt, error, result}
  const controller = useRef(null);
  useEffect(() => () => controller.current?.abort(), []);

  const take = async (file) => {
    controller.current?.abort();
    setRun(null);
    setGiven(null);
    setProblem("");
    try {
      const format = await formatOf(file);
      if (!format) throw new Error(`${file.name} is not a table that the service reads: drop a CSV, TSV, JSON Lines, Parquet or Arrow file.`);
      if (!file.size) throw new Error(`${file.name} is empty.`);
      setGiven({ file, format, preview: await previewOf(file, format) });
      setAnswer(format);
    } catch (error) {
      setProblem(error.message);
    }
  };
  const begin = async () => {
    controller.current = new AbortController();
    const { signal } = controller.current;
    const begunAt = performance.now();
    const change = (fields) => { if (!signal.aborted) setRun((old) => ({ ...old, ...fields })); };
    setRun({ begunAt, state: null, total: null });
    countRows(given.file, given.format, signal).then((total) => change({ total }), () => {});
    try {
      const result = await score({ ...given, answer, name, version: VERSION, onError, extra: "ignore", signal, say: (state) => change({ state }) });
      change({ state: result, result, endedAt: performance.now() });
    } catch (error) {
      if (error.name !== "AbortError") change({ error, endedAt: performance.now() });
    }
  };
  const forget = () => { controller.current?.abort(); setGiven(null); setRun(null); };
  const cancel = () => { controller.current.abort(); setRun(null); };
  const added = useMemo(() => new Set((run?.state?.names || []).filter((one) => /^(prediction|error|probability_.*)$/.test(one))), [run?.state?.names]);
  const isRunning = run && !run.endedAt;
  return html`
    <div class="title"><h1>Score a file</h1><span class="soft"><a href=${url(modelPath(name))}>${name}</a> version ${version}</span>
      <p class="lead">Each row of a table gets the answer that it gets alone, bit for bit. <a href=${url(`${modelPath(name, VERSION)}/try`)}>Try one row</a></p></div>
    <${Card} title="Table" aside=${given && html`<button type="button" class="small" onClick=${forget}>Another file</button>`}>
      ${!given && html`<${Drop} take=${take} error=${problem} />`}
      ${given && html`
        <${Facts} items=${[["File", given.file.name], ["Format", FORMATS[given.format].word], ["Size", bytes(given.file.size)]]} />
        ${given.preview ? html`<${Fit} preview=${given.preview} signature=${signature} /><${Cells} ...${given.preview} label="Beginning of the file" />`
          : html`<p class="soft">${FORMATS[given.format].word} is read by the service; the answers in CSV or JSON Lines are shown here as they come.</p>`}
        <div class="tools options">
          <span>Answers as <${Choice} label="Format of the answers" items=${Object.entries(FORMATS).map(([key, { word }]) => ({ key, label: word }))} chosen=${answer} choose=${setAnswer} /></span>
          <span>A bad row <${Choice} label="What a bad row does" items=${[{ key: "row", label: "gets its error" }, { key: "stop", label: "stops the run" }]} chosen=${onError} choose=${setOnError} /></span>
        </div>
        <div class="tools">${isRunning ? html`<button type="button" onClick=${cancel}>Cancel</button>` : html`<button type="button" class="primary" onClick=${begin}>Score ${given.file.name}</button>`}</div>`}
    <//>
    ${run && html`
      <${Card} title="Answers" id="answers" aside=${run.result && html`<button type="button" class="small primary" onClick=${() => save(run.result.blob, answerName(given.file, answer))}>Download ${answerName(given.file, answer)}</button>`}>
        ${run.error && html`<${Note} kind="bad">${run.error.message}<//>`}
        <${Progress} state=${run.state} total=${run.total} begunAt=${run.begunAt} isOver=${run.endedAt} />
        ${run.result && html`<p><${Status} kind=${run.result.bad ? "warn" : "good"}>Done<//> ${bytes(run.result.blob.size)} of ${FORMATS[answer].word}${run.result.bad === null ? "" : run.result.bad ? `, ${count(run.result.bad)} of ${count(run.result.rows)} rows refused` : ", no row refused"}.</p>`}
        ${run.state?.first.length > 0 && html`<${Cells} ...${answersFirst(run.state, added)} marked=${added} label="First answers" />`}
      <//>
      ${run.state && html`<${Errors} state=${run.state} format=${answer} />`}`}`;
};

const Score = () => {
  const { data, error } = useData(() => getJson(modelPath(NAME, VERSION)));
  if (error) return html`<div class="title"><h1>Score a file</h1></div><${Failure} error=${error} what="The model" />`;
  if (!data) return html`<div class="title"><h1>Score a file</h1></div><${Loading} />`;
  return html`<${Scoring} detail=${data} />`;
};

start(Score);
