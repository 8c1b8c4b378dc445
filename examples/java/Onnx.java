import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/** The parts of model.onnx that running it needs. The numbers of fields are those of onnx.proto. */
final class Onnx {
    /** One field of a protobuf message: a whole number, or bytes. */
    private record Field(int number, long whole, ByteBuffer bytes) {
        String text() {
            return StandardCharsets.UTF_8.decode(bytes.duplicate()).toString();
        }
    }

    final Map<String, Graph.Tensor> weights = new HashMap<>();
    final List<Graph.Node> nodes = new ArrayList<>();
    final List<String> outputs = new ArrayList<>();

    Onnx(byte[] model) {
        for (Field field : fields(ByteBuffer.wrap(model))) {
            if (field.number == 7) {
                fields(field.bytes).forEach(this::part);
            }
        }
    }

    private void part(Field field) {
        switch (field.number) {
            case 1 -> nodes.add(node(fields(field.bytes)));
            case 5 -> weight(fields(field.bytes));
            case 12 -> fields(field.bytes).stream().filter(one -> one.number == 1).forEach(one -> outputs.add(one.text()));
            default -> { } // names, descriptions and inputs
        }
    }

    private static Graph.Node node(List<Field> fields) {
        String op = "", output = "";
        List<String> inputs = new ArrayList<>();
        Map<String, Object> attributes = new HashMap<>();
        for (Field field : fields) {
            switch (field.number) {
                case 1 -> inputs.add(field.text());
                case 2 -> output = field.text();
                case 4 -> op = field.text();
                case 5 -> attribute(fields(field.bytes), attributes);
                default -> { }
            }
        }
        return new Graph.Node(op, inputs, output, attributes);
    }

    private static void attribute(List<Field> fields, Map<String, Object> attributes) {
        String name = "";
        List<Long> wholes = new ArrayList<>();
        boolean isList = false;
        for (Field field : fields) {
            switch (field.number) {
                case 1 -> name = field.text();
                case 3, 8 -> {
                    isList = field.number == 8;
                    addWholes(field, wholes);
                }
                default -> { }
            }
        }
        long[] list = wholes.stream().mapToLong(whole -> whole).toArray();
        attributes.put(name, isList || list.length != 1 ? list : (Object) list[0]);
    }

    private void weight(List<Field> fields) {
        int type = 0;
        String name = "";
        List<Long> shape = new ArrayList<>();
        ByteBuffer raw = null;
        for (Field field : fields) {
            switch (field.number) {
                case 1 -> addWholes(field, shape);
                case 2 -> type = (int) field.whole;
                case 8 -> name = field.text();
                case 9 -> raw = field.bytes;
                default -> throw new Refused("model.onnx keeps a weight in a way that this reader lacks (field " + field.number + ")");
            }
        }
        int[] lengths = shape.stream().mapToInt(Long::intValue).toArray();
        double[] data = new double[Arrays.stream(lengths).reduce(1, (v, w) -> v * w)];
        ByteBuffer bytes = raw == null ? ByteBuffer.allocate(0) : raw.order(ByteOrder.LITTLE_ENDIAN);
        for (int i = 0; i < data.length; i++) {
            data[i] = switch (type) {
                case Graph.FLOAT -> bytes.getFloat();
                case Graph.DOUBLE -> bytes.getDouble();
                case Graph.INT64 -> bytes.getLong();
                case Graph.BOOL -> bytes.get();
                default -> throw new Refused("model.onnx has weights of the data type " + type + ", which this reader lacks");
            };
        }
        weights.put(name, new Graph.Tensor(type, lengths, data));
    }

    /** A repeated whole number stands alone, or packed with others. */
    private static void addWholes(Field field, List<Long> into) {
        if (field.bytes == null) {
            into.add(field.whole);
        } else {
            for (ByteBuffer bytes = field.bytes.duplicate(); bytes.hasRemaining();) {
                into.add(varint(bytes));
            }
        }
    }

    private static List<Field> fields(ByteBuffer message) {
        List<Field> found = new ArrayList<>();
        for (ByteBuffer bytes = message.duplicate(); bytes.hasRemaining();) {
            long key = varint(bytes);
            int number = (int) (key >>> 3);
            switch ((int) (key & 7)) {
                case 0 -> found.add(new Field(number, varint(bytes), null));
                case 2 -> {
                    int length = (int) varint(bytes);
                    found.add(new Field(number, 0, bytes.slice(bytes.position(), length)));
                    bytes.position(bytes.position() + length);
                }
                case 5 -> found.add(new Field(number, bytes.order(ByteOrder.LITTLE_ENDIAN).getInt(), null));
                default -> throw new Refused("model.onnx has a field of a type that ONNX does not use");
            }
        }
        return found;
    }

    private static long varint(ByteBuffer bytes) {
        long value = 0;
        for (int shift = 0;; shift += 7) {
            byte part = bytes.get();
            value |= (long) (part & 0x7f) << shift;
            if (part >= 0) {
                return value;
            }
        }
    }
}
