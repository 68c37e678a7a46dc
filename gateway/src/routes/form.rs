//! A request while it is read: parameters, headers and the fields of its body, each taken out once. What is wrong with them, and
//! what is left over, is told all at once.

use axum::extract::Request;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde_json::{Map, Value};

use super::{etag, query::Parameters, read_body, times};
use crate::{
    app::App,
    body::fields::{self, unknown, wrong_type},
    edge::RequestContext,
    problem::{Problem, Violations},
};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const LONGEST_KEY: usize = 128;

/// See the module.
pub(super) struct Form {
    context: RequestContext,
    headers: HeaderMap,
    parameters: Parameters,
    fields: Map<String, Value>,
    violations: Violations,
}

impl Form {
    /// Of a request that needs no body. One that it has all the same is not looked at.
    pub(super) fn of(mut context: RequestContext, request: &Request) -> Self {
        let mut violations = Violations::default();
        let parameters = Parameters::of(request.uri(), &mut violations);
        let headers = request.headers().clone();
        context.idempotency_key = idempotency_key(&headers, &mut violations);
        Self { context, headers, parameters, fields: Map::new(), violations }
    }

    /// Of a request whose body is an object.
    ///
    /// # Errors
    /// If there is no body in JSON.
    pub(super) async fn read(
        app: &App,
        context: RequestContext,
        request: Request,
    ) -> Result<Self, Box<Problem>> {
        let mut form = Self::of(context, &request);
        let body = read_body(app, request, &mut form.violations).await?;
        form.fields = fields::object(body, "", &mut form.violations).unwrap_or_default();
        Ok(form)
    }

    /// The same, but that there may be no body, which is as an empty object.
    ///
    /// # Errors
    /// If there is a body that is not JSON.
    pub(super) async fn read_if_any(
        app: &App,
        context: RequestContext,
        request: Request,
    ) -> Result<Self, Box<Problem>> {
        let headers = request.headers();
        let has_length = headers.get(header::CONTENT_LENGTH).is_some_and(|length| length != "0");
        let is_described =
            headers.contains_key(header::CONTENT_TYPE) || headers.contains_key(header::TRANSFER_ENCODING);
        match has_length || is_described {
            true => Self::read(app, context, request).await,
            false => Ok(Self::of(context, &request)),
        }
    }

    /// A query parameter; empty if it is absent.
    pub(super) fn parameter(&mut self, name: &str) -> String {
        self.parameters.text(name, &mut self.violations).unwrap_or_default()
    }

    /// A query parameter of a few words.
    pub(super) fn parameter_of<T: Copy>(&mut self, name: &str, words: &[(&str, T)]) -> Option<T> {
        let given = self.parameters.text(name, &mut self.violations)?;
        let found = words.iter().find(|(word, _)| *word == given);
        if found.is_none() {
            self.violations.add(name, fields::one_of(words));
        }
        found.map(|(_, value)| *value)
    }

    /// `page_size` and `page_token`.
    pub(super) fn page(&mut self) -> (i32, String) {
        self.parameters.page(&mut self.violations)
    }

    /// The etag of `If-Match`; empty for any.
    pub(super) fn etag(&mut self) -> String {
        etag::asked(&self.headers, &mut self.violations)
    }

    /// A string; empty if it is absent.
    pub(super) fn text(&mut self, name: &str) -> String {
        fields::text(&mut self.fields, "", name, &mut self.violations)
    }

    /// A string, if it is there.
    pub(super) fn text_if_any(&mut self, name: &str) -> Option<String> {
        self.fields.contains_key(name).then(|| self.text(name))
    }

    /// One of a few words, if it is there.
    pub(super) fn word<T: Copy>(&mut self, name: &str, words: &[(&str, T)]) -> Option<T> {
        fields::word(&mut self.fields, "", name, words, &mut self.violations)
    }

    /// An integer of 0 or more, if it is there.
    pub(super) fn number(&mut self, name: &str) -> Option<u64> {
        fields::number(&mut self.fields, "", name, &mut self.violations)
    }

    /// True or false, if it is there.
    pub(super) fn boolean(&mut self, name: &str) -> Option<bool> {
        let is_there = self.fields.contains_key(name);
        is_there.then(|| fields::flag(&mut self.fields, "", name, &mut self.violations))
    }

    /// An array of strings, if it is there.
    pub(super) fn texts(&mut self, name: &str) -> Option<Vec<String>> {
        let is_there = self.fields.contains_key(name);
        is_there.then(|| fields::texts(&mut self.fields, "", name, &mut self.violations))
    }

    /// An object of strings, if it is there.
    pub(super) fn map(&mut self, name: &str) -> Option<Vec<(String, String)>> {
        let value = self.fields.remove(name)?;
        Some(fields::map(value, name, &mut self.violations))
    }

    /// A time as Unix milliseconds, 0 for null, if it is there.
    pub(super) fn time_or_never(&mut self, name: &str) -> Option<u64> {
        let value = self.fields.remove(name)?;
        time_or_never(&value, name.to_owned(), &mut self.violations)
    }

    /// A time as Unix milliseconds, if it is there.
    pub(super) fn time(&mut self, name: &str) -> Option<u64> {
        let text = self.text_if_any(name)?;
        let time = times::parse(&text);
        if time.is_none() {
            self.violations.add(name, "must be a time in RFC 3339, as 2027-01-31T00:00:00Z");
        }
        time
    }

    /// The bytes of a SHA-256; none if it is absent.
    pub(super) fn sha256(&mut self, name: &str) -> Vec<u8> {
        fields::sha256(&mut self.fields, "", name, &mut self.violations)
    }

    /// Each object of an array, if it is there.
    pub(super) fn objects<T>(
        &mut self,
        name: &str,
        read: impl FnMut(&str, &mut Map<String, Value>, &mut Violations) -> T,
    ) -> Option<Vec<T>> {
        let is_there = self.fields.contains_key(name);
        is_there.then(|| fields::objects(&mut self.fields, name, &mut self.violations, read))
    }

    /// Fine, with what goes along with the call.
    ///
    /// # Errors
    /// 400 that lists all that is wrong, and all that was not taken out.
    pub(super) fn finish(mut self) -> Result<RequestContext, Box<Problem>> {
        self.parameters.finish(&mut self.violations);
        unknown(&self.fields, "", &mut self.violations);
        self.violations.into_result().map(|()| self.context)
    }
}

/// A time in RFC 3339 as Unix milliseconds; 0 for null, which says never.
pub(super) fn time_or_never(value: &Value, field: String, violations: &mut Violations) -> Option<u64> {
    let time = match value {
        Value::Null => Some(0),
        Value::String(text) => times::parse(text),
        other => {
            wrong_type(field, "a time in RFC 3339, or null for never", other, violations);
            return None;
        }
    };
    if time.is_none() {
        violations.add(field, "must be a time in RFC 3339, as 2027-01-31T00:00:00Z, or null for never");
    }
    time
}

/// What `Idempotency-Key` says.
fn idempotency_key(headers: &HeaderMap, violations: &mut Violations) -> Option<HeaderValue> {
    let mut given = headers.get_all(IDEMPOTENCY_KEY).iter();
    let key = given.next()?;
    let is_printable = key.as_bytes().iter().all(|byte| matches!(byte, b' '..=b'~'));
    if given.next().is_some() || !is_printable || !(1..=LONGEST_KEY).contains(&key.len()) {
        violations.add("Idempotency-Key", "must be one key of 1 to 128 printable ASCII characters");
    }
    Some(key.clone())
}
