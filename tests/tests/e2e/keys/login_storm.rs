//! 200 logins a second: those that the service has no room for are told so, and checks by key go on.

use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::ensure;
use http::Method;
use serde_json::json;
use tidegate_proto::keys::v1::{LogInRequest, auth_service_client::AuthServiceClient};
use tidegate_tests::{
    backend::Backend,
    rest::{Rest, text},
    rpc,
    stack::{Stack, StackSettings},
    test_result::TestResult,
    times::{self, Times},
    turn,
};
use tokio::{task::JoinSet, time::Instant};
use tonic::{Code, Request, transport::Channel};

use super::{POLICIES, ample_tenant};
use crate::seconds;

/// Between two logins.
const LOGIN_EVERY: Duration = Duration::from_millis(5);
/// Between two checks.
const CHECK_EVERY: Duration = Duration::from_millis(10);
/// So many that an account has few logins under way at a time, which are limited as well.
const ACCOUNTS: u32 = 32;
/// Checks that take longer do not go on. Far more than they take on any machine that has the time to be fair to them.
const GOING_ON: Duration = Duration::from_secs(2);
const PASSWORD: &str = "a long and unlikely one";

/// Each comes from an address of its own, so that only the room for passwords bounds them.
fn address(number: u32) -> String {
    Ipv4Addr::from_bits(u32::from(Ipv4Addr::new(10, 0, 0, 0)) + number).to_string()
}

fn account(number: u32) -> String {
    format!("user{number}@example.com")
}

/// What came of a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    LoggedIn,
    Wrong,
    NoRoom,
    /// Too many of one account are under way.
    Limited,
    /// There was no answer in time: the machine is too slow even to turn away so many.
    Late,
}

/// Where logins arrive: most at the service itself, some at the gateway.
#[derive(Clone)]
struct Doors {
    service: AuthServiceClient<Channel>,
    gateway: Rest,
}

impl Doors {
    /// A login, by a right password or a wrong one, and how long it took.
    async fn log_in(mut self, number: u32) -> anyhow::Result<(Outcome, Duration)> {
        let (begun, address, is_right) = (Instant::now(), address(number), number.is_multiple_of(2));
        let (email, password) = match is_right {
            true => (account(number / 2 % ACCOUNTS), PASSWORD),
            false => (format!("nobody{number}@example.com"), "another one, and wrong"),
        };
        let answer = match number % 10 {
            0 | 1 => self.at_the_gateway(&address, &email, password).await?,
            _ => self.at_the_service(&address, &email, password).await?,
        };
        let is_possible = match answer {
            Outcome::LoggedIn => is_right,
            Outcome::Wrong => !is_right,
            Outcome::NoRoom | Outcome::Limited | Outcome::Late => true,
        };
        ensure!(is_possible, "{email}: {answer:?}");
        Ok((answer, begun.elapsed()))
    }

    async fn at_the_service(
        &mut self,
        address: &str,
        email: &str,
        password: &str,
    ) -> anyhow::Result<Outcome> {
        let (email, password) = (email.to_owned(), password.to_owned());
        let mut request = Request::new(LogInRequest { email, password, ..LogInRequest::default() });
        request.metadata_mut().insert("x-client-ip", address.parse()?);
        let Err(status) = self.service.log_in(request).await else { return Ok(Outcome::LoggedIn) };
        let why = rpc::explain(&status)?;
        match (why.code, &*why.reason) {
            (Code::Unauthenticated, "CREDENTIALS_INVALID") => Ok(Outcome::Wrong),
            (Code::ResourceExhausted, "SERVER_OVERLOADED") => {
                ensure!(why.retry_after.is_some(), "nobody is told when to come again");
                Ok(Outcome::NoRoom)
            }
            (Code::ResourceExhausted, "TOO_MANY_ATTEMPTS") if why.retry_after.is_some() => {
                Ok(Outcome::Limited)
            }
            (Code::DeadlineExceeded, _) => Ok(Outcome::Late),
            _ => anyhow::bail!("{status:?}"),
        }
    }

