//! Where nothing answers.

use std::time::Instant;

use tokio::net::TcpListener;

use super::*;
use crate::identity::Attempts;

fn connect(url: String) -> RateLimitAttempts {
    let config = LimitsConfig { url, timeout: Duration::from_millis(100).into() };
    RateLimitAttempts::connect(&config, BearerToken(None)).expect("a URL").expect("one is set")
}

#[tokio::test]
async fn a_service_that_does_not_answer_in_time_is_not_waited_for() {
    // It accepts, and says nothing.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let attempts = connect(format!("http://{}", listener.local_addr().expect("an address")));
    let before = Instant::now();
    assert_eq!(attempts.check(Attempt::LogIn, Some("a"), None).await, None);
    attempts.give_back("lease").await;
    assert!(before.elapsed() < Duration::from_secs(5), "{:?}", before.elapsed());
}

#[tokio::test]
async fn this_process_counts_while_the_service_is_not_there() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    drop(listener);
    let attempts = Attempts::new(Some(Box::new(connect(url))), || 1_800_000_000_000_000);
    let email = crate::domain::Email::parse("ada@example.com").expect("an address");
    let origin = crate::origin::RequestOrigin::default();
    for _ in 0..10 {
        attempts.check(Attempt::LogIn, Some(&email), &origin).await.expect("admitted");
    }
    attempts.check(Attempt::LogIn, Some(&email), &origin).await.expect_err("the eleventh");
}

#[test]
fn without_a_url_nothing_is_asked_and_a_wrong_one_stops_the_start() {
    let config = |url: &str| LimitsConfig { url: url.to_owned(), timeout: Duration::from_millis(100).into() };
    let connect = |url| RateLimitAttempts::connect(&config(url), BearerToken(None));
    assert!(connect("").expect("fine").is_none());
    assert!(connect("not a url").is_err());
}
