//! Ports that nobody else takes between choosing and binding.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, TcpListener},
    os::unix::fs::MetadataExt,
    sync::Mutex,
};

use anyhow::Context;

/// Below the range from which systems choose the ports of outgoing connections (32768 on Linux).
const FIRST: u16 = 12_000;
const COUNT: u16 = 18_000;

struct Taken {
    next: u16,
    /// A locked file per port keeps other test processes away from it for as long as this one lives.
    locks: Vec<File>,
}

static TAKEN: Mutex<Option<Taken>> = Mutex::new(None);

/// A TCP port on 127.0.0.1 that is free, and that no other fixture on this machine will be given
/// while this process lives.
///
/// # Errors
///
/// No free port in the whole range, or a temp folder that cannot be written.
pub fn free() -> anyhow::Result<u16> {
    // One folder for all work trees on the machine; another user's could not be written.
    let user = fs::metadata(std::env::current_exe()?)?.uid();
    let folder = std::env::temp_dir().join(format!("tidegate-test-ports-{user}"));
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let mut taken = TAKEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let taken = taken.get_or_insert_with(|| Taken { next: start(), locks: Vec::new() });
    for _ in 0..COUNT {
        taken.next = (taken.next + 1) % COUNT;
        let port = FIRST + taken.next;
        let lock = File::create(folder.join(port.to_string()))?;
        if lock.try_lock().is_ok() && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            taken.locks.push(lock);
            return Ok(port);
        }
    }
    anyhow::bail!("no free port between {FIRST} and {}", FIRST + COUNT)
}

/// Different processes start at different places, so that they seldom meet.
fn start() -> u16 {
    u16::try_from(std::process::id().wrapping_mul(37) % u32::from(COUNT)).expect("below COUNT")
}
