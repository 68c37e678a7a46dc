//! Runs the load: threads with a runtime and connections each, one common timeline.

use std::{
    sync::{Arc, Mutex, MutexGuard, mpsc},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use bytes::{BufMut, Bytes, BytesMut};
use indicatif::ProgressBar;

use super::{
    args::{BenchArgs, Mode},
    client::{Line, Target},
    closed_loop,
    cpu::{self, Watched},
    keys::{self, Checks, Keys},
    open_loop::{self, Pace},
    tally::{Tally, Timeline},
    wire::{self, Decided, Malformed},
};
use crate::client::Bearer;

/// From the moment all are connected until the first check is due.
const HEAD_START: Duration = Duration::from_millis(50);
/// How long answers are waited for once nothing is sent any more.
pub(crate) const DRAIN: Duration = Duration::from_secs(5);
/// Messages are cut from blocks of this size, so that few of them need an allocation.
const BLOCK: usize = 64 * 1024;
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// What a run measured.
pub(crate) struct Measured {
    pub(crate) tally: Tally,
    /// Distinct keys that were drawn from.
    pub(crate) keys: u32,
    /// CPU time of the watched processes while it counted.
    pub(crate) cpu: Vec<(Watched, Duration)>,
    /// CPU time of the generator itself while it counted.
    pub(crate) own_cpu: Duration,
}

/// One load thread's part of the work.
pub(crate) struct Share {
    pub(crate) mode: Mode,
    pub(crate) timeline: Timeline,
    pub(crate) lines: Vec<Arc<Line>>,
    pub(crate) in_flight: u32,
    pub(crate) window: u32,
    pub(crate) feed: Mutex<Feed>,
    tally: Arc<Mutex<Tally>>,
}

impl Share {
    /// The counts of this thread.
    pub(crate) fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().expect("nothing panics while it holds the lock")
    }

    /// The next messages of this thread.
    pub(crate) fn feed(&self) -> MutexGuard<'_, Feed> {
        self.feed.lock().expect("nothing panics while it holds the lock")
    }

    /// Reads the answer to one call.
    pub(crate) fn decoder(&self) -> fn(&[u8]) -> Result<Decided, Malformed> {
        match self.mode {
            Mode::Unary | Mode::Stream => wire::check_response,
            Mode::Batch => wire::batch_response,
        }
    }
}

/// Makes the messages of one load thread.
pub(crate) struct Feed {
    checks: Arc<Checks>,
    keys: Keys,
    /// Checks per call.
    batch: Option<u32>,
    block: BytesMut,
}

impl Feed {
    /// The message of the next call.
    pub(crate) fn call(&mut self) -> Bytes {
        let Self { checks, keys, batch, block } = self;
        wire::frame(block, |block| match batch {
            None => block.put_slice(checks.get(keys.next())),
            Some(size) => (0..*size).for_each(|_| keys::put_batch_entry(block, checks.get(keys.next()))),
        });
        self.cut()
    }

    /// The next messages of a stream, with the ids from `first` on.
    pub(crate) fn stream(&mut self, first: u64, count: u64) -> Bytes {
        let Self { checks, keys, block, .. } = self;
        for id in first..first + count {
            wire::frame(block, |block| keys::put_stream_request(block, id, checks.get(keys.next())));
        }
        self.cut()
    }

    fn cut(&mut self) -> Bytes {
        let message = self.block.split().freeze();
        if self.block.capacity() < BLOCK / 16 {
            self.block.reserve(BLOCK);
        }
        message
    }
}

/// Runs the load against `addr` and reads the CPU time of `pids` beside it.
///
/// # Errors
/// The server cannot be reached at the start, or a watched process does not exist.
pub(crate) fn run(args: &BenchArgs, addr: &str, pids: &[Watched]) -> anyhow::Result<Measured> {
    let checks = Arc::new(Checks::new(args)?);
    let mut keys = Keys::new(args, checks.count());
    let threads = args.threads();
    let (connected, all_connected) = mpsc::channel();

    let mut started = Vec::new();
    for index in 0..threads {
        let (begin, timeline) = mpsc::channel();
        let feed = Feed {
            checks: Arc::clone(&checks),
            keys: keys.fork(),
            batch: (args.mode == Mode::Batch).then_some(args.batch_size),
            block: BytesMut::with_capacity(BLOCK),
        };
        let (args, addr, connected) = (args.clone(), addr.to_owned(), connected.clone());
        let thread = thread::Builder::new()
            .name(format!("load-{index}"))
            .spawn(move || work(&args, &addr, index, feed, &connected, &timeline))
            .context("cannot start a load thread")?;
        started.push((thread, begin));
    }
    for _ in 0..threads {
        all_connected.recv().context("a load thread ended early")??;
    }

    let start = Instant::now() + HEAD_START;
    let measure = start + args.warmup;
    let timeline = Timeline { start, measure, end: measure + args.duration };
    let mut tallies = Vec::new();
    for (_, begin) in &started {
        let tally = Arc::new(Mutex::new(Tally::new(timeline)));
        tallies.push(Arc::clone(&tally));
        begin.send((timeline, tally)).context("a load thread ended early")?;
    }

    let (cpu, own_cpu) = watch(timeline, pids, &tallies)?;
    for (thread, _) in started {
        thread.join().map_err(|_| anyhow::anyhow!("a load thread panicked"))?;
    }
    let mut all = Tally::new(timeline);
    for tally in tallies {
        all.add(&tally.lock().expect("the load threads have ended well"));
    }
    Ok(Measured { tally: all, keys: checks.count(), cpu, own_cpu })
}

