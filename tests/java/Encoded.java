import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Map;

/** Prints what the reader makes of values: java Encoded, with {"inputs": […]} and then [feature, value], one after another, on standard input. */
final class Encoded {
    @SuppressWarnings("unchecked")
    public static void main(String[] words) throws Exception {
        List<Object> given = Json.read(new String(System.in.readAllBytes(), StandardCharsets.UTF_8), "standard input");
        List<Map<String, Object>> inputs = (List<Map<String, Object>>) ((Map<String, Object>) given.get(0)).get("inputs");
        List<Rows> readers = inputs.stream().map(feature -> new Rows(Map.of("target", "y", "inputs", List.of(feature)))).toList();
        StringBuilder out = new StringBuilder();
        for (Object asked : given.subList(1, given.size())) {
            int place = (int) ((Json.Number) ((List<?>) asked).get(0)).value();
            try {
                Map<String, Graph.Tensor> found = readers.get(place).encode(List.of(((List<?>) asked).subList(1, 2)), null);
                Graph.Tensor codes = found.get("categorical");
                out.append(codes != null ? String.valueOf((long) codes.data()[0]) : String.format("%016x", Double.doubleToLongBits(found.get("numeric").data()[0])));
            } catch (Refused error) {
                out.append("refused: ").append(error.getMessage().replace('\n', ' '));
            }
            out.append('\n');
        }
        System.out.write(out.toString().getBytes(StandardCharsets.UTF_8));
        System.out.flush();
    }
}
