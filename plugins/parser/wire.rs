//! Messages that `build.rs` compiles from `proto/`.

/// vLLM's gRPC engine API.
pub(super) mod vllm {
    #![allow(missing_docs, unreachable_pub, clippy::pedantic, reason = "generated")]
    include!(concat!(env!("OUT_DIR"), "/vllm.grpc.engine.rs"));
}

/// Vertex AI's `PredictionService`.
pub(super) mod vertex {
    #![allow(missing_docs, unreachable_pub, clippy::pedantic, reason = "generated")]
    include!(concat!(env!("OUT_DIR"), "/google.cloud.aiplatform.v1.rs"));
}
