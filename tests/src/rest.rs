//! A client of the REST gateway, as a script would be: JSON and a bearer token.

use anyhow::{Context, ensure};
use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::Value;

use crate::http_client::{self, Answer};

/// Who asks, and where.
#[derive(Clone, Debug)]
pub struct Rest {
    address: String,
    token: Option<String>,
}

impl Rest {
    /// Nobody.
    #[must_use]
    pub fn anonymous(address: &str) -> Self {
        Self { address: address.to_owned(), token: None }
    }

    /// Whoever has this token.
    #[must_use]
    pub fn with(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    /// The token.
    #[must_use]
    pub fn token(&self) -> &str {
        self.token.as_deref().unwrap_or_default()
    }

    /// One request, with a body if it is not `Null`.
    ///
    /// # Errors
    ///
    /// No answer.
    pub async fn ask(&self, method: Method, path: &str, body: &Value) -> anyhow::Result<Answer> {
        self.ask_with(method, path, &[], body).await
    }

    /// The same with more headers.
    ///
    /// # Errors
    ///
    /// No answer.
    pub async fn ask_with(
        &self,
        method: Method,
        path: &str,
        more: &[(&str, &str)],
        body: &Value,
    ) -> anyhow::Result<Answer> {
        let bearer = self.token.as_ref().map(|token| format!("Bearer {token}"));
        let mut headers = more.to_vec();
        if let Some(bearer) = &bearer {
            headers.push(("authorization", bearer));
        }
        let body = match body {
            Value::Null => Bytes::new(),
            body => {
                headers.push(("content-type", "application/json"));
                body.to_string().into()
            }
        };
        http_client::request(&self.address, method, path, &headers, body).await
    }

    /// `GET`, which is answered 200.
    ///
    /// # Errors
    ///
    /// Another answer, which is shown.
    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        expect(&self.ask(Method::GET, path, &Value::Null).await?, StatusCode::OK, path)
    }

    /// `POST`, which is answered `status`.
    ///
    /// # Errors
    ///
    /// Another answer, which is shown.
    pub async fn post(&self, path: &str, body: &Value, status: u16) -> anyhow::Result<Value> {
        let status = StatusCode::from_u16(status)?;
        expect(&self.ask(Method::POST, path, body).await?, status, path)
    }

    /// `PATCH`, which is answered 200.
    ///
    /// # Errors
    ///
    /// Another answer, which is shown.
    pub async fn patch(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        expect(&self.ask(Method::PATCH, path, body).await?, StatusCode::OK, path)
    }
}

fn expect(answer: &Answer, status: StatusCode, path: &str) -> anyhow::Result<Value> {
    ensure!(
        answer.status == status,
        "{path}: {} where {status} was expected: {}",
        answer.status,
        answer.text()
    );
    Ok(answer.json())
}

/// A text of an answer, by its JSON pointer.
///
/// # Errors
///
/// There is none.
pub fn text(answer: &Value, pointer: &str) -> anyhow::Result<String> {
    let found = answer.pointer(pointer).and_then(Value::as_str);
    Ok(found.with_context(|| format!("no {pointer} in {answer}"))?.to_owned())
}
