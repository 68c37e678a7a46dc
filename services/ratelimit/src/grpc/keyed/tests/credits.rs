//! Checks by keys with credits.

use super::*;

/// A keys service with a key that has so many credits, and a limit of its own.
async fn server(credits: u64, tokens: u64) -> KeysServer {
    let server = KeysServer::start().await;
    let mut key = limited(1, 7, tokens, 1_000);
    key.key.as_mut().unwrap().has_credits = true;
    server.set(&value(1), key);
    server.state.ledger.accounts().balances.insert(id(1), credits);
    server
}

#[tokio::test]
async fn check_takes_its_cost_and_is_denied_when_credits_are_used_up() {
    let server = server(5, 100).await;
    let (api, _guard) = in_memory(&server);
    let dry = pb::CheckRequest { dry_run: true, cost: Some(5), ..by_key(&value(1)) };
    assert_eq!(check(&api, &dry).await.credits_remaining, Some(5), "it takes nothing");
    let costs = pb::CheckRequest { cost: Some(4), idempotency_key: "once".to_owned(), ..by_key(&value(1)) };
    let answer = check(&api, &costs).await;
    assert_eq!((answer.allowed, answer.credits_remaining), (true, Some(1)));
    let two = pb::CheckRequest { cost: Some(2), ..by_key(&value(1)) };
    let denied = check(&api, &two).await;
    assert_eq!((denied.allowed, denied.code()), (false, Code::QuotaExceeded));
    assert_eq!((denied.credits_remaining, denied.retry_after_ms, denied.limits.len()), (Some(1), 0, 0));
    assert_eq!(denied.key.unwrap().id, id(1));
    assert!(check(&api, &by_key(&value(1))).await.allowed, "there is one left");
    // Of the limit, what was denied for want of credits took nothing.
    server.state.ledger.accounts().balances.insert(id(1), 100);
    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
    let replayed = check(&api, &costs).await;
    assert_eq!((replayed.allowed, replayed.replayed), (true, true));
    let last = check(&api, &by_key(&value(1))).await;
    assert_eq!((remaining(&last, "key/hour"), last.credits_remaining), (94, Some(99)), "a replay is free");
}

#[tokio::test]
async fn check_that_a_limit_denies_gives_its_credits_back() {
    let server = server(10, 2).await;
    let (api, _guard) = in_memory(&server);
    for left in [9, 8] {
        assert_eq!(check(&api, &by_key(&value(1))).await.credits_remaining, Some(left));
    }
    for _ in 0..20 {
        let denied = check(&api, &by_key(&value(1))).await;
        assert_eq!((denied.code(), denied.credits_remaining), (Code::RateLimited, Some(8)));
    }
}

#[tokio::test]
async fn rotated_key_goes_on_with_the_credits_of_its_lineage() {
    let server = server(2, 100).await;
    let mut rotated = limited(2, 7, 100, 1_000);
    let key = rotated.key.as_mut().unwrap();
    (key.lineage_id, key.has_credits) = (id(1), true);
    server.set(&value(2), rotated);
    let (api, _guard) = in_memory(&server);
    assert_eq!(check(&api, &by_key(&value(1))).await.credits_remaining, Some(1));
    assert_eq!(check(&api, &by_key(&value(2))).await.credits_remaining, Some(0));
    assert_eq!(check(&api, &by_key(&value(1))).await.code(), Code::QuotaExceeded);
}

#[tokio::test]
async fn without_the_keys_service_what_is_held_is_spent_and_no_more() {
    let server = server(5, 100).await;
    let (api, _guard) = in_memory(&server);
    let dry = pb::CheckRequest { dry_run: true, cost: Some(3), ..by_key(&value(1)) };
    assert_eq!(check(&api, &dry).await.credits_remaining, Some(5), "three are held now");
    server.state.ledger.accounts().loses = usize::MAX;
    for _ in 0..3 {
        assert!(check(&api, &by_key(&value(1))).await.allowed);
    }
    let refused = api.check(asked(Encoded::from(&by_key(&value(1))))).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unavailable);
}

#[tokio::test]
async fn check_is_answered_at_once_if_enough_is_held_and_a_batch_that_waits_takes_nothing() {
    let server = server(10, 100).await;
    let (api, _guard) = in_memory(&server);
    let dry = pb::CheckRequest { dry_run: true, cost: Some(3), ..by_key(&value(1)) };
    let batch = |size: usize| {
        let request = pb::CheckBatchRequest { checks: vec![by_key(&value(1)); size] };
        let mut answer = Vec::new();
        let message = Encoded::from(&request).as_bytes().to_vec();
        let answered = RateLimitApi::answer(&api.turn(&backend()), Method::CheckBatch, &message, &mut answer);
        answered.map(|()| <pb::CheckBatchResponse as prost::Message>::decode(&answer[..]).unwrap())
    };
    // The first word of the feed makes all be forgotten that was known before.
    let answer = eventually("three are held, and the key is known", async || {
        check(&api, &dry).await;
        assert!(matches!(batch(4), Err(Unanswered::Waits)), "only three are held");
        batch(3).ok()
    });
    let left = answer.await.results.into_iter().map(|result| match result.outcome.unwrap() {
        Outcome::Result(answer) => (answer.allowed, answer.credits_remaining.unwrap()),
        Outcome::Error(error) => panic!("{error:?}"),
    });
    // Those of the batch are taken before the first is decided.
    assert_eq!(left.collect::<Vec<_>>(), [(true, 7); 3]);
}
