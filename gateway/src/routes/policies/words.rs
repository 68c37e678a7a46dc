//! Constants of the service and the words for them.

use tidegate_proto::ratelimit::v1::{Algorithm, Enforcement, FailureMode, OnDataLoss, Origin};

pub(super) const ALGORITHMS: [(&str, Algorithm); 5] = [
    ("sliding_window", Algorithm::SlidingWindow),
    ("sliding_log", Algorithm::SlidingLog),
    ("token_bucket", Algorithm::TokenBucket),
    ("fixed_window", Algorithm::FixedWindow),
    ("concurrency", Algorithm::Concurrency),
];

pub(super) const ENFORCEMENTS: [(&str, Enforcement); 3] =
    [("enforce", Enforcement::Enforce), ("shadow", Enforcement::Shadow), ("off", Enforcement::Off)];

pub(super) const ON_DATA_LOSS: [(&str, OnDataLoss); 2] =
    [("accept", OnDataLoss::Accept), ("strict", OnDataLoss::Strict)];

pub(super) const FAILURE_MODES: [(&str, FailureMode); 3] =
    [("closed", FailureMode::Closed), ("open", FailureMode::Open), ("local", FailureMode::Local)];

pub(super) const ORIGINS: [(&str, Origin); 3] =
    [("builtin", Origin::Builtin), ("file", Origin::File), ("database", Origin::Database)];

/// The word for a constant; `unspecified` if there is none.
pub(super) fn word<T: PartialEq>(words: &[(&'static str, T)], constant: &T) -> &'static str {
    words.iter().find(|(_, known)| known == constant).map_or("unspecified", |(word, _)| word)
}
