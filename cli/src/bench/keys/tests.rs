use prost::Message;
use tidegate_proto::ratelimit::v1::{CheckBatchRequest, CheckStreamRequest};

use super::*;

fn drawing(line: &str) -> Keys {
    let args = BenchArgs::typed(line);
    Keys::new(&args, args.keys)
}

fn counts(keys: &mut Keys, draws: usize) -> Vec<usize> {
    let mut counts = vec![0; keys.count as usize];
    for _ in 0..draws {
        counts[keys.next() as usize] += 1;
    }
    counts
}

/// Every rank within five standard deviations of what the definition says.
fn assert_zipf(ranks: u32, exponent: f64) {
    let draws = 400_000_usize;
    let line = format!("--keys {ranks} --distribution zipf --zipf-exponent {exponent}");
    let counts = counts(&mut drawing(&line), draws);
    let total: f64 = (1..=ranks).map(|rank| f64::from(rank).powf(-exponent)).sum();
    for (rank, &count) in (1..=ranks).zip(&counts) {
        let probability = f64::from(rank).powf(-exponent) / total;
        let expected = probability * draws as f64;
        let deviation = (expected * (1.0 - probability)).sqrt().max(1.0);
        assert!(
            (count as f64 - expected).abs() <= 5.0 * deviation,
            "rank {rank} of {ranks}, exponent {exponent}: {count} draws, expected {expected:.0}"
        );
    }
}

#[test]
fn zipf_draws_each_rank_in_proportion() {
    for exponent in [0.5, 1.0, 1.1, 2.0] {
        assert_zipf(50, exponent);
        assert_zipf(2, exponent);
    }
}

#[test]
fn zipf_with_one_key_draws_it() {
    let mut keys = drawing("--keys 1 --distribution zipf");
    assert!((0..100).all(|_| keys.next() == 0));
}

#[test]
fn zipf_reaches_far_ranks_of_a_million() {
    let mut keys = drawing("--keys 1000000 --distribution zipf --zipf-exponent 1.01");
    let far = (0..100_000).filter(|_| keys.next() > 500_000).count();
    assert!(far > 1000, "{far} of 100,000 draws in the upper half");
}

#[test]
fn uniform_draws_all_keys_alike() {
    let counts = counts(&mut drawing("--keys 100"), 100_000);
    assert!(counts.iter().all(|&count| (800..1200).contains(&count)), "{counts:?}");
}

#[test]
fn sequential_forks_share_one_round() {
    let mut keys = drawing("--keys 4 --distribution sequential");
    let mut fork = keys.fork();
    assert_eq!([keys.next(), fork.next(), keys.next(), fork.next(), keys.next()], [0, 1, 2, 3, 0]);
}

#[test]
fn forks_draw_different_keys_and_seeds_repeat() {
    let draw = |keys: &mut Keys| (0..8).map(|_| keys.next()).collect::<Vec<_>>();
    let mut keys = drawing("--keys 1000000");
    let (mut first, mut second) = (keys.fork(), keys.fork());
    let drawn = draw(&mut first);
    assert_ne!(drawn, draw(&mut second));
    assert_eq!(drawn, draw(&mut drawing("--keys 1000000").fork()));
}

#[test]
fn checks_by_api_key_carry_the_keys_of_the_file_and_nothing_made_up() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(&file, "tk_live_one\n\n  tk_live_two\n").unwrap();
    let line = format!("--addr 127.0.0.1:1 --api-keys {}", file.path().display());
    let checks = Checks::new(&BenchArgs::typed(&line)).unwrap();
    assert_eq!(checks.count(), 2);
    for (index, api_key) in [(0, "tk_live_one"), (1, "tk_live_two")] {
        let check = CheckRequest::decode(checks.get(index)).unwrap();
        assert_eq!(check, CheckRequest { api_key: api_key.to_owned(), ..CheckRequest::default() });
    }
    fs::write(&file, "\n").unwrap();
    assert!(Checks::new(&BenchArgs::typed(&line)).is_err());
}

#[test]
fn encoded_checks_are_what_the_contract_says() {
    let checks =
        Checks::new(&BenchArgs::typed("--keys 3 --plan enterprise --attribute path=/a --namespace n"))
            .unwrap();
    let check = CheckRequest::decode(checks.get(2)).unwrap();
    assert_eq!(check.namespace, "n");
    let attributes: Vec<_> = check.attributes.iter().map(|a| (a.key.as_str(), a.value.as_str())).collect();
    assert_eq!(attributes, [("organization", "bench-00000002"), ("plan", "enterprise"), ("path", "/a")]);

    let mut batch = BytesMut::new();
    put_batch_entry(&mut batch, checks.get(0));
    put_batch_entry(&mut batch, checks.get(2));
    let batch = CheckBatchRequest::decode(batch).unwrap();
    assert_eq!(batch.checks[1], check);

    let mut message = BytesMut::new();
    put_stream_request(&mut message, 300, checks.get(2));
    let message = CheckStreamRequest::decode(message).unwrap();
    assert_eq!((message.id, message.check.unwrap()), (300, check));
}
