//! Open loop: ask when it is due, whether or not the server keeps up.
//!
//! Latency counts from when a check was due (see `Tally::open`), so that a stall of the server or
//! of the generator itself shows in full: no coordinated omission.

mod pacer;

use std::{
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use h2::SendStream;

use super::{
    args::Mode,
    client::{Answers, Failure, Line},
    load::{DRAIN, Share},
    pipe::Pipe,
};
use pacer::{Next, Pacer};

pub(crate) use pacer::Pace;

/// Unanswered calls per load thread. Above it the generator waits, and is late.
const MOST_UNANSWERED: u64 = 100_000;

/// Sends on schedule until the end, then waits a while for the answers.
pub(crate) async fn run(share: Arc<Share>, pace: Pace) {
    let end = share.timeline.end;
    let mut pacer = Pacer::new(pace, share.timeline.start, end);
    let unanswered = Arc::new(AtomicU64::new(0));
    let streams = if share.mode == Mode::Stream { open_streams(&share, &unanswered) } else { Vec::new() };

    let mut turn = 0;
    loop {
        let now = Instant::now();
        if now >= end {
            let mut tally = share.tally();
            pacer.unsent().for_each(|due| tally.never_sent(due));
            break;
        }
        if unanswered.load(Ordering::Relaxed) >= MOST_UNANSWERED {
            tokio::task::yield_now().await;
            continue;
        }
        let due = match pacer.next(now) {
            Next::Send { due } => due,
            Next::Sleep(time) => {
                tokio::time::sleep(time).await;
                continue;
            }
            Next::Yield => {
                tokio::task::yield_now().await;
                continue;
            }
            Next::End => break,
        };
        share.tally().sent(due, now);
        unanswered.fetch_add(1, Ordering::Relaxed);
        if streams.is_empty() {
            let line = Arc::clone(&share.lines[turn % share.lines.len()]);
            tokio::spawn(call(Arc::clone(&share), line, due, Arc::clone(&unanswered)));
        } else {
            streams[turn % streams.len()].send(&share, due, &unanswered);
        }
        turn += 1;
    }

    for stream in &streams {
        stream.finish();
    }
    let deadline = end + DRAIN;
    while unanswered.load(Ordering::Relaxed) > 0 && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for stream in &streams {
        for due in stream.half().pipe.abandon() {
            share.tally().gave_up(due, deadline);
        }
    }
    // Calls give themselves up at the deadline.
    while streams.is_empty() && unanswered.load(Ordering::Relaxed) > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn call(share: Arc<Share>, line: Arc<Line>, due: Instant, unanswered: Arc<AtomicU64>) {
    let message = share.feed().call();
    let answer = async {
        let mut sender = line.ready().await?;
        line.call(&mut sender, message, share.decoder()).await
    };
    let deadline = share.timeline.end + DRAIN;
    match tokio::time::timeout_at(deadline.into(), answer).await {
        Ok(answer) => share.tally().open(due, Instant::now(), answer),
        Err(_) => share.tally().gave_up(due, deadline),
    }
    unanswered.fetch_sub(1, Ordering::Relaxed);
}

/// One stream, opened again when it goes.
struct Stream(Mutex<Half>);

#[derive(Default)]
struct Half {
    pipe: Pipe,
    /// Absent while there is no stream.
    send: Option<SendStream<Bytes>>,
}

fn open_streams(share: &Arc<Share>, unanswered: &Arc<AtomicU64>) -> Vec<Arc<Stream>> {
    let mut streams = Vec::new();
    for line in &share.lines {
        for _ in 0..share.in_flight {
            let stream = Arc::new(Stream(Mutex::default()));
            let keep = Arc::clone(&stream).keep(Arc::clone(share), Arc::clone(line), Arc::clone(unanswered));
            tokio::spawn(keep);
            streams.push(stream);
        }
    }
    streams
}

impl Stream {
    fn half(&self) -> MutexGuard<'_, Half> {
        self.0.lock().expect("nothing panics while it holds the lock")
    }

    fn send(&self, share: &Share, due: Instant, unanswered: &AtomicU64) {
        let mut half = self.half();
        let Half { pipe, send } = &mut *half;
        let sent = match send {
            // A failure to send shows on the receiving side too, where all that is unanswered is counted.
            Some(send) => send.send_data(pipe.send(&mut share.feed(), due, 1), false).is_ok(),
            None => false,
        };
        if !sent && send.take().is_none() {
            unanswered.fetch_sub(1, Ordering::Relaxed);
            let failure = Failure::Transport("the stream is down".to_owned());
            share.tally().open(due, Instant::now(), Err(failure));
        }
    }

    fn finish(&self) {
        if let Some(mut send) = self.half().send.take() {
            // If the stream has gone there is nothing to finish.
            send.send_data(Bytes::new(), true).ok();
        }
    }

    /// Holds a stream open and reads its answers.
    async fn keep(self: Arc<Self>, share: Arc<Share>, line: Arc<Line>, unanswered: Arc<AtomicU64>) {
        while Instant::now() < share.timeline.end {
            let ended = self.read(&share, &line, &unanswered).await;
            let now = Instant::now();
            let abandoned: Vec<_> = {
                let mut half = self.half();
                half.send = None;
                half.pipe.abandon().collect()
            };
            if let Err(failure) = &ended {
                share.tally().open(now, now, Err(Failure::Transport(failure.to_string())));
            }
            for due in abandoned {
                unanswered.fetch_sub(1, Ordering::Relaxed);
                let failure = Failure::Transport("the stream ended before the answer".to_owned());
                share.tally().open(due, now, Err(failure));
            }
        }
    }

    async fn read(&self, share: &Share, line: &Line, unanswered: &AtomicU64) -> Result<(), Failure> {
        let mut sender = line.ready().await?;
        let (response, send) = line.open(&mut sender)?;
        *self.half() = Half { pipe: Pipe::default(), send: Some(send) };
        let mut answers = Answers::begin(response).await?;
        loop {
            let mut now = None;
            let more = answers
                .next(|message| {
                    let now = *now.get_or_insert_with(Instant::now);
                    let (due, decided) = self.half().pipe.answered(message)?;
                    unanswered.fetch_sub(1, Ordering::Relaxed);
                    share.tally().open(due, now, Ok(decided));
                    Ok(())
                })
                .await?;
            if !more {
                return Ok(());
            }
        }
    }
}
