//! Very many overrides in a database.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::Context;
use tidegate_proto::ratelimit::v1::{Override, SetOverridesRequest, r#override::KeyEntry};
use tidegate_tests::eventually::eventually;

use super::*;
use crate::seconds;

/// What is promised of a change: so soon it is in force everywhere.
const PROMISED: Duration = Duration::from_secs(1);

/// Changes of an override, and of the policy.
const CHANGES: [u64; 2] = [20, 5];

fn of(user: &str, tokens: u64) -> Override {
    Override {
        namespace: "shop".into(),
        policy: "calls".into(),
        limit: "hour".into(),
        key: vec![KeyEntry { key: "user".into(), value: user.into() }],
        tokens,
        ..Override::default()
    }
}

async fn set(client: &mut Client, overrides: Vec<Override>) -> TestResult {
    client.set_overrides(SetOverridesRequest { overrides, validate_only: false }).await?;
    Ok(())
}

/// Megabytes of memory that a process holds.
fn resident(service: &Service) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", service.process().id()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kibibytes * 1_024 / 1_000_000)
}

/// Until every replica says that this user has that limit.
async fn in_force(clients: &mut [Client], user: &str, limit: u64) -> anyhow::Result<Duration> {
    let began = Instant::now();
    let check = rpc::check("shop", &[("user", user)]);
    for client in clients {
        let seen = async || Ok(rpc::usage(client, &check).await.is_ok_and(|limits| limits[0].limit == limit));
        eventually("the change is in force", Duration::from_secs(30), seen).await?;
    }
    Ok(began.elapsed())
}

/// `cargo xtask report` takes a hundred thousand overrides, the gate fewer.
#[tokio::test(flavor = "multi_thread")]
async fn report_changes_among_very_many_overrides() -> TestResult {
    let _turn = turn::alone().await;
    let count = seconds::load().as_secs() * 10_000;
    let url = PostgresServer::shared().await?.database().await?;
    let first = on(&url, "").await?;
    let mut client = rpc::client(first.address())?;
    create(&mut client, policy("calls", 1)).await?;
    let empty = resident(&first)?;
    let began = Instant::now();
    let users: Vec<_> = (0..count).map(|n| format!("user-{n:07}")).collect();
    for (users, n) in users.chunks(1_000).zip(0..) {
        set(&mut client, users.iter().map(|user| of(user, 2 + n % 7)).collect()).await?;
    }
    println!("{count} overrides: set over the API in {:.1?}, 1,000 a call", began.elapsed());
    println!("  memory of the process {} MB, {empty} MB before", resident(&first)?);
    let (mut services, mut started) = (vec![first], Vec::new());
    for _ in 0..3 {
        let began = Instant::now();
        services.push(on(&url, "").await?);
        started.push(began.elapsed());
    }
    let late = services.last().context("started")?;
    println!("  a replica starts with them in {:.1?}, memory {} MB", started.iter().max(), resident(late)?);
    let mut clients = Vec::new();
    for service in &services {
        clients.push(rpc::client(service.address())?);
    }
    let (mut of_overrides, mut of_policies) = (Vec::new(), Vec::new());
    for n in 0..CHANGES[0] {
        set(&mut client, vec![of(&users[7], 100 + n)]).await?;
        of_overrides.push(in_force(&mut clients, &users[7], 100 + n).await?);
    }
    for n in 0..CHANGES[1] {
        update(&mut client, policy("calls", 1_000 + n), "").await?;
        of_policies.push(in_force(&mut clients, "no user of those", 1_000 + n).await?);
    }
    // Everything is put together anew for a policy, which only a release build does as fast as is promised.
    let is_release = std::env::var_os("TIDEGATE_BIN_DIR").is_some();
    for (what, mut took, is_judged) in
        [("an override", of_overrides, true), ("the policy", of_policies, is_release)]
    {
        took.sort_unstable();
        let (changes, median, worst) = (took.len(), took[took.len() / 2], took[took.len() - 1]);
        println!(
            "  {changes} changes of {what}, in force on 4 replicas after p50 {median:.1?}, worst {worst:.1?}"
        );
        assert!(!is_judged || worst <= PROMISED, "{worst:?} after the answer");
    }
    Ok(())
}
