//! `tidegate top`: who asks, who is denied, and what the policies say, as it happens.

mod screen;

use std::{io::IsTerminal, process::ExitCode, time::Duration};

use clap::{Args, ValueEnum};
use serde::Serialize;
use tidegate_proto::ratelimit::v1::{
    CheckCounts, ListPolicyStatsRequest, ListPolicyStatsResponse, ListTopKeysRequest, ListTopKeysResponse,
    PolicyStats, PolicyStatsOrder, TopKey, TopKeyKind, UsageWindow,
    rate_limit_service_client::RateLimitServiceClient,
};
use uuid::Uuid;

use crate::client::{self, Connection};

const EXAMPLES: &str = "\
Examples:
  tidegate top                                  what is asked for now, until Ctrl-C
  tidegate top --kind denied                    who is denied
  tidegate top --kind shadow-denied --window hour
  tidegate top --once --json | jq '.keys[0]'";

/// Clears the screen and goes to its first line.
const CLEAR: &str = "\u{1b}[2J\u{1b}[H";

/// Watch the keys and policies of one replica.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct TopArgs {
    /// gRPC address of the rate-limit service; with https:// it is spoken to over TLS.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8081")]
    addr: String,

    /// Which keys.
    #[arg(long, value_enum, default_value_t = Kind::Hot)]
    kind: Kind,

    /// How far back.
    #[arg(long, value_enum, default_value_t = Window::Recent)]
    window: Window,

    /// Policies of this namespace only.
    #[arg(long, default_value = "", hide_default_value = true)]
    namespace: String,

    /// The policy of this name only.
    #[arg(long, default_value = "", hide_default_value = true)]
    policy: String,

    /// The most keys to show.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,

    /// Seconds between two looks.
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3600))]
    every: u64,

    /// Look once; so it is also if the output is no terminal.
    #[arg(long)]
    once: bool,

    /// Print JSON: one document for each look.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    /// Keys that are asked for.
    Hot,
    /// Keys that are denied.
    Denied,
    /// Keys that come near a limit.
    NearLimit,
    /// Keys that a policy in shadow would have denied.
    ShadowDenied,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Window {
    /// The last one to two minutes.
    Recent,
    /// The last 30 to 60 minutes.
    Hour,
}

impl Kind {
    fn of_keys(self) -> TopKeyKind {
        match self {
            Self::Hot => TopKeyKind::Hot,
            Self::Denied => TopKeyKind::Denied,
            Self::NearLimit => TopKeyKind::NearLimit,
            Self::ShadowDenied => TopKeyKind::ShadowDenied,
        }
    }

    /// Policies are ranked by what is looked for.
    fn of_policies(self) -> PolicyStatsOrder {
        match self {
            Self::Hot => PolicyStatsOrder::Checks,
            Self::Denied => PolicyStatsOrder::Denied,
            Self::NearLimit => PolicyStatsOrder::NearLimit,
            Self::ShadowDenied => PolicyStatsOrder::ShadowDenied,
        }
    }

    /// What it is called above the keys.
    fn title(self) -> &'static str {
        match self {
            Self::Hot => "asked for",
            Self::Denied => "denied",
            Self::NearLimit => "near a limit",
            Self::ShadowDenied => "denied in shadow",
        }
    }
}

/// Looks until it is told to end.
pub(crate) fn run(args: &TopArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(watch(args))
}

async fn watch(args: &TopArgs) -> anyhow::Result<ExitCode> {
    let channel = client::connect(&args.addr).await?;
    let is_live = !args.once && std::io::stdout().is_terminal();
    loop {
        let (keys, policies) = look(&channel, args).await?;
        if args.json {
            anstream::println!("{}", serde_json::to_string(&View::new(&keys, &policies))?);
        } else {
            let clear = if is_live { CLEAR } else { "" };
            anstream::println!("{clear}{}", screen::draw(&keys, &policies, args.kind.title()));
        }
        if !is_live {
            return Ok(ExitCode::SUCCESS);
        }
        tokio::time::sleep(Duration::from_secs(args.every)).await;
    }
}

