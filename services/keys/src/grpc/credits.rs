//! The methods of credits and use.

use tidegate_chassis::error::Violations;
use tidegate_proto::keys::v1 as pb;
use tonic::{Request, Response, Status};

use super::{
    Handlers,
    api_keys::of_key,
    asking::{Asking, refuse},
    render,
};
use crate::{credits::Grant, domain::CreditAccount};

const MAX_AMOUNT: u64 = 1_000_000_000_000;
const MAX_REFILL_DAYS: u32 = 366;

type Answer<T> = Result<Response<T>, Status>;

impl Handlers {
    pub(super) async fn get_api_key_usage(
        &self,
        request: Request<pb::GetApiKeyUsageRequest>,
    ) -> Answer<pb::GetApiKeyUsageResponse> {
        let asking = Asking::read(request, &self.proxies)?;
        let wanted = &asking.request;
        let mut violations = Violations::default();
        let (organization, id) =
            of_key(&asking, &wanted.organization_id, &wanted.api_key_id, &mut violations)?;
        refuse(violations)?;
        let usage = self.usage.of_key(organization, id, &wanted.from_day, &wanted.to_day).await?;
        let usage = usage.into_iter().map(render::usage).collect();
        Ok(Response::new(pb::GetApiKeyUsageResponse { usage }))
    }

    pub(super) async fn grant_credits(
        &self,
        request: Request<pb::GrantCreditsRequest>,
    ) -> Answer<pb::GrantCreditsResponse> {
        let asking = Asking::read(request, &self.proxies)?;
        let wanted = &asking.request;
        let mut violations = Violations::default();
        let (organization, id) =
            of_key(&asking, &wanted.organization_id, &wanted.api_key_id, &mut violations)?;
        if wanted.amount > MAX_AMOUNT {
            violations.add("amount", format!("must be at most {MAX_AMOUNT}"));
        }
        if wanted.refill_amount.is_some_and(|amount| amount > MAX_AMOUNT) {
            violations.add("refill_amount", format!("must be at most {MAX_AMOUNT}"));
        }
        if wanted.refill_every_days.is_some_and(|days| days > MAX_REFILL_DAYS) {
            violations.add("refill_every_days", format!("must be at most {MAX_REFILL_DAYS}"));
        }
        refuse(violations)?;
        let grant = Grant {
            amount: wanted.amount,
            refill_amount: wanted.refill_amount,
            refill_every_days: wanted.refill_every_days,
        };
        let render =
            |account: &CreditAccount| pb::GrantCreditsResponse { credits: Some(render::credits(account)) };
        let act = |keep| self.credits.grant(&asking.by, organization, id, grant, keep);
        let asked = asking.asked("KeysService.GrantCredits");
        let again = async || self.organizations.put_in_force(organization).await;
        let answer = self.idempotency.run_in_force(asked, &asking.request, render, act, again);
        Ok(Response::new(answer.await?))
    }

    pub(super) async fn get_credits(
        &self,
        request: Request<pb::GetCreditsRequest>,
    ) -> Answer<pb::GetCreditsResponse> {
        let asking = Asking::read(request, &self.proxies)?;
        let wanted = &asking.request;
        let mut violations = Violations::default();
        let (organization, id) =
            of_key(&asking, &wanted.organization_id, &wanted.api_key_id, &mut violations)?;
        refuse(violations)?;
        let account = self.credits.get(organization, id).await?;
        Ok(Response::new(pb::GetCreditsResponse { credits: Some(render::credits(&account)) }))
    }
}
