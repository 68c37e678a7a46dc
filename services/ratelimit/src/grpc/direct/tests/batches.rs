//! Batches of which one check cannot be decided, or has to be paid for.

use super::*;
use crate::keys::tests::fixture::eventually;

/// What came of the checks of a batch, both ways, once all that they need is known here.
async fn both_ways(api: &RateLimitApi, caller: &Caller, checks: Vec<pb::CheckRequest>) -> [Vec<Told>; 2] {
    let request = Encoded::from(&pb::CheckBatchRequest { checks });
    let later = async || -> pb::CheckBatchResponse {
        let answer = api.check_batch(by(caller.clone(), request.clone())).await.unwrap();
        answer.into_inner().decode().unwrap()
    };
    let directly = eventually("all is known here", async || {
        let mut answer = Vec::new();
        match RateLimitApi::answer(&api.turn(caller), Method::CheckBatch, request.as_bytes(), &mut answer) {
            Ok(()) => Some(prost::Message::decode(&answer[..]).unwrap()),
            Err(Unanswered::Waits) => {
                later().await;
                None
            }
            Err(Unanswered::Failed(status)) => panic!("the batch as a whole has failed: {status:?}"),
        }
    });
    [directly.await, later().await].map(|answer| {
        let results = answer.results.into_iter().map(|result| match result.outcome.unwrap() {
            check_batch_result::Outcome::Result(answer) => told(answer),
            check_batch_result::Outcome::Error(error) => refused_one(error),
        });
        results.collect()
    })
}

fn by_key(number: u64) -> pb::CheckRequest {
    pb::CheckRequest { api_key: value(number), ..pb::CheckRequest::default() }
}

#[tokio::test]
async fn key_of_which_nothing_can_be_read_fails_its_own_check_of_a_batch() {
    let server = keys_server().await;
    let mut unreadable = resolved(4, 7);
    unreadable.key.as_mut().unwrap().allowed_cidrs = vec!["nowhere".to_owned()];
    server.set(&value(4), unreadable);
    let mut paying = resolved(5, 7);
    paying.key.as_mut().unwrap().has_credits = true;
    server.set(&value(5), paying);
    server.state.ledger.accounts().balances.insert(id(5), 1_000);
    let (api, _guard) = replica(&server).await;
    for numbers in [[1, 4], [4, 1], [5, 4], [4, 5]] {
        let checks = numbers.map(by_key).to_vec();
        let expected = numbers.map(|number| (number != 4).then(|| id(number)));
        for told in both_ways(&api, &backend(), checks).await {
            let whose: Vec<_> =
                told.iter().map(|told| told.as_ref().ok().map(|told| told.3.clone())).collect();
            assert_eq!(whose, expected);
            let failed = told.iter().find_map(|told| told.as_ref().err()).unwrap();
            assert_eq!(failed.0, tonic::Code::Unavailable);
        }
    }
}

#[tokio::test]
async fn check_without_a_key_is_decided_beside_one_by_key_where_no_keys_service_is_set() {
    let policies = policies::parse(POLICIES, "test", 1).unwrap();
    let (api, _) = api_of(policies, &Clock::system(), Counters::Memory, None, None);
    let [directly, later] = both_ways(&api, &backend(), vec![by_key(1), pb::CheckRequest::default()]).await;
    for told in [directly, later] {
        assert_eq!(told[0].as_ref().unwrap_err().0, tonic::Code::FailedPrecondition);
        assert!(told[1].as_ref().unwrap().0);
    }
}
