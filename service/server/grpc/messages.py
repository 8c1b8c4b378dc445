"""The messages of the protocol as a table of their fields, made into classes when the server starts.

Source of names and numbers: the Open Inference Protocol's gRPC specification. On the wire a map is a repeated message of
key and value, so it is written as one; where the specification nests a message in another, its name here stands alone.
Fields that are not named here are passed over, as protobuf does.
"""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "inference"
SERVICE = f"{PACKAGE}.GRPCInferenceService"

NAMED = {"name": (1, "string"), "version": (2, "string")}
TENSOR = {"name": (1, "string"), "datatype": (2, "string"), "shape": (3, "repeated int64")}
REPOSITORY_MODEL = {
    "repository_name": (1, "string"),
    "model_name": (2, "string"),
    "parameters": (3, "repeated RepositoryParameter"),
}
FIELDS: dict[str, dict[str, tuple[int, str]]] = {
    "CheckRequest": {"service": (1, "string")},  # of grpc.health.v1; names of messages are not on the wire
    "CheckResponse": {"status": (1, "int32")},  # an enumeration there, which is written alike
    "ServerLiveRequest": {},
    "ServerLiveResponse": {"live": (1, "bool")},
    "ServerReadyRequest": {},
    "ServerReadyResponse": {"ready": (1, "bool")},
    "ModelReadyRequest": NAMED,
    "ModelReadyResponse": {"ready": (1, "bool")},
    "ServerMetadataRequest": {},
    "ServerMetadataResponse": {**NAMED, "extensions": (3, "repeated string")},
    "ModelMetadataRequest": NAMED,
    "TensorMetadata": TENSOR,
    "ModelMetadataResponse": {
        "name": (1, "string"),
        "versions": (2, "repeated string"),
        "platform": (3, "string"),
        "inputs": (4, "repeated TensorMetadata"),
        "outputs": (5, "repeated TensorMetadata"),
    },
    "InferParameter": {
        "bool_param": (1, "bool"),
        "int64_param": (2, "int64"),
        "string_param": (3, "string"),
        "double_param": (4, "double"),
        "uint64_param": (5, "uint64"),
    },
    "Parameter": {"key": (1, "string"), "value": (2, "InferParameter")},
    "InferTensorContents": {
        "bool_contents": (1, "repeated bool"),
        "int_contents": (2, "repeated int32"),
        "int64_contents": (3, "repeated int64"),
        "uint_contents": (4, "repeated uint32"),
        "uint64_contents": (5, "repeated uint64"),
        "fp32_contents": (6, "repeated float"),
        "fp64_contents": (7, "repeated double"),
        "bytes_contents": (8, "repeated bytes"),
    },
    "InferInputTensor": {
        **TENSOR,
        "parameters": (4, "repeated Parameter"),
        "contents": (5, "InferTensorContents"),
    },
    "InferRequestedOutputTensor": {"name": (1, "string"), "parameters": (2, "repeated Parameter")},
    "RepositoryIndexRequest": {"repository_name": (1, "string"), "ready": (2, "bool")},
    "ModelIndex": {**NAMED, "state": (3, "string"), "reason": (4, "string")},
    "RepositoryIndexResponse": {"models": (1, "repeated ModelIndex")},
    "ModelRepositoryParameter": {
        "bool_param": (1, "bool"),
        "int64_param": (2, "int64"),
        "string_param": (3, "string"),
        "bytes_param": (4, "bytes"),
    },
    "RepositoryParameter": {"key": (1, "string"), "value": (2, "ModelRepositoryParameter")},
    "RepositoryModelLoadRequest": REPOSITORY_MODEL,
    "RepositoryModelLoadResponse": {},
    "RepositoryModelUnloadRequest": REPOSITORY_MODEL,
    "RepositoryModelUnloadResponse": {},
    "ModelInferRequest": {
        "model_name": (1, "string"),
        "model_version": (2, "string"),
        "id": (3, "string"),
        "parameters": (4, "repeated Parameter"),
        "inputs": (5, "repeated InferInputTensor"),
        "outputs": (6, "repeated InferRequestedOutputTensor"),
        "raw_input_contents": (7, "repeated bytes"),
    },
    "InferOutputTensor": {**TENSOR, "parameters": (4, "repeated Parameter"), "contents": (5, "InferTensorContents")},
    "ModelInferResponse": {
        "model_name": (1, "string"),
        "model_version": (2, "string"),
        "id": (3, "string"),
        "parameters": (4, "repeated Parameter"),
        "outputs": (5, "repeated InferOutputTensor"),
        "raw_output_contents": (6, "repeated bytes"),
    },
}


CHOICES = (
    "InferParameter",
    "ModelRepositoryParameter",
)  # whose fields are one choice: an empty text or a 0 that was sent is there


def classes() -> dict[str, Any]:
    """Return {name: message class}, in a pool of their own: other definitions of the protocol may be loaded beside."""
    file = descriptor_pb2.FileDescriptorProto(name="inference.proto", package=PACKAGE, syntax="proto3")
    for name, fields in FIELDS.items():
        message = file.message_type.add(name=name)
        if name in CHOICES:
            message.oneof_decl.add(name="parameter_choice")
        for field_name, (number, kind) in fields.items():
            field = _add(message, field_name, number, kind)
            if name in CHOICES:
                field.oneof_index = 0
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}")) for name in FIELDS}


def _add(message: Any, name: str, number: int, kind: str) -> Any:
    proto = descriptor_pb2.FieldDescriptorProto
    type_name = kind.removeprefix("repeated ")
    field = message.field.add(name=name, number=number)
    field.label = proto.LABEL_REPEATED if kind.startswith("repeated ") else proto.LABEL_OPTIONAL
    if type_name in FIELDS:
        field.type, field.type_name = proto.TYPE_MESSAGE, f".{PACKAGE}.{type_name}"
    else:
        field.type = getattr(proto, f"TYPE_{type_name.upper()}")
    return field
