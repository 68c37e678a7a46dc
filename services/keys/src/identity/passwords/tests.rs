//! Real hashes on real threads.

use std::{
    future::Future,
    task::{Context, Poll, Waker},
};

use futures_util::future::join_all;

use super::*;

const PASSWORD: &str = "a password of some length";

fn start(threads: usize, queue: usize) -> Passwords {
    waiting(threads, queue, Duration::from_secs(60))
}

fn waiting(threads: usize, queue: usize, max_wait: Duration) -> Passwords {
    Passwords::start(&PasswordsConfig { threads, queue, max_wait: max_wait.into() })
}

#[tokio::test]
async fn a_password_belongs_to_its_hash_and_no_other_does() {
    let passwords = start(1, 8);
    let hash = passwords.hash(PASSWORD).await.expect("hashed");
    assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
    assert_ne!(passwords.hash(PASSWORD).await.expect("hashed"), hash, "each has a salt of its own");
    let good = passwords.verify(PASSWORD, Some(&hash)).await.expect("verified");
    assert_eq!(good, Verified { is_good: true, rehashed: None });
    for wrong in ["", "a password of some lengt", "A password of some length"] {
        let verified = passwords.verify(wrong, Some(&hash)).await.expect("verified");
        assert!(!verified.is_good, "{wrong:?}");
    }
}

#[tokio::test]
async fn nobody_has_no_password_not_even_that_of_nobody() {
    let passwords = start(1, 8);
    for password in [PASSWORD, "the password of nobody"] {
        assert!(!passwords.verify(password, None).await.expect("verified").is_good);
    }
}

#[tokio::test]
async fn a_hash_that_is_none_is_a_defect_and_not_a_wrong_password() {
    let refused = start(1, 8).verify(PASSWORD, Some("$1$md5")).await;
    assert!(matches!(refused, Err(KeysError::Internal(_))), "{refused:?}");
}

#[tokio::test]
async fn a_storm_is_refused_beyond_the_queue_and_the_rest_is_answered() {
    let passwords = start(1, 4);
    let all = join_all((0..200).map(|_| passwords.verify(PASSWORD, None))).await;
    let answered = all.iter().filter(|verified| verified.is_ok()).count();
    // Those that wait, that which is being hashed, and those that came while one was taken.
    assert!((4..=8).contains(&answered), "{answered}");
    let refused = |verified: &Result<Verified, KeysError>| matches!(verified, Err(KeysError::Overloaded));
    assert_eq!(all.iter().filter(|verified| refused(verified)).count(), 200 - answered);
    passwords.hash(PASSWORD).await.expect("there is room again");
}

#[tokio::test]
async fn whoever_waits_too_long_is_refused_and_costs_no_hash() {
    // As long as some hashes last, so that those at the end of the queue wait longer.
    let passwords = start(1, 8);
    let before = Instant::now();
    passwords.verify(PASSWORD, None).await.expect("verified");
    let one = before.elapsed();
    let passwords = waiting(1, 200, one * 2);
    let before = Instant::now();
    let all = join_all((0..100).map(|_| passwords.verify(PASSWORD, None))).await;
    let took = before.elapsed();
    let answered = all.iter().filter(|verified| verified.is_ok()).count();
    assert!((1..60).contains(&answered), "{answered}");
    assert!(all[99].as_ref().is_err_and(|error| matches!(error, KeysError::Overloaded)), "{:?}", all[99]);
    assert!(took < one * 60, "{took:?} for those in time, where all take some {:?}", one * 100);
}

#[tokio::test]
async fn whoever_has_gone_is_not_hashed_for() {
    let passwords = start(1, 100);
    let before = Instant::now();
    passwords.verify(PASSWORD, None).await.expect("verified");
    let one = before.elapsed();
    for _ in 0..90 {
        let mut asked = Box::pin(passwords.verify(PASSWORD, None));
        let polled = asked.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(polled, Poll::Pending), "it waits in the queue");
    }
    let before = Instant::now();
    passwords.verify(PASSWORD, None).await.expect("verified");
    let after = before.elapsed();
    assert!(after < one * 40, "{after:?} for one, where all ninety take some {:?}", one * 90);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn its_threads_leave_the_processor_to_others() {
    let passwords = start(2, 8);
    // Each has begun to work by then.
    join_all((0..4).map(|_| passwords.verify(PASSWORD, None))).await;
    let stats = std::fs::read_dir("/proc/self/task")
        .expect("threads")
        .filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("stat")).ok());
    let nice: Vec<_> = stats
        .filter_map(|stat| {
            let (name, rest) = stat.split_once(") ")?;
            let nice = rest.split(' ').nth(16)?.parse::<i32>().ok()?;
            name.ends_with("(passwords").then_some(nice)
        })
        .collect();
    assert!(nice.len() >= 2 && nice.iter().filter(|nice| **nice == NICENESS).count() >= 2, "{nice:?}");
}
