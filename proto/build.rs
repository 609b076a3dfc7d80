//! Generates the Rust code of `netmon.v1` with a protobuf compiler written in Rust, so that a machine
//! needs no `protoc`.

use std::{env, fs, path::PathBuf};

use prost::Message;

const FILES: [&str; 4] =
    ["netmon/v1/events.proto", "netmon/v1/collector.proto", "netmon/v1/console.proto", "netmon/v1/top.proto"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("proto");
    println!("cargo:rerun-if-changed={}", root.display());

    // With the comments, which are four fifths of its 79 KB, for whoever asks the server what a field means.
    let descriptors = protox::compile(FILES, [&root])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("netmon_descriptor.bin"), descriptors.encode_to_vec())?;

    let client = env::var_os("CARGO_FEATURE_CLIENT").is_some();
    let server = env::var_os("CARGO_FEATURE_SERVER").is_some();
    tonic_prost_build::configure()
        .build_client(client)
        .build_server(server)
        .build_transport(client)
        .bytes(".netmon.v1")
        // Most flows have none, and flows are moved a lot.
        .boxed(".netmon.v1.Flow.dns_context")
        .compile_fds(descriptors)?;
    Ok(())
}
