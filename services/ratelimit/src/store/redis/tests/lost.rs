//! A master charges its part of a check, and its answer is lost on the way: never is more admitted than the limit; what was charged and not
//! admitted is that one part, until it expires.

use tidegate_tests::{redis_cluster::RedisCluster, relay::Relay};

use super::{
    outage::recovers,
    spread::{left, unequal},
    *,
};

/// A cluster whose first master, that of `{b}`, is reached over the relay. Both parts have been charged once.
async fn over_a_relay(cells: &[CellCheck<'static>]) -> (RedisStore, Relay, RedisCluster) {
    let redis = RedisCluster::start().await.expect("a cluster");
    let relay = Relay::before(redis.nodes[0].port()).await.expect("a port");
    redis.announce(0, relay.port()).await.expect("named by all");
    // By one that names the relay.
    let store = open(&config(&redis.nodes[1].url().replacen("redis", "redis-cluster", 1)));
    recovers(&store, &check(cells)).await;
    (store, relay, redis)
}

/// Of the calls of one check to one master.
const LOOK: u32 = 1;
const CHARGE: u32 = 2;
const NONE: u32 = 0;

fn recorded(cells: &[CellCheck<'static>], record: &str) -> Check<'static> {
    let idempotency = Idempotency { key: record.as_bytes().into(), digest: 1, ttl_us: 60_000_000 };
    Check { idempotency: Some(idempotency), ..check(cells) }
}

#[tokio::test]
async fn part_whose_answer_was_lost_stays_charged_and_the_other_is_undone() {
    let cells = unequal(Algorithm::SlidingWindow);
    let (store, relay, redis) = over_a_relay(&cells).await;
    relay.lose(LOOK);
    assert_eq!(store.decide(&check(&cells)).get().await, Err(StoreError::Disconnected));
    assert_eq!((relay.lost(), left(&store, &cells).await), (1, vec![899, 19]), "nothing was charged yet");
    relay.lose(CHARGE);
    assert_eq!(store.decide(&check(&cells)).get().await, Err(StoreError::Disconnected));
    assert_eq!((relay.lost(), left(&store, &cells).await), (2, vec![899, 18]));
    let key = std::str::from_utf8(&cells[1].key).expect("text");
    let ttl_ms: i64 = redis.nodes[0].command(&["PTTL", key]).await.expect("asked");
    // An hour, and the thirtieth of it in which it was charged.
    assert!((3_590_000..=3_720_002).contains(&ttl_ms), "it expires with its window: {ttl_ms}");
}

#[tokio::test]
async fn answers_lost_again_and_again_never_admit_too_much() {
    let (store, relay, _redis) = over_a_relay(&unequal(ALGORITHMS[0])).await;
    for algorithm in ALGORITHMS {
        let cells = unequal(algorithm);
        let lost_before = relay.lost();
        // Until there is no room any more, with every third answer lost.
        let mut admitted = u64::from(algorithm == ALGORITHMS[0]);
        for number in 0.. {
            relay.lose(if number % 3 == 0 { CHARGE } else { NONE });
            match store.decide(&check(&cells)).get().await {
                Ok(decision) if decision.admitted => admitted += 1,
                Ok(_) => break,
                Err(error) => assert_eq!(error, StoreError::Disconnected, "{algorithm:?}"),
            }
        }
        relay.lose(NONE);
        let left = left(&store, &cells).await;
        // Every token that nobody got is one of an answer that was lost. Buckets have refilled meanwhile.
        let refilled = if algorithm == Algorithm::TokenBucket { 3 } else { 0 };
        let lost = u64::from(relay.lost() - lost_before);
        let used = 20..=20 + refilled;
        assert!(lost > 3 && used.contains(&(admitted + lost)), "{algorithm:?}: {admitted} and {lost}");
        assert!(left[1] <= refilled, "{algorithm:?}: {left:?}");
        let wide = 900 - admitted;
        assert!(
            (wide.saturating_sub(10 * refilled)..=wide + 10 * refilled).contains(&left[0]),
            "{algorithm:?}: {left:?}"
        );
    }
}

/// The part with the record goes last and keeps what it says: a retry finds it.
#[tokio::test]
async fn retry_after_the_answer_with_the_record_was_lost_is_admitted_and_charged_once() {
    let cells = unequal(Algorithm::SlidingWindow);
    let (store, relay, _redis) = over_a_relay(&cells).await;
    let one = recorded(&cells, "{b}record");
    relay.lose(CHARGE);
    assert_eq!(store.decide(&one).get().await, Err(StoreError::Disconnected));
    assert_eq!((relay.lost(), left(&store, &cells).await), (1, vec![898, 18]));
    for _ in 0..2 {
        let decision = store.decide(&one).get().await.expect("decided");
        assert!(decision.admitted && decision.replayed);
        assert_eq!(left(&store, &cells).await, [898, 18]);
    }
}

/// Where the record lies in another part it was not written, and the retry is charged in full: in the part in doubt for the second time.
#[tokio::test]
async fn retry_after_another_answer_was_lost_is_charged_once_beside_what_is_in_doubt() {
    let cells = unequal(Algorithm::SlidingWindow);
    let (store, relay, _redis) = over_a_relay(&cells).await;
    let one = recorded(&cells, "{a}record");
    relay.lose(CHARGE);
    assert_eq!(store.decide(&one).get().await, Err(StoreError::Disconnected));
    assert_eq!((relay.lost(), left(&store, &cells).await), (1, vec![899, 18]));
    for replayed in [false, true] {
        let decision = store.decide(&one).get().await.expect("decided");
        assert!(decision.admitted && decision.replayed == replayed);
        assert_eq!(left(&store, &cells).await, [898, 17]);
    }
}
