//! Passwords are hashed by argon2id, on a few threads of their own with a low priority: a storm of logins takes what the rest of the
//! service leaves, and what does not fit the queue, or waits there for too long, is refused.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use argon2::{
    Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version, password_hash::phc::PasswordHash,
};
use tokio::sync::{Semaphore, SemaphorePermit, oneshot};
use zeroize::Zeroizing;

use super::PasswordsConfig;
use crate::error::KeysError;

/// OWASP's second choice of parameters for argon2id: 19 MiB, two passes, one lane.
const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// How much nicer than the rest these threads are, of 19.
const NICENESS: i32 = 10;

/// Hashes and verifies passwords. Clones share the threads, which end when the last is gone.
#[derive(Clone)]
pub struct Passwords {
    queue: SyncSender<Queued>,
    places: Arc<Semaphore>,
    max_wait: Duration,
    /// Stands for the hash of accounts that are not there, so that nobody learns by the time whether they are.
    nobodys: Arc<str>,
}

/// What came of the verification of a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verified {
    /// Whether it is the account's.
    pub(super) is_good: bool,
    /// A hash by the present parameters, if it is and the stored one is by others.
    pub(super) rehashed: Option<String>,
}

/// A place for a password that is to be hashed. Whoever drops it gives it to another.
pub struct Place<'a> {
    _permit: SemaphorePermit<'a>,
}

/// A job that waits.
struct Queued {
    job: Job,
    /// Who is not served by then is told so, while they may still listen.
    until: Instant,
}

enum Job {
    Hash {
        password: Zeroizing<String>,
        answer: oneshot::Sender<Result<String, KeysError>>,
    },
    Verify {
        password: Zeroizing<String>,
        hash: Arc<str>,
        answer: oneshot::Sender<Result<Verified, KeysError>>,
    },
}

impl Passwords {
    /// Starts the threads.
    ///
    /// # Panics
    ///
    /// If the system gives no thread.
    #[must_use]
    pub fn start(config: &PasswordsConfig) -> Self {
        let (queue, jobs) = sync_channel(config.queue);
        let jobs = Arc::new(Mutex::new(jobs));
        for _ in 0..config.threads {
            let jobs = Arc::clone(&jobs);
            let work = move || work(&jobs);
            thread::Builder::new()
                .name("passwords".to_owned())
                .spawn(work)
                .expect("the system gives a thread");
        }
        let nobodys = hash("the password of nobody").expect("a password that can be hashed");
        let (places, max_wait) = (Arc::new(Semaphore::new(config.queue)), config.max_wait.get());
        Self { queue, places, max_wait, nobodys: nobodys.into() }
    }

    /// A place for somebody who will want a password hashed, to be held until then: there are as many as may wait. Who takes one before
    /// anything else is turned away in a storm at no cost to anybody.
    ///
    /// # Errors
    ///
    /// [`KeysError::Overloaded`] if there is none.
    pub(super) fn place(&self) -> Result<Place<'_>, KeysError> {
        self.places.try_acquire().map(|_permit| Place { _permit }).map_err(|_| KeysError::Overloaded)
    }

    /// The hash of a password, a PHC string.
    ///
    /// # Errors
    ///
    /// [`KeysError::Overloaded`] if too many wait, or for too long.
    pub(super) async fn hash(&self, password: &str) -> Result<String, KeysError> {
        let (answer, hashed) = oneshot::channel();
        self.send(Job::Hash { password: Zeroizing::new(password.to_owned()), answer })?;
        hashed.await.map_err(|_| gone())?
    }

    /// Whether a password belongs to a hash. Without a hash it does not, which is found out after the same work.
    ///
    /// # Errors
    ///
    /// [`KeysError::Overloaded`] if too many wait, or for too long.
    pub(super) async fn verify(&self, password: &str, hash: Option<&str>) -> Result<Verified, KeysError> {
        let (answer, verified) = oneshot::channel();
        let password = Zeroizing::new(password.to_owned());
        let stored = hash.map_or_else(|| Arc::clone(&self.nobodys), Arc::from);
        self.send(Job::Verify { password, hash: stored, answer })?;
        let verified = verified.await.map_err(|_| gone())??;
        // Whoever guesses the password of nobody is nobody still.
        Ok(if hash.is_some() { verified } else { Verified { is_good: false, rehashed: None } })
    }

    fn send(&self, job: Job) -> Result<(), KeysError> {
        let queued = Queued { job, until: Instant::now() + self.max_wait };
        self.queue.try_send(queued).map_err(|error| match error {
            TrySendError::Full(_) => KeysError::Overloaded,
            TrySendError::Disconnected(_) => gone(),
        })
    }
}

fn gone() -> KeysError {
    KeysError::Internal("the threads that hash passwords are gone".to_owned())
}

fn work(jobs: &Mutex<Receiver<Queued>>) {
    if let Err(error) = be_nice() {
        tracing::warn!(%error, "passwords are hashed at the priority of everything else");
    }
    loop {
        let queued = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Queued { job, until }) = queued else { return };
        let is_late = Instant::now() > until;
        // Whoever asked may have gone by now: then it is not hashed. One who is gone takes no answer.
        match job {
            Job::Hash { password, answer } if !answer.is_closed() => {
                let hashed = if is_late { Err(KeysError::Overloaded) } else { hash(&password) };
                let _ = answer.send(hashed);
            }
            Job::Verify { password, hash, answer } if !answer.is_closed() => {
                let verified = if is_late { Err(KeysError::Overloaded) } else { verify(&password, &hash) };
                let _ = answer.send(verified);
            }
            Job::Hash { .. } | Job::Verify { .. } => {}
        }
    }
}

fn hash(password: &str) -> Result<String, KeysError> {
    let hashed = argon2().hash_password(password.as_bytes());
    hashed.map(|hash| hash.to_string()).map_err(|error| KeysError::Internal(format!("argon2: {error}")))
}

fn verify(password: &str, stored: &str) -> Result<Verified, KeysError> {
    let parsed = PasswordHash::new(stored)
        .map_err(|error| KeysError::Internal(format!("the stored hash of a password: {error}")))?;
    // By the parameters of the stored hash, whatever those of today are.
    if argon2().verify_password(password.as_bytes(), &parsed).is_err() {
        return Ok(Verified { is_good: false, rehashed: None });
    }
    let rehashed = if is_of_today(&parsed) { None } else { Some(hash(password)?) };
    Ok(Verified { is_good: true, rehashed })
}

fn is_of_today(stored: &PasswordHash) -> bool {
    let is_id = stored.algorithm == Algorithm::Argon2id.ident();
    let params = Params::try_from(stored).ok();
    let of_today = params.map(|params| (params.m_cost(), params.t_cost(), params.p_cost()));
    is_id && of_today == Some((MEMORY_KIB, PASSES, LANES))
}

fn argon2() -> Argon2<'static> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).expect("parameters within bounds");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

/// On Linux a thread has a niceness of its own; elsewhere it is the whole process that would have it.
#[cfg(target_os = "linux")]
fn be_nice() -> std::io::Result<()> {
    use rustix::{process::setpriority_process, thread::gettid};

    Ok(setpriority_process(Some(gettid()), NICENESS)?)
}

#[cfg(not(target_os = "linux"))]
fn be_nice() -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests;
