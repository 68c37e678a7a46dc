//! Policies change while the service runs.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tidegate_proto::ratelimit::v1::CheckRequest;
use tidegate_tests::{
    eventually::eventually,
    load::{self, Load, Outcome},
    rpc,
    services::{RateLimitSettings, Service},
    test_result::TestResult,
    turn,
};

/// How soon an edit must show, on a machine that has other things to do.
const WITHIN: Duration = Duration::from_secs(5);

fn policies(limit: u32) -> String {
    format!(
        "[[policies]]\nname = \"calls\"\nnamespace = \"reload\"\nkey_by = [\"organization\"]\n\
         [[policies.limits]]\nname = \"hour\"\nlimit = {limit}\nperiod = \"1h\"\n"
    )
}

/// In a namespace of its own, where no built-in policy counts too.
fn check(organization: &str) -> CheckRequest {
    rpc::check("reload", &[("organization", organization)])
}

async fn service(text: &str) -> anyhow::Result<Service> {
    let policies = Some(text.to_owned());
    Service::ratelimit(&RateLimitSettings { policies, ..RateLimitSettings::default() }).await
}

/// The limit in force, as a client sees it.
async fn limit(service: &Service) -> anyhow::Result<u64> {
    let mut client = rpc::client(service.address())?;
    let limits = rpc::usage(&mut client, &check("looker")).await?;
    Ok(limits.first().map_or(0, |limit| limit.limit))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_takes_effect_and_drops_no_request() -> TestResult {
    let _turn = turn::alone().await;
    let service = service(&policies(5)).await?;
    let load = Load {
        duration: Duration::from_millis(500),
        ..Load::new(vec![service.address().to_owned()], check("busy"))
    };
    // For as long as the edits take, and once more with the last in force.
    let edited = Arc::new(AtomicBool::new(false));
    let running = tokio::spawn({
        let edited = Arc::clone(&edited);
        async move {
            let mut calls = Vec::new();
            loop {
                let last = edited.load(Ordering::SeqCst);
                calls.extend(load::run(&load).await?);
                if last {
                    return anyhow::Ok(calls);
                }
            }
        }
    });
    for (round, new) in [7, 9, 11].into_iter().enumerate() {
        // In place, and by renaming over it as editors and Kubernetes do.
        if round % 2 == 0 {
            fs::write(service.policy_file(), policies(new))?;
        } else {
            let beside = service.policy_file().with_extension("new");
            fs::write(&beside, policies(new))?;
            fs::rename(beside, service.policy_file())?;
        }
        let in_force = async || Ok(limit(&service).await? == u64::from(new));
        eventually("the edited limit is in force", WITHIN, in_force).await?;
    }
    edited.store(true, Ordering::SeqCst);
    let calls = running.await??;
    let failed: Vec<_> = calls.iter().filter(|call| matches!(call.outcome, Outcome::Failed(_))).collect();
    assert!(failed.is_empty(), "{} of {} calls failed: {:?}", failed.len(), calls.len(), failed[0]);
    let admitted = calls.iter().filter(|call| call.admitted()).count();
    assert_eq!(admitted, 11, "counters carry on through a change of the limit");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_file_keeps_the_old_policies_and_names_every_fault() -> TestResult {
    let _turn = turn::shared().await;
    let service = service(&policies(5)).await?;
    let broken = policies(0).replace("\"1h\"", "\"1 fortnight\"");
    fs::write(service.policy_file(), broken)?;
    let logged = async || Ok(service.process().stderr().contains("fortnight"));
    eventually("the log names the fault", WITHIN, logged).await?;
    assert_eq!(limit(&service).await?, 5, "the old policies stay in force");

    fs::write(service.policy_file(), policies(6))?;
    eventually("a mended file is taken", WITHIN, async || Ok(limit(&service).await? == 6)).await?;
    Ok(())
}
