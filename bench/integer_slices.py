"""Would integer slices be faster than float64 for exact products? One layer each way, timed in turns.

    python -m bench.integer_slices [--rows 1,32,256] [--widths 128,256,512]

A layer takes integers of 24 bits in float64. "slices" splits them into three 8-bit digits and the weights into three
7-bit ones, and sums the six products of greatest weight by three MatMulInteger (digits of one weight stacked along
the terms), recombined in float64: exact in any order too. "products" are those three MatMulInteger alone.
"""

import argparse
import time

import numpy as np

from batchproof.service.inference.engine import Engine, EngineOptions
from batchproof.training.preprocessing.onnx_graph import Graph, TensorProto

SECONDS = 1.0  # spent on each comparison


def main() -> None:
    """Print one line a width and number of rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="1,32,256")
    parser.add_argument("--widths", default="128,256,512")
    given = parser.parse_args()
    print(f"{'width':>5} {'rows':>5} {'float32 µs':>11} {'float64 µs':>11} {'slices µs':>10} {'products µs':>12}")
    for width in map(int, given.widths.split(",")):
        layers = [floating(width, np.float32), floating(width, np.float64), slices(width), products(width)]
        engines = [
            Engine(each.model("layer").SerializeToString(), EngineOptions(device="cpu"), ["a"]) for each in layers
        ]
        for rows in map(int, given.rows.split(",")):
            times = compare(engines, width, rows)
            print(
                f"{width:>5} {rows:>5} {times[0]:>11.1f} {times[1]:>11.1f} {times[2]:>10.1f} {times[3]:>12.1f}",
                flush=True,
            )


def floating(width: int, dtype: type) -> Graph:
    """One Gemm, and what stands between two of them: Relu, or Clip and Round."""
    graph, random = Graph(), np.random.default_rng(0)
    kind = TensorProto.FLOAT if dtype is np.float32 else TensorProto.DOUBLE
    a = graph.input("a", kind, width)
    weight = graph.constant("weight", random.normal(size=(width, width)), dtype)
    z = graph.add("Gemm", [a, weight, graph.constant("bias", np.zeros(width), dtype)], "z")
    if dtype is np.float32:
        graph.output("next", graph.add("Relu", [z], "relu"), kind, width)
    else:
        graph.output("next", rounded(graph, z), kind, width)
    return graph


def rounded(graph: Graph, z: str) -> str:
    """Append Clip and Round to 24 bits."""
    limits = [graph.constant("least", 0.0), graph.constant("most", 2.0**24 - 1)]
    return graph.add("Round", [graph.add("Clip", [z, *limits], "clipped")], "rounded")


def slices(width: int) -> Graph:
    """Digits of the input, three stacked integer products, their sum in float64."""
    graph = Graph()
    a = graph.input("a", TensorProto.DOUBLE, width)
    high, rest = digit(graph, a, 2.0**16)
    middle, low = digit(graph, rest, 2.0**8)
    digits = [graph.add("Cast", [each], "digit", to=TensorProto.UINT8) for each in (high, middle, low)]
    total = ""
    for count in (1, 2, 3):
        stacked = graph.add("Concat", digits[:count], "digits", axis=1) if count > 1 else digits[0]
        product = graph.add("MatMulInteger", [stacked, weights(graph, width, count)], "product")
        wide = graph.add("Cast", [product], "wide", to=TensorProto.DOUBLE)
        scaled = graph.add("Mul", [wide, graph.constant("weight_of_product", 2.0 ** (-8 * count))], "scaled")
        total = graph.add("Add", [total, scaled], "total") if total else scaled
    graph.output("next", rounded(graph, total), TensorProto.DOUBLE, width)
    return graph


def digit(graph: Graph, value: str, base: float) -> tuple[str, str]:
    """Append the digit of weight `base` of an integer, and the rest."""
    over = graph.add("Mul", [value, graph.constant("inverse", 1.0 / base)], "over")
    high = graph.add("Floor", [over], "high")
    return high, graph.add("Sub", [value, graph.add("Mul", [high, graph.constant("base", base)], "part")], "rest")


def products(width: int) -> Graph:
    """Build the three integer products alone, of digits that are given."""
    graph = Graph()
    a = graph.input("a", TensorProto.DOUBLE, width)
    one = graph.add("Cast", [a], "digit", to=TensorProto.UINT8)
    total = ""
    for count in (1, 2, 3):
        stacked = graph.add("Concat", [one] * count, "digits", axis=1) if count > 1 else one
        product = graph.add("MatMulInteger", [stacked, weights(graph, width, count)], "product")
        total = graph.add("Add", [total, product], "total") if total else product
    graph.output("next", total, TensorProto.INT32, width)
    return graph


def weights(graph: Graph, width: int, count: int) -> str:
    """Store digits of weights, `count` of them stacked along the terms."""
    drawn = np.random.default_rng(count).integers(-64, 64, (count * width, width))
    return graph.constant("weight_digits", drawn.astype(np.int8))


def compare(engines: list[Engine], width: int, rows: int) -> list[float]:
    """Return the least time of a run of each engine in microseconds, taken in turns."""
    a = np.random.default_rng(0).integers(0, 255, (rows, width)).astype(np.float64)
    feeds = [a.astype(np.float32), a, a, a]
    least = [np.inf] * len(engines)
    end = time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        for index, engine in enumerate(engines):
            start = time.perf_counter()
            engine.run([feeds[index]])
            least[index] = min(least[index], time.perf_counter() - start)
    return [seconds * 1e6 for seconds in least]


if __name__ == "__main__":
    main()
