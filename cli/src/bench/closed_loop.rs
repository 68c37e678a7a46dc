//! Closed loop: ask again as soon as it is answered.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use tokio::task::JoinSet;

use super::{
    args::Mode,
    client::{Answers, Failure, Line},
    load::{DRAIN, Share},
    pipe::Pipe,
};

/// Keeps `in_flight` calls, or streams with a full window, open on every connection until the end.
pub(crate) async fn run(share: Arc<Share>) {
    tokio::time::sleep_until(share.timeline.start.into()).await;
    let mut lanes = JoinSet::new();
    for line in &share.lines {
        for _ in 0..share.in_flight {
            let (share, line) = (Arc::clone(&share), Arc::clone(line));
            if share.mode == Mode::Stream {
                lanes.spawn(stream(share, line));
            } else {
                lanes.spawn(calls(share, line));
            }
        }
    }
    let deadline = share.timeline.end + DRAIN;
    while let Ok(Some(lane)) = tokio::time::timeout_at(deadline.into(), lanes.join_next()).await {
        lane.expect("lanes neither panic nor are cancelled");
    }
    share.tally().unanswered += lanes.len() as u64;
}

/// One call after the other.
async fn calls(share: Arc<Share>, line: Arc<Line>) {
    let decode = share.decoder();
    let mut sender = None;
    let mut sent = Instant::now();
    while sent < share.timeline.end {
        let answer = async {
            let mut ready = match sender.take() {
                Some(sender) => sender,
                None => line.ready().await?,
            };
            let message = share.feed().call();
            let answer = line.call(&mut ready, message, decode).await;
            // A handle that is not ready again at once belongs to a connection that is leaving.
            if let Ok(again) = ready.ready().await {
                sender = Some(again);
            }
            answer
        };
        let answer = answer.await;
        let now = Instant::now();
        share.tally().closed(sent, now, answer);
        sent = now;
    }
}

/// One stream after the other, each as long as the server keeps it.
async fn stream(share: Arc<Share>, line: Arc<Line>) {
    while Instant::now() < share.timeline.end {
        let mut pipe = Pipe::default();
        let ended = one_stream(&share, &line, &mut pipe).await;
        let now = Instant::now();
        if let Err(failure) = ended {
            share.tally().closed(now, now, Err(failure));
        }
        let mut tally = share.tally();
        for since in pipe.abandon() {
            tally.closed(
                since,
                now,
                Err(Failure::Transport("the stream ended before the answer".to_owned())),
            );
        }
    }
}

async fn one_stream(share: &Share, line: &Line, pipe: &mut Pipe) -> Result<(), Failure> {
    let mut sender = line.ready().await?;
    let (response, mut send) = line.open(&mut sender)?;
    send.send_data(pipe.send(&mut share.feed(), Instant::now(), u64::from(share.window)), false)?;
    let mut answers = Answers::begin(response).await?;
    let mut open = true;
    loop {
        let mut answered = 0;
        let mut now = None;
        let more = answers
            .next(|message| {
                let now = *now.get_or_insert_with(Instant::now);
                let (since, decided) = pipe.answered(message)?;
                share.tally().closed(since, now, Ok(decided));
                answered += 1;
                Ok(())
            })
            .await?;
        if !more {
            return Ok(());
        }
        let Some(now) = now else { continue };
        if now < share.timeline.end {
            // As many as were answered go out in one piece: the window stays full.
            send.send_data(pipe.send(&mut share.feed(), now, answered), false)?;
        } else if pipe.unanswered() == 0 && open {
            open = false;
            send.send_data(Bytes::new(), true)?;
        }
    }
}
