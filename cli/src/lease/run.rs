//! `tidegate lease run`: a command that runs only while a lease is held.

use std::{
    ffi::OsString,
    fs::File,
    io::ErrorKind,
    os::unix::process::ExitStatusExt,
    process::{ExitCode, ExitStatus},
};

use anyhow::Context;
use clap::Args;
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, getpgrp, tcgetpgrp},
};
use tidegate_chassis::config::HumanDuration;
use tidegate_proto::ratelimit::v1::{ReleaseLeaseRequest, rate_limit_service_client::RateLimitServiceClient};
use tokio::{
    process::{Child, Command},
    signal::unix::{Signal as Signals, SignalKind, signal},
    time::sleep_until,
};

use super::{
    UNLIMITED, Wanted,
    admission::{Admission, admission},
    keeper::{Held, Lost, keep},
};
use crate::{
    check::Answer,
    client::{self, Connection},
};

const EXAMPLES: &str = "\
Examples:
  tidegate lease run --namespace shop -a organization=acme -- ./export --all
  tidegate lease run --namespace shop -a organization=acme --wait 10m -- make deploy

Exit code: that of the command (128 + N if signal N ended it), or
   75  denied: the command was not started
  124  the lease was lost: the command was ended
  125  it could not be decided, or not be done
  126  the command cannot be executed
  127  there is no such command";

/// Denied: EX_TEMPFAIL of sysexits.h, for callers to try again later.
const DENIED: u8 = 75;
/// The lease was lost, and with it the right to go on: as of timeout(1).
const LOST: u8 = 124;
/// It could not be decided, or not be done: as of timeout(1), env(1) and others that run commands.
pub(super) const FAILED: u8 = 125;
const CANNOT_EXECUTE: u8 = 126;
const NO_SUCH_COMMAND: u8 = 127;

/// By which the command finds its lease.
const LEASE_ID: &str = "TIDEGATE_LEASE_ID";

/// Run a command while a lease is held: it is renewed meanwhile, and released in the end.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    wanted: Wanted,

    /// While it is denied, try again for so long, as 10m.
    #[arg(long, value_name = "DURATION", default_value = "0s", hide_default_value = true)]
    wait: HumanDuration,

    /// The command and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Runs the command.
pub(super) async fn run(args: RunArgs) -> anyhow::Result<ExitCode> {
    let channel = client::connect(&args.wanted.addr).await?;
    // From now on, so that no signal ends this process while it holds a lease.
    let mut signals = Caught::new()?;
    let (decision, asked) = match admission(&channel, &args.wanted, args.wait.get(), &mut signals).await? {
        Admission::Decided(decision, asked) => (decision, asked),
        Admission::Caught(caught) => return Ok(ExitCode::from(of_signal(caught as i32))),
    };
    if !decision.allowed {
        anstream::eprintln!("tidegate: {}", Answer::from(*decision).denial());
        return Ok(ExitCode::from(DENIED));
    }
    let Some(lease) = decision.lease else {
        anstream::eprintln!("tidegate: {UNLIMITED}");
        return supervise(&args.command, &mut signals, None).await;
    };
    let held = Held::new(lease, asked);
    let id = held.id.clone();
    // After an error the command may still run: its place is nobody else's until the lease expires.
    let code = supervise(&args.command, &mut signals, Some((&channel, held)))
        .await
        .context("how the command ended is not known, so the lease is left to expire")?;
    release(channel, id).await;
    Ok(code)
}

/// Starts the command, passes signals on to it, ends it if the lease is lost, and answers its exit code.
async fn supervise(
    command: &[OsString],
    signals: &mut Caught,
    lease: Option<(&Connection, Held)>,
) -> anyhow::Result<ExitCode> {
    let (program, arguments) = command.split_first().context("a command is required")?;
    let mut command = Command::new(program);
    command.args(arguments).env_remove(LEASE_ID);
    if let Some((_, held)) = &lease {
        command.env(LEASE_ID, &held.id);
    }
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            anstream::eprintln!("tidegate: {}: {error}", program.display());
            let is_missing = error.kind() == ErrorKind::NotFound;
            return Ok(ExitCode::from(if is_missing { NO_SUCH_COMMAND } else { CANNOT_EXECUTE }));
        }
    };
    let lost = async {
        match lease {
            Some((channel, held)) => keep(channel.clone(), held).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(lost);
    loop {
        tokio::select! {
            status = child.wait() => return Ok(ExitCode::from(of_status(status?))),
            caught = signals.next() => pass_on(caught, &child),
            lost = &mut lost => return end(child, lost).await,
        }
    }
}

/// Ends a command that must not go on: it may leave by itself for as long as the keeper says, and not for longer.
async fn end(mut child: Child, Lost { why, kill_at }: Lost) -> anyhow::Result<ExitCode> {
    anstream::eprintln!("tidegate: the lease is lost ({why}); the command is told to end");
    send(Signal::SIGTERM, &child);
    tokio::select! {
        status = child.wait() => { status?; }
        () = sleep_until(kill_at) => {
            anstream::eprintln!("tidegate: the command has not ended in time; it is killed");
            child.kill().await?;
        }
    }
    Ok(ExitCode::from(LOST))
}

/// What is not released expires.
pub(super) async fn release(channel: Connection, lease_id: String) {
    let request = ReleaseLeaseRequest { lease_id };
    if let Err(status) = RateLimitServiceClient::new(channel).release_lease(request).await {
        let why = client::explain(&status);
        anstream::eprintln!("tidegate: the lease could not be released and expires by itself: {why}");
    }
}

/// Signals that would end this process.
pub(super) struct Caught {
    hangup: Signals,
    interrupt: Signals,
    quit: Signals,
    terminate: Signals,
}

impl Caught {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    pub(super) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.hangup.recv() => Signal::SIGHUP,
            _ = self.interrupt.recv() => Signal::SIGINT,
            _ = self.quit.recv() => Signal::SIGQUIT,
            _ = self.terminate.recv() => Signal::SIGTERM,
        }
    }
}

/// What the keyboard sends comes to the command by itself, and twice would be too much.
fn pass_on(caught: Signal, child: &Child) {
    let is_of_keyboard = matches!(caught, Signal::SIGINT | Signal::SIGQUIT) && is_in_foreground();
    if !is_of_keyboard {
        send(caught, child);
    }
}

/// Whether the terminal gives its signals to this process and the command.
fn is_in_foreground() -> bool {
    let Ok(terminal) = File::open("/dev/tty") else { return false };
    tcgetpgrp(terminal).is_ok_and(|foreground| foreground == getpgrp())
}

/// To a command that has not been waited for, so its id is still its own.
fn send(signal: Signal, child: &Child) {
    if let Some(Ok(id)) = child.id().map(i32::try_from)
        && let Err(error) = kill(Pid::from_raw(id), signal)
    {
        anstream::eprintln!("tidegate: {signal} cannot be passed on: {error}");
    }
}

fn of_status(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| i32::from(of_signal(signal))));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(FAILED)
}

/// As shells tell it.
fn of_signal(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(FAILED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_code_is_that_of_the_command_or_tells_its_signal() {
        for (raw, code) in [(0, 0), (7 << 8, 7), (255 << 8, 255), (15, 143), (9, 137)] {
            assert_eq!(of_status(ExitStatus::from_raw(raw)), code, "{raw}");
        }
    }
}
