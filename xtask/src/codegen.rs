//! `cargo xtask codegen`: proto files to the committed Rust code.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use prost::Message;
use prost_build::{Service, ServiceGenerator};
use prost_types::{DescriptorProto, FileDescriptorSet, source_code_info::Location};

use crate::root;

/// Generates into `proto/src/generated`; with `check`, only compares.
///
/// # Errors
///
/// A proto file that does not compile, or, with `check`, committed code that is out of date.
pub(crate) fn run(check: bool) -> anyhow::Result<()> {
    let proto_dir = root().join("proto");
    let committed = proto_dir.join("src/generated");
    let fresh = tempfile::tempdir()?;
    generate(&proto_dir, fresh.path())?;
    if check {
        return compare(fresh.path(), &committed);
    }
    fs::create_dir_all(&committed)?;
    for file in files(fresh.path())? {
        let name = file.file_name().context("a generated file has a name")?;
        fs::copy(&file, committed.join(name))?;
        println!("wrote proto/src/generated/{}", name.to_string_lossy());
    }
    Ok(())
}

fn generate(proto_dir: &Path, out: &Path) -> anyhow::Result<()> {
    let sources =
        [proto_files(&proto_dir.join("envoy"))?, proto_files(&proto_dir.join("tidegate"))?].concat();
    let mut compiler = protox::Compiler::new([proto_dir])?;
    compiler.include_imports(true).include_source_info(true);
    for source in &sources {
        compiler.open_file(source)?;
    }
    let mut descriptors = compiler.file_descriptor_set();

    let mut for_reflection = descriptors.clone();
    for file in &mut for_reflection.file {
        file.source_code_info = None;
    }
    fs::write(out.join("descriptors.bin"), for_reflection.encode_to_vec())?;

    maps_to_entry_lists(&mut descriptors);
    let services = ClientsAndServers {
        clients: tonic_prost_build::configure().build_server(false).service_generator(),
        servers: tonic_prost_build::configure()
            .build_client(false)
            .codec_path("crate::codec::ServerCodec")
            .service_generator(),
    };
    let mut messages = prost_build::Config::new();
    messages.bytes(["."]).out_dir(out).service_generator(Box::new(services));
    messages.compile_fds(descriptors)?;
    for file in files(out)? {
        if file.extension().is_some_and(|e| e == "rs") {
            let text = fs::read_to_string(&file)?;
            // Tabs in comments and lines ending in blanks are the generator's, not ours.
            let text: String = text.lines().map(|l| l.trim_end().to_owned() + "\n").collect();
            fs::write(&file, text)?;
        }
    }
    Ok(())
}

/// The clients of a service and its server, which do not share their codec: what a client cannot
/// decode is no fault of its caller.
struct ClientsAndServers {
    clients: Box<dyn ServiceGenerator>,
    servers: Box<dyn ServiceGenerator>,
}

/// A package that has messages of the same names as [`ENCODED`], which are none of them.
const NOT_ENCODED: &str = "envoy.service.auth.v3";

/// Messages of the hot path. Servers take and give them encoded, and so without a tree of strings for each.
const ENCODED: [&str; 10] = [
    "CheckRequest",
    "CheckResponse",
    "CheckBatchRequest",
    "CheckBatchResponse",
    "CheckStreamRequest",
    "CheckStreamResponse",
    "PeekResponse",
    "RateLimitRequest",
    "RateLimitResponse",
    "AcquireLeaseResponse",
];

impl ServiceGenerator for ClientsAndServers {
    fn generate(&mut self, service: Service, code: &mut String) {
        self.clients.generate(service.clone(), code);
        let mut service = service;
        for method in &mut service.methods {
            for message in [&mut method.input_type, &mut method.output_type] {
                if ENCODED.contains(&message.as_str()) && service.package != NOT_ENCODED {
                    *message = format!("crate::Encoded<super::{message}>");
                }
            }
        }
        self.servers.generate(service, code);
    }
}

/// Turns `map<string, string>` into a list of entries in the Rust code only.
///
/// A map field and a repeated `Entry { key = 1; value = 2 }` are the same bytes on the wire. Other
/// languages get their map type; the server decodes into a `Vec`, which hashes nothing.
fn maps_to_entry_lists(descriptors: &mut FileDescriptorSet) {
    for file in &mut descriptors.file {
        let locations = &mut file.source_code_info.get_or_insert_default().location;
        for (index, message) in (0..).zip(&mut file.message_type) {
            open_entries(message, &mut vec![FILE_MESSAGE_TYPE, index], locations);
        }
        // The generator searches them by bisection.
        locations.sort_by(|a, b| a.path.cmp(&b.path));
    }
}

/// Field numbers of descriptor.proto, which locations are addressed by.
const FILE_MESSAGE_TYPE: i32 = 4;
const MESSAGE_FIELD: i32 = 2;
const MESSAGE_NESTED_TYPE: i32 = 3;

/// Opens the map entries within `message`, and gives them the source locations that a message
/// written by hand would have and that the generator insists on.
fn open_entries(message: &mut DescriptorProto, path: &mut Vec<i32>, locations: &mut Vec<Location>) {
    for (index, nested) in (0..).zip(&mut message.nested_type) {
        path.extend([MESSAGE_NESTED_TYPE, index]);
        if nested.options.as_mut().is_some_and(|options| options.map_entry.take().is_some()) {
            let comment = " One entry of the map; the last of a repeated key counts.";
            locations.push(location(path, Some(comment)));
            for field in (0..).zip(&nested.field).map(|(field, _)| field) {
                path.extend([MESSAGE_FIELD, field]);
                locations.push(location(path, None));
                path.truncate(path.len() - 2);
            }
        }
        open_entries(nested, path, locations);
        path.truncate(path.len() - 2);
    }
}

fn location(path: &[i32], comment: Option<&str>) -> Location {
    Location {
        path: path.to_vec(),
        span: vec![0, 0, 0],
        leading_comments: comment.map(str::to_owned),
        ..Location::default()
    }
}

fn compare(fresh: &Path, committed: &Path) -> anyhow::Result<()> {
    let mut stale = Vec::new();
    for file in files(fresh)? {
        let name = file.file_name().context("a generated file has a name")?.to_owned();
        if fs::read(&file)? != fs::read(committed.join(&name)).unwrap_or_default() {
            stale.push(name.to_string_lossy().into_owned());
        }
    }
    for file in files(committed)? {
        let name = file.file_name().context("a generated file has a name")?.to_owned();
        if !fresh.join(&name).exists() {
            stale.push(format!("{} (no longer generated)", name.to_string_lossy()));
        }
    }
    if stale.is_empty() {
        println!("generated code is up to date");
        return Ok(());
    }
    bail!("generated code is out of date: {}; run `cargo xtask codegen`", stale.join(", "))
}

fn proto_files(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(proto_files(&path)?);
        } else if path.extension().is_some_and(|e| e == "proto") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn files(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        found.push(entry?.path());
    }
    found.sort();
    Ok(found)
}
