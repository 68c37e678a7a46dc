//! CPU time of a process, from /proc.

use std::{fs, time::Duration};

use anyhow::Context;

/// Clock ticks per second in /proc: `USER_HZ`, which Linux fixes at 100 for programs.
const TICKS_PER_SECOND: u64 = 100;
/// Fields of /proc/PID/stat after the name in parentheses: state is the first, utime the twelfth.
const USER_TICKS: usize = 11;
const SYSTEM_TICKS: usize = 12;

/// A process whose CPU time is reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Watched {
    pub(crate) name: String,
    pub(crate) pid: u32,
}

impl Watched {
    /// Parses `PID` or `NAME=PID`.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        let (name, pid) = text.split_once('=').unwrap_or(("server", text));
        Ok(Self { name: name.to_owned(), pid: pid.parse().context("write PID or NAME=PID")? })
    }
}

/// CPU time that all threads of a process have used so far, in steps of 10 ms.
///
/// # Errors
/// There is no such process, or no /proc.
pub(crate) fn time(pid: u32) -> anyhow::Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("cannot read {path} for the CPU time"))?;
    parse(&stat).with_context(|| format!("cannot understand {path}"))
}

fn parse(stat: &str) -> Option<Duration> {
    // The name may hold anything, parentheses and spaces too.
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
    let ticks = |index: usize| fields.get(index)?.parse::<u64>().ok();
    let ticks = ticks(USER_TICKS)? + ticks(SYSTEM_TICKS)?;
    Some(Duration::from_millis(ticks * (1000 / TICKS_PER_SECOND)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_line_is_read_behind_the_name() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 100 0 0 0 250 75 0 0 20 0 4 0 1000 0 0";
        assert_eq!(parse(stat), Some(Duration::from_millis(3250)));
        assert_eq!(parse("42 (x) S 1"), None);
    }

    #[test]
    fn own_time_can_be_read() {
        assert!(time(std::process::id()).is_ok());
    }

    #[test]
    fn watched_process_may_be_named() {
        assert_eq!(Watched::parse("7").unwrap(), Watched { name: "server".to_owned(), pid: 7 });
        assert_eq!(Watched::parse("redis=8").unwrap(), Watched { name: "redis".to_owned(), pid: 8 });
        assert!(Watched::parse("redis").is_err());
    }
}
