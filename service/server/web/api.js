"use strict";

// Draws openapi.json as a page: every operation with its fields, examples and a form that sends it. No library, no CDN.

const make = (tag, props = {}, ...children) => {
  const node = Object.assign(document.createElement(tag), props);
  node.append(...children);
  return node;
};

const resolve = (api, schema) => {
  if (!schema || !schema.$ref) return schema || {};
  return schema.$ref.slice(2).split("/").reduce((part, key) => part[key], api);
};

const kindOf = (api, schema) => {
  const found = resolve(api, schema);
  if (found.enum && found.enum.length > 4) return typeof found.enum[0];
  if (found.enum) return found.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (found.anyOf) return found.anyOf.map((one) => kindOf(api, one)).join(" or ");
  if (found.type === "array") return found.items ? `list of ${kindOf(api, found.items)}` : "list";
  return [found.type || "any"].flat().join(" or ");
};

const table = (heads, rows) =>
  make("div", { className: "scroll stacked" },
    make("table", {},
      make("thead", {}, make("tr", {}, ...heads.map((head) => make("th", { textContent: head, scope: "col" })))),
      make("tbody", {}, ...rows.map((cells) => make("tr", {}, ...cells.map((cell) => make("td", {}, cell)))))));

const code = (text) => make("code", { textContent: text });

// Text with words between backticks set as code.
const prose = (text) => make("span", {}, ...(text || "").split("`").map((part, place) => (place % 2 ? code(part) : part)));

const fieldsOf = (api, schema) => {
  const found = resolve(api, schema);
  return Object.entries(found.properties || {}).map(([name, part]) => [
    code(name),
    kindOf(api, part) + ((found.required || []).includes(name) ? "" : " (optional)"),
    prose(resolve(api, part).description),
  ]);
};

const rowFieldsOf = (api, schema) => {
  const rows = resolve(api, schema).properties?.rows;
  const named = rows && (resolve(api, rows).items?.anyOf || []).map((one) => resolve(api, one)).find((one) => one.properties);
  return named ? fieldsOf(api, named) : [];
};

const url = (path) => new URL(path.slice(1), document.baseURI).href;

const form = (path, verb, media) => {
  const body = media && make("textarea", { spellcheck: false, ariaLabel: "Request body" });
  const answer = make("pre", { hidden: true, tabIndex: 0 });
  const target = make("input", { value: path, hidden: !path.includes("{"), ariaLabel: "Path" });
  const send = make("button", { textContent: "Send", type: "button" });
  const parts = [];
  const examples = Object.entries(media?.examples || {});
  if (body && examples.length) {
    const choice = make("select", { ariaLabel: "Example" }, ...examples.map(([key, one]) => make("option", { value: key, textContent: one.summary || key })));
    const show = () => { body.value = JSON.stringify(media.examples[choice.value].value, null, 1); };
    choice.onchange = show;
    show();
    parts.push(choice);
  }
  send.onclick = async () => {
    const began = performance.now();
    try {
      const reply = await fetch(url(target.value), { method: verb, body: body ? body.value : undefined });
      const text = await reply.text();
      let shown = text;
      try { shown = JSON.stringify(JSON.parse(text), null, 1); } catch { /* the answer is not JSON: shown as it came */ }
      answer.textContent = `${reply.status} ${reply.statusText}, ${(performance.now() - began).toFixed(1)} ms\n\n${shown}`;
    } catch (error) {
      answer.textContent = `No answer: ${error.message}`;
    }
    answer.hidden = false;
  };
  return [make("h3", { textContent: "Try it" }), make("div", { className: "row" }, ...parts, target, send), ...(body ? [body] : []), answer];
};

const content = (api, path, verb, operation) => {
  const media = operation.requestBody?.content?.["application/json"];
  const parts = [];
  if (operation.description) parts.push(make("p", {}, prose(operation.description)));
  const section = (title, heads, rows) => { if (rows.length) parts.push(make("h3", { textContent: title }), table(heads, rows)); };
  section("Parameters", ["Name", "In", "Meaning"], (operation.parameters || []).map((one) => [code(one.name), one.in, prose(one.description)]));
  if (media) {
    section("Body", ["Field", "Type", "Meaning"], fieldsOf(api, media.schema));
    section("A row", ["Feature", "Type", "Meaning"], rowFieldsOf(api, media.schema));
  }
  section("Answers", ["Status", "Meaning"], Object.entries(operation.responses).map(([status, one]) => [code(status), prose(one.description)]));
  if (verb === "get" || media) parts.push(...form(path, verb.toUpperCase(), media));
  return parts;
};

const draw = (api) => {
  const place = document.getElementById("operations");
  document.getElementById("about").textContent = api.info.description;
  const tags = new Map();
  for (const [path, item] of Object.entries(api.paths))
    for (const [verb, operation] of Object.entries(item)) {
      const tag = (operation.tags || ["more"])[0];
      if (!tags.has(tag)) tags.set(tag, []);
      tags.get(tag).push([path, verb, operation]);
    }
  for (const [tag, operations] of tags) {
    place.append(make("h2", { textContent: tag[0].toUpperCase() + tag.slice(1) }));
    for (const [path, verb, operation] of operations) {
      const box = make("details", {}, make("summary", {},
        make("span", { className: "verb", textContent: verb.toUpperCase() }), code(path),
        make("span", { className: "soft", textContent: operation.summary || "" })));
      box.ontoggle = () => { if (box.open && box.children.length === 1) box.append(make("div", {}, ...content(api, path, verb, operation))); };
      place.append(box);
    }
  }
  const first = place.querySelector("details");
  if (first) first.open = true;
};

fetch(url("/openapi.json")).then((reply) => reply.json()).then(draw);
