//! `tidegate bench-keys`: load on a keys service, for `cargo xtask bench`.

mod tally;

use std::{
    fs::{self, File},
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use clap::{Args, Subcommand};
use tidegate_proto::keys::v1::{
    CreateApiKeyRequest, CreateOrganizationRequest, KeyEnvironment, LogInRequest, SignUpRequest,
    VerifyKeyRequest, auth_service_client::AuthServiceClient, keys_service_client::KeysServiceClient,
};
use tokio::task::JoinSet;
use tonic::Request;

use self::tally::Tally;
use crate::{
    client::{self, Bearer, Connection},
    up::Ready,
};

/// Accounts that log in with the right password, one time in [`RIGHT_ONE_IN`].
const ACCOUNTS: usize = 32;
const RIGHT_ONE_IN: usize = 10;
const PASSWORD: &str = "correct horse battery staple";

/// Make keys, or load a keys service, and print JSON.
#[derive(Debug, Args)]
pub(crate) struct BenchKeysArgs {
    /// The file that `tidegate up --ready-file` wrote at its first start.
    #[arg(long, value_name = "FILE")]
    ready_file: PathBuf,

    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Make organizations and their keys, and write the keys to a file, one a line.
    Prepare {
        #[arg(long)]
        organizations: u32,
        /// Keys of each.
        #[arg(long, default_value_t = 1)]
        keys: u32,
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Make keys, as fast as they are answered.
    Create {
        #[command(flatten)]
        load: Closed,
    },
    /// Verify the keys of a file, as fast as they are answered.
    Verify {
        #[arg(long, value_name = "FILE")]
        api_keys: PathBuf,
        #[command(flatten)]
        load: Closed,
    },
    /// Sign up the accounts that `log-in` knows the password of.
    SignUp,
    /// Log in at a fixed rate, each time from another address, one time in ten with the right password.
    LogIn {
        /// Logins per second.
        #[arg(long)]
        rate: u32,
        #[arg(long)]
        seconds: u32,
    },
}

/// A closed loop.
#[derive(Clone, Copy, Debug, Args)]
struct Closed {
    /// Calls at a time.
    #[arg(long, default_value_t = 16)]
    in_flight: u32,
    #[arg(long)]
    seconds: u32,
}

/// Does it, and prints what came of it.
pub(crate) async fn run(args: BenchKeysArgs) -> anyhow::Result<ExitCode> {
    let text = fs::read(&args.ready_file).with_context(|| args.ready_file.display().to_string())?;
    let ready: Ready = serde_json::from_slice(&text)?;
    let operator = async || Operator::log_in(&ready).await;
    let tally = match args.what {
        What::Prepare { organizations, keys, out } => {
            operator().await?.prepare(organizations, keys, &out).await?
        }
        What::Create { load } => operator().await?.create(load).await?,
        What::Verify { api_keys, load } => operator().await?.verify(&api_keys, load).await?,
        What::SignUp => sign_up(&ready).await?,
        What::LogIn { rate, seconds } => log_in(&ready, rate, seconds).await?,
    };
    anstream::println!("{}", tally.json());
    Ok(ExitCode::SUCCESS)
}

/// Who may make organizations.
struct Operator {
    keys: KeysServiceClient<Connection>,
}

impl Operator {
    async fn log_in(ready: &Ready) -> anyhow::Result<Self> {
        let demo = ready.demo.as_ref().context("the file is not of a first start: it has no operator")?;
        let addr = ready.grpc.keys.to_string();
        let mut auth = AuthServiceClient::new(client::connect_as(&addr, Bearer::default()).await?);
        let request = LogInRequest {
            email: demo.operator_email.clone(),
            password: demo.operator_password.clone(),
            ..LogInRequest::default()
        };
        let tokens = auth.log_in(request).await?.into_inner().tokens.context("an answer without tokens")?;
        let bearer = Bearer::new(&tokens.access_token)?;
        Ok(Self { keys: KeysServiceClient::new(client::connect_as(&addr, bearer).await?) })
    }

    async fn organization(&self, name: String) -> anyhow::Result<String> {
        let request = CreateOrganizationRequest { name, ..CreateOrganizationRequest::default() };
        let answer = self.keys.clone().create_organization(request).await?.into_inner();
        Ok(answer.organization.context("an answer without an organization")?.id)
    }

    async fn prepare(&self, organizations: u32, each: u32, out: &Path) -> anyhow::Result<Tally> {
        let mut file = BufWriter::new(File::create(out).with_context(|| out.display().to_string())?);
        let mut tally = Tally::begin();
        for number in 0..organizations {
            let organization = self.organization(format!("Bench {number}")).await?;
            let mut calls = JoinSet::new();
            for _ in 0..each {
                let (mut keys, request) = (self.keys.clone(), new_key(&organization));
                calls.spawn(async move { (Instant::now(), keys.create_api_key(request).await) });
            }
            while let Some(call) = calls.join_next().await {
                let (sent, answer) = call?;
                writeln!(file, "{}", answer?.into_inner().key_value)?;
                tally.count(sent, "Ok");
            }
        }
        file.flush()?;
        Ok(tally)
    }

    async fn create(&self, load: Closed) -> anyhow::Result<Tally> {
        let organization: Arc<str> = self.organization("Bench".to_owned()).await?.into();
        let keys = self.keys.clone();
        load.run(move |_| {
            let (mut keys, request) = (keys.clone(), new_key(&organization));
            async move { word(keys.create_api_key(request).await) }
        })
        .await
    }

    async fn verify(&self, api_keys: &Path, load: Closed) -> anyhow::Result<Tally> {
        let text = fs::read_to_string(api_keys).with_context(|| api_keys.display().to_string())?;
        let values: Arc<[String]> = text.lines().map(str::to_owned).collect();
        ensure!(!values.is_empty(), "there is no key in {}", api_keys.display());
        let keys = self.keys.clone();
        load.run(move |number| {
            let mut keys = keys.clone();
            let api_key = values[number % values.len()].clone();
            async move {
                let request = VerifyKeyRequest { api_key, ..VerifyKeyRequest::default() };
                match keys.verify_key(request).await {
                    Ok(answer) if !answer.get_ref().valid => answer.into_inner().code,
                    answer => word(answer),
                }
            }
        })
        .await
    }
}

impl Closed {
    /// Calls again and again; `call` is told a number that goes up, and says what came of it in a word.
    async fn run<F: Future<Output = String> + Send>(
        self,
        call: impl Fn(usize) -> F + Clone + Send + 'static,
    ) -> anyhow::Result<Tally> {
        let mut lanes = JoinSet::new();
        let end = Instant::now() + Duration::from_secs(self.seconds.into());
        for lane in 0..self.in_flight as usize {
            let (call, lanes_at_all) = (call.clone(), self.in_flight as usize);
            lanes.spawn(async move {
                let mut tally = Tally::begin();
                let mut number = lane;
                while Instant::now() < end {
                    let sent = Instant::now();
                    let word = call(number).await;
                    tally.count(sent, &word);
                    number += lanes_at_all;
                }
                tally
            });
        }
        let mut all = Tally::begin_with(self.seconds);
        while let Some(tally) = lanes.join_next().await {
            all.add(&tally?);
        }
        Ok(all)
    }
}

fn new_key(organization: &str) -> CreateApiKeyRequest {
    CreateApiKeyRequest {
        organization_id: organization.to_owned(),
        name: "Bench".to_owned(),
        environment: KeyEnvironment::Live.into(),
        ..CreateApiKeyRequest::default()
    }
}

/// Whoever has no token.
async fn anybody(ready: &Ready) -> anyhow::Result<AuthServiceClient<Connection>> {
    let addr = ready.grpc.keys.to_string();
    Ok(AuthServiceClient::new(client::connect_as(&addr, Bearer::default()).await?))
}

async fn sign_up(ready: &Ready) -> anyhow::Result<Tally> {
    let mut auth = anybody(ready).await?;
    let mut tally = Tally::begin();
    for account in 0..ACCOUNTS {
        let request = SignUpRequest {
            email: email_of(account),
            password: PASSWORD.to_owned(),
            organization_name: "Bench".to_owned(),
        };
        let sent = Instant::now();
        auth.sign_up(from_elsewhere(request, account)?).await?;
        tally.count(sent, "Ok");
    }
    Ok(tally)
}

/// Logs in on schedule, whether or not the service keeps up.
async fn log_in(ready: &Ready, rate: u32, seconds: u32) -> anyhow::Result<Tally> {
    let auth = anybody(ready).await?;
    let begun = Instant::now();
    let mut calls = JoinSet::new();
    let mut tally = Tally::begin_with(seconds);
    for number in 0..(rate * seconds) as usize {
        let due = begun + Duration::from_secs_f64(number as f64 / f64::from(rate));
        tokio::time::sleep_until(due.into()).await;
        let right = number.is_multiple_of(RIGHT_ONE_IN);
        let email = if right {
            email_of(number / RIGHT_ONE_IN % ACCOUNTS)
        } else {
            format!("nobody-{number}@example.com")
        };
        let request = LogInRequest { email, password: PASSWORD.to_owned(), ..LogInRequest::default() };
        let (mut auth, request) = (auth.clone(), from_elsewhere(request, number)?);
        calls.spawn(async move { (due, word(auth.log_in(request).await)) });
        while let Some(done) = calls.try_join_next() {
            let (due, word) = done?;
            tally.count(due, &word);
        }
    }
    while let Some(done) = calls.join_next().await {
        let (due, word) = done?;
        tally.count(due, &word);
    }
    Ok(tally)
}

fn email_of(account: usize) -> String {
    format!("bench-{account}@example.com")
}

/// As a gateway on this machine tells it: so that no address has more attempts than it may.
fn from_elsewhere<T>(message: T, number: usize) -> anyhow::Result<Request<T>> {
    let [.., a, b, c] = number.to_be_bytes();
    let mut request = Request::new(message);
    request.metadata_mut().insert("x-client-ip", format!("10.{a}.{b}.{c}").parse()?);
    Ok(request)
}

/// What came of a call: its status.
fn word<T>(answer: Result<T, tonic::Status>) -> String {
    answer.map_or_else(|status| format!("{:?}", status.code()), |_| "Ok".to_owned())
}
