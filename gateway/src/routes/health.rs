//! Liveness and readiness. Both answer at once, from what is known.

use std::time::Duration;

use axum::{extract::State, response::Response};
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::{json, times::timestamp};
use crate::{
    app::App,
    edge::OwnBody,
    problem::Problem,
    readiness::{Component, State as ServiceState},
};

/// Alive
#[derive(Serialize, ToSchema)]
struct LiveAnswer {
    /// `healthy`
    status: &'static str,
    /// RFC 3339, UTC
    #[schema(format = DateTime)]
    timestamp: String,
}

/// Ready or not
#[derive(Serialize, ToSchema)]
struct ReadyAnswer {
    /// `healthy` or `unhealthy`
    status: &'static str,
    /// Whether requests should be sent here
    ready: bool,
    /// RFC 3339, UTC
    #[schema(format = DateTime)]
    timestamp: String,
    /// What the gateway needs
    components: Components,
}

/// What the gateway needs
#[derive(Serialize, ToSchema)]
struct Components {
    /// The rate-limit service
    ratelimit: ComponentAnswer,
    /// The keys service; absent if none is configured
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    keys: Option<ComponentAnswer>,
}

/// One service
#[derive(Serialize, ToSchema)]
struct ComponentAnswer {
    /// `healthy`, `unhealthy` or `unknown`
    status: &'static str,
    /// How long the last good probe took
    response_time_ms: Option<f64>,
}

/// Is the process alive?
///
/// Depends on nothing.
#[utoipa::path(
    get,
    path = "/health/live",
    tag = "health",
    security(()),
    responses((status = 200, description = "Alive", body = LiveAnswer))
)]
pub(super) async fn live(State(app): State<App>) -> Result<Response, Box<Problem>> {
    json(&LiveAnswer { status: "healthy", timestamp: timestamp(app.shared.clock.now_us()) })
}

/// Should requests be sent here?
///
/// Answers from the last background probes of the services behind.
#[utoipa::path(
    get,
    path = "/health/ready",
    tag = "health",
    security(()),
    responses(
        (status = 200, description = "Ready", body = ReadyAnswer),
        (status = 503, description = "Not ready, or leaving", body = ReadyAnswer)
    )
)]
pub(super) async fn ready(State(app): State<App>) -> Result<Response, Box<Problem>> {
    let known = app.shared.readiness.get();
    let ready = known.is_ready();
    let mut response = json(&ReadyAnswer {
        status: if ready { "healthy" } else { "unhealthy" },
        ready,
        timestamp: timestamp(app.shared.clock.now_us()),
        components: Components { ratelimit: component(known.ratelimit), keys: known.keys.map(component) },
    })?;
    if !ready {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        response.extensions_mut().insert(OwnBody);
    }
    Ok(response)
}

fn component(component: Component) -> ComponentAnswer {
    let status = match component.state {
        ServiceState::Unknown => "unknown",
        ServiceState::Serving => "healthy",
        ServiceState::NotServing => "unhealthy",
    };
    let response_time_ms = component.response_time.map(milliseconds);
    ComponentAnswer { status, response_time_ms }
}

/// To the µs.
fn milliseconds(duration: Duration) -> f64 {
    f64::from(u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)) / 1000.0
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        app::App,
        edge::Edge,
        fixture::{Answer, NOBODY, REMOTE, app, ask, config_with, request},
        upstream::Behind,
    };

    async fn ready_of(app: &App) -> Answer {
        ask(&Edge::new(app), REMOTE, request("GET", "/health/ready", "")).await
    }

    #[tokio::test]
    async fn live_depends_on_nothing() {
        let app = app(config_with(NOBODY, "")).await;
        app.shared.readiness.leave();
        let answer = ask(&Edge::new(&app), REMOTE, request("GET", "/health/live", "")).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.json, json!({"status": "healthy", "timestamp": "2025-01-01T00:00:00Z"}));
    }

    #[tokio::test]
    async fn ready_tells_what_the_last_probe_found() {
        let app = app(config_with(NOBODY, "")).await;
        let unknown = ready_of(&app).await;
        assert_eq!((unknown.status.as_u16(), &unknown.json["ready"]), (503, &json!(false)));
        assert_eq!(unknown.json["components"]["ratelimit"]["status"], json!("unknown"));

        let took = Some(Duration::from_micros(1_234));
        app.shared
            .readiness
            .set(Behind::RateLimit, Component { state: ServiceState::Serving, response_time: took });
        let ready = ready_of(&app).await;
        assert_eq!(ready.status, StatusCode::OK);
        insta::assert_json_snapshot!(ready.json);

        let down = Component { state: ServiceState::NotServing, response_time: None };
        app.shared.readiness.set(Behind::RateLimit, down);
        let unready = ready_of(&app).await;
        assert_eq!((unready.status.as_u16(), &unready.json["status"]), (503, &json!("unhealthy")));
        assert_eq!(unready.header("content-type"), "application/json", "its own body, not a problem");
    }

    #[tokio::test]
    async fn whoever_leaves_is_not_ready() {
        let app = app(config_with(NOBODY, "")).await;
        app.shared
            .readiness
            .set(Behind::RateLimit, Component { state: ServiceState::Serving, response_time: None });
        app.shared.readiness.leave();
        assert_eq!(ready_of(&app).await.status, StatusCode::SERVICE_UNAVAILABLE);
    }
}
