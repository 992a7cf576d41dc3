//! Tells the code which commit it is, and generates `grpc.health.v1.Health`: `tonic-health` ships it without `List`.
//!
//! The service is described here rather than in a `.proto` file: for three methods, a compiler of such files would cost
//! more than the rest of the build script by a factor of ten.

use tonic_build::manual::{Builder, Method, Service};

#[path = "build/commit.rs"]
mod commit;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build/commit.rs");
    commit::tell();
    generate_health();
}

fn generate_health() {
    let method = |name: &str, route: &str| {
        Method::builder().name(name).route_name(route).codec_path("tonic_prost::ProstCodec")
    };
    let (request, response) =
        ("tonic_health::pb::HealthCheckRequest", "tonic_health::pb::HealthCheckResponse");
    let check = method("check", "Check").input_type(request).output_type(response).build();
    let list = method("list", "List")
        .input_type("crate::health::wire::HealthListRequest")
        .output_type("crate::health::wire::HealthListResponse")
        .build();
    let watch = method("watch", "Watch").input_type(request).output_type(response).server_streaming().build();
    let health =
        Service::builder().name("Health").package("grpc.health.v1").method(check).method(list).method(watch);
    Builder::new().build_client(false).compile(&[health.build()]);
}
