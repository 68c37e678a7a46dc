//! A child process with its output kept, for the message of a test that fails.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};

/// How many of the last lines a failing test prints of each process.
const LINES_SHOWN: usize = 60;

type Lines = Arc<Mutex<Vec<String>>>;

/// A running child process, killed on drop.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    stdout: Lines,
    stderr: Lines,
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
        let stdout = collect(child.stdout.take());
        let stderr = collect(child.stderr.take());
        Ok(Self { name: name.to_owned(), child, stdout, stderr })
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
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
        Ok(())
    }

    /// The exit status, if the process has ended.
    ///
    /// # Errors
    ///
    /// The process cannot be waited for.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits for the end of the process.
    ///
    /// # Errors
    ///
    /// It still runs after `within`; the message carries its log.
    pub async fn wait(&mut self, within: Duration) -> anyhow::Result<ExitStatus> {
        let deadline = Instant::now() + within;
        while Instant::now() < deadline {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        bail!("{} still runs after {within:?}\n{}", self.name, self.tail())
    }

    /// Everything written to standard output so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        lock(&self.stdout).join("\n")
    }

    /// Everything written to standard error so far: the log of a service.
    #[must_use]
    pub fn stderr(&self) -> String {
        lock(&self.stderr).join("\n")
    }

    /// The last lines of both, for messages.
    #[must_use]
    pub fn tail(&self) -> String {
        let mut text = String::new();
        for (kind, lines) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            let lines = lock(lines);
            let from = lines.len().saturating_sub(LINES_SHOWN);
            if !lines.is_empty() {
                text.push_str(&format!("--- {} {kind}, last lines of {}\n", self.name, lines.len()));
                text.push_str(&lines[from..].join("\n"));
                text.push('\n');
            }
        }
        text
    }
}

/// Settings that services honour although they do not carry our prefix.
const FOREIGN: [&str; 6] = [
    "REDIS_URL",
    "DATABASE_URL",
    "LOG_LEVEL",
    "ENVIRONMENT",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "RATE_LIMIT_ENABLED",
];

impl Drop for Process {
    #[expect(clippy::print_stderr, reason = "a failing test shows the log of its processes")]
    fn drop(&mut self) {
        // An error means that it is gone already, which is what is wanted.
        self.child.kill().ok();
        self.child.wait().ok();
        if thread::panicking() {
            eprintln!("{}", self.tail());
        }
    }
}

fn collect(stream: Option<impl Read + Send + 'static>) -> Lines {
    let lines = Lines::default();
    if let Some(stream) = stream {
        let lines = Arc::clone(&lines);
        thread::spawn(move || {
            for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                lock(&lines).push(String::from_utf8_lossy(&line).into_owned());
            }
        });
    }
    lines
}

fn lock(lines: &Lines) -> std::sync::MutexGuard<'_, Vec<String>> {
    lines.lock().unwrap_or_else(PoisonError::into_inner)
}
