/** Predict with a Batchproof bundle in a browser or in Node: the bits of the service, or a refusal. */

export type Label = string | number | boolean;

export interface TextRule {
  missing: string[];
  usual_missing: boolean;
  strip: boolean;
  decimal: string;
  thousands: string;
  affixes: string[];
  date_format: string | null;
}

/** One input of a model, as bundle.json describes it. */
export interface Feature {
  name: string;
  kind: 'numeric' | 'categorical' | 'date';
  value_type: 'float' | 'integer' | 'boolean' | 'string' | 'date';
  missing: boolean;
  range?: [number, number] | null;
  categories?: string[] | null;
  typical?: Label | null;
  text_rule?: Partial<TextRule> | null;
}

export interface Signature {
  inputs: Feature[];
  /** The predicted column; absent where there are several. */
  target?: string | null;
  /** Several predicted numbers, in the order of the output `value`. */
  targets?: string[] | null;
  classes?: Label[] | null;
  ignored?: string[] | null;
}

export interface Uncertainty {
  method: 'split-conformal';
  calibration_rows: number;
  coverages: number[];
  edges: number[];
  thresholds: number[][];
  tested: object;
}

/** The content of bundle.json. */
export interface Manifest {
  format: string;
  format_version: number;
  sha256: string;
  name: string;
  version: number;
  task: 'binary' | 'multiclass' | 'regression';
  signature: Signature;
  arithmetic: { kind: 'float32' | 'exact'; certificate?: object | null; accuracy?: object | null };
  files: Record<string, { sha256: string; bytes: number }>;
  metrics: object;
  provenance: object;
  uncertainty?: Uncertainty | null;
  /** Of two classes: the label is the second where its probability is at least the threshold. */
  decision?: { threshold: number; rule: string; rows?: number } | null;
  /** The levels of the quantiles beside a value, ascending. */
  quantiles?: number[] | null;
  /** In place of `uncertainty` where there are several targets: that of each, in their order. */
  uncertainties?: Uncertainty[] | null;
}

export interface LoadOptions {
  /** The onnxruntime-web module; by default it is imported by that name, with one thread. */
  ort?: unknown;
  /** How files are fetched, for example with an Authorization header. */
  fetch?: typeof fetch;
  /**
   * Accept a float32 bundle whose golden rows come out within 1e-5 + 1e-5·|value| here. Its predictions then differ from the
   * service's in their last bits. Bundles of exact arithmetic are held to the bits in any case.
   */
  tolerate?: boolean;
}

export interface PredictOptions {
  /** The order of values in rows that are lists. */
  columns?: string[] | null;
  /** `stop` refuses all rows where one is bad; `row` puts the error in its place. */
  on_error?: 'stop' | 'request' | 'row';
  /** Adds `set`, `interval`, or of several targets `intervals`. */
  coverage?: number;
  /** Adds `explanation`, or of several targets `explanations`: what each feature adds to the score. It runs up to 256 rows for each, above 8 features about 32 times their number. */
  explain?: boolean;
  /** Adds `unseen`, `out_of_range` and, for exact models, `saturated`. */
  detail?: boolean;
}

/** One prediction: with `label` and `probabilities`, `value`, or `values`; or the `error` of a bad row. */
export interface Prediction {
  label?: Label;
  probabilities?: Record<string, number | null>;
  value?: number | null;
  /** Of several targets: each by its name. */
  values?: Record<string, number | null>;
  /** Of bundles with quantiles: each by its level, such as `0.9`. */
  quantiles?: Record<string, number | null>;
  set?: Label[];
  interval?: [number | null, number | null];
  intervals?: Record<string, [number | null, number | null]>;
  coverage?: number;
  explanation?: Explanation;
  explanations?: Record<string, Explanation>;
  unseen?: string[];
  out_of_range?: string[];
  saturated?: boolean;
  error?: { code: string; message: string; details: Problem[] };
}

/** Why a row has its score: `contributions` sum to `score` less `baseline`, the score of the typical row. */
export interface Explanation {
  /** The predicted class's score less the mean over classes, or the value. */
  score: number | null;
  baseline: number | null;
  contributions: Record<string, number | null>;
  /** The sampling error of each contribution; 0 where it is exact. */
  standard_errors: Record<string, number | null>;
}

export interface Problem {
  row: number | null;
  feature: string | null;
  message: string;
}

export interface Fingerprint {
  sha256: string;
  arithmetic: 'float32' | 'exact';
  engine: string;
  device: string;
  /** How this engine reproduced the golden rows: `bit for bit`, or `within 0.00001`. */
  golden: string;
}

export interface Answer {
  predictions: Prediction[];
  model: { name: string; version: number; fingerprint: Fingerprint };
}

/** One output of the graph, row by row. */
export interface Output {
  data: Float32Array | Uint8Array;
  dims: [number, number];
}

export type Outputs = Record<string, Output>;

/** What is refused: one sentence, a stable code, and each problem. */
export class Refusal extends Error {
  readonly code: string;
  readonly details: Problem[];
  readonly truncated: boolean;
}

/** A loaded bundle that has reproduced its golden rows in this engine. */
export class Model {
  readonly name: string;
  readonly version: number;
  readonly manifest: Manifest;
  readonly isExact: boolean;
  readonly fingerprint: Fingerprint;
  /** Predict rows, with the answer of `POST /predict`. */
  predict(rows: readonly unknown[], options?: PredictOptions): Promise<Answer>;
  /** Return every bit of the graph's outputs. */
  outputs(rows: readonly unknown[], options?: { columns?: string[] | null }): Promise<Outputs>;
  /** Free the engine's memory. */
  close(): Promise<void>;
}

/** Load a bundle from the address of its folder or from its files, check it, and reproduce its golden rows. */
export function load(
  source: string | URL | Record<string, Uint8Array | ArrayBuffer>,
  options?: LoadOptions,
): Promise<Model>;
