// The bits of float32 numbers, as eight hex digits with the sign first.

const view = new DataView(new ArrayBuffer(4));

export const bitsOf = (value) => {
  view.setFloat32(0, Math.fround(value));
  return view.getUint32(0).toString(16).padStart(8, "0");
};

// The numbers of a prediction: [{label, value}].
export const numbersOf = (prediction) => {
  if ("values" in prediction) return Object.entries(prediction.values).map(([label, value]) => ({ label, value }));
  return "value" in prediction
    ? [{ label: "value", value: prediction.value }, ...Object.entries(prediction.quantiles ?? {}).map(([level, value]) => ({ label: `quantile ${level}`, value }))]
    : Object.entries(prediction.probabilities).map(([label, value]) => ({ label, value }));
};
