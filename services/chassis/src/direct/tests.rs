//! Methods for tests.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use tonic::Status;

use super::{DirectMethods, Shape, Unanswered};

pub(crate) const UNARY: &str = "/tidegate.ratelimit.v1.RateLimitService/Check";
pub(crate) const STREAM: &str = "/tidegate.ratelimit.v1.RateLimitService/CheckStream";

/// Answers a message with the number of the turn, and the message.
#[derive(Clone, Default)]
pub(crate) struct Echo {
    turns: Arc<AtomicU32>,
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

    fn turn(&self) -> u32 {
        self.turns.fetch_add(1, Ordering::Relaxed)
    }

    fn answer(turn: &u32, (): (), message: &[u8], answer: &mut Vec<u8>) -> Result<(), Unanswered> {
        answer.extend_from_slice(&turn.to_be_bytes());
        answer.extend_from_slice(message);
        match message {
            b"refuse" => Err(Status::not_found("as told").into()),
            b"panic" => panic!("as told"),
            _ => Ok(()),
        }
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
