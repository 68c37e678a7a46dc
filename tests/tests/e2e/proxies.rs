//! What stands before a backend: Envoy, nginx, Caddy, or the layer of the Rust client. Each tells the same story of a key.

mod caddy;
mod envoy;
mod nginx;
mod tower_layer;

use std::fs;

use anyhow::{Context, ensure};
use http::Method;
use serde_json::{Value, json};
use tidegate_tests::{
    http_client::{self, Answer},
    rest::text,
    stack::Stack,
    tools,
};

/// What callers write to be taken for somebody else.
const FORGED: [(&str, &str); 6] = [
    ("x-tidegate-organization", "forged"),
    ("x-tidegate-key-id", "forged"),
    ("x-tidegate-key-name", "forged"),
    ("x-tidegate-plan", "forged"),
    ("x-tidegate-scopes", "forged"),
    ("x-tidegate-environment", "forged"),
];

/// The same, of what they ask for. What contradicts a proxy is refused, so this shows that nothing of it gets through.
const FORGED_REQUEST: [(&str, &str); 5] = [
    ("x-original-uri", "/elsewhere"),
    ("x-original-method", "ELSEWHERE"),
    ("x-forwarded-uri", "/elsewhere"),
    ("x-forwarded-method", "ELSEWHERE"),
    ("x-tidegate-required-scopes", "elsewhere"),
];

/// A protected backend: how it is called, and what it shows of whom it takes the caller for.
struct Protected<'a> {
    address: &'a str,
    call: (Method, &'a str, &'a str),
    /// Whether denials are problem documents.
    has_problems: bool,
    shows: fn(&Value) -> Value,
}

impl Protected<'_> {
    async fn call(&self, headers: &[(&str, &str)]) -> anyhow::Result<Answer> {
        let (method, path, body) = &self.call;
        let json = [("content-type", "application/json")];
        let headers = [headers, if body.is_empty() { &[] } else { &json }].concat();
        http_client::request(self.address, method.clone(), path, &headers, (*body).to_owned()).await
    }

    /// A call with a key, and with forged headers.
    async fn with_key(&self, key: &str) -> anyhow::Result<Answer> {
        self.call(&[&[("x-api-key", key)], &FORGED[..], &FORGED_REQUEST[..]].concat()).await
    }

    fn is_denied(&self, answer: &Answer, status: u16, error: &str) -> anyhow::Result<()> {
        ensure!(answer.status == status, "{} for {error}: {}", answer.status, answer.text());
        ensure!(!self.has_problems || answer.json()["error"] == error, "{error}: {}", answer.text());
        Ok(())
    }

    /// No key, ten calls of the plan free, its end, a rotation, another plan. `shown` is what the backend shows of a key and a plan.
    async fn tells_the_story(
        &self,
        stack: &Stack,
        shown: impl Fn(&str, &Value, &str) -> Value,
    ) -> anyhow::Result<()> {
        let (owner, organization) = stack.tenant("ada@example.com", "Analytical Engines").await?;
        let asked = json!({"name": "proxied", "scopes": ["invoices:read", "validate:write"]});
        let key = owner.post("/v1/auth/api-keys", &asked, 201).await?;
        let (id, value) = (text(&key, "/id")?, text(&key, "/key_value")?);
        let unfit =
            owner.post("/v1/auth/api-keys", &json!({"name": "unfit", "scopes": ["other"]}), 201).await?;

        self.is_denied(&self.call(&FORGED).await?, 401, "unauthenticated")?;
        self.is_denied(&self.with_key(&format!("{value}0")).await?, 401, "key_not_found")?;
        self.is_denied(&self.with_key(&text(&unfit, "/key_value")?).await?, 403, "scope_missing")?;
        for call in 0..10 {
            let answer = self.with_key(&value).await?;
            ensure!(answer.status == 200, "call {call}: {}, {}", answer.status, answer.text());
            assert_eq!((self.shows)(&answer.json()), shown(&organization, &key, "free"));
            assert!(!answer.text().contains("forged"), "{}", answer.text());
        }
        let spent = self.with_key(&value).await?;
        self.is_denied(&spent, 429, "rate_limit_exceeded")?;
        let wait: u64 = spent.header("retry-after").parse().context("Retry-After")?;
        assert!((1..=120).contains(&wait), "{wait} s");

        let rotated = owner.post(&format!("/v1/auth/api-keys/{id}/rotate"), &json!({}), 200).await?;
        let new = rotated.get("new_key").context("a new key")?;
        let new_value = text(new, "/key_value")?;
        self.is_denied(&self.with_key(&value).await?, 401, "key_revoked")?;
        self.is_denied(&self.with_key(&new_value).await?, 429, "rate_limit_exceeded")?;
        let plan = json!({"plan": "business"});
        stack.admin().await?.patch(&format!("/v1/organizations/{organization}"), &plan).await?;
        let answer = self.with_key(&new_value).await?;
        ensure!(answer.status == 200, "{}: {}", answer.status, answer.text());
        assert_eq!((self.shows)(&answer.json()), shown(&organization, new, "business"));
        self.is_denied(&self.with_key(&value).await?, 401, "key_revoked")?;
        stack.assert_no_panic().await
    }
}

/// What reaches a backend of whom its proxy takes the caller for, and of the key itself.
fn identity(headers: &Value) -> Value {
    let names = FORGED.map(|(name, _)| name).into_iter().chain(["x-api-key"]);
    names.map(|name| headers[name].clone()).collect()
}

/// What should.
fn identity_of(organization: &str, key: &Value, plan: &str) -> Value {
    json!([organization, key["id"], key["name"], plan, "invoices:read validate:write", "live", null])
}

/// The first block of a page in that language.
fn printed(page: &str, language: &str) -> anyhow::Result<String> {
    let page = fs::read_to_string(tools::workspace().join(page))?;
    let (_, block) = page.split_once(&format!("```{language}\n")).context("a block of that language")?;
    Ok(block.split_once("\n```").context("the end of the block")?.0.to_owned())
}

/// `text` with others in the place of what it says, each of which it has to say.
fn with(text: &str, replaced: &[(&str, &str)]) -> anyhow::Result<String> {
    replaced.iter().try_fold(text.to_owned(), |text, (from, to)| {
        ensure!(text.contains(from), "{from:?} is not printed");
        Ok(text.replace(from, to))
    })
}
