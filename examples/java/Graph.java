import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.DoubleBinaryOperator;
import java.util.function.DoubleUnaryOperator;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import java.util.stream.Stream;

/** model.onnx, run without an engine: the operators that training writes. Every result of float32 is rounded to float32. */
final class Graph {
    static final int FLOAT = 1, INT64 = 7, BOOL = 9, DOUBLE = 11; // data types of ONNX

    /** Numbers in row-major order, held as float64, which has every float32, bool and category code. */
    record Tensor(int type, int[] shape, double[] data) {}

    /** One operation; its attributes are Long, or long[]. */
    record Node(String op, List<String> inputs, String output, Map<String, Object> attributes) {
        int whole(String attribute) {
            return ((Long) attributes.getOrDefault(attribute, 0L)).intValue();
        }
    }

    private final Onnx model;

    Graph(byte[] bytes) {
        model = new Onnx(bytes);
    }

    /** Returns every output by its name. */
    Map<String, Tensor> run(Map<String, Tensor> given) {
        Map<String, Tensor> values = new HashMap<>(model.weights);
        values.putAll(given);
        for (Node node : model.nodes) {
            values.put(node.output, apply(node, node.inputs.stream().map(values::get).collect(Collectors.toList())));
        }
        Map<String, Tensor> found = new LinkedHashMap<>();
        model.outputs.forEach(name -> found.put(name, values.get(name)));
        return found;
    }

    private static Tensor apply(Node node, List<Tensor> x) {
        Tensor a = x.get(0), b = x.size() > 1 ? x.get(1) : null, c = x.size() > 2 ? x.get(2) : null;
        return switch (node.op) {
            case "Identity" -> a;
            case "Abs" -> each(a, a.type, Math::abs);
            case "Exp" -> each(a, a.type, Math::exp);
            case "Floor" -> each(a, a.type, Math::floor);
            case "Sqrt" -> each(a, a.type, Math::sqrt);
            case "Round" -> each(a, a.type, Math::rint); // half to even
            case "Relu" -> each(a, a.type, v -> v > 0 ? v : 0);
            case "IsNaN" -> each(a, BOOL, v -> Double.isNaN(v) ? 1 : 0);
            case "Add" -> each(a, b, a.type, (v, w) -> v + w);
            case "Sub" -> each(a, b, a.type, (v, w) -> v - w);
            case "Mul" -> each(a, b, a.type, (v, w) -> v * w);
            case "Div" -> each(a, b, a.type, (v, w) -> v / w);
            case "Max" -> each(a, b, a.type, Math::max);
            case "Min" -> each(a, b, a.type, Math::min);
            case "Equal" -> each(a, b, BOOL, (v, w) -> v == w ? 1 : 0);
            case "Greater" -> each(a, b, BOOL, (v, w) -> v > w ? 1 : 0);
            case "Or" -> each(a, b, BOOL, Math::max);
            case "Clip" -> clip(a, b, c);
            case "Where" -> where(a, b, c);
            case "Cast" -> cast(a, node.whole("to"));
            case "Concat" -> concat(x, node.whole("axis"));
            case "Gather" -> gather(a, b, node.whole("axis"));
            case "Reshape" -> reshape(a, b.data);
            case "Unsqueeze" -> unsqueeze(a, b.data);
            case "MatMul" -> matMul(a, b);
            case "Gemm" -> gemm(node, a, b, c);
            case "ReduceMax" -> reduce(a, (long[]) node.attributes.get("axes"), Double.NEGATIVE_INFINITY, Math::max);
            case "ReduceSum" -> reduce(a, Arrays.stream(b.data).mapToLong(v -> (long) v).toArray(), 0, Double::sum);
            case "Softmax" -> softmax(a);
            default -> throw new Refused("model.onnx has the operator " + node.op + ", which this reader lacks");
        };
    }

    private static Tensor each(Tensor a, int type, DoubleUnaryOperator rule) {
        return rounded(type, a.shape, Arrays.stream(a.data).map(rule).toArray());
    }

