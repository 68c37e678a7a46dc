//! Other rate limiters, if they are installed here: unary checks on one core.
//!
//! With counters in memory each is asked in its own protocol, and Tidegate decides three windows a check, the peers one limit. Beside that both Tidegate
//! and limitador are asked in Envoy's protocol for one descriptor with one limit, counted in memory and in Redis.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, anyhow};
use tempfile::TempDir;

use super::{
    Bench,
    machine::pinned,
    policies,
    redis::Redis,
    results::{Results, Target},
    server::{Server, free_addr},
    speed::UNARY,
};

struct Peer {
    program: &'static str,
    /// How `tidegate bench` speaks with it.
    protocol: &'static str,
    /// Where it is to be had.
    from: &'static str,
    /// Checks per second of Tidegate against it.
    target: Target,
    /// Gives it its arguments: where to listen, and a limit that no run reaches.
    configure: fn(&mut Command, host: &str, port: &str, folder: &TempDir) -> anyhow::Result<()>,
}

const LIMITADOR: &str = "limitador-server";

const PEERS: [Peer; 2] = [
    Peer {
        program: LIMITADOR,
        protocol: "envoy",
        from: "https://github.com/Kuadrant/limitador",
        target: Target::AtLeast(2.5),
        configure: |command, host, port, folder| limitador(command, host, port, folder, &["memory"]),
    },
    Peer {
        program: "throttlecrab-server",
        protocol: "throttlecrab",
        from: "`cargo install --locked throttlecrab-server --version 0.4.40`, which needs protoc",
        target: Target::None,
        configure: throttlecrab,
    },
];

/// Compares with every peer that is on PATH, and notes which could not be.
pub(super) fn run(bench: &Bench, results: &mut Results) -> anyhow::Result<()> {
    let memory = Server::tidegate("memory", bench, &policies::three_windows(), None)?;
    for peer in PEERS {
        let compared = match on_path(peer.program) {
            Some(program) => compare(bench, results, &memory, &peer, program),
            None => Err(anyhow!("it is not on PATH; it comes from {}", peer.from)),
        };
        // A peer is a guest: what is wrong with it does not make the table of this project fail.
        if let Err(error) = compared {
            results.notes.push(format!("not compared with {}: {error:#}", peer.program));
        }
    }
    if let Some(program) = on_path(LIMITADOR)
        && let Err(error) = compare_descriptors(bench, results, &program)
    {
        results.notes.push(format!("not compared with {LIMITADOR} in Envoy's protocol: {error:#}"));
    }
    Ok(())
}

/// One descriptor of one entry and one limit, in Envoy's protocol.
fn compare_descriptors(bench: &Bench, results: &mut Results, program: &Path) -> anyhow::Result<()> {
    const SHAPE: (&str, &[&str]) =
        ("Envoy 4x32", &["--connections", "4", "--in-flight", "32", "--protocol", "envoy"]);
    for (place, target) in [("memory", 2.5), ("Redis", 5.0)] {
        // Each has a Redis of its own, which nobody else asks.
        let stores = match place {
            "memory" => None,
            _ => Some((Redis::start()?, Redis::start()?)),
        };
        let ours = stores.as_ref().map(|(ours, _)| ours);
        let tidegate =
            Server::tidegate(&format!("descriptor, {place}"), bench, &policies::one_descriptor(), ours)?;
        let url = stores.as_ref().map(|(_, theirs)| theirs.url());
        let storage = url.as_ref().map_or_else(|| vec!["memory"], |url| vec!["redis", url]);
        let folder = tempfile::tempdir()?;
        let addr = free_addr()?;
        let (host, port) = addr.split_once(':').context("an address is host and port")?;
        let mut command = pinned(bench.cores.server, program);
        limitador(&mut command, host, port, &folder, &storage)?;
        let theirs = Server::listening(&format!("{LIMITADOR}, {place}"), command, addr, folder)?;
        for _ in 0..bench.rounds {
            let ours = results.measure(bench, SHAPE, &tidegate)?.checks_per_second;
            let theirs = results.measure(bench, SHAPE, &theirs)?.checks_per_second;
            let name = format!("ShouldRateLimit, 1 descriptor, {place}: requests/s / {LIMITADOR}");
            results.ratio(&name, ours / theirs, Target::AtLeast(target));
        }
    }
    Ok(())
}

fn compare(
    bench: &Bench,
    results: &mut Results,
    memory: &Server,
    peer: &Peer,
    program: PathBuf,
) -> anyhow::Result<()> {
    let name = peer.program;
    let folder = tempfile::tempdir()?;
    let addr = free_addr()?;
    let (host, port) = addr.split_once(':').context("an address is host and port")?;
    let mut command = pinned(bench.cores.server, program);
    (peer.configure)(&mut command, host, port, &folder)?;
    let server = Server::listening(name, command, addr, folder)?;
    let of_peer = [UNARY.1, &["--protocol", peer.protocol]].concat();
    for _ in 0..bench.rounds {
        let ours = results.measure(bench, UNARY, memory)?.checks_per_second;
        let theirs = results.measure(bench, (UNARY.0, &of_peer), &server)?.checks_per_second;
        results.ratio(&format!("unary, memory: checks/s / {name}"), ours / theirs, peer.target);
    }
    Ok(())
}

/// One limit of a minute per organization, over Envoy's protocol; counted in `storage`.
fn limitador(
    command: &mut Command,
    host: &str,
    port: &str,
    folder: &TempDir,
    storage: &[&str],
) -> anyhow::Result<()> {
    const LIMITS: &str = "- namespace: default\n  max_value: 1000000000\n  seconds: 60\n  conditions: []\n  \
                          variables: [\"descriptors[0]['organization']\"]\n";
    let limits = folder.path().join("limits.yaml");
    fs::write(&limits, LIMITS)?;
    let http = free_addr()?;
    let (http_host, http_port) = http.split_once(':').context("an address is host and port")?;
    command.args(["--rls-ip", host, "--rls-port", port, "--http-ip", http_host, "--http-port", http_port]);
    command.arg(limits).args(storage);
    Ok(())
}

/// The limit comes with each call.
fn throttlecrab(command: &mut Command, host: &str, port: &str, _folder: &TempDir) -> anyhow::Result<()> {
    command.args(["--grpc", "--grpc-host", host, "--grpc-port", port, "--log-level", "error"]);
    Ok(())
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path: OsString = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}
