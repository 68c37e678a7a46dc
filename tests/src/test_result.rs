//! What a test returns.

/// Done, or failed.
pub type TestResult = Result<(), Failure>;

/// Never made: an error that meets `?` in a test panics there. So the report names the line, and the fixtures,
/// dropped while the panic unwinds, show the logs of their processes.
#[derive(Debug)]
pub enum Failure {}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    #[track_caller]
    fn from(error: E) -> Self {
        panic!("{:?}", error.into())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        panic,
        sync::atomic::{AtomicU32, Ordering},
    };

    use super::*;

    static EXPECTED: AtomicU32 = AtomicU32::new(0);
    static SEEN: AtomicU32 = AtomicU32::new(0);

    fn fails() -> TestResult {
        EXPECTED.store(line!() + 1, Ordering::Relaxed);
        let _: u8 = "x".parse()?;
        Ok(())
    }

    #[test]
    fn an_error_panics_where_it_meets_the_question_mark() {
        let hook = panic::take_hook();
        panic::set_hook(Box::new(|panic| {
            SEEN.store(panic.location().map_or(0, panic::Location::line), Ordering::Relaxed);
        }));
        let outcome = panic::catch_unwind(fails);
        panic::set_hook(hook);
        assert!(outcome.is_err());
        assert_eq!(SEEN.load(Ordering::Relaxed), EXPECTED.load(Ordering::Relaxed));
    }
}
