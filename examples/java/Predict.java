import java.io.IOException;
import java.math.BigDecimal;
import java.math.MathContext;
import java.math.RoundingMode;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * Predicts with a bundle in Java, with nothing but the JDK: java -cp build/java Predict BUNDLE [ROWS.json].
 *
 * It checks the checksums and reproduces the golden rows: bit for bit for exact arithmetic, within 1e-5 for float32. Then it answers bodies of
 * POST /predict, {"rows": […], "columns": […], "coverage": 0.9}, one after another from a file or from standard input, with a line for each:
 * {"predictions": […]}, or {"error": {"message": …}}, and then it ends with 1.
 */
public final class Predict {
    private static final double TOLERANCE = 1e-5, SLACK = 1e-9;
    private static final List<String> KNOWN = List.of("rows", "columns", "coverage");

    private final Path folder;
    private final Map<String, Object> manifest;
    private final Rows rows;
    private final Graph graph;
    private final boolean isExact;

    public static void main(String[] words) throws IOException {
        if (words.length < 1 || words.length > 2 || words[0].startsWith("-")) {
            System.err.println("usage: java -cp build/java Predict BUNDLE [ROWS.json]   (rows from standard input if no file is named)");
            System.exit(2);
        }
        boolean isRefused = false;
        try {
            Predict model = new Predict(Path.of(words[0]));
            byte[] bodies = words.length == 1 || words[1].equals("-") ? System.in.readAllBytes() : read(Path.of(words[1]));
            for (Object body : Json.read(new String(bodies, StandardCharsets.UTF_8), "the rows")) {
                Map<String, Object> answer = model.answer(body);
                isRefused |= answer.containsKey("error");
                System.out.write((Json.write(answer) + "\n").getBytes(StandardCharsets.UTF_8));
            }
        } catch (Refused error) {
            System.err.println("refused: " + error.getMessage());
            isRefused = true;
        } catch (RuntimeException error) { // a field of another type, or numbers that do not fit one another
            System.err.println("refused: the bundle is not as docs/bundle.md says: " + error);
            isRefused = true;
        }
        System.out.flush();
        System.exit(isRefused ? 1 : 0);
    }

    /** Loads a bundle and reproduces its golden rows. */
    public Predict(Path folder) {
        this.folder = folder;
        byte[] raw = read(folder.resolve("bundle.json"));
        manifest = object(raw, "bundle.json");
        String seal = String.valueOf(manifest.get("sha256")), text = new String(raw, StandardCharsets.ISO_8859_1);
        if (!seal.matches("[0-9a-f]{64}") || !digest(text.replace(seal, "0".repeat(64)).getBytes(StandardCharsets.ISO_8859_1)).equals(seal)) {
            throw new Refused("bundle.json was changed: its seal does not fit");
        }
        if (!"batchproof-bundle".equals(manifest.get("format")) || !List.of("1", "2", "3", "4", "5").contains(Json.write(manifest.get("format_version")))) {
            throw new Refused("bundle.json is not of a format that this reader knows: versions 1 to 5");
        }
        isExact = "exact".equals(map(manifest, "arithmetic").get("kind"));
        rows = new Rows(map(manifest, "signature"));
        graph = new Graph(checked("model.onnx"));
        reproduce(object(checked("golden.json"), "golden.json"));
    }

    private Map<String, Object> answer(Object body) {
        try {
            return Map.of("predictions", predict(object(body, "the rows")));
        } catch (Refused error) {
            return Map.of("error", Map.of("message", error.getMessage()));
        }
    }

    /** Answers a body of POST /predict; returns one prediction for each row. */
    public List<Map<String, Object>> predict(Map<String, Object> body) {
        for (String field : body.keySet()) {
            if (!KNOWN.contains(field)) {
                throw new Refused("unknown field '" + field + "'; known are " + String.join(", ", KNOWN));
            }
        }
        if (!(body.get("rows") instanceof List<?> given) || !(body.get("columns") == null || body.get("columns") instanceof List<?>)) {
            throw new Refused("rows must be a list of rows, and columns a list of feature names");
        }
        int level = body.get("coverage") == null ? -1 : level(body.get("coverage"));
        List<Map<String, Object>> predictions = new ArrayList<>();
        if (given.isEmpty()) {
            return predictions;
        }
        Map<String, Graph.Tensor> found = graph.run(rows.encode(given, (List<?>) body.get("columns")));
        for (int row = 0; row < given.size(); row++) {
            Graph.Tensor value = found.get("value");
            predictions.add(value == null ? classes(found.get("probabilities"), row, level)
                    : map(manifest, "signature").get("targets") != null ? values(value, row, level)
                    : value(value.data()[row], found.get("quantiles"), row, level));
        }
        return predictions;
    }

