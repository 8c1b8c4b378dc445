// What two readings of the counts say: rates, percentiles and shares between them. See GET /metrics with Accept: application/json.

const sum = (values) => values.reduce((total, value) => total + value, 0);

// The value below which `share` of a histogram's counts lie, between the bounds of its bucket; null where nothing was counted.
export const percentile = (counts, bounds, share) => {
  const total = sum(counts);
  if (!total) return null;
  const wanted = share * total;
  let below = 0;
  for (let place = 0; place < counts.length; place += 1) {
    if (below + counts[place] >= wanted && counts[place]) {
      const low = place ? bounds[place - 1] : 0;
      const high = place < bounds.length ? bounds[place] : bounds[bounds.length - 1];
      return low + ((high - low) * (wanted - below)) / counts[place];
    }
    below += counts[place];
  }
  return bounds[bounds.length - 1];
};

const minus = (now, before) => now.map((value, place) => Math.max(value - (before?.[place] ?? 0), 0));
const minusEach = (now, before = {}) =>
  Object.fromEntries(Object.entries(now).map(([name, value]) => [name, Math.max(value - (before[name] || 0), 0)]));

export const keyOf = (model) => `${model.name}/${model.version}`;

// What happened to one model between two readings of it; `before` may be missing: nothing had happened yet.
const differenceOf = (now, before) => ({
  answered: now.answered - (before?.answered ?? 0),
  rows: now.rows - (before?.rows ?? 0),
  refusals: minusEach(now.refusals, before?.refusals),
  seconds: minus(now.seconds, before?.seconds),
  runs: minus(now.runs_by_rows, before?.runs_by_rows),
  runRows: now.run_rows - (before?.run_rows ?? 0),
  stages: minusEach(now.stages_s, before?.stages_s),
});

const EMPTY = { answered: 0, rows: 0, refusals: {}, seconds: [], runs: [], runRows: 0, stages: {} };

const added = (one, other) => ({
  answered: one.answered + other.answered,
  rows: one.rows + other.rows,
  refusals: addedEach(one.refusals, other.refusals),
  seconds: other.seconds.map((value, place) => value + (one.seconds[place] || 0)),
  runs: other.runs.map((value, place) => value + (one.runs[place] || 0)),
  runRows: one.runRows + other.runRows,
  stages: addedEach(one.stages, other.stages),
});

const addedEach = (one, other) => {
  const total = { ...one };
  for (const [name, value] of Object.entries(other)) total[name] = (total[name] || 0) + value;
  return total;
};

// Two readings to {seconds between them, all models together, each model by name and version}.
export const between = (now, before) => {
  const earlier = new Map(before.models.map((model) => [keyOf(model), model]));
  const models = new Map(now.models.map((model) => [keyOf(model), differenceOf(model, earlier.get(keyOf(model)))]));
  return { seconds: Math.max(now.time_s - before.time_s, 0.001), all: [...models.values()].reduce(added, EMPTY), models };
};

// A difference as figures: {requests a second, rows a second, p50 and p99 in seconds, share of requests that failed}.
export const figuresOf = (change, seconds, bounds) => {
  const refused = sum(Object.values(change.refusals));
  const requests = change.answered + refused;
  return {
    requests,
    requestRate: requests / seconds,
    rowRate: change.rows / seconds,
    p50: percentile(change.seconds, bounds.seconds, 0.5),
    p90: percentile(change.seconds, bounds.seconds, 0.9),
    p99: percentile(change.seconds, bounds.seconds, 0.99),
    refused,
    refusedShare: requests ? refused / requests : 0,
    batchRows: sum(change.runs) ? change.runRows / sum(change.runs) : null,
  };
};
