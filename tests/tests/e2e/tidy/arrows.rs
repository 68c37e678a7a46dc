//! Who may know whom.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use super::{files, read, rust_files, shown};
use tidegate_tests::tools::workspace;

/// Crates of the workspace that any service may use. What an API key looks like and what one is good for is decided in one place,
/// wherever it is asked.
const SHARED: [&str; 4] =
    ["tidegate-chassis", "tidegate-credentials", "tidegate-proto", "tidegate-migrations"];

/// Crates without network, store, runtime, clock or log, which a domain may use.
const PURE: [&str; 15] = [
    "cel",
    "hashbrown",
    "ipnet",
    "matchit",
    "proptest",
    "rstest",
    "serde",
    "serde_json",
    "sha2",
    "siphasher",
    "smallvec",
    "thiserror",
    "tidegate-credentials",
    "uuid",
    "allocation-counter",
];

/// What `uuid`, which is pure but for that, takes from the clock and from the system.
const IDS_FROM_NOWHERE: [&str; 3] = ["Uuid::now_v7", "Uuid::new_v4", "Timestamp::now"];

/// What a domain may know of a crate that it may not know: a role is a word that all services share, and all that the chassis adds to
/// it is how callers prove it.
const WORDS: [&str; 1] = ["tidegate_chassis::auth::Role;"];

/// Where a service calls another one, and so knows the messages of that one: its module for it.
const CALLERS: [(&str, &str); 2] = [("keys", "fence"), ("ratelimit", "keys")];

#[test]
fn services_know_only_the_contract_and_the_chassis() {
    for service in services() {
        let folder = format!("services/{service}");
        assert_only(&folder, &["dependencies", "build-dependencies"], &SHARED);
        // The fixtures link no service, so they may serve the tests of one.
        assert_only(&folder, &["dev-dependencies"], &[&SHARED[..], &["tidegate-tests"]].concat());
    }
    assert_only("services/chassis", &KINDS, &["tidegate-proto"]);
}

#[test]
fn the_gateway_and_the_tests_link_no_service() {
    for folder in ["gateway", "tests"] {
        assert_only(folder, &KINDS, &["tidegate-chassis", "tidegate-proto"]);
    }
}

#[test]
fn what_users_compile_knows_only_the_contract_and_what_a_key_looks_like() {
    let known = ["tidegate-credentials", "tidegate-proto"];
    assert_only("clients/rust", &["dependencies", "build-dependencies"], &known);
    assert_only("clients/rust", &["dev-dependencies"], &["tidegate-tests"]);
    assert_only("examples/protected-backend", &["dependencies", "build-dependencies"], &["tidegate-client"]);
}

#[test]
fn only_the_cli_links_the_services() {
    let services: BTreeSet<_> = services().iter().map(|service| format!("tidegate-{service}")).collect();
    for manifest in files("").into_iter().filter(|path| path.ends_with("Cargo.toml")) {
        let folder = shown(manifest.parent().expect("a manifest lies in a folder"));
        let linked: Vec<_> = ours(&folder, &KINDS).intersection(&services).cloned().collect();
        assert!(linked.is_empty() || folder == "cli", "{folder} links {linked:?}");
    }
}

#[test]
fn the_domain_knows_no_transport_store_runtime_or_clock() {
    let clocks = ["SystemTime", "Instant::now", "std::net", "std::fs", "std::env", "std::thread"];
    for service in services() {
        let folder = format!("services/{service}");
        let crates = dependencies(&folder, &KINDS).into_iter().filter(|name| !PURE.contains(&name.as_str()));
        let mut banned: Vec<_> = crates.map(|name| name.replace('-', "_") + "::").collect();
        banned.extend(clocks.iter().chain(&IDS_FROM_NOWHERE).map(|&word| word.to_owned()));
        // Neither do the other parts of the service come in by the back door.
        banned.extend(
            modules(&service)
                .into_iter()
                .filter(|name| name != "domain")
                .map(|name| format!("crate::{name}")),
        );
        let mut paths = rust_files(&format!("{folder}/src/domain"));
        paths.push(workspace().join(&folder).join("src/domain.rs"));
        assert_none_uses(paths, &banned);
    }
}

#[test]
fn only_grpc_and_callers_of_other_services_translate_between_proto_and_domain() {
    for service in services() {
        let source = format!("services/{service}/src");
        let wiring = format!("{source}/service.rs");
        let callers = CALLERS.iter().filter(|(caller, _)| *caller == service);
        let calling: Vec<_> = callers.flat_map(|(_, module)| inside(&source, module)).collect();
        let outside = outside(&source, "grpc").into_iter().filter(|path| !calling.contains(path));
        let (wiring, others): (Vec<_>, Vec<_>) = outside.partition(|path| shown(path) == wiring);
        assert_none_uses(others, &["tidegate_proto::", "tonic::", "tonic_types::", "prost::"]);
        // It mounts the generated server, and looks into no message.
        for line in wiring.iter().flat_map(|path| lines_with(path, "tidegate_proto::")) {
            assert!(
                line.contains("_server::") || line.contains("DESCRIPTORS"),
                "{service}/src/service.rs: {line}"
            );
        }
    }
}

