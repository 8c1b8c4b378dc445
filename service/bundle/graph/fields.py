"""The fields of ONNX messages that a bundle's model.onnx may have; every other field is refused.

What is left out on purpose: functions, training, sub-graphs, sparse and external tensors, and everything newer than
IR version 8. Numbers are those of the public onnx.proto.
"""

from batchproof.service.bundle.graph.protobuf import FIXED32, VARINT, Field

MODEL = {
    1: Field("ir_version", VARINT),
    2: Field("producer_name"),
    3: Field("producer_version"),
    4: Field("domain"),
    5: Field("model_version", VARINT),
    6: Field("doc_string"),
    7: Field("graph"),
    8: Field("opset_import", repeated=True),
    14: Field("metadata_props", repeated=True),
}
OPSET = {1: Field("domain"), 2: Field("version", VARINT)}
GRAPH = {
    1: Field("node", repeated=True),
    2: Field("name"),
    5: Field("initializer", repeated=True),
    10: Field("doc_string"),
    11: Field("input", repeated=True),
    12: Field("output", repeated=True),
    13: Field("value_info", repeated=True),
}
NODE = {
    1: Field("input", repeated=True),
    2: Field("output", repeated=True),
    3: Field("name"),
    4: Field("op_type"),
    5: Field("attribute", repeated=True),
    6: Field("doc_string"),
    7: Field("domain"),
}
ATTRIBUTE = {
    1: Field("name"),
    2: Field("f", FIXED32),
    3: Field("i", VARINT),
    4: Field("s"),
    5: Field("t"),
    7: Field("floats", FIXED32, repeated=True),
    8: Field("ints", VARINT, repeated=True),
    9: Field("strings", repeated=True),
    13: Field("doc_string"),
    20: Field("type", VARINT),
}
TENSOR = {
    1: Field("dims", VARINT, repeated=True),
    2: Field("data_type", VARINT),
    4: Field("float_data"),
    5: Field("int32_data"),
    7: Field("int64_data"),
    8: Field("name"),
    9: Field("raw_data"),
    10: Field("double_data"),
    12: Field("doc_string"),
}
VALUE_INFO = {1: Field("name"), 2: Field("type"), 3: Field("doc_string")}
TYPE = {1: Field("tensor_type")}
TENSOR_TYPE = {1: Field("elem_type", VARINT), 2: Field("shape")}
SHAPE = {1: Field("dim", repeated=True)}
DIMENSION = {1: Field("dim_value", VARINT), 2: Field("dim_param")}

DTYPES = {1: "float32", 11: "float64", 7: "int64", 6: "int32", 9: "bool", 2: "uint8", 3: "int8"}  # by data_type
DEFAULT_DOMAIN = frozenset({"", "ai.onnx"})
MAX_STRING_BYTES = 100  # of a text attribute that is read
