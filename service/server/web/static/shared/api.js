// Asking the service, with the key of the person who looks where it has keys. The key stays in this tab: sessionStorage.

const KEY = "batchproof.key";
const root = new URL(document.documentElement.dataset.root, location.href);
const listeners = new Set();

export const key = {
  get: () => sessionStorage.getItem(KEY) || "",
  set(value) {
    if (value) sessionStorage.setItem(KEY, value);
    else sessionStorage.removeItem(KEY);
    listeners.forEach((listener) => listener());
  },
};

// Calls `listener` when the key changes or the service asks for one; returns a function that ends that.
export const onKey = (listener) => {
  listeners.add(listener);
  return () => listeners.delete(listener);
};

// What the service last said of keys: "" where it asked for none, "needed" without a valid one, "lacking" where it opens less.
export const access = { state: "" };

const noteAccess = (status) => {
  const state = status === 401 ? "needed" : status === 403 ? "lacking" : access.state;
  if (state === access.state) return;
  access.state = state;
  listeners.forEach((listener) => listener());
};

// The address of a path such as "models/penguins", wherever a proxy has put the service.
export const url = (path) => new URL(path, root).href;
// The model that this page is about, and the version where the address names one.
export const addressed = () => {
  const [, name, version] = /^models\/([^/]+)(?:\/versions\/(\d+))?/.exec(location.pathname.slice(root.pathname.length)) || ["", "", ""];
  return { name: decodeURIComponent(name), version: version ? Number(version) : undefined };
};
export const modelPath = (name, version) => `models/${encodeURIComponent(name)}${version ? `/versions/${version}` : ""}`;

export class ApiError extends Error {
  constructor(status, code, message, requestId, details = []) {
    super(message);
    Object.assign(this, { status, code, requestId, details });
  }
}

const refusalOf = async (response) => {
  const text = await response.text();
  try {
    const { error, request_id: id } = JSON.parse(text);
    return new ApiError(response.status, error.code, error.message, id, error.details);
  } catch {
    return new ApiError(response.status, "", text.slice(0, 300) || `The service answered ${response.status}.`);
  }
};

// As fetch, with the key; raises ApiError for a refusal, and where the service cannot be reached.
export const ask = async (path, options = {}) => {
  const headers = new Headers(options.headers);
  if (key.get()) headers.set("authorization", `Bearer ${key.get()}`);
  let response;
  try {
    response = await fetch(url(path), { ...options, headers, credentials: "same-origin" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "unreachable", "The service cannot be reached.");
  }
  if (!response.ok) {
    noteAccess(response.status);
    throw await refusalOf(response);
  }
  return response;
};

export const getJson = async (path, options = {}) => {
  const response = await ask(path, { ...options, headers: { accept: "application/json", ...options.headers } });
  return response.json();
};

export const postJson = async (path, body, options = {}) => {
  const headers = { "content-type": "application/json", ...options.headers };
  return (await ask(path, { method: "POST", body: JSON.stringify(body), ...options, headers })).json();
};

// Saves `blob` as a file, as a link with the attribute `download` does.
export const save = (blob, name) => {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), KEPT_MS);
};
const KEPT_MS = 60_000; // by then the browser has read what it saves

// Calls `read` now and then every `seconds` while somebody looks at the page; returns a function that ends it.
export const poll = (read, seconds) => {
  let timer = 0;
  let isOver = false;
  let isReading = false;
  const turn = async () => {
    clearTimeout(timer);
    if (!document.hidden) {
      isReading = true;
      try { await read(); } finally { isReading = false; }
    }
    if (!isOver) timer = setTimeout(turn, seconds * 1000);
  };
  const onShow = () => { if (!document.hidden && !isReading) turn(); };
  document.addEventListener("visibilitychange", onShow);
  turn();
  return () => {
    isOver = true;
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", onShow);
  };
};
