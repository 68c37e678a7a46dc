//! What is under way on one `CheckStream`.

use std::{collections::VecDeque, time::Instant};

use bytes::Bytes;

use super::{
    client::Failure,
    load::Feed,
    wire::{self, Decided, Malformed},
};

/// The unanswered checks of one stream, oldest first: answers come in the order of the checks.
#[derive(Default)]
pub(crate) struct Pipe {
    /// Since when each unanswered check counts: when it was sent, or when it was due.
    since: VecDeque<Instant>,
    next_id: u64,
}

impl Pipe {
    /// The messages of `count` checks that count from `since`.
    pub(crate) fn send(&mut self, feed: &mut Feed, since: Instant, count: u64) -> Bytes {
        let messages = feed.stream(self.next_id, count);
        self.next_id += count;
        self.since.extend((0..count).map(|_| since));
        messages
    }

    /// Matches an answer to its check: since when that counts, and what came of it.
    ///
    /// # Errors
    /// The answer is malformed, or is not the one that is due.
    pub(crate) fn answered(&mut self, message: &[u8]) -> Result<(Instant, Decided), Failure> {
        let (id, decided) = wire::stream_response(message)?;
        let due = self.next_id - self.since.len() as u64;
        match self.since.pop_front() {
            Some(since) if id == due => Ok((since, decided)),
            _ => Err(Failure::Malformed(Malformed)),
        }
    }

    /// Checks without an answer.
    pub(crate) fn unanswered(&self) -> u64 {
        self.since.len() as u64
    }

    /// Gives up on what is unanswered, since the stream has ended.
    pub(crate) fn abandon(&mut self) -> impl Iterator<Item = Instant> {
        std::mem::take(&mut self.since).into_iter()
    }
}