#[test]
fn redis_and_sqlx_appear_only_under_store() {
    for service in services() {
        assert_none_uses(outside(&format!("services/{service}/src"), "store"), &["redis::", "sqlx::"]);
    }
    for folder in ["services/chassis/src", "gateway/src", "cli/src"] {
        assert_none_uses(rust_files(folder), &["redis::", "sqlx::"]);
    }
}

#[test]
fn every_service_has_the_same_files() {
    for service in services() {
        for name in [
            "config.default.toml",
            "src/main.rs",
            "src/lib.rs",
            "src/config.rs",
            "src/domain.rs",
            "src/grpc.rs",
        ] {
            let path = workspace().join("services").join(&service).join(name);
            assert!(path.is_file(), "there is no {}", shown(&path));
        }
    }
}

/// The services there are: folders beside the chassis.
fn services() -> Vec<String> {
    let manifests = files("services").into_iter().filter(|path| path.ends_with("Cargo.toml"));
    let folders =
        manifests.filter_map(|path| Some(path.parent()?.file_name()?.to_string_lossy().into_owned()));
    let services: Vec<_> = folders.filter(|name| name != "chassis").collect();
    assert!(!services.is_empty(), "there is no service");
    services
}

fn assert_only(folder: &str, kinds: &[&str], allowed: &[&str]) {
    let used = ours(folder, kinds);
    assert!(used.iter().all(|name| allowed.contains(&name.as_str())), "{folder}, {kinds:?}: {used:?}");
}

/// Crates of the workspace that a crate depends on.
fn ours(folder: &str, kinds: &[&str]) -> BTreeSet<String> {
    dependencies(folder, kinds).into_iter().filter(|name| name.starts_with("tidegate-")).collect()
}

const KINDS: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];

/// Names of the dependencies in a manifest.
fn dependencies(folder: &str, kinds: &[&str]) -> BTreeSet<String> {
    let manifest: toml::Table =
        read(&workspace().join(folder).join("Cargo.toml")).parse().expect("cargo has read it");
    let names = kinds.iter().filter_map(|kind| manifest.get(*kind)?.as_table());
    names.flat_map(|table| table.keys().cloned()).collect()
}

/// Names of the modules of a service.
fn modules(service: &str) -> BTreeSet<String> {
    let source = workspace().join("services").join(service).join("src");
    let files = rust_files(&shown(&source)).into_iter().filter(|path| path.parent() == Some(&source));
    let names = files.filter_map(|path| Some(path.file_stem()?.to_string_lossy().into_owned()));
    names.filter(|name| !["lib", "main"].contains(&name.as_str())).collect()
}

/// `module.rs` and what lies under `module/`.
fn inside(source: &str, module: &str) -> Vec<PathBuf> {
    let (file, folder) = (format!("{source}/{module}.rs"), format!("{source}/{module}/"));
    let is_inside = |path: &PathBuf| shown(path) == file || shown(path).starts_with(&folder);
    let inside: Vec<_> = rust_files(source).into_iter().filter(is_inside).collect();
    assert!(!inside.is_empty(), "there is no {file}");
    inside
}

/// Rust files of `source` other than those.
fn outside(source: &str, module: &str) -> Vec<PathBuf> {
    let inside = inside(source, module);
    rust_files(source).into_iter().filter(|path| !inside.contains(path)).collect()
}

fn assert_none_uses(paths: Vec<PathBuf>, words: &[impl AsRef<str>]) {
    assert!(!paths.is_empty(), "there are no files to look at");
    let mut faults = Vec::new();
    for path in paths {
        let code = WORDS.iter().fold(code(&path), |code, word| code.replace(word, ""));
        let used = words.iter().map(AsRef::as_ref).filter(|word| contains_word(&code, word));
        faults.extend(used.map(|word| format!("{}: {word}", shown(&path))));
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

fn lines_with(path: &Path, word: &str) -> Vec<String> {
    code(path).lines().filter(|line| line.contains(word)).map(str::to_owned).collect()
}

/// Code without comments: what stands after `//` says why, and may name anything.
fn code(path: &Path) -> String {
    let strip = |line: &str| match line.find("//") {
        Some(at) if !line[..at].ends_with(':') => line[..at].to_owned(),
        _ => line.to_owned(),
    };
    read(path).lines().map(strip).collect::<Vec<_>>().join("\n")
}

/// Whether `word` occurs other than as the end of a longer name or path.
fn contains_word(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
    })
}

#[test]
fn a_forbidden_word_is_found_as_a_whole_and_not_in_a_longer_one() {
    assert!(contains_word("use redis::Client;", "redis::"));
    assert!(contains_word("let x = ::redis::cmd();".replace(" ::", " ").as_str(), "redis::"));
    assert!(!contains_word("use crate::store::redis::Redis;", "redis::"));
    assert!(!contains_word("use not_redis::Client;", "redis::"));
}
