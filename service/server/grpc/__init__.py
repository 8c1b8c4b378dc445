"""The Open Inference Protocol over gRPC. Loaded only where grpc_port is set; needs the extra `grpc`."""
