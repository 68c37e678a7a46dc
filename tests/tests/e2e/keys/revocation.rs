//! A key that was revoked is denied from its next use on, on every replica.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, ensure};
use http::Method;
use serde_json::json;
use tidegate_proto::ratelimit::v1::Code;
use tidegate_tests::{
    backend::Backend,
    rest::{Rest, text},
    stack::{Stack, StackSettings},
    test_result::TestResult,
    turn,
};
use tokio::{task::JoinSet, time::Instant};

use super::{POLICIES, ample_tenant};
use crate::seconds;

struct Key {
    id: String,
    value: String,
    /// When its revocation was answered.
    revoked: OnceLock<Instant>,
}

struct Scene {
    stack: Stack,
    owner: Rest,
    backend: String,
    keys: Arc<Vec<Key>>,
}

impl Scene {
    async fn with_keys(count: usize) -> anyhow::Result<Self> {
        let settings = StackSettings {
            redis: true,
            postgres: true,
            replicas: 4,
            policies: POLICIES.to_owned(),
            // After each revocation every key is asked for anew, which may take longer on a slow machine.
            ratelimit: "[keys]\ndeadline = \"20s\"".to_owned(),
            ..StackSettings::default()
        };
        let stack = Stack::start(&settings).await?;
        let owner = ample_tenant(&stack).await?;
        let backend = stack.backend().await?.token().to_owned();
        let mut keys = Vec::new();
        for n in 0..count {
            let made = owner.post("/v1/auth/api-keys", &json!({"name": format!("key {n}")}), 201).await?;
            let (id, value) = (text(&made, "/id")?, text(&made, "/key_value")?);
            keys.push(Key { id, value, revoked: OnceLock::new() });
        }
        let scene = Self { stack, owner, backend, keys: Arc::new(keys) };
        // Every replica remembers every key.
        for replica in &scene.stack.ratelimit {
            for key in scene.keys.iter() {
                let answer = Backend::new(replica.address(), &scene.backend)?.check(&key.value).await?;
                ensure!(answer.allowed, "{answer:?}");
            }
        }
        Ok(scene)
    }

    async fn revoke(&self, key: &Key) -> anyhow::Result<()> {
        let path = format!("/v1/auth/api-keys/{}", key.id);
        let answer = self.owner.ask(Method::DELETE, &path, &serde_json::Value::Null).await?;
        let now = Instant::now();
        ensure!(answer.status == http::StatusCode::OK, "{}: {}", answer.status, answer.text());
        key.revoked.set(now).ok().context("a key is revoked once")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn report_no_check_is_admitted_after_the_revocation_was_answered() -> TestResult {
    let _turn = turn::alone().await;
    let count = if seconds::is_long() { 200 } else { 16 };
    let scene = Scene::with_keys(count).await?;
    let (ends, late, checks, denied) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
        Arc::new(AtomicU64::new(0)),
        Arc::new(AtomicU64::new(0)),
    );
    let mut load = JoinSet::new();
    for worker in 0..16_usize {
        let address = scene.stack.ratelimit[worker % 4].address().to_owned();
        let (keys, token) = (Arc::clone(&scene.keys), scene.backend.clone());
        let (ends, late, checks, denied) =
            (Arc::clone(&ends), Arc::clone(&late), Arc::clone(&checks), Arc::clone(&denied));
        load.spawn(async move {
            let mut backend = Backend::new(&address, &token)?;
            let mut next = worker * 37;
            while !ends.load(Ordering::Relaxed) {
                next = (next + 61) % keys.len();
                let key = &keys[next];
                let sent = Instant::now();
                let answer = backend.check(&key.value).await?;
                checks.fetch_add(1, Ordering::Relaxed);
                if answer.allowed {
                    // Sent after the answer to the revocation was here.
                    if key.revoked.get().is_some_and(|revoked| *revoked <= sent) {
                        late.fetch_add(1, Ordering::Relaxed);
                    }
                } else {
                    ensure!(answer.code() == Code::KeyRevoked, "{answer:?}");
                    denied.fetch_add(1, Ordering::Relaxed);
                }
            }
            anyhow::Ok(())
        });
    }
    for key in scene.keys.iter() {
        scene.revoke(key).await?;
        // The very next use, on each replica.
        for replica in &scene.stack.ratelimit {
            let answer = Backend::new(replica.address(), &scene.backend)?.check(&key.value).await?;
            assert_eq!(answer.code(), Code::KeyRevoked, "{answer:?}");
        }
    }
    ends.store(true, Ordering::Relaxed);
    while let Some(ended) = load.join_next().await {
        ended??;
    }
    let [late, checks, denied] = [late, checks, denied].map(|count| count.load(Ordering::Relaxed));
    println!("{count} keys revoked under {checks} checks, {denied} denied: {late} admitted after the answer");
    assert_eq!(late, 0);
    assert!(denied > 0, "no check met a revoked key");
    scene.stack.assert_no_panic().await?;
    Ok(())
}

/// How late a revocation takes effect if Redis cannot tell of it: by the feed.
#[tokio::test(flavor = "multi_thread")]
async fn report_revocation_while_redis_is_away() -> TestResult {
    let _turn = turn::alone().await;
    let count = if seconds::is_long() { 100 } else { 6 };
    let mut scene = Scene::with_keys(count).await?;
    scene.stack.redis.as_mut().context("counters live in Redis")?.kill()?;
    let mut delays = Vec::new();
    for key in scene.keys.iter() {
        scene.revoke(key).await?;
        let revoked = Instant::now();
        for replica in &scene.stack.ratelimit {
            let mut backend = Backend::new(replica.address(), &scene.backend)?;
            while backend.check(&key.value).await?.allowed {
                assert!(revoked.elapsed() < Duration::from_secs(5), "a revoked key is accepted still");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        delays.push(revoked.elapsed());
    }
    delays.sort_unstable();
    let at = |share: usize| delays[(delays.len() * share / 100).min(delays.len() - 1)];
    println!(
        "Redis away, {count} keys revoked, 4 replicas: denied by all after p50 {:?}, p99 {:?}, longest {:?}",
        at(50),
        at(99),
        delays[delays.len() - 1]
    );
    assert!(delays[delays.len() - 1] < Duration::from_secs(2), "the feed bounds it to a second");
    Ok(())
}
