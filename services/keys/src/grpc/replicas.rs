//! The methods that replicas of the rate-limit service call.

use std::{pin::Pin, time::Duration};

use futures_util::{Stream, stream};
use tidegate_chassis::error::Violations;
use tidegate_proto::keys::v1 as pb;
use tokio::time::timeout;
use tonic::{Request, Response, Status};

use super::{
    Handlers,
    api_keys::sha256,
    asking::{Asking, id, refuse},
    render,
};
use crate::{
    domain::{KeyId, LineageId, OrganizationId},
    feed::{Feed, Since},
    store::{Usage, UsageEntry},
    usage::is_day,
};

/// Between two messages of the feed, at most.
const HEARTBEAT: Duration = Duration::from_secs(1);
const MAX_ENTRIES: usize = 10_000;
const MAX_OUTCOME_BYTES: usize = 64;
const MAX_RESERVED: u64 = 1_000_000_000;

type Answer<T> = Result<Response<T>, Status>;

/// What changes, as it is sent.
pub(super) type Changes = Pin<Box<dyn Stream<Item = Result<pb::WatchKeysResponse, Status>> + Send>>;

impl Handlers {
    pub(super) async fn resolve_key(
        &self,
        request: Request<pb::ResolveKeyRequest>,
    ) -> Answer<pb::ResolveKeyResponse> {
        let asking = Asking::read(request, &self.proxies)?;
        asking.must_be_ours()?;
        let mut violations = Violations::default();
        let hash = sha256("key_sha256", &asking.request.key_sha256, &mut violations);
        refuse(violations)?;
        let resolved = self.resolver.resolve(&hash).await?;
        let now_us = self.clock.now_us();
        let key = resolved.key.map(|(key, organization)| pb::ResolvedKey {
            key: Some(render::api_key(&key, now_us)),
            disabled: key.disabled_us.is_some(),
            organization: Some(render::organization(&organization)),
            generation: organization.generation,
        });
        Ok(Response::new(pb::ResolveKeyResponse { key, revision: resolved.revision }))
    }

    pub(super) async fn watch_keys(&self, request: Request<pb::WatchKeysRequest>) -> Answer<Changes> {
        let asking = Asking::read(request, &self.proxies)?;
        asking.must_be_ours()?;
        let after = match asking.request.after_revision {
            None => self.feed.revision(),
            Some(after) => {
                // It may have been told by another replica, which was quicker.
                if after > self.feed.revision() {
                    self.feed.catch_up().await.map_err(crate::error::KeysError::from)?;
                }
                after
            }
        };
        let begins = asking.request.after_revision.is_none();
        // What was missed is told at once, and the first message says that the feed is there.
        let first = (self.feed.clone(), self.service_tokens.clone(), after, Some(begins));
        Ok(Response::new(Box::pin(stream::unfold(first, |(feed, tokens, after, first)| async move {
            if first.is_none() {
                // A sign of life, if nothing happens. It says that nothing is missed: so there is none while that is not known.
                while timeout(HEARTBEAT, feed.later_than(after)).await.is_err() && !feed.is_fresh() {}
            }
            let mut message = next_message(&feed, after);
            let revision = message.revision;
            if message.reset || first == Some(true) {
                // Who does not know what came before cannot know either which tokens were revoked before.
                match tokens.revoked().await {
                    Ok(revoked) => {
                        message.changes.extend(revoked.into_iter().map(render::revoked_service_token));
                    }
                    Err(error) => return Some((Err(error.into()), (feed, tokens, after, first))),
                }
            }
            Some((Ok(message), (feed, tokens, revision, None)))
        }))))
    }

    pub(super) async fn report_key_usage(
        &self,
        request: Request<pb::ReportKeyUsageRequest>,
    ) -> Answer<pb::ReportKeyUsageResponse> {
        let asking = Asking::read(request, &self.proxies)?;
        asking.must_be_ours()?;
        let mut violations = Violations::default();
        let report = id("report_id", &asking.request.report_id, &mut violations);
        let entries = usage_entries(&asking.request.entries, &mut violations);
        refuse(violations)?;
        self.usage.report(report, &entries).await?;
        Ok(Response::new(pb::ReportKeyUsageResponse {}))
    }

    pub(super) async fn reserve_credits(
        &self,
        request: Request<pb::ReserveCreditsRequest>,
    ) -> Answer<pb::ReserveCreditsResponse> {
        let asking = Asking::read(request, &self.proxies)?;
        asking.must_be_ours()?;
        let wanted = &asking.request;
        let mut violations = Violations::default();
        let organization = OrganizationId(id("organization_id", &wanted.organization_id, &mut violations));
        let lineage = LineageId(id("lineage_id", &wanted.lineage_id, &mut violations));
        let reservation = id("reservation_id", &wanted.reservation_id, &mut violations);
        if !(1..=MAX_RESERVED).contains(&wanted.amount) {
            violations.add("amount", format!("must be 1 to {MAX_RESERVED}"));
        }
        refuse(violations)?;
        let reserved = self.credits.reserve(organization, lineage, wanted.amount, reservation).await?;
        Ok(Response::new(pb::ReserveCreditsResponse {
            granted: reserved.granted,
            balance: reserved.balance,
            next_refill_at_ms: reserved.next_refill_us.map_or(0, |at_us| at_us / 1_000),
        }))
    }
}

fn next_message(feed: &Feed, after: u64) -> pb::WatchKeysResponse {
    match feed.since(after) {
        Since::Changes(revision, changes) => {
            let changes = changes.iter().map(render::change).collect();
            pb::WatchKeysResponse { revision, changes, reset: false }
        }
        Since::TooLongAgo(revision) => pb::WatchKeysResponse { revision, changes: Vec::new(), reset: true },
    }
}

fn usage_entries(entries: &[pb::KeyUsageEntry], violations: &mut Violations) -> Vec<UsageEntry> {
    if entries.len() > MAX_ENTRIES {
        violations.add("entries", format!("must be at most {MAX_ENTRIES}"));
        return Vec::new();
    }
    let mut read = Vec::with_capacity(entries.len());
    for (index, entry) in entries.iter().enumerate() {
        let mut wrong = Violations::default();
        let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        let outcome = &entry.outcome;
        if !(1..=MAX_OUTCOME_BYTES).contains(&outcome.len()) || !outcome.bytes().all(is_word) {
            wrong.add("outcome", "must be 1 to 64 of a-z 0-9 _");
        }
        if !is_day(&entry.day) {
            wrong.add("day", "must be a day as 2026-11-29");
        }
        read.push(UsageEntry {
            key: KeyId(id("api_key_id", &entry.api_key_id, &mut wrong)),
            organization: OrganizationId(id("organization_id", &entry.organization_id, &mut wrong)),
            usage: Usage { day: entry.day.clone(), outcome: outcome.clone(), count: entry.count },
            last_used_us: entry.last_used_at_ms.saturating_mul(1_000),
        });
        violations.add_all(&format!("entries[{index}]"), wrong);
    }
    read
}
