// How every page is drawn: Preact with htm, so that a view is a function of its data and needs no build step.

import { Component, h, render } from "../vendor/preact/preact.mjs";
import htm from "../vendor/htm/htm.mjs";

export { Component, render };
export { useEffect, useMemo, useReducer, useRef, useState } from "../vendor/preact/hooks.mjs";
export const html = htm.bind(h);