    private static Tensor each(Tensor a, Tensor b, int type, DoubleBinaryOperator rule) {
        int[] shape = common(a.shape, b.shape), left = places(a.shape, shape), right = places(b.shape, shape);
        double[] data = new double[left.length];
        Arrays.setAll(data, i -> rule.applyAsDouble(a.data[left[i]], b.data[right[i]]));
        return rounded(type, shape, data);
    }

    private static Tensor clip(Tensor a, Tensor low, Tensor high) {
        Tensor above = low == null ? a : each(a, low, a.type, (v, least) -> v < least ? least : v);
        return high == null ? above : each(above, high, a.type, (v, most) -> v > most ? most : v);
    }

    private static Tensor where(Tensor chosen, Tensor a, Tensor b) {
        int[] shape = common(chosen.shape, common(a.shape, b.shape));
        int[] which = places(chosen.shape, shape), left = places(a.shape, shape), right = places(b.shape, shape);
        double[] data = new double[which.length];
        Arrays.setAll(data, i -> chosen.data[which[i]] != 0 ? a.data[left[i]] : b.data[right[i]]);
        return new Tensor(a.type, shape, data);
    }

    private static Tensor cast(Tensor a, int type) {
        return switch (type) {
            case FLOAT, DOUBLE -> each(a, type, v -> v);
            case INT64 -> each(a, type, v -> (long) v);
            case BOOL -> each(a, type, v -> v != 0 ? 1 : 0);
            default -> throw new Refused("model.onnx casts to the data type " + type + ", which this reader lacks");
        };
    }

    private static Tensor concat(List<Tensor> parts, int axis) {
        int[] shape = parts.get(0).shape.clone();
        shape[axis] = parts.stream().mapToInt(part -> part.shape[axis]).sum();
        double[] data = new double[size(shape)];
        int outer = size(Arrays.copyOf(shape, axis)), at = 0;
        for (int row = 0; row < outer; row++) {
            for (Tensor part : parts) {
                int run = part.data.length / outer;
                System.arraycopy(part.data, row * run, data, at, run);
                at += run;
            }
        }
        return new Tensor(parts.get(0).type, shape, data);
    }

    private static Tensor gather(Tensor a, Tensor index, int axis) {
        int[] before = Arrays.copyOf(a.shape, axis), after = Arrays.copyOfRange(a.shape, axis + 1, a.shape.length);
        int[] shape = Stream.of(before, index.shape, after).flatMapToInt(Arrays::stream).toArray();
        int outer = size(before), run = size(after), length = a.shape[axis];
        double[] data = new double[size(shape)];
        for (int row = 0, at = 0; row < outer; row++) {
            for (double place : index.data) {
                int from = (int) (place < 0 ? place + length : place);
                System.arraycopy(a.data, (row * length + from) * run, data, at, run);
                at += run;
            }
        }
        return new Tensor(a.type, shape, data);
    }

    private static Tensor reshape(Tensor a, double[] wanted) {
        int[] shape = IntStream.range(0, wanted.length).map(i -> wanted[i] == 0 ? a.shape[i] : (int) wanted[i]).toArray();
        int known = Arrays.stream(shape).filter(length -> length >= 0).reduce(1, (v, w) -> v * w);
        int[] filled = Arrays.stream(shape).map(length -> length < 0 ? a.data.length / known : length).toArray();
        return new Tensor(a.type, filled, a.data);
    }

    private static Tensor unsqueeze(Tensor a, double[] axes) {
        List<Integer> shape = new ArrayList<>(Arrays.stream(a.shape).boxed().toList());
        Arrays.stream(axes).sorted().forEach(axis -> shape.add((int) axis, 1));
        return new Tensor(a.type, shape.stream().mapToInt(length -> length).toArray(), a.data);
    }

