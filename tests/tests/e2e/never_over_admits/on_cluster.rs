//! On Redis Cluster: undisturbed, while a slot moves, and while the answers of masters are lost.

use std::time::Duration;

use tidegate_tests::{
    load::{self, Call, Load, Outcome},
    redis_cluster::{MASTERS, RedisCluster},
    relay::Relay,
    test_result::TestResult,
    turn,
};
use tokio::time::sleep;

use super::{
    Fleet,
    cases::{ACME_SLOT, CASES, ROOMY, SEVERAL_SLOTS, policies},
    title, were_retried,
};

/// The deadline that each call carries while slots move.
const DEADLINE: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
async fn report_never_over_admits_on_cluster() -> TestResult {
    let _turn = turn::alone().await;
    let redis = RedisCluster::start().await?;
    let fleet = Fleet::on(redis.url(), redis, policies()).await?;
    title("Cluster, undisturbed");
    for case in CASES.iter().chain([&SEVERAL_SLOTS]) {
        let calls = load::run(&fleet.load(case)).await?;
        fleet.judge(case, &calls).await?;
    }
    Ok(())
}

/// The slot of the organization goes from one master to the next, again and again, with everything in it.
#[tokio::test(flavor = "multi_thread")]
async fn report_never_over_admits_while_a_slot_moves() -> TestResult {
    let _turn = turn::alone().await;
    let redis = RedisCluster::start().await?;
    let fleet = Fleet::on(redis.url(), redis, policies()).await?;
    title("Cluster, the slot moves all the time");
    let (slot, mut owner) = (ACME_SLOT, 2);
    for case in [&CASES[0], &CASES[4], &SEVERAL_SLOTS, &ROOMY] {
        let load = Load { timeout: DEADLINE, ..fleet.load(case) };
        let running = tokio::spawn(async move { load::run(&load).await });
        let mut moves = 0;
        while !running.is_finished() {
            let next = (owner + 1) % MASTERS;
            fleet.redis.begin_move(slot, owner, next).await?;
            // For a while keys are on both sides.
            fleet.redis.move_keys(slot, owner, next, 1).await?;
            sleep(Duration::from_millis(100)).await;
            while fleet.redis.move_keys(slot, owner, next, 10).await? > 0 {}
            fleet.redis.end_move(slot, owner, next).await?;
            (owner, moves) = (next, moves + 1);
            sleep(Duration::from_millis(200)).await;
        }
        let calls = running.await??;
        let verdict = fleet.judge(case, &calls).await?;
        let longest = calls.iter().map(Call::took).max().unwrap_or_default();
        println!("{:<15} {moves} moves, longest call {:.0} ms", "", longest.as_secs_f64() * 1e3);
        let late = calls.iter().find(|call| matches!(call.outcome, Outcome::Failed(_)));
        assert!(late.is_none(), "not answered within {DEADLINE:?}: {late:?}");
        if case.namespace == ROOMY.namespace {
            let decided = verdict.checks as u64 - verdict.unknown;
            assert_eq!(verdict.admitted, decided, "denied though there was room: {verdict:?}");
            assert!(verdict.unknown * 20 <= decided, "too many were not decided: {verdict:?}");
        } else {
            assert!(verdict.admitted * 4 > verdict.most, "too little admitted: {verdict:?}");
        }
        assert!(moves > 0, "nothing moved");
    }
    Ok(())
}

/// Each master in turn charges, and its answer is lost: of a check in several slots one part, or that with the record. Clients retry with the
/// same idempotency key.
#[tokio::test(flavor = "multi_thread")]
async fn report_never_over_admits_on_cluster_with_answers_lost() -> TestResult {
    let _turn = turn::alone().await;
    let redis = RedisCluster::start().await?;
    let mut relays = Vec::new();
    for master in 0..MASTERS {
        let relay = Relay::before(redis.nodes[master].port()).await?;
        redis.announce(master, relay.port()).await?;
        relays.push(relay);
    }
    let fleet = Fleet::on(redis.url(), redis, policies()).await?;
    title("Cluster, answers of masters are lost, retries with idempotency keys");
    for case in [&SEVERAL_SLOTS, &ROOMY] {
        let lost_before: u32 = relays.iter().map(Relay::lost).sum();
        let load = Load { attempts: 4, timeout: DEADLINE, ..fleet.load(case) };
        let running = tokio::spawn(async move { load::run(&load).await });
        for turn in 0.. {
            if running.is_finished() {
                break;
            }
            relays[turn % MASTERS].lose(1);
            sleep(Duration::from_millis(70)).await;
        }
        let calls = running.await??;
        relays.iter().for_each(|relay| relay.lose(0));
        let lost = relays.iter().map(Relay::lost).sum::<u32>() - lost_before;
        were_retried(case, &calls);
        fleet.judge(case, &calls).await?;
        println!("{:<15} {lost} answers lost", "");
        assert!(lost > 0, "nothing was lost, so nothing was tested");
    }
    Ok(())
}
