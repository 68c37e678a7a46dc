//! A backend with one endpoint, `POST /v1/validate`, that Tidegate protects: who may call it, and how often. README.md beside this
//! has the commands.
#![expect(clippy::print_stdout, reason = "it says where it listens")]

use std::{env, time::Duration};

use axum::{
    Extension, Json, Router,
    extract::MatchedPath,
    routing::{get, post},
};
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use tidegate_client::{Client, KeyIdentity, layer::ProtectLayer};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().init();
    let mut tidegate = Client::builder(setting("TIDEGATE_URL", "http://127.0.0.1:8081"));
    if let Ok(token) = env::var("TIDEGATE_SERVICE_TOKEN") {
        tidegate = tidegate.service_token(token);
    }
    let client = tidegate.deadline(Duration::from_millis(250)).build().await?;

    let protect = ProtectLayer::new(client)
        .check(|request, check| {
            let path = request.extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str);
            check.attribute("path", path)
        })
        .required_scopes(|request| (request.method == Method::POST).then_some("validate:write"));
    let app = Router::new()
        .route("/v1/validate", post(validate))
        .layer(protect)
        // Added after the layer, so not protected by it.
        .route("/health", get(async || "ok"));

    let listener = tokio::net::TcpListener::bind(setting("LISTEN", "127.0.0.1:8090")).await?;
    println!("http://{}", listener.local_addr()?);
    axum::serve(listener, app).with_graceful_shutdown(stop()).await?;
    Ok(())
}

/// What is to be validated.
#[derive(Deserialize)]
struct Input {
    email: String,
}

/// The business of this backend. Who asks is known: the layer has put it among the extensions.
async fn validate(Extension(key): Extension<KeyIdentity>, Json(input): Json<Input>) -> Json<Value> {
    let is_valid =
        input.email.split_once('@').is_some_and(|(name, host)| !name.is_empty() && host.contains('.'));
    Json(json!({"valid": is_valid, "asked_by": key.organization_name, "plan": key.plan}))
}

fn setting(name: &str, default: &str) -> String {
    env::var(name).unwrap_or_else(|_| default.to_owned())
}

async fn stop() {
    // Without signals it is stopped in another way.
    tokio::signal::ctrl_c().await.ok();
}