    /** The names of the predicted columns: one, or several. */
    static List<String> targets(Map<String, Object> signature) {
        List<String> names = new ArrayList<>();
        if (signature.get("targets") instanceof List<?> several) {
            several.forEach(name -> names.add((String) name));
        } else {
            names.add((String) signature.get("target"));
        }
        return names;
    }

    private Map<String, Object> values(Graph.Tensor value, int row, int level) {
        List<String> targets = targets(map(manifest, "signature"));
        Map<String, Object> prediction = new LinkedHashMap<>(), named = new LinkedHashMap<>(), intervals = new LinkedHashMap<>();
        for (int place = 0; place < targets.size(); place++) {
            double each = value.data()[row * targets.size() + place];
            named.put(targets.get(place), shortest((float) each));
            if (level >= 0) {
                intervals.put(targets.get(place), interval(conformal(place), each, level));
            }
        }
        prediction.put("values", named);
        if (level >= 0) {
            prediction.put("intervals", intervals);
            prediction.put("coverage", list(conformal(0), "coverages").get(level));
        }
        return prediction;
    }

    /** The thresholds of the target at this place. */
    private Map<String, Object> conformal(int place) {
        if (manifest.get("uncertainties") instanceof List<?> each) {
            return map(Map.of("one", each.get(place)), "one");
        }
        return map(manifest, "uncertainty");
    }

    private static List<Json.Number> interval(Map<String, Object> conformal, double value, int level) {
        int bin = (int) list(conformal, "edges").stream().filter(edge -> ((Json.Number) edge).value() <= value).count();
        double half = threshold(conformal, bin, level);
        return List.of(shortest((float) (value - half)), shortest((float) (value + half)));
    }

    private Map<String, Object> value(double value, Graph.Tensor quantiles, int row, int level) {
        Map<String, Object> prediction = new LinkedHashMap<>();
        prediction.put("value", shortest((float) value));
        if (quantiles != null) {
            List<?> levels = list(manifest, "quantiles");
            Map<String, Object> named = new LinkedHashMap<>();
            for (int place = 0; place < levels.size(); place++) {
                named.put(Json.write(levels.get(place)), shortest((float) quantiles.data()[row * levels.size() + place]));
            }
            prediction.put("quantiles", named);
        }
        if (level >= 0) {
            prediction.put("interval", interval(conformal(0), value, level));
            prediction.put("coverage", list(map(manifest, "uncertainty"), "coverages").get(level));
        }
        return prediction;
    }

    private Map<String, Object> classes(Graph.Tensor probabilities, int row, int level) {
        List<?> classes = list(map(manifest, "signature"), "classes");
        Map<String, Object> prediction = new LinkedHashMap<>(), named = new LinkedHashMap<>();
        List<Object> set = new ArrayList<>();
        int width = classes.size(), best = 0;
        double[] p = Arrays.copyOfRange(probabilities.data(), row * width, (row + 1) * width);
        for (int k = 0; k < width; k++) {
            best = p[k] > p[best] ? k : best;
            named.put(classes.get(k) instanceof String text ? text : Json.write(classes.get(k)), shortest((float) p[k]));
        }
        boolean hasDecision = manifest.get("decision") != null;
        int label = hasDecision ? (p[1] >= ((Json.Number) map(manifest, "decision").get("threshold")).value() ? 1 : 0) : best;
        prediction.put("label", classes.get(label));
        prediction.put("probabilities", named);
        if (level >= 0) {
            for (int k = 0; k < width; k++) {
                if (k == best || 1 - p[k] <= threshold(conformal(0), 0, level)) {
                    set.add(classes.get(k));
                }
            }
            prediction.put("set", set);
            prediction.put("coverage", list(map(manifest, "uncertainty"), "coverages").get(level));
        }
        return prediction;
    }

