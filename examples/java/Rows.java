import java.math.BigDecimal;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;

/** Rows of JSON values to the inputs of the graph, by the signature. */
final class Rows {
    private final List<Map<String, Object>> features;
    private final List<Texts> rules = new ArrayList<>(); // of each feature; null if it has none
    private final List<String> names, passedOver = new ArrayList<>();

    @SuppressWarnings("unchecked")
    Rows(Map<String, Object> signature) {
        features = (List<Map<String, Object>>) signature.get("inputs");
        features.forEach(feature -> rules.add(Texts.of(feature)));
        names = features.stream().map(feature -> (String) feature.get("name")).toList();
        passedOver.addAll(Predict.targets(signature));
        passedOver.addAll((List<String>) signature.getOrDefault("ignored", List.of()));
    }

    /** Returns `numeric` and `categorical`, each absent if its width would be 0. */
    Map<String, Graph.Tensor> encode(List<?> rows, List<?> columns) {
        double[][] encoded = new double[rows.size()][];
        for (int row = 0; row < encoded.length; row++) {
            encoded[row] = row(row, named(row, rows.get(row), columns == null ? names : columns, columns == null));
        }
        Map<String, Graph.Tensor> inputs = new LinkedHashMap<>();
        put(inputs, "numeric", Graph.DOUBLE, false, encoded);
        put(inputs, "categorical", Graph.INT64, true, encoded);
        return inputs;
    }

    private void put(Map<String, Graph.Tensor> inputs, String name, int type, boolean ofCategories, double[][] encoded) {
        int[] places = IntStream.range(0, names.size()).filter(i -> isCategory(features.get(i)) == ofCategories).toArray();
        double[] data = new double[encoded.length * places.length];
        for (int i = 0; i < data.length; i++) {
            data[i] = encoded[i / places.length][places[i % places.length]];
        }
        if (places.length > 0) {
            inputs.put(name, new Graph.Tensor(type, new int[] {encoded.length, places.length}, data));
        }
    }

    private Map<?, ?> named(int row, Object given, List<?> order, boolean mayBeObject) {
        if (given instanceof Map<?, ?> map && mayBeObject) {
            return map;
        }
        if (!(given instanceof List<?> list)) {
            String wanted = mayBeObject ? "an object {feature: value} or a list" : "a list in the order of columns";
            throw new Refused("row " + row + ": a row is " + wanted);
        }
        if (list.size() != order.size()) {
            throw new Refused("row " + row + ": it has " + list.size() + " values, but there are " + order.size());
        }
        Map<Object, Object> map = new LinkedHashMap<>();
        for (int i = 0; i < list.size(); i++) {
            if (map.containsKey(order.get(i))) {
                throw new Refused("columns names '" + order.get(i) + "' twice");
            }
            map.put(order.get(i), list.get(i));
        }
        return map;
    }

    private double[] row(int row, Map<?, ?> values) {
        for (Object name : values.keySet()) {
            if (!names.contains(name) && !passedOver.contains(name)) {
                throw new Refused("row " + row + ": unknown feature '" + name + "'; the features are " + String.join(", ", names));
            }
        }
        double[] numbers = new double[names.size()];
        for (int i = 0; i < numbers.length; i++) {
            String what = "row " + row + ", feature '" + names.get(i) + "': ";
            if (!values.containsKey(names.get(i))) {
                boolean mayMiss = Boolean.TRUE.equals(features.get(i).get("missing"));
                throw new Refused(what + "it is not in the row" + (mayMiss ? "; send null if it is not known" : ""));
            }
            try {
                numbers[i] = number(features.get(i), rules.get(i), values.get(names.get(i)));
            } catch (Refused error) {
                throw new Refused(what + error.getMessage());
            }
        }
        return numbers;
    }

    /** Returns a number, seconds since 1970 or a category's code; a missing number is NaN. */
    private static double number(Map<String, Object> feature, Texts rule, Object given) {
        Object value = rule == null ? given : rule.value(given);
        if (value == null) {
            return missing(feature);
        }
        return isCategory(feature) ? code(feature, value) : feature.get("kind").equals("date") ? date(feature, rule, value) : plain(feature, value);
    }

    private static double plain(Map<String, Object> feature, Object value) {
        boolean isFlag = feature.get("value_type").equals("boolean");
        if (value instanceof Boolean flag && isFlag) {
            return flag ? 1 : 0;
        }
        if (!(value instanceof Json.Number number)) {
            String wanted = isFlag ? "true, false, 1 or 0" : "a number";
            throw new Refused("expected " + wanted + ", got " + Json.write(value));
        }
        double found = number.value();
        if (Double.isInfinite(found)) {
            throw new Refused("expected a finite number within float64");
        }
        if (isFlag && found != 0 && found != 1) {
            throw new Refused("expected true, false, 1 or 0, got " + number.text());
        }
        return found;
    }

    private static double code(Map<String, Object> feature, Object value) {
        String text = categoryText(feature, value);
        List<?> categories = (List<?>) feature.get("categories");
        int place = categories.indexOf(text);
        return place < 0 ? categories.size() + 1 : place;
    }

    /** A category as bundle.json lists it: `a`, `3`, `true`. */
    private static String categoryText(Map<String, Object> feature, Object value) {
        switch ((String) feature.get("value_type")) {
            case "string":
                if (value instanceof String text) {
                    return text;
                }
                throw new Refused("expected a string, got " + Json.write(value));
            case "boolean":
                if (value instanceof Boolean || value instanceof Json.Number) {
                    return plain(feature, value) == 1 ? "true" : "false";
                }
                throw new Refused("expected true, false, 1 or 0, got " + Json.write(value));
            default:
                BigDecimal exact = value instanceof Json.Number number ? Texts.exact(number) : null;
                if (exact != null && exact.stripTrailingZeros().scale() <= 0) {
                    return exact.toBigInteger().toString();
                }
                throw new Refused("expected a whole number, got " + Json.write(value));
        }
    }

    private static double date(Map<String, Object> feature, Texts rule, Object value) {
        if (!(value instanceof String text)) {
            throw new Refused("expected an ISO 8601 date such as 2024-02-29 or 2024-02-29T12:30:00Z, got " + Json.write(value));
        }
        double found = (rule == null ? Dates.ISO_ONLY : rule.dates()).seconds(text);
        return rule != null && rule.isMissing(found) ? missing(feature) : found;
    }

    private static double missing(Map<String, Object> feature) {
        if (!Boolean.TRUE.equals(feature.get("missing"))) {
            throw new Refused("a missing value is not allowed, because the feature was never missing in training");
        }
        return isCategory(feature) ? ((List<?>) feature.get("categories")).size() : Double.NaN;
    }

    private static boolean isCategory(Map<String, Object> feature) {
        return feature.get("kind").equals("categorical");
    }
}
