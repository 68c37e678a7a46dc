//! The servers that are measured. Each is stopped, by its process id, when it is dropped.

use std::{
    fs::{self, File},
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;

use super::{Bench, machine::pinned, postgres::Postgres, redis::Redis};

const START: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);
/// In the folder of a server.
const READY: &str = "ready.json";

/// A running server.
pub(super) struct Server {
    /// As it stands in the table.
    pub(super) name: String,
    /// gRPC address.
    pub(super) addr: String,
    /// The Redis behind it.
    pub(super) redis_pid: Option<u32>,
    /// What it wrote once it served.
    ready: Value,
    /// From its start until it was ready, looked at every 20 ms.
    pub(super) started_in: Duration,
    process: Process,
}

impl Server {
    /// The yardstick.
    pub(super) fn ceiling(bench: &Bench) -> anyhow::Result<Self> {
        let addr = free_addr()?;
        let mut command = pinned(bench.cores.server, &bench.tidegate);
        command.args(["bench-ceiling", "--listen", &addr]);
        Self::listening("ceiling", command, addr, tempfile::tempdir()?)
    }

    /// Any server that listens on `addr` once it serves. `files` are its own.
    pub(super) fn listening(
        name: &str,
        command: Command,
        addr: String,
        files: TempDir,
    ) -> anyhow::Result<Self> {
        let begun = Instant::now();
        let mut process = Process::start(name, command, files)?;
        process.wait(|| TcpStream::connect(&addr).ok())?;
        let started_in = begun.elapsed();
        Ok(Self { name: name.to_owned(), addr, redis_pid: None, ready: Value::Null, started_in, process })
    }

    /// `tidegate up` with the given policies, counting in memory, or in `redis`; what is to stay is in SQLite.
    pub(super) fn tidegate(
        name: &str,
        bench: &Bench,
        policies: &str,
        redis: Option<&Redis>,
    ) -> anyhow::Result<Self> {
        Self::with_database(name, bench, policies, redis, None)
    }

    /// The same, with what is to stay in `database`, if there is one.
    pub(super) fn with_database(
        name: &str,
        bench: &Bench,
        policies: &str,
        redis: Option<&Redis>,
        database: Option<&Postgres>,
    ) -> anyhow::Result<Self> {
        let files = tempfile::tempdir()?;
        let policy_file = files.path().join("policies.toml");
        fs::write(&policy_file, policies)?;
        let ready_file = files.path().join(READY);
        let mut command = pinned(bench.cores.server, &bench.tidegate);
        command
            .args(["up", "--ephemeral", "--ready-file"])
            .arg(&ready_file)
            .env("TIDEGATE_RATELIMIT__POLICIES__FILE", &policy_file)
            // Room for a million keys of anything: the bound is not what is measured here.
            .env("TIDEGATE_RATELIMIT__STORE__MEMORY__MAX_BYTES", "8589934592")
            .env("LOG_LEVEL", "warn")
            .env_remove("REDIS_URL")
            .env_remove("DATABASE_URL");
        if let Some(redis) = redis {
            command.env("REDIS_URL", redis.url());
        }
        if let Some(database) = database {
            command.env("DATABASE_URL", database.url());
        }
        let begun = Instant::now();
        let mut process = Process::start(name, command, files)?;
        let ready: Value = process.wait(|| serde_json::from_slice(&fs::read(&ready_file).ok()?).ok())?;
        let (redis_pid, started_in) = (redis.map(Redis::pid), begun.elapsed());
        let addr = ready["grpc"]["ratelimit"].as_str().context("no address in the ready file")?.to_owned();
        Ok(Self { name: name.to_owned(), addr, redis_pid, ready, started_in, process })
    }

    /// Where `tidegate up` wrote that it served, and who its operator is.
    pub(super) fn ready_file(&self) -> PathBuf {
        self.process.folder().join(READY)
    }

    /// A counter of the rate-limit service, summed over its labels.
    ///
    /// # Errors
    /// The ops port does not answer.
    pub(super) fn counter(&self, name: &str) -> anyhow::Result<f64> {
        let addr = self.ready["ops"]["ratelimit"].as_str().context("no ops address in the ready file")?;
        let mut stream = TcpStream::connect(addr)?;
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let samples = answer.lines().filter(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{') || rest.starts_with(' '))
        });
        let values: Result<Vec<f64>, _> =
            samples.filter_map(|line| line.rsplit(' ').next()).map(str::parse).collect();
        let values = values.with_context(|| format!("{name} is no number"))?;
        ensure!(!values.is_empty(), "the server has no metric {name}");
        Ok(values.iter().sum())
    }

    /// Process id.
    pub(super) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Resident memory, bytes.
    pub(super) fn resident(&self) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS in /proc")?;
        let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kilobytes * 1024)
    }
}

/// A child process with its log, and the folder that is its own.
pub(super) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    folder: TempDir,
}

impl Process {
    /// Starts it.
    ///
    /// # Errors
    /// The program is not there.
    pub(super) fn start(name: &str, mut command: Command, folder: TempDir) -> anyhow::Result<Self> {
        let log = folder.path().join("log");
        let file = File::create(&log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Self { name: name.to_owned(), child, log, folder })
    }

    /// Waits until `ready` has something.
    ///
    /// # Errors
    /// The process ended, or is not ready in time; with its log.
    pub(super) fn wait<T>(&mut self, ready: impl Fn() -> Option<T>) -> anyhow::Result<T> {
        let deadline = Instant::now() + START;
        loop {
            if let Some(found) = ready() {
                return Ok(found);
            }
            let log = || read_log(&self.log);
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended ({status}) before it was ready\n{}", self.name, log());
            }
            if Instant::now() > deadline {
                bail!("{} was not ready within {START:?}\n{}", self.name, log());
            }
            thread::sleep(POLL);
        }
    }

    /// Process id.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The folder that is its own.
    fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A graceful leave would wait out a lame duck that nobody needs here.
        if self.child.kill().is_ok() {
            self.child.wait().ok();
        }
    }
}

/// An address on loopback that nobody listens on.
///
/// # Errors
/// The machine has no free port.
pub(super) fn free_addr() -> anyhow::Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

fn read_log(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}
