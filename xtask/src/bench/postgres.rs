//! A PostgreSQL of the benchmark's own.

use std::{
    fs,
    net::TcpStream,
    os::unix::{
        fs::{MetadataExt, chown},
        process::CommandExt,
    },
    path::PathBuf,
    process::Command,
};

use anyhow::{Context, bail, ensure};

use super::{
    machine::pinned,
    server::{Process, free_addr},
};

/// A running `postgres` with its default settings, so that what is committed is on disk. The kernel chooses its cores.
pub(super) struct Postgres {
    _process: Process,
    addr: String,
}

impl Postgres {
    /// Makes a cluster and starts it on a free port.
    ///
    /// # Errors
    /// PostgreSQL is not installed, or does not start.
    pub(super) fn start() -> anyhow::Result<Self> {
        Self::run().context("a real PostgreSQL is needed (Debian: apt-get install postgresql)")
    }

    fn run() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let user = unprivileged_user()?;
        let command = |mut command: Command| {
            if let Some((uid, gid)) = user {
                command.uid(uid).gid(gid);
            }
            command.current_dir("/");
            command
        };
        if let Some((uid, gid)) = user {
            chown(folder.path(), Some(uid), Some(gid))?;
        }
        let data = folder.path().join("data");
        let mut initdb = command(Command::new(program("initdb")?));
        initdb
            .args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "-D"])
            .arg(&data);
        let made = initdb.output()?;
        ensure!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));

        let addr = free_addr()?;
        let port = addr.rsplit(':').next().context("an address ends with its port")?.to_owned();
        let mut server = command(pinned(None, program("postgres")?));
        server.arg("-D").arg(&data).args(["-p", &port, "-h", "127.0.0.1", "-c", "unix_socket_directories="]);
        let mut process = Process::start("postgres", server, folder)?;
        process.wait(|| TcpStream::connect(&addr).ok())?;
        Ok(Self { _process: process, addr })
    }

    /// Where it is, for `DATABASE_URL`.
    pub(super) fn url(&self) -> String {
        format!("postgres://postgres@{}/postgres", self.addr)
    }

    /// Transactions since it was started.
    ///
    /// # Errors
    /// `psql` is not there, or the server does not answer.
    pub(super) fn transactions(&self) -> anyhow::Result<f64> {
        let count = "SELECT sum(xact_commit + xact_rollback) FROM pg_stat_database";
        let output = Command::new(program("psql")?).args([&self.url(), "-Atc", count]).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "psql: {}", String::from_utf8_lossy(&output.stderr));
        text.trim().parse().with_context(|| format!("not a number: {text:?}"))
    }
}

/// Whom the server runs as, since it refuses to run as root; none if this is somebody else.
fn unprivileged_user() -> anyhow::Result<Option<(u32, u32)>> {
    if fs::metadata("/proc/self")?.uid() != 0 {
        return Ok(None);
    }
    for name in ["postgres", "nobody"] {
        let id = |what: &str| -> Option<u32> {
            let out = Command::new("id").args([what, name]).output().ok()?;
            String::from_utf8(out.stdout).ok()?.trim().parse().ok()
        };
        if let (Some(uid), Some(gid)) = (id("-u"), id("-g")) {
            return Ok(Some((uid, gid)));
        }
    }
    bail!("it does not run as root, and there is no user postgres or nobody")
}

/// A program of PostgreSQL, from PATH or from where Debian puts it.
fn program(name: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let folders = std::env::split_paths(&path).chain(debian.map(|version| version.path().join("bin")));
    let found = folders.map(|folder| folder.join(name)).find(|path| path.is_file());
    found.with_context(|| format!("there is no {name}"))
}
