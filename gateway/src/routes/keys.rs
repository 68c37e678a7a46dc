//! What the calls of the keys service have in common.

use tonic::{Request, Response, Status};

use super::entries::call;
use crate::{app::App, edge::RequestContext, problem::Problem, upstream::ServiceClient};

/// Makes one call. Wrong fields have the names that they have here.
pub(super) async fn ask<C: ServiceClient, T: Clone, R, F>(
    app: &App,
    context: &RequestContext,
    request: T,
    send: impl Fn(C, Request<T>) -> F,
) -> Result<R, Box<Problem>>
where
    F: Future<Output = Result<Response<R>, Status>>,
{
    let answer = call(app, context, "", request, send).await;
    answer.map_err(|mut problem| {
        for violation in &mut problem.violations {
            violation.field = renamed(&violation.field);
        }
        problem
    })
}

/// `keys[3].expires_at_ms` is `keys[3].expires_at`, and so on.
fn renamed(field: &str) -> String {
    // Wrapped so that a message can say that it has none.
    const WRAPPED: [(&str, &str); 4] = [
        ("scopes.scopes", "scopes"),
        ("allowed_cidrs.cidrs", "allowed_cidrs"),
        ("metadata.entries", "metadata"),
        ("limits.limits", "limits"),
    ];
    let wrapped = WRAPPED.iter().find_map(|(message, here)| Some((here, field.strip_prefix(message)?)));
    let field = wrapped.map_or_else(|| field.to_owned(), |(here, rest)| format!("{here}{rest}"));
    let names: Vec<_> = field.split('.').map(name).collect();
    names.join(".")
}

fn name(part: &str) -> &str {
    match part {
        "api_key_id" | "service_token_id" => "id",
        "expires_at_ms" => "expires_at",
        "from_day" => "from",
        "to_day" => "to",
        "grace_period_s" => "grace_period_seconds",
        "period_s" => "period_seconds",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::renamed;

    #[rstest]
    #[case("name", "name")]
    #[case("expires_at_ms", "expires_at")]
    #[case("keys[3].expires_at_ms", "keys[3].expires_at")]
    #[case("limits.limits[0].period_s", "limits[0].period_seconds")]
    #[case("limits[0].period_s", "limits[0].period_seconds")]
    #[case("scopes.scopes[2]", "scopes[2]")]
    #[case("metadata.entries", "metadata")]
    #[case("metadata[a.b]", "metadata[a.b]")]
    #[case("grace_period_s", "grace_period_seconds")]
    fn fields_have_the_names_that_they_have_here(#[case] message: &str, #[case] here: &str) {
        assert_eq!(renamed(message), here);
    }
}
