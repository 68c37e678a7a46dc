use tidegate_chassis::clock::Random;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;
use tonic_health::ServingStatus as Reported;

use super::*;
use crate::{
    fixture::{self, health},
    upstream::Endpoints,
};

const TIMEOUT: Duration = Duration::from_secs(5);

async fn pool(urls: &[&str]) -> Pool {
    let config = fixture::config("").upstreams;
    let urls: Vec<_> = urls.iter().map(|url| (*url).to_owned().try_into().unwrap()).collect();
    Pool::open(Endpoints::new(&urls, &config).unwrap(), Random::seeded(1)).await
}

async fn state(pool: &Pool) -> State {
    probe(Behind::RateLimit, pool, TIMEOUT).await.state
}

#[tokio::test]
async fn a_service_is_what_it_says_of_itself() {
    let (url, reporter, _serving) = health().await;
    let pool = pool(&[&url]).await;
    assert_eq!(state(&pool).await, State::NotServing, "it does not know the service");
    reporter.set_service_status(Behind::RateLimit.health_name(), Reported::Serving).await;
    let serving = probe(Behind::RateLimit, &pool, TIMEOUT).await;
    assert_eq!((serving.state, serving.response_time.is_some()), (State::Serving, true));
    reporter.set_service_status(Behind::RateLimit.health_name(), Reported::NotServing).await;
    assert_eq!(state(&pool).await, State::NotServing);
}

#[tokio::test]
async fn one_address_that_serves_is_enough() {
    let (url, reporter, _serving) = health().await;
    reporter.set_service_status(Behind::RateLimit.health_name(), Reported::Serving).await;
    assert_eq!(state(&pool(&[fixture::NOBODY, &url]).await).await, State::Serving);
    assert_eq!(state(&pool(&[fixture::NOBODY]).await).await, State::NotServing);
}

#[tokio::test]
async fn a_silent_service_does_not_hold_the_probe() {
    // Accepted by the kernel and never served.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let pool = pool(&[&format!("http://{}", silent.local_addr().unwrap())]).await;
    assert_eq!(probe(Behind::RateLimit, &pool, Duration::from_millis(50)).await.state, State::NotServing);
}

#[tokio::test]
async fn the_ops_port_hears_of_every_change() {
    let (url, reporter, _serving) = health().await;
    reporter.set_service_status(Behind::RateLimit.health_name(), Reported::Serving).await;
    let (keys_url, keys, _keys_serving) = health().await;
    keys.set_service_status(Behind::Keys.health_name(), Reported::Serving).await;
    let (readiness, ops) = (Readiness::default(), ops::Readiness::default());
    let config = fixture::config("[health]\ninterval = \"5ms\"\ntimeout = \"5s\"").health;
    let probes =
        Probes(vec![(Behind::RateLimit, pool(&[&url]).await), (Behind::Keys, pool(&[&keys_url]).await)]);
    let keeping = readiness.clone().keep(probes, config, ops.clone());
    let _keeping = AbortOnDropHandle::new(tokio::spawn(keeping));
    let becomes = async |is_ready| {
        let reached = async {
            while (readiness.get().is_ready(), ops.is_ready()) != (is_ready, is_ready) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(TIMEOUT, reached).await.unwrap_or_else(|_| panic!("never {is_ready}"));
    };
    becomes(true).await;
    reporter.set_service_status(Behind::RateLimit.health_name(), Reported::NotServing).await;
    becomes(false).await;
    reporter.set_service_status(Behind::RateLimit.health_name(), Reported::Serving).await;
    becomes(true).await;
    keys.set_service_status(Behind::Keys.health_name(), Reported::NotServing).await;
    becomes(false).await;
    keys.set_service_status(Behind::Keys.health_name(), Reported::Serving).await;
    becomes(true).await;
    readiness.leave();
    becomes(false).await;
}
