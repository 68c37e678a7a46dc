//! The methods of plans and assignments.

use tidegate_proto::ratelimit::v1 as pb;
use tonic::Status;

use super::{
    fields,
    policies::{Entries, needed, not_found, page, removal},
};
use crate::{
    catalog::{Expected, Wish},
    policies::Listed,
    store::catalog::{Entry, EntryKey, Kind},
};

type Answer<T> = Result<T, Status>;

impl Entries<'_> {
    pub(super) async fn create_plan(&self, request: pb::CreatePlanRequest) -> Answer<pb::CreatePlanResponse> {
        let wish = plan_wish(request.plan, Expected::Absent, "")?;
        let entry = self.fulfil(wish, request.validate_only).await?;
        Ok(pb::CreatePlanResponse { plan: Some(plan(&entry)) })
    }

    pub(super) async fn get_plan(&self, request: pb::GetPlanRequest) -> Answer<pb::GetPlanResponse> {
        let key = EntryKey::plan(&request.name);
        let plan = match request.version {
            0 => {
                let listed = self.0.get(&key).await.ok_or_else(|| not_found(&key))?;
                fields::plan(&listed.fields, Some(fields::meta_of_listed(&listed)))
            }
            version => plan(&self.version(&key, version).await?),
        };
        Ok(pb::GetPlanResponse { plan: Some(plan) })
    }

    pub(super) async fn list_plans(&self, request: pb::ListPlansRequest) -> Answer<pb::ListPlansResponse> {
        let page = page(&["plans"], request.page_size, &request.page_token)?;
        let (listed, next_page_token) = self.page(Kind::Plan, None, &page).await;
        let plan = |listed: &Listed| fields::plan(&listed.fields, Some(fields::meta_of_listed(listed)));
        Ok(pb::ListPlansResponse { plans: listed.iter().map(plan).collect(), next_page_token })
    }

    pub(super) async fn update_plan(&self, request: pb::UpdatePlanRequest) -> Answer<pb::UpdatePlanResponse> {
        let wish = plan_wish(request.plan, Expected::Present, &request.etag)?;
        let entry = self.fulfil(wish, request.validate_only).await?;
        Ok(pb::UpdatePlanResponse { plan: Some(plan(&entry)) })
    }

    pub(super) async fn delete_plan(&self, request: pb::DeletePlanRequest) -> Answer<pb::DeletePlanResponse> {
        let wish = removal(EntryKey::plan(&request.name), &request.etag);
        self.fulfil(wish, request.validate_only).await?;
        Ok(pb::DeletePlanResponse {})
    }

    pub(super) async fn set_assignment(
        &self,
        request: pb::SetAssignmentRequest,
    ) -> Answer<pb::SetAssignmentResponse> {
        let assignment = needed(request.assignment, "assignment")?;
        let wish = Wish {
            key: EntryKey::assignment(&assignment.attribute, &assignment.value),
            fields: Some(fields::of_assignment(assignment)),
            expected: Expected::Any,
            version: fields::version_of(&request.etag),
            path: "assignment".to_owned(),
        };
        let entry = self.fulfil(wish, request.validate_only).await?;
        let meta = fields::meta_of_stored(&entry);
        let assignment = fields::assignment(&entry.key, &fields::of_stored(&entry), Some(meta));
        Ok(pb::SetAssignmentResponse { assignment: Some(assignment) })
    }

    pub(super) async fn delete_assignment(
        &self,
        request: pb::DeleteAssignmentRequest,
    ) -> Answer<pb::DeleteAssignmentResponse> {
        let wish = removal(EntryKey::assignment(&request.attribute, &request.value), &request.etag);
        self.fulfil(wish, request.validate_only).await?;
        Ok(pb::DeleteAssignmentResponse {})
    }

    pub(super) async fn list_assignments(
        &self,
        request: pb::ListAssignmentsRequest,
    ) -> Answer<pb::ListAssignmentsResponse> {
        let (size, token) = (request.page_size, &request.page_token);
        let page = page(&["assignments", &request.attribute], size, token)?;
        let scope = Some(&*request.attribute).filter(|attribute| !attribute.is_empty());
        let (listed, next_page_token) = self.page(Kind::Assignment, scope, &page).await;
        let assignment = |listed: &Listed| {
            fields::assignment(&listed.key, &listed.fields, Some(fields::meta_of_listed(listed)))
        };
        let assignments = listed.iter().map(assignment).collect();
        Ok(pb::ListAssignmentsResponse { assignments, next_page_token })
    }
}

fn plan_wish(plan: Option<pb::Plan>, expected: Expected, etag: &str) -> Answer<Wish> {
    let plan = needed(plan, "plan")?;
    Ok(Wish {
        key: EntryKey::plan(&plan.name),
        fields: Some(fields::of_plan(plan)),
        expected,
        version: fields::version_of(etag),
        path: "plan".to_owned(),
    })
}

fn plan(entry: &Entry) -> pb::Plan {
    fields::plan(&fields::of_stored(entry), Some(fields::meta_of_stored(entry)))
}