    /** The place of the least stored coverage that is at least the requested one. */
    private int level(Object coverage) {
        if (manifest.get("uncertainty") == null && manifest.get("uncertainties") == null) {
            throw new Refused("coverage is not available: the bundle has no thresholds");
        }
        double wanted = coverage instanceof Json.Number number ? number.value() : Double.NaN;
        List<?> coverages = list(conformal(0), "coverages");
        for (int place = 0; wanted > 0 && wanted < 1 && place < coverages.size(); place++) {
            if (((Json.Number) coverages.get(place)).value() >= wanted - SLACK) {
                return place;
            }
        }
        throw new Refused("coverage must be a number above 0 and at most " + Json.write(coverages.get(coverages.size() - 1)));
    }

    private static double threshold(Map<String, Object> conformal, int bin, int level) {
        return ((Json.Number) ((List<?>) list(conformal, "thresholds").get(bin)).get(level)).value();
    }

    private void reproduce(Map<String, Object> golden) {
        Map<String, Graph.Tensor> found = graph.run(rows.encode(list(golden, "rows"), null));
        for (String name : map(golden, "outputs").keySet()) {
            byte[] stored = HexFormat.of().parseHex((String) map(map(golden, "outputs"), name).get("hex"));
            double[] data = found.get(name).data();
            boolean isBool = found.get(name).type() == Graph.BOOL;
            ByteBuffer bytes = ByteBuffer.wrap(stored).order(ByteOrder.LITTLE_ENDIAN);
            for (int i = 0; i < data.length; i++) {
                float wanted = isBool ? bytes.get() : bytes.getFloat(), given = (float) data[i];
                boolean isSame = Float.floatToRawIntBits(wanted) == Float.floatToRawIntBits(given);
                if (!isSame && (isExact || isBool || !(Math.abs((double) given - wanted) <= TOLERANCE + TOLERANCE * Math.abs(wanted)))) {
                    int width = found.get(name).shape()[1];
                    String place = name + "[" + i % width + "]";
                    throw new Refused("golden row " + i / width + " gives " + place + " = " + given + ", but golden.json has " + wanted);
                }
            }
        }
    }

    /** The decimal with the fewest digits that reads back to the same float32; of those the nearest. */
    static Json.Number shortest(float value) {
        if (!Float.isFinite(value)) {
            return null;
        }
        if (value == 0) {
            return new Json.Number(1 / value < 0 ? "-0.0" : "0.0");
        }
        BigDecimal exact = new BigDecimal(value);
        for (int digits = 1;; digits++) {
            for (RoundingMode mode : new RoundingMode[] {RoundingMode.HALF_EVEN, RoundingMode.UP}) { // below a power of two the nearest may fail
                BigDecimal near = exact.round(new MathContext(digits, mode));
                String text = near.scale() < 0 && near.scale() > -16 ? near.toPlainString() : near.toString();
                if (Float.parseFloat(text) == value) {
                    return new Json.Number(text);
                }
            }
        }
    }

    private byte[] checked(String name) {
        byte[] bytes = read(folder.resolve(name));
        if (!(map(manifest, "files").get(name) instanceof Map<?, ?> entry) || !digest(bytes).equals(entry.get("sha256"))) {
            throw new Refused(name + " was changed: its checksum is not the one in bundle.json");
        }
        return bytes;
    }

    private static byte[] read(Path path) {
        try {
            return Files.readAllBytes(path);
        } catch (IOException error) {
            throw new Refused(path + " cannot be read");
        }
    }

    private static String digest(byte[] bytes) {
        try {
            return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(bytes));
        } catch (GeneralSecurityException error) {
            throw new IllegalStateException(error); // every JDK has SHA-256
        }
    }

    private static Map<String, Object> object(byte[] bytes, String name) {
        List<Object> values = Json.read(new String(bytes, StandardCharsets.UTF_8), name);
        return object(values.size() == 1 ? values.get(0) : null, name);
    }

    @SuppressWarnings("unchecked")
    private static Map<String, Object> object(Object value, String name) {
        if (value instanceof Map<?, ?> map) {
            return (Map<String, Object>) map;
        }
        throw new Refused(name + ": an object is expected");
    }

    @SuppressWarnings("unchecked")
    private static Map<String, Object> map(Map<String, Object> parent, String field) {
        if (parent.get(field) instanceof Map<?, ?> map) {
            return (Map<String, Object>) map;
        }
        throw new Refused("the object '" + field + "' is missing or of another type");
    }

    private static List<?> list(Map<String, Object> parent, String field) {
        if (parent.get(field) instanceof List<?> list) {
            return list;
        }
        throw new Refused("the list '" + field + "' is missing or of another type");
    }
}