    private static Tensor matMul(Tensor a, Tensor b) {
        int n = a.shape.length, m = b.shape.length, rows = a.shape[n - 2], inner = a.shape[n - 1], columns = b.shape[m - 1];
        int[] leftStack = Arrays.copyOf(a.shape, n - 2), rightStack = Arrays.copyOf(b.shape, m - 2), stack = common(leftStack, rightStack);
        int[] left = places(leftStack, stack), right = places(rightStack, stack);
        double[] data = new double[left.length * rows * columns];
        for (int k = 0; k < left.length; k++) {
            for (int row = 0; row < rows; row++) {
                for (int i = 0; i < inner; i++) {
                    double factor = a.data[(left[k] * rows + row) * inner + i];
                    for (int column = 0; column < columns; column++) {
                        data[(k * rows + row) * columns + column] += factor * b.data[(right[k] * inner + i) * columns + column];
                    }
                }
            }
        }
        int[] shape = Arrays.copyOf(stack, stack.length + 2);
        shape[stack.length] = rows;
        shape[stack.length + 1] = columns;
        return rounded(a.type, shape, data);
    }

    private static Tensor gemm(Node node, Tensor a, Tensor b, Tensor c) {
        if (node.attributes.containsKey("alpha") || node.attributes.containsKey("beta")) {
            throw new Refused("model.onnx has a Gemm with alpha or beta, which this reader lacks");
        }
        Tensor product = matMul(node.whole("transA") == 1 ? transposed(a) : a, node.whole("transB") == 1 ? transposed(b) : b);
        return c == null ? product : each(product, c, a.type, Double::sum);
    }

    private static Tensor transposed(Tensor a) {
        int rows = a.shape[0], columns = a.shape[1];
        double[] data = IntStream.range(0, a.data.length).mapToDouble(i -> a.data[i % rows * columns + i / rows]).toArray();
        return new Tensor(a.type, new int[] {columns, rows}, data);
    }

    private static Tensor reduce(Tensor a, long[] axes, double start, DoubleBinaryOperator rule) {
        int[] shape = a.shape.clone();
        for (long axis : axes) {
            shape[(int) (axis < 0 ? axis + shape.length : axis)] = 1;
        }
        double[] data = new double[size(shape)];
        Arrays.fill(data, start);
        int[] into = places(shape, a.shape);
        for (int i = 0; i < into.length; i++) {
            data[into[i]] = rule.applyAsDouble(data[into[i]], a.data[i]);
        }
        return rounded(a.type, shape, data);
    }

    private static Tensor softmax(Tensor a) {
        long[] last = {a.shape.length - 1};
        Tensor e = each(each(a, reduce(a, last, Double.NEGATIVE_INFINITY, Math::max), a.type, (v, top) -> v - top), DOUBLE, Math::exp);
        return each(e, reduce(e, last, 0, Double::sum), a.type, (v, sum) -> v / sum);
    }

    private static Tensor rounded(int type, int[] shape, double[] data) {
        return new Tensor(type, shape, type == FLOAT ? Arrays.stream(data).map(v -> (float) v).toArray() : data);
    }

    private static int size(int[] shape) {
        return Arrays.stream(shape).reduce(1, (v, w) -> v * w);
    }

    /** The shape that two shapes broadcast to. */
    private static int[] common(int[] a, int[] b) {
        int rank = Math.max(a.length, b.length);
        return IntStream.range(0, rank).map(i -> Math.max(length(a, i - rank + a.length), length(b, i - rank + b.length))).toArray();
    }

    private static int length(int[] shape, int axis) {
        return axis < 0 ? 1 : shape[axis];
    }

    /** For each place of `target`, in row-major order, the place in a tensor of `shape` that is broadcast to it. */
    private static int[] places(int[] shape, int[] target) {
        int[] found = new int[size(target)];
        int block = 1, step = 1;
        for (int axis = target.length - 1; axis >= 0; axis--) {
            int length = length(shape, axis - target.length + shape.length);
            for (int i = 0; length > 1 && i < found.length; i++) {
                found[i] += i / block % target[axis] * step;
            }
            block *= target[axis];
            step *= length;
        }
        return found;
    }
}
