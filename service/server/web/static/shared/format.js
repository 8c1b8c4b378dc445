// One format for numbers on every page: digits in groups, at most four that count, units with a narrow space.

const THIN = "\u202f"; // keeps a number and its unit on one line
const GROUPED = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
export const NONE = "–";

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);
const group = (text) => text.replace(/,/g, THIN);

// A number with `digits` that count; without an exponent from 0.0001 to a billion.
export const number = (value, digits = 4) => {
  if (!isNumber(value)) return NONE;
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size < 1e-4 || size >= 1e12) return value.toExponential(Math.max(digits - 2, 0)).replace("e+", "e").replace("-", "−");
  if (Number.isInteger(value) || size >= 10 ** digits) return group(GROUPED.format(value)).replace("-", "−");
  return group(new Intl.NumberFormat("en", { maximumSignificantDigits: digits }).format(value)).replace("-", "−");
};

export const count = (value) => (isNumber(value) ? group(GROUPED.format(value)) : NONE);
// A share below all of it is never shown as 100 %: it gets two digits more.
export const percent = (share, digits = 3) => {
  if (!isNumber(share)) return NONE;
  const text = number(100 * share, digits);
  return `${share < 1 && text === "100" ? number(100 * share, digits + 2) : text}${THIN}%`;
};
export const rate = (value, unit = "") => (isNumber(value) ? `${number(value, value < 10 ? 2 : 3)}${unit ? ` ${unit}` : ""}/s` : NONE);

export const seconds = (value) => {
  if (!isNumber(value)) return NONE;
  if (value === 0) return `0${THIN}s`;
  if (value < 1e-3) return `${number(value * 1e6, 3)}${THIN}µs`;
  if (value < 1) return `${number(value * 1e3, 3)}${THIN}ms`;
  if (value < 120) return `${number(value, 3)}${THIN}s`;
  if (value < 7200) return `${number(value / 60, 2)}${THIN}min`;
  return value < 172800 ? `${number(value / 3600, 2)}${THIN}h` : `${number(value / 86400, 2)}${THIN}d`;
};

export const bytes = (value) => {
  if (!isNumber(value)) return NONE;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let place = 0;
  for (; value >= 1024 && place < units.length - 1; place += 1) value /= 1024;
  return `${number(value, 3)}${THIN}${units[place]}`;
};

export const time = (epochSeconds) =>
  isNumber(epochSeconds) && epochSeconds > 0 ? `${new Date(epochSeconds * 1000).toISOString().slice(0, 19).replace("T", " ")} UTC` : NONE;

// A moment as bundles and checks write it (ISO 8601 in UTC), without the parts of a second.
export const momentOf = (text) => (text ? `${text.slice(0, 19).replace("T", " ")} UTC` : NONE);

export const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;
