//! Compiles the messages of `proto/` that parsers read, without `protoc`.

use std::path::Path;

const FILES: [&str; 2] =
    ["vllm/grpc/engine/vllm_engine.proto", "google/cloud/aiplatform/v1/prediction.proto"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = Path::new("../proto");
    for file in FILES {
        println!("cargo::rerun-if-changed={}", folder.join(file).display());
    }
    let files = protox::compile(FILES, [folder])?;
    // Slices of the body, not copies.
    prost_build::Config::new().bytes(["."]).compile_fds(files)?;
    Ok(())
}
