//! Methods for tests.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU32, Ordering},
};

use bytes::Bytes;
use tokio::sync::Semaphore;
use tonic::{Status, codegen::BoxFuture};
use uuid::Uuid;

use super::{DirectMethods, Shape, Unanswered};
use crate::auth::{Caller, How, Role};

pub(crate) const UNARY: &str = "/tidegate.ratelimit.v1.RateLimitService/Check";
pub(crate) const STREAM: &str = "/tidegate.ratelimit.v1.RateLimitService/CheckStream";

/// In place of the number of the turn where an answer had to wait.
pub(crate) const LATER: u32 = u32::MAX;

/// Answers a message with the number of the turn, and the message. Those that begin with "wait" wait to be released.
#[derive(Clone)]
pub(crate) struct Echo {
    turns: Arc<AtomicU32>,
    /// Of whom each turn was.
    pub(crate) organizations: Arc<Mutex<Vec<Option<Uuid>>>>,
    pub(crate) released: Arc<Semaphore>,
}

impl Default for Echo {
    fn default() -> Self {
        let (turns, organizations) = Default::default();
        Self { turns, organizations, released: Arc::new(Semaphore::new(0)) }
    }
}

/// A caller of no importance.
pub(crate) fn anybody() -> Arc<Caller> {
    let how = How::Anonymous;
    Arc::new(Caller { role: Role::Service, subject: String::new(), organization: None, email: None, how })
}

impl DirectMethods for Echo {
    type Method = ();
    type Turn<'a> = u32;

    fn find(&self, path: &str) -> Option<((), Shape)> {
        match path {
            UNARY => Some(((), Shape::Unary)),
            STREAM => Some(((), Shape::BidiStreaming)),
            _ => None,
        }
    }

    fn turn(&self, caller: &Caller) -> u32 {
        self.organizations.lock().unwrap().push(caller.organization);
        self.turns.fetch_add(1, Ordering::Relaxed)
    }

    fn answer(turn: &u32, (): (), message: &[u8], answer: &mut Vec<u8>) -> Result<(), Unanswered> {
        answer.extend_from_slice(&turn.to_be_bytes());
        answer.extend_from_slice(message);
        match message {
            b"refuse" => Err(Status::not_found("as told").into()),
            b"panic" => panic!("as told"),
            _ if message.starts_with(b"wait") => Err(Unanswered::Waits),
            _ => Ok(()),
        }
    }

    fn answer_later(&self, _: &Caller, (): (), message: Bytes) -> BoxFuture<Bytes, Status> {
        let released = Arc::clone(&self.released);
        Box::pin(async move {
            released.acquire().await.expect("never closed").forget();
            Ok([&LATER.to_be_bytes(), &message[..]].concat().into())
        })
    }
}

/// Turns and messages of answers.
pub(crate) fn echoes(mut answers: &[u8]) -> Vec<(u32, &[u8])> {
    let mut echoes = Vec::new();
    while let Some((prefix, behind)) = answers.split_first_chunk::<5>() {
        let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
        let (message, behind) = behind.split_at(length);
        let (turn, message) = message.split_first_chunk().expect("the number of the turn");
        echoes.push((u32::from_be_bytes(*turn), message));
        answers = behind;
    }
    assert!(answers.is_empty(), "{answers:?}");
    echoes
}
