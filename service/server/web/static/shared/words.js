// The service's words in plain sentences: what a verdict means, how a task is called, which light drift has.

export const VERDICTS = {
  proved: { kind: "good", word: "Proved", sentence: "A row’s answer cannot depend on its batch: the file proves it, and no test on this host found a difference." },
  verified: { kind: "good", word: "Verified", sentence: "Each row had the same bits alone and in every batch that was tried on this host." },
  tiled: { kind: "good", word: "Verified, padded", sentence: "Each row had the same bits in every batch tried, because every run has one fixed size." },
  reported: { kind: "bad", word: "Not invariant", sentence: "A row’s bits change with its batch on this host; it is served because the setting invariance is report." },
  violated: { kind: "bad", word: "Broken", sentence: "While serving, a row had other bits alone than in its batch: the promise does not hold here." },
  failed: { kind: "bad", word: "Failed", sentence: "Bits change with the batch on this host, and no fixed size of runs helps." },
  undecided: { kind: "warn", word: "Undecided", sentence: "The time limit ended the check early; no bit changed so far." },
  unchecked: { kind: "warn", word: "Unchecked", sentence: "Nobody has checked this model on this host." },
};

export const verdictOf = (status) => VERDICTS[status] || { kind: "warn", word: status, sentence: "" };

export const TASKS = { multiclass: "one of several classes", binary: "one of two classes", regression: "a number" };
export const taskOf = (task) => TASKS[task] || task;
// What a model predicts: a class, a number, or several numbers.
export const predictedOf = ({ task, targets }) => (targets?.length > 1 ? `${targets.length} numbers` : taskOf(task));

// The length of a window of drift, as a person says it: "hour" for "1h".
export const spanOf = (window) => ({ "1h": "hour", "1d": "day" })[window] || window;

// The light of a model's drift, from its last windows that ended: [{window, rows, drifted}].
export const driftOf = (windows) => {
  const filled = (windows || []).filter((window) => window.rows > 0);
  if (!filled.length) return { kind: "plain", word: "no window yet" };
  const drifted = [...new Set(filled.flatMap((window) => window.drifted))];
  if (!drifted.length) return { kind: "good", word: "none" };
  return { kind: "warn", word: drifted.length === 1 ? drifted[0] : `${drifted.length} features` };
};
