// The OpenAPI document in Swagger UI, which loads here alone: searched by path and text, one model at a time where many are served.

import { getJson, key, url } from "../shared/api.js";
import { count } from "../shared/format.js";
import { start, useData } from "../shared/frame.js";
import { Failure, Loading } from "../shared/parts.js";
import { html, useEffect, useRef, useState } from "../shared/view.js";

const MANY_OPERATIONS = 60; // more than these are closed until somebody looks for one
const MODEL_PATH = /^\/(?:v[12]\/)?(?:repository\/)?models\/([^/{:]+)/;
const OTHERS = "Every model";
const MANY_MODELS = 10; // of more, one is shown first: Swagger UI takes seconds for thousands of operations

const loadScript = (file) => new Promise((done, failed) => {
  const script = document.createElement("script");
  Object.assign(script, { src: new URL(file, import.meta.url).href, onload: done, onerror: () => failed(new Error(`${file} did not load.`)) });
  document.head.append(script);
});

const loadStyle = (file) => new Promise((done, failed) => {
  const link = Object.assign(document.createElement("link"), { rel: "stylesheet", href: new URL(file, import.meta.url).href });
  Object.assign(link, { onload: done, onerror: () => failed(new Error(`${file} did not load.`)) });
  document.head.prepend(link); // before the page's own, which goes on top of it
});

const load = async () => {
  const [document_] = await Promise.all([
    getJson("openapi.json"),
    loadScript("../vendor/swagger-ui/swagger-ui-bundle.js"),
    loadStyle("../vendor/swagger-ui/swagger-ui.css"),
  ]);
  return document_;
};

const modelOf = (path) => MODEL_PATH.exec(path)?.[1];

// The part of the document about one model, or all of it: operations stand under their model's name.
const partOf = (whole, model) => {
  const paths = {};
  for (const [path, item] of Object.entries(whole.paths)) {
    const name = modelOf(path);
    if (name && model && name !== model) continue;
    paths[path] = Object.fromEntries(Object.entries(item).map(([verb, operation]) => [verb, name ? { ...operation, tags: [name] } : operation]));
  }
  const named = [...new Set(Object.keys(paths).map(modelOf).filter(Boolean))];
  const used = new Set(Object.values(paths).flatMap((item) => Object.values(item).flatMap((operation) => operation.tags || [])));
  return { ...whole, paths, tags: [...(whole.tags || []), ...named.map((name) => ({ name }))].filter(({ name }) => used.has(name)) };
};

// Swagger UI's own filter knows the names of groups only; this one looks at the path, the summary and the description too.
const Searching = () => ({
  fn: {
    opsFilter: (tagged, phrase) => {
      const words = phrase.toLowerCase().split(/\s+/).filter(Boolean);
      return tagged
        .map((group, tag) => group.set("operations", group.get("operations").filter((one) => {
          const text = [tag, one.get("method"), one.get("path"), one.getIn(["operation", "summary"]), one.getIn(["operation", "description"])].join(" ").toLowerCase();
          return words.every((word) => text.includes(word));
        })))
        .filter((group) => group.get("operations").size > 0);
    },
  },
});

// What a screen reader needs and Swagger UI leaves out: names of what may be chosen, and a way to what scrolls.
const mend = (place) => {
  place.querySelectorAll("select:not([aria-label]), textarea:not([aria-label]), input:not([aria-label], [type='submit'])").forEach((one) => {
    const row = one.closest("tr, .body-param, .response-control-media-type, .filter, .content-type-wrapper, .auth-container");
    const name = one.classList.contains("operation-filter-input") ? "Search the operations" : row?.querySelector(".parameter__name, label, h5, td")?.textContent || one.placeholder || "Value";
    one.setAttribute("aria-label", name.trim().slice(0, 80) || "Value");
    if (one.classList.contains("operation-filter-input")) one.placeholder = "Search by path or text";
  });
  place.querySelectorAll("pre:not([tabindex]), .highlight-code:not([tabindex]) pre").forEach((one) => { one.tabIndex = 0; });
};

// Swagger UI's parts below our own title: its own layout has a second <main>, and says again what the page says already.
const Layout = ({ React }) => ({
  components: {
    OperationsLayout: ({ getComponent, specSelectors }) => {
      const e = React.createElement;
      const [icons, filter, authorize, operations] = ["SvgAssets", "FilterContainer", "AuthorizeBtnContainer", "operations"]
        .map((name) => getComponent(name, true));
      const isKeyed = Boolean(specSelectors.securityDefinitions()?.size);
      return e("div", { className: "swagger-ui" }, e(icons), isKeyed && e("div", { className: "keys" }, e(authorize)), e(filter), e(operations));
    },
  },
});

const Viewer = ({ spec }) => {
  const place = useRef(null);
  useEffect(() => {
    const watching = new MutationObserver(() => mend(place.current));
    watching.observe(place.current, { childList: true, subtree: true });
    const operations = Object.values(spec.paths).reduce((sum, item) => sum + Object.keys(item).length, 0);
    const security = Object.keys(spec.components?.securitySchemes || {})[0];
    const ui = window.SwaggerUIBundle({
      domNode: place.current,
      spec: { ...spec, servers: [{ url: url("").replace(/\/$/, "") }] },
      deepLinking: false,
      docExpansion: operations > MANY_OPERATIONS ? "none" : "list",
      defaultModelsExpandDepth: -1,
      displayRequestDuration: true,
      filter: true,
      persistAuthorization: false,
      plugins: [Searching, Layout],
      layout: "OperationsLayout",
      syntaxHighlight: { activated: false },
      tryItOutEnabled: true,
      validatorUrl: null,
      onComplete: () => { if (security && key.get()) ui.preauthorizeApiKey(security, key.get()); },
    });
    return () => watching.disconnect();
  }, [spec]);
  return html`<h2 class="hidden">Operations</h2><div ref=${place}></div>`;
};

const scheme = matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", scheme.matches);
scheme.addEventListener("change", follow);
follow();

const Docs = () => {
  const { data, error } = useData(load);
  const [picked, setModel] = useState(new URLSearchParams(location.search).get("model"));
  if (error) return html`<h1>API</h1><${Failure} error=${error} what="The API’s description" />`;
  if (!data) return html`<h1>API</h1><${Loading} />`;
  const names = [...new Set(Object.keys(data.paths).map(modelOf).filter(Boolean))].sort();
  const model = picked ?? (names.length > MANY_MODELS ? names[0] : "");
  return html`
    <div class="title"><h1>API</h1><p class="lead">${data.info.description} As a document: <a href=${url("openapi.json")}>openapi.json</a>.</p></div>
    ${names.length > 1 && html`
      <div class="tools"><label>Model
        <select value=${model} onChange=${(event) => setModel(event.target.value)}>
          <option value="">${`${OTHERS} (${count(names.length)})`}</option>
          ${names.map((name) => html`<option value=${name}>${name}</option>`)}
        </select></label></div>`}
    <${Viewer} key=${model} spec=${partOf(data, model)} />`;
};

start(Docs);
