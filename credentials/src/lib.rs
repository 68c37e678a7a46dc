//! What an API key looks like, and what one is good for. Pure: no network, no store, no clock, so that the keys service, the
//! rate-limit service and clients say the same of the same key.

mod environment;

pub use self::environment::Environment;