/// One load thread: connects, says so, waits for the timeline, runs its share.
fn work(
    args: &BenchArgs,
    addr: &str,
    index: u32,
    feed: Feed,
    connected: &mpsc::Sender<anyhow::Result<()>>,
    begin: &mpsc::Receiver<(Timeline, Arc<Mutex<Tally>>)>,
) {
    // One current-thread runtime per load thread: tasks never move, and answers are written and
    // read in large pieces.
    let lines = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime")
        .and_then(|runtime| Ok((runtime.block_on(connect(args, addr, index))?, runtime)));
    let (lines, runtime) = match lines {
        Ok(ready) => ready,
        Err(error) => {
            // The receiver is gone if another thread failed first.
            connected.send(Err(error)).ok();
            return;
        }
    };
    if connected.send(Ok(())).is_err() {
        return;
    }
    let Ok((timeline, tally)) = begin.recv() else { return };
    let share = Share {
        mode: args.mode,
        timeline,
        lines,
        in_flight: args.in_flight(),
        window: args.window,
        feed: Mutex::new(feed),
        tally,
    };
    let share = Arc::new(share);
    match pace(args, index) {
        Some(pace) => runtime.block_on(open_loop::run(share, pace)),
        None => runtime.block_on(closed_loop::run(share)),
    }
    // Calls that are still unanswered have been counted; they are not waited for.
    runtime.shutdown_background();
}

/// When the calls of one thread are due, if they are: the threads take turns.
fn pace(args: &BenchArgs, index: u32) -> Option<Pace> {
    let checks_per_call = if args.mode == Mode::Batch { f64::from(args.batch_size) } else { 1.0 };
    let calls_per_second = args.rate? / checks_per_call;
    let first = Duration::from_secs_f64(f64::from(index) / calls_per_second);
    Some(Pace { first, calls_per_second: calls_per_second / f64::from(args.threads()) })
}

async fn connect(args: &BenchArgs, addr: &str, index: u32) -> anyhow::Result<Vec<Arc<Line>>> {
    let target = Target::resolve(addr, args.protocol.path(args.mode), &Bearer::of_environment()?).await?;
    let mut lines = Vec::new();
    for _ in (index..args.connections).step_by(args.threads() as usize) {
        lines.push(Line::connect(target.clone()).await?);
    }
    Ok(lines)
}

/// Shows progress and reads the CPU times at both ends of the measurement.
fn watch(
    timeline: Timeline,
    pids: &[Watched],
    tallies: &[Arc<Mutex<Tally>>],
) -> anyhow::Result<(Vec<(Watched, Duration)>, Duration)> {
    // To stderr, and hidden if that is no terminal.
    let bar = ProgressBar::new(millis(timeline.end - timeline.start));
    bar.set_style(
        indicatif::ProgressStyle::with_template("{bar:30} {msg}")
            .expect("the template is a constant that parses"),
    );
    bar.set_message("warming up");
    progress(&bar, timeline, timeline.measure, tallies);
    let before: Vec<_> = pids.iter().map(|watched| cpu::time(watched.pid)).collect::<Result<_, _>>()?;
    let own_before = cpu::time(std::process::id())?;
    progress(&bar, timeline, timeline.end, tallies);
    let mut spent = Vec::new();
    for (watched, before) in pids.iter().zip(before) {
        spent.push((watched.clone(), cpu::time(watched.pid)?.saturating_sub(before)));
    }
    let own = cpu::time(std::process::id())?.saturating_sub(own_before);
    bar.finish_and_clear();
    Ok((spent, own))
}

fn progress(bar: &ProgressBar, timeline: Timeline, until: Instant, tallies: &[Arc<Mutex<Tally>>]) {
    loop {
        let now = Instant::now();
        let left = until.saturating_duration_since(now);
        if left.is_zero() {
            return;
        }
        thread::sleep(left.min(PROGRESS_EVERY));
        bar.set_position(millis(now.saturating_duration_since(timeline.start)));
        if bar.is_hidden() || now <= timeline.measure {
            continue;
        }
        let decided =
            tallies.iter().map(|tally| tally.lock().map_or(0, |tally| tally.decided.sum())).sum::<u64>();
        let rate = decided as f64 / (now - timeline.measure).as_secs_f64();
        bar.set_message(format!("{rate:.0} checks/s"));
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
