// Requests to copy, made of the example row, and the address of every protocol.

import { key, url } from "../shared/api.js";
import { Card, Choice, Code, Copy } from "../shared/parts.js";
import { html, useState } from "../shared/view.js";

const PROTOCOLS = {
  native: "JSON, and tables (CSV, Arrow, Parquet)",
  oip: "Open Inference Protocol (KServe, Triton)",
  invocations: "SageMaker, MLflow",
  vertex: "Vertex AI",
  azure: "Azure ML",
  v1: "KServe version 1, TensorFlow Serving",
  v1_explain: "KServe version 1, with an explanation",
};

const indented = (value, indent) => JSON.stringify(value, null, 2).replaceAll("\n", `\n${indent}`);
const pythonText = (value, indent) => indented(value, indent).replace(/("(?:[^"\\]|\\.)*")|\b(true|false|null)\b/g, (_, text, word) => text || { true: "True", false: "False", null: "None" }[word]);

const texts = (address, body, name, needsKey) => {
  const header = needsKey ? ' \\\n  -H "Authorization: Bearer $KEY"' : "";
  const base = url("").replace(/\/$/, "");
  return {
    curl: `curl ${address}${header} \\\n  -d '${JSON.stringify(body).replaceAll("'", "'\\''")}'`,
    python: `import os\nfrom batchproof import Client\n\nwith Client("${base}", "${name}"${needsKey ? ', api_key=os.environ["KEY"]' : ""}) as client:\n    prediction = client.predict(${pythonText(body.rows[0], "    ")})\n    print(prediction)`.replace(needsKey ? "" : "import os\n", ""),
    javascript: `const response = await fetch("${address}", {\n  method: "POST",\n  headers: { "content-type": "application/json"${needsKey ? ", authorization: `Bearer ${key}`" : ""} },\n  body: JSON.stringify(${indented(body, "  ")}),\n});\nconsole.log(await response.json());`,
  };
};

const CHOICES = [{ key: "curl", label: "curl" }, { key: "python", label: "Python" }, { key: "javascript", label: "JavaScript" }];

export const Requests = ({ detail, evidence }) => {
  const [language, setLanguage] = useState("curl");
  const native = evidence.routes.native || [];
  const path = native.find((one) => one.startsWith("/models/")) || native[0] || "/predict";
  const shown = texts(url(path.slice(1)), detail.example, detail.name, Boolean(key.get()));
  return html`
    <${Card} title="Requests" id="requests" aside=${html`<${Choice} label="Language" items=${CHOICES} chosen=${language} choose=${setLanguage} />`}>
      <${Code} label="A request that works" text=${shown[language]} />
      <h3>Addresses</h3>
      <p class="soft small-text">Each answers <code>POST</code> at ${url("").replace(/\/$/, "")}; Copy has the whole address.</p>
      <ul class="addresses">
        ${Object.entries(evidence.routes).map(([protocol, paths]) => html`
          <li><span class="soft">${PROTOCOLS[protocol] || protocol}</span>
            <ul>${paths.map((one) => html`<li><code>${one}</code> <${Copy} text=${url(one.slice(1))} /></li>`)}</ul></li>`)}
      </ul>
    <//>`;
};
