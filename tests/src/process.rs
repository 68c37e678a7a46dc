//! A child process with its output kept, for the message of a test that fails.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::Context;

use crate::eventually::eventually;

/// How many of the last lines a failing test prints of each process.
const LINES_SHOWN: usize = 60;

/// A running child process, killed on drop.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    stdout: Output,
    stderr: Output,
}

impl Process {
    /// Starts `command` without input; its output is collected. Variables of Tidegate in the
    /// environment of the tests are not passed on, only those set on the command itself.
    ///
    /// # Errors
    ///
    /// The program cannot be started.
    pub fn spawn(name: &str, command: &mut Command) -> anyhow::Result<Self> {
        let set: Vec<_> = command.get_envs().map(|(key, _)| key.to_os_string()).collect();
        for (key, _) in std::env::vars_os() {
            let text = key.to_string_lossy();
            let ours = text.starts_with("TIDEGATE_") || FOREIGN.contains(&text.as_ref());
            if ours && !set.contains(&key) {
                command.env_remove(&key);
            }
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {name}: {command:?}"))?;
        let stdout = Output::of(child.stdout.take());
        let stderr = Output::of(child.stderr.take());
        Ok(Self { name: name.to_owned(), child, stdout, stderr })
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How much of it lies in memory, in KiB.
    ///
    /// # Errors
    ///
    /// The process is gone, or the system tells nothing of processes under /proc.
    pub fn resident_kib(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next());
        Ok(number.context("the status tells VmRSS")?.parse()?)
    }

    /// Sends a signal by name, as "TERM".
    ///
    /// # Errors
    ///
    /// The process is gone.
    pub fn signal(&self, signal: &str) -> anyhow::Result<()> {
        let sent = Command::new("sh")
            .args(["-c", "kill -s \"$1\" \"$2\"", "kill", signal, &self.id().to_string()])
            .status()?;
        anyhow::ensure!(sent.success(), "cannot send SIG{signal} to {}", self.name);
        Ok(())
    }

    /// `kill -9`, and waits until the process is gone.
    ///
    /// # Errors
    ///
    /// The process cannot be waited for.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        self.read_to_the_end();
        Ok(())
    }

    /// The exit status, if the process has ended.
    ///
    /// # Errors
    ///
    /// The process cannot be waited for.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        let status = self.child.try_wait()?;
        if status.is_some() {
            self.read_to_the_end();
        }
        Ok(status)
    }

    /// Waits for the end of the process.
    ///
    /// # Errors
    ///
    /// It still runs after `within`; the message carries its log.
    pub async fn wait(&mut self, within: Duration) -> anyhow::Result<ExitStatus> {
        let mut status = None;
        let ended = eventually("it ends", within, async || {
            status = self.ended()?;
            Ok(status.is_some())
        });
        ended.await.with_context(|| format!("{} still runs\n{}", self.name, self.tail()))?;
        status.context("it has ended")
    }

    /// Everything written to standard output so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        self.stdout.lines().join("\n")
    }

    /// Everything written to standard error so far: the log of a service.
    #[must_use]
    pub fn stderr(&self) -> String {
        self.stderr.lines().join("\n")
    }

    /// The last lines of both, for messages.
    #[must_use]
    pub fn tail(&self) -> String {
        let mut text = String::new();
        for (kind, output) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            let lines = output.lines();
            let from = lines.len().saturating_sub(LINES_SHOWN);
            if !lines.is_empty() {
                text.push_str(&format!("--- {} {kind}, last lines of {}\n", self.name, lines.len()));
                text.push_str(&lines[from..].join("\n"));
                text.push('\n');
            }
        }
        text
    }

    /// For a process that has ended: its last words may still be in the pipe.
    fn read_to_the_end(&mut self) {
        for output in [&mut self.stdout, &mut self.stderr] {
            if let Some(reader) = output.reader.take() {
                // A reader that panicked has left what it read.
                reader.join().ok();
            }
        }
    }
}

/// Settings that services honour although they do not carry our prefix. A backtrace would push what is wrong out of the last lines.
const FOREIGN: [&str; 8] = [
    "REDIS_URL",
    "DATABASE_URL",
    "LOG_LEVEL",
    "ENVIRONMENT",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "RATE_LIMIT_ENABLED",
    "RUST_BACKTRACE",
    "RUST_LIB_BACKTRACE",
];

impl Drop for Process {
    #[expect(clippy::print_stderr, reason = "a failing test shows the log of its processes")]
    fn drop(&mut self) {
        // An error means that it is gone already, which is what is wanted.
        self.child.kill().ok();
        self.child.wait().ok();
        if thread::panicking() {
            self.read_to_the_end();
            eprintln!("{}", self.tail());
        }
    }
}

/// What a stream has carried so far, and the thread that reads it.
#[derive(Debug, Default)]
struct Output {
    lines: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
}

impl Output {
    fn of(stream: Option<impl Read + Send + 'static>) -> Self {
        let Some(stream) = stream else { return Self::default() };
        let lines = Arc::<Mutex<Vec<String>>>::default();
        let written = Arc::clone(&lines);
        let reader = thread::spawn(move || {
            for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                lock(&written).push(String::from_utf8_lossy(&line).into_owned());
            }
        });
        Self { lines, reader: Some(reader) }
    }

    fn lines(&self) -> MutexGuard<'_, Vec<String>> {
        lock(&self.lines)
    }
}

fn lock(lines: &Mutex<Vec<String>>) -> MutexGuard<'_, Vec<String>> {
    lines.lock().unwrap_or_else(PoisonError::into_inner)
}
