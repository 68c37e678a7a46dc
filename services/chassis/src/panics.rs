//! Panics as data: caught where a request is served, logged once.

use std::{
    any::Any,
    cell::{Cell, RefCell},
    panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind},
};

thread_local! {
    static IS_CAUGHT: Cell<bool> = const { Cell::new(false) };
    static LOCATION: RefCell<String> = const { RefCell::new(String::new()) };
}

/// A panic that was caught.
#[derive(Debug)]
pub(crate) struct Panic {
    /// What it said.
    pub(crate) message: String,
    /// File, line and column; empty if the hook is not installed.
    pub(crate) location: String,
}

/// Runs `work`; the caller logs the panic, so the hook does not.
pub(crate) fn catch<T>(work: impl FnOnce() -> T) -> Result<T, Panic> {
    let outer = IS_CAUGHT.replace(true);
    // What panicked is dropped by the caller and never polled again.
    let result = catch_unwind(AssertUnwindSafe(work));
    IS_CAUGHT.set(outer);
    result.map_err(|payload| Panic { message: message(payload.as_ref()), location: LOCATION.take() })
}

/// Logs panics that nobody catches as one line like all others, instead of the text of the default hook.
pub(crate) fn install_hook() {
    std::panic::set_hook(Box::new(|info: &PanicHookInfo<'_>| {
        let location = info.location().map(ToString::to_string).unwrap_or_default();
        if IS_CAUGHT.get() {
            LOCATION.set(location);
        } else {
            tracing::error!(location, panic = message(info.payload()), "panic");
        }
    }));
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message").to_owned()
}