async fn look(
    channel: &Connection,
    args: &TopArgs,
) -> anyhow::Result<(ListTopKeysResponse, ListPolicyStatsResponse)> {
    let mut service = RateLimitServiceClient::new(channel.clone());
    let window = match args.window {
        Window::Recent => UsageWindow::Recent,
        Window::Hour => UsageWindow::Hour,
    };
    let keys = ListTopKeysRequest {
        namespace: args.namespace.clone(),
        policy: args.policy.clone(),
        kind: args.kind.of_keys().into(),
        window: window.into(),
        limit: args.limit,
    };
    let policies = ListPolicyStatsRequest {
        namespace: args.namespace.clone(),
        policy: args.policy.clone(),
        window: window.into(),
        limit: 10,
        order_by: args.kind.of_policies().into(),
    };
    let keys = service.list_top_keys(keys).await.map_err(|status| client::explain(&status))?;
    let policies = service.list_policy_stats(policies).await.map_err(|status| client::explain(&status))?;
    Ok((keys.into_inner(), policies.into_inner()))
}

/// What `--json` prints; names and units are those of the contract.
#[derive(Debug, Serialize)]
struct View<'a> {
    instance_id: Option<Uuid>,
    started_at_ms: u64,
    window_start_ms: u64,
    at_ms: u64,
    total: u64,
    unlisted_at_most: u64,
    keys: Vec<Key<'a>>,
    policies: Vec<Policy<'a>>,
}

#[derive(Debug, Serialize)]
struct Key<'a> {
    namespace: &'a str,
    policy: &'a str,
    attributes: Vec<Attribute<'a>>,
    count: u64,
    overcount: u64,
    standard_error: u64,
    share: f64,
}

#[derive(Debug, Serialize)]
struct Attribute<'a> {
    name: &'a str,
    value: &'a str,
    cut: bool,
}

#[derive(Debug, Serialize)]
struct Policy<'a> {
    namespace: &'a str,
    policy: &'a str,
    since_start: Counts,
    in_window: Counts,
}

#[derive(Debug, Serialize)]
struct Counts {
    checks: u64,
    admitted: u64,
    denied: u64,
    near_limit: u64,
    shadow_denied: u64,
}

impl<'a> View<'a> {
    fn new(keys: &'a ListTopKeysResponse, policies: &'a ListPolicyStatsResponse) -> Self {
        let replica = keys.replica.clone().unwrap_or_default();
        Self {
            instance_id: Uuid::from_slice(&replica.instance_id).ok(),
            started_at_ms: replica.started_at_ms,
            window_start_ms: replica.window_start_ms,
            at_ms: replica.at_ms,
            total: keys.total,
            unlisted_at_most: keys.unlisted_at_most,
            keys: keys.keys.iter().map(Key::new).collect(),
            policies: policies.policies.iter().map(Policy::new).collect(),
        }
    }
}

impl<'a> Key<'a> {
    fn new(key: &'a TopKey) -> Self {
        let attributes = key.attributes.iter();
        Self {
            namespace: &key.namespace,
            policy: &key.policy,
            attributes: attributes
                .map(|of| Attribute { name: &of.name, value: &of.value, cut: of.cut })
                .collect(),
            count: key.count,
            overcount: key.overcount,
            standard_error: key.standard_error,
            share: key.share,
        }
    }
}

impl<'a> Policy<'a> {
    fn new(policy: &'a PolicyStats) -> Self {
        Self {
            namespace: &policy.namespace,
            policy: &policy.policy,
            since_start: Counts::new(policy.since_start.as_ref()),
            in_window: Counts::new(policy.in_window.as_ref()),
        }
    }
}

impl Counts {
    fn new(counts: Option<&CheckCounts>) -> Self {
        let CheckCounts { checks, admitted, denied, near_limit, shadow_denied } =
            counts.copied().unwrap_or_default();
        Self { checks, admitted, denied, near_limit, shadow_denied }
    }
}
