// What every page does: draw itself into <main>, say what went wrong, and ask for a key where the service has keys.

import { access, key, onKey } from "./api.js";
import { Failure } from "./parts.js";
import { Component, html, render, useEffect, useReducer, useRef, useState } from "./view.js";

class Guarded extends Component {
  static getDerivedStateFromError(error) {
    return { error };
  }

  render({ children }, { error }) {
    return error ? html`<h1>This page stopped</h1><${Failure} error=${error} what="It" />` : children;
  }
}

const KeyDialog = ({ close }) => {
  const dialog = useRef(null);
  const [value, setValue] = useState(key.get());
  useEffect(() => dialog.current.showModal(), []);
  const keep = (event) => { event.preventDefault(); key.set(value.trim()); close(); };
  return html`
    <dialog ref=${dialog} onClose=${close} aria-labelledby="key-title">
      <form onSubmit=${keep}>
        <h2 id="key-title">Key</h2>
        <p class="soft">This service asks callers for a key. This tab keeps it until you close it, and sends it to this service only.</p>
        <label>Key or token<input type="password" autocomplete="off" autofocus value=${value} onInput=${(event) => setValue(event.target.value)} /></label>
        <div class="tools end">
          ${key.get() && html`<button type="button" class="small" onClick=${() => { key.set(""); close(); }}>Forget it</button>`}
          <button type="button" class="small" onClick=${close}>Cancel</button>
          <button type="submit" class="small primary">Use this key</button>
        </div>
      </form>
    </dialog>`;
};

const KeyButton = () => {
  const [, redraw] = useReducer((turn) => turn + 1, 0);
  const [isOpen, setOpen] = useState(false);
  useEffect(() => onKey(redraw), []);
  if (!access.state && !key.get()) return null;
  const isWanted = access.state === "needed" && !key.get();
  return html`
    <button type="button" class=${`small ${isWanted ? "primary" : ""}`} onClick=${() => setOpen(true)}>${isWanted ? "Enter a key" : "Key"}</button>
    ${isOpen && html`<${KeyDialog} close=${() => setOpen(false)} />`}`;
};

// Draws a page's one component, and draws it anew, from its first request on, when the key changes.
export const start = (Page) => {
  const main = document.getElementById("main");
  main.replaceChildren();
  const Whole = () => {
    const [turn, redraw] = useReducer((n) => n + 1, 0);
    useEffect(() => {
      let known = key.get();
      return onKey(() => { if (key.get() !== known) { known = key.get(); access.state = ""; redraw(); } });
    }, []);
    return html`<${Guarded} key=${turn}><${Page} /><//>`;
  };
  render(html`<${Whole} />`, main);
  render(html`<${KeyButton} />`, document.getElementById("key"));
};

// Asks once for what a page shows: {data, error}. `read` is a function of no arguments; `inputs` say when to ask again.
export const useData = (read, inputs = []) => {
  const [state, setState] = useState({});
  useEffect(() => {
    let isWanted = true;
    read().then((data) => isWanted && setState({ data }), (error) => isWanted && setState({ error }));
    return () => { isWanted = false; };
  }, inputs);
  return state;
};
