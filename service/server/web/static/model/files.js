// The bundle to take away: fetched with the key of the person who looks, which a link could not send.

import { ask, modelPath, save } from "../shared/api.js";
import { Card, Failure } from "../shared/parts.js";
import { html, useState } from "../shared/view.js";

export const Files = ({ detail, evidence }) => {
  const { name, version } = detail;
  const [state, setState] = useState({});
  const load = async () => {
    setState({ isLoading: true });
    try {
      const answer = await ask(`${modelPath(name, version)}/bundle/bundle.zip`);
      save(await answer.blob(), `${name}-${version}.zip`);
      setState({});
    } catch (error) {
      setState({ error });
    }
  };
  return html`
    <${Card} title="Download" id="files" aside=${html`<button type="button" class="small" disabled=${Boolean(state.isLoading)} onClick=${load}>${state.isLoading ? "Loading…" : "Download the bundle"}</button>`}>
      ${state.error && html`<${Failure} error=${state.error} what="The bundle" />`}
      <p class="soft small-text">A ZIP of the files whose bytes were verified here. Unpack it in the models folder of another service: it holds <code>${name}/${version}/</code>.</p>
      <details><summary>SHA-256 of each file</summary>
        <dl class="facts">${Object.entries(evidence.files).map(([file, digest]) => html`<div><dt>${file}</dt><dd><code>${digest}</code></dd></div>`)}</dl>
      </details>
    <//>`;
};
