//! ONNX models, run by tract inside the sandbox.