    async fn at_the_gateway(&self, address: &str, email: &str, password: &str) -> anyhow::Result<Outcome> {
        let (headers, body) = ([("x-forwarded-for", address)], json!({"email": email, "password": password}));
        let answer = self.gateway.ask_with(Method::POST, "/v1/auth/login", &headers, &body).await?;
        match (answer.status.as_u16(), answer.json()["error"].as_str()) {
            (200, _) => Ok(Outcome::LoggedIn),
            (401, Some("credentials_invalid")) => Ok(Outcome::Wrong),
            (429, Some("too_many_attempts")) => Ok(Outcome::Limited),
            (504, Some("deadline_exceeded")) => Ok(Outcome::Late),
            (503, Some("overloaded")) => {
                ensure!(!answer.header("retry-after").is_empty(), "nobody is told when to come again");
                Ok(Outcome::NoRoom)
            }
            _ => anyhow::bail!("{} {}", answer.status, answer.text()),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn report_login_storm_is_turned_away_where_there_is_no_room_and_checks_go_on() -> TestResult {
    let _turn = turn::alone().await;
    let (quiet, storm) = if seconds::is_long() { (10, 20) } else { (2, 4) };
    let settings = StackSettings {
        redis: true,
        postgres: true,
        policies: POLICIES.to_owned(),
        // A machine that is busy with the storm may be slow to let Redis answer.
        ratelimit: "[store.redis]\ndeadline = \"2s\"".to_owned(),
        gateway: "[proxies]\ntrusted = [\"127.0.0.0/8\"]".to_owned(),
        ..StackSettings::default()
    };
    let stack = Stack::start(&settings).await?;
    let owner = ample_tenant(&stack).await?;
    for number in 0..ACCOUNTS {
        let (email, address) = (account(number), address(number));
        let body = json!({"email": email, "password": PASSWORD, "organization_name": "Somebody"});
        let headers = [("x-forwarded-for", &*address)];
        let made = stack.rest().ask_with(Method::POST, "/v1/auth/signup", &headers, &body).await?;
        assert_eq!(made.status, 201, "{}", made.text());
    }
    let token = stack.backend().await?.token().to_owned();
    let made = owner.post("/v1/auth/api-keys", &json!({"name": "busy"}), 201).await?;
    let key = text(&made, "/key_value")?;
    let replica = Backend::new(stack.ratelimit[0].address(), &token)?;
    let doors =
        Doors { service: AuthServiceClient::new(rpc::channel(stack.keys.address())?), gateway: stack.rest() };

    let mut tables = Vec::new();
    let (mut logins, mut number) = (JoinSet::new(), 0);
    for (is_storm, seconds) in [(false, quiet), (true, storm)] {
        let ends = Arc::new(AtomicBool::new(false));
        let checking =
            tokio::spawn(replica.clone().check_at_rate(key.clone(), CHECK_EVERY, Arc::clone(&ends)));
        let until = Instant::now() + Duration::from_secs(seconds);
        let mut due = Instant::now();
        while is_storm && due < until {
            logins.spawn(doors.clone().log_in(number));
            number += 1;
            due += LOGIN_EVERY;
            tokio::time::sleep_until(due).await;
        }
        tokio::time::sleep_until(until).await;
        ends.store(true, Ordering::Relaxed);
        tables.push(checking.await??);
    }
    let mut took = [const { Vec::new() }; 5];
    while let Some(login) = logins.join_next().await {
        let (outcome, time) = login??;
        took[outcome as usize].push(time);
    }
    let [logged_in, wrong, no_room, limited, late] = took.map(Times::new);
    let [without, with] = [&tables[0], &tables[1]];
    println!("{number} logins at {} a second {}", 1_000 / LOGIN_EVERY.as_millis(), times::HEADER);
    println!(
        "  right password           {logged_in}\n  wrong password           {wrong}\n  \
         no room                  {no_room}\n  too many of an account   {limited}\n  \
         no answer in time        {late}"
    );
    println!(
        "checks at {} a second\n  before                   {without}\n  in the storm             {with}",
        1_000 / CHECK_EVERY.as_millis()
    );
    // Each of them was admitted, or there would be no table.
    let p99 = with.percentile(99);
    assert!(with.count() > 0 && p99 < GOING_ON, "checks took {p99:?} (p99) in the storm");
    assert!(logged_in.count() > 0 && wrong.count() > 0, "the storm keeps everybody out");
    assert!(no_room.count() > 0, "there was room for all, so that nobody was turned away");
    stack.assert_no_panic().await?;
    Ok(())
}
