// Lines over time or over any x, by uPlot. Colours are those of shared/style.css.

import uPlot from "../vendor/uplot/uPlot.esm.js";
import { number } from "./format.js";
import { html, useEffect, useRef } from "./view.js";

const style = new URL("../vendor/uplot/uPlot.min.css", import.meta.url).href;
document.head.prepend(Object.assign(document.createElement("link"), { rel: "stylesheet", href: style }));

const scheme = matchMedia("(prefers-color-scheme: dark)");
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

const CLOCK = (_, ticks) => ticks.map((at) => new Date(at * 1000).toTimeString().slice(0, 8));

// The first readings stand at the right end of a minute, so that the axis has times from the start.
const LEAST_TIME_S = 60;
const timeRange = (_, low, high) => [Math.min(low, high - LEAST_TIME_S), high];
const WHOLE_STEPS = [1, 2, 5].flatMap((step) => Array.from({ length: 10 }, (_, power) => step * 10 ** power)).sort((one, other) => one - other);

const optionsOf = ({ series, format, xFormat, xLabel, isTime, isWhole, height, width, yRange, scales }) => {
  const axis = { stroke: colour("soft"), grid: { stroke: colour("line"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif", size: 30 };
  return {
    width,
    height,
    cursor: { y: false, points: { size: 7 }, drag: { x: false, y: false } },
    legend: { live: true },
    scales: { x: { time: false, ...(isTime ? { range: timeRange } : {}) }, y: { range: yRange || ((_, low, high) => [Math.min(low ?? 0, 0), high > 0 ? high * 1.08 : 1]) }, ...scales },
    axes: [
      { ...axis, space: isTime ? 90 : 60, values: isTime ? CLOCK : (_, ticks) => ticks.map((at) => xFormat(at)) },
      { ...axis, size: 62, space: 28, ...(isWhole ? { incrs: WHOLE_STEPS } : {}), values: (_, ticks) => ticks.map((at) => (at === null ? "" : format(at))) },
    ],
    series: [
      { label: isTime ? "Time" : xLabel, value: (_, at) => (at === null ? "" : isTime ? new Date(at * 1000).toTimeString().slice(0, 8) : xFormat(at)) },
      ...series.map(({ label, colour: name, dash, fill, isPoint }) => ({
        label,
        stroke: colour(name),
        width: 2,
        dash,
        fill: fill ? `color-mix(in srgb, ${colour(name)} 14%, transparent)` : undefined,
        points: isPoint ? { show: true, size: 9, fill: colour(name) } : { show: false },
        value: (_, value) => (value === null || value === undefined ? "–" : format(value)),
      })),
    ],
  };
};

// Lines. `data`: [xs, ys of the first series, …]; `series`: [{label, colour: "series-1", dash, fill, isPoint: a mark, no line}]; `isWhole`: of counts; `summary` says in words
// what the lines show, for those who cannot see them.
export const Lines = ({ data, series, summary, format = number, xFormat = number, xLabel = "x", isTime = false, isWhole = false, height = 180, yRange, scales }) => {
  const place = useRef(null);
  const plot = useRef(null);
  const latest = useRef(data);
  latest.current = data;
  const shape = series.map((one) => `${one.label}|${one.colour}`).join();
  useEffect(() => {
    const draw = () => {
      plot.current?.destroy();
      const width = Math.max(place.current.clientWidth, 120);
      plot.current = new uPlot(optionsOf({ series, format, xFormat, xLabel, isTime, isWhole, height, width, yRange, scales }), latest.current, place.current);
    };
    draw();
    const resized = new ResizeObserver(() => {
      const width = place.current?.clientWidth;
      if (width && plot.current && Math.abs(width - plot.current.width) > 1) plot.current.setSize({ width, height });
    });
    resized.observe(place.current);
    scheme.addEventListener("change", draw);
    return () => { resized.disconnect(); scheme.removeEventListener("change", draw); plot.current?.destroy(); plot.current = null; };
  }, [shape, height, isTime]);
  useEffect(() => {
    plot.current?.setData(data);
    if (isTime && plot.current && !(plot.current.cursor.left >= 0)) plot.current.setLegend({ idx: data[0].length - 1 }); // the newest values
  }, [data]);
  return html`<div class="chart" role="img" aria-label=${summary} ref=${place}></div>`;
};
