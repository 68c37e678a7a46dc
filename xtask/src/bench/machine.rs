//! The machine that is measured on.

use std::{ffi::OsStr, fs, process::Command, thread, time::Duration};

use anyhow::{Context, ensure};
use serde::Serialize;

/// How long the machine is watched before anything is measured.
const WATCH: Duration = Duration::from_secs(2);
/// Above this share of its time somebody else is at work, and figures are worth little.
const BUSY: f64 = 0.05;
/// Of the first line of /proc/stat, behind its name: the two kinds of idle time.
const IDLE: [usize; 2] = [3, 4];

/// What a figure is worth nothing without.
#[derive(Debug, Serialize)]
pub(super) struct Machine {
    pub(super) processor: String,
    pub(super) cores: usize,
    pub(super) kernel: String,
    /// Share of all cores' time that was taken before the first measurement, 0 to 1.
    pub(super) busy: f64,
}

impl Machine {
    pub(super) fn is_busy(&self) -> bool {
        self.busy > BUSY
    }
}

/// Describes this machine, and watches for a while how busy it is.
///
/// # Errors
/// There is no /proc.
pub(super) fn describe() -> anyhow::Result<Machine> {
    let info = fs::read_to_string("/proc/cpuinfo").context("the benchmark reads /proc: it needs Linux")?;
    let processor = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let before = fs::read_to_string("/proc/stat")?;
    thread::sleep(WATCH);
    let after = fs::read_to_string("/proc/stat")?;
    Ok(Machine {
        processor: processor.map_or("unknown", |(_, name)| name).to_owned(),
        cores: thread::available_parallelism()?.get(),
        kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
        busy: busy(&before, &after).context("cannot understand /proc/stat")?,
    })
}

/// Share of the time between two readings of /proc/stat that was not idle.
fn busy(before: &str, after: &str) -> Option<f64> {
    let ticks = |stat: &str| -> Option<Vec<f64>> {
        let fields = stat.lines().next()?.strip_prefix("cpu ")?.split_ascii_whitespace();
        // Guest time behind these eight is part of the user time already.
        fields.take(8).map(|field| field.parse().ok()).collect()
    };
    let passed: Vec<f64> =
        ticks(after)?.iter().zip(ticks(before)?).map(|(after, before)| after - before).collect();
    let idle: f64 = IDLE.iter().filter_map(|field| passed.get(*field)).sum();
    let all: f64 = passed.iter().sum();
    Some(if all > 0.0 { 1.0 - idle / all } else { 0.0 })
}

/// Which core serves and which makes the load.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cores {
    pub(super) server: Option<usize>,
    pub(super) load: Option<usize>,
}

impl Cores {
    /// The first core that this process may use serves, and the last makes the load.
    ///
    /// # Errors
    /// There is one core only, or no `taskset` or `setpriv`.
    pub(super) fn choose(unpinned: bool) -> anyhow::Result<Self> {
        for (tool, does) in
            [("setpriv", "ends servers with the benchmark"), ("taskset", "pins processes to cores")]
        {
            let found = Command::new(tool).arg("--version").output();
            found.with_context(|| {
                format!("`{tool}` {does}; install it (Debian: apt-get install util-linux)")
            })?;
        }
        if unpinned {
            return Ok(Self { server: None, load: None });
        }
        let status = fs::read_to_string("/proc/self/status")?;
        let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        let (server, load) = allowed.and_then(ends).context("cannot understand /proc/self/status")?;
        ensure!(server != load, "server and load need a core each; --unpinned does without");
        Ok(Self { server: Some(server), load: Some(load) })
    }
}

/// First and last number of a list as `0-3,8`.
fn ends(list: &str) -> Option<(usize, usize)> {
    let mut numbers = list.trim().split([',', '-']).map(|number| number.parse().ok());
    let first = numbers.next()??;
    Some((first, numbers.next_back().unwrap_or(Some(first))?))
}

/// A command that runs on one core, and ends when this process does, even if that is killed.
pub(super) fn pinned(core: Option<usize>, program: impl AsRef<OsStr>) -> Command {
    // Each of these becomes the next, so the process id is the program's own.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    if let Some(core) = core {
        command.args(["taskset", "--cpu-list", &core.to_string()]);
    }
    command.arg(program);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_is_what_is_neither_idle_nor_waiting() {
        let before = "cpu  100 0 50 800 50 0 0 0 7 0\ncpu0 1 2 3\n";
        let after = "cpu  130 0 60 840 60 5 5 0 9 0\n";
        assert!(busy(before, after).is_some_and(|share| (share - 0.5).abs() < 1e-9));
        assert_eq!(busy(before, before), Some(0.0));
        assert_eq!(busy("intr 1", after), None);
    }

    #[test]
    fn first_and_last_core_of_a_list_are_found() {
        assert_eq!(ends("\t0-1\n"), Some((0, 1)));
        assert_eq!(ends("2,4-5,9"), Some((2, 9)));
        assert_eq!(ends("3"), Some((3, 3)));
        assert_eq!(ends(""), None);
    }
}
