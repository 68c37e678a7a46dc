//! What is in force in a service, wherever it comes from.

use anyhow::Context;
use clap::Args;
use tidegate_proto::ratelimit::v1::{
    GetOverrideRequest, GetPlanRequest, GetPolicyRequest, ListAssignmentsRequest, ListOverridesRequest,
    ListPlansRequest, ListPoliciesRequest, get_override_request,
    rate_limit_service_client::RateLimitServiceClient,
};

use super::entry::{Entry, Key};
use crate::client::{self, Connection};

/// The most on a page.
const PAGE: i32 = 100;

/// The generated client.
pub(crate) type Client = RateLimitServiceClient<Connection>;

/// Where the service is.
#[derive(Debug, Args)]
pub(crate) struct Service {
    /// gRPC address of the rate-limit service; with https:// it is spoken to over TLS.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8081")]
    addr: String,
}

impl Service {
    pub(crate) async fn connect(&self) -> anyhow::Result<Client> {
        Ok(RateLimitServiceClient::new(client::connect_for_changes(&self.addr).await?))
    }
}

/// Takes every page of a list.
macro_rules! every_page {
    ($client:ident.$method:ident($request:expr) -> $field:ident) => {{
        let (mut all, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = $request(page_token);
            let page =
                $client.$method(request).await.map_err(|status| client::explain(&status))?.into_inner();
            all.extend(page.$field);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break all;
            }
        }
    }};
}

/// All plans by name.
pub(crate) async fn plans(client: &mut Client) -> anyhow::Result<Vec<Entry>> {
    let request = |page_token| ListPlansRequest { page_size: PAGE, page_token };
    let plans = every_page!(client.list_plans(request) -> plans);
    Ok(plans.into_iter().map(Entry::Plan).collect())
}

/// The policies of a namespace, or all if it is empty, by namespace and name.
pub(crate) async fn policies(client: &mut Client, namespace: &str) -> anyhow::Result<Vec<Entry>> {
    let request =
        |page_token| ListPoliciesRequest { namespace: namespace.to_owned(), page_size: PAGE, page_token };
    let policies = every_page!(client.list_policies(request) -> policies);
    Ok(policies.into_iter().map(Entry::Policy).collect())
}

/// The assignments of an attribute, or all if it is empty, by attribute and value.
pub(crate) async fn assignments(client: &mut Client, attribute: &str) -> anyhow::Result<Vec<Entry>> {
    let request =
        |page_token| ListAssignmentsRequest { attribute: attribute.to_owned(), page_size: PAGE, page_token };
    let assignments = every_page!(client.list_assignments(request) -> assignments);
    Ok(assignments.into_iter().map(Entry::Assignment).collect())
}

/// The overrides of a policy, or of a namespace if that is empty, or all if both are, by namespace, policy, limit and key.
pub(crate) async fn overrides(
    client: &mut Client,
    namespace: &str,
    policy: &str,
) -> anyhow::Result<Vec<Entry>> {
    let request = |page_token| ListOverridesRequest {
        namespace: namespace.to_owned(),
        policy: policy.to_owned(),
        page_size: PAGE,
        page_token,
    };
    let overrides = every_page!(client.list_overrides(request) -> overrides);
    Ok(overrides.into_iter().map(Entry::Override).collect())
}

/// One entry: what is in force, or, of all but assignments, a version of it if it is not 0.
pub(crate) async fn one(client: &mut Client, key: &Key, version: u64) -> anyhow::Result<Entry> {
    let found = match key.clone() {
        Key::Policy(namespace, name) => {
            let answer = client.get_policy(GetPolicyRequest { namespace, name, version }).await;
            answer.map(|answer| answer.into_inner().policy.map(Entry::Policy))
        }
        Key::Plan(name) => {
            let answer = client.get_plan(GetPlanRequest { name, version }).await;
            answer.map(|answer| answer.into_inner().plan.map(Entry::Plan))
        }
        Key::Assignment(attribute, value) => {
            let key = Key::Assignment(attribute.clone(), value);
            let found = assignments(client, &attribute).await?.into_iter().find(|entry| entry.key() == key);
            return found.with_context(|| format!("there is no {key}"));
        }
        Key::Override(namespace, policy, limit, key) => {
            let key = key.into_iter().map(|(key, value)| get_override_request::KeyEntry { key, value });
            let request = GetOverrideRequest { namespace, policy, limit, key: key.collect(), version };
            let answer = client.get_override(request).await;
            answer.map(|answer| answer.into_inner().r#override.map(Entry::Override))
        }
    };
    found.map_err(|status| client::explain(&status))?.with_context(|| format!("an answer without {key}"))
}
