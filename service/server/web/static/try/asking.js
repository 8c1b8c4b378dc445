// Predictions of the row that is shown: asked for when typing pauses, with what is in flight given up.

import { modelPath, postJson } from "../shared/api.js";
import { useEffect, useRef, useState } from "../shared/view.js";

const PAUSE_MS = 120;
const EXPLAIN_PAUSE_MS = 350; // an explanation runs many rows

export const predictPath = (name, version) => `${modelPath(name, version)}/predict`;

// Asks again whenever `key` changes, after a pause: {data, error, isStale}. What was asked before is given up.
export const useAsked = (ask, key, pause = PAUSE_MS) => {
  const [state, setState] = useState({ isStale: true });
  const latest = useRef(ask);
  latest.current = ask;
  useEffect(() => {
    if (key === null) { setState({}); return undefined; }
    const controller = new AbortController();
    setState((old) => ({ ...old, isStale: true }));
    const timer = setTimeout(async () => {
      try {
        const data = await latest.current(controller.signal);
        if (!controller.signal.aborted) setState({ data });
      } catch (error) {
        if (!controller.signal.aborted) setState((old) => ({ data: old.data, error, isRefused: true }));
      }
    }, pause);
    return () => { clearTimeout(timer); controller.abort(); };
  }, [key]);
  return state;
};

export const usePrediction = (path, row, coverage, key) =>
  useAsked(async (signal) => {
    const body = { rows: [row], detail: true, ...(coverage ? { coverage } : {}) };
    return (await postJson(path, body, { signal })).predictions[0];
  }, `${path}|${coverage}|${key}`);

export const useExplanation = (path, row, key, isWanted) =>
  useAsked(async (signal) => (await postJson(path, { rows: [row], explain: true }, { signal })).predictions[0], isWanted ? `${path}|${key}` : null, EXPLAIN_PAUSE_MS);
