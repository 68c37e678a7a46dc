//! Reading query parameters, so that everything wrong with them is found at once.

use axum::extract::Query;
use http::{HeaderMap, Uri};

use crate::problem::Violations;

/// The most entries on one page.
const MOST_ON_A_PAGE: u64 = 100;

/// The parameters of a call. Ask for each that it has, then [`finish`](Self::finish).
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// Those of `uri`.
    pub(super) fn of(uri: &Uri, violations: &mut Violations) -> Self {
        if uri.query().is_none() {
            return Self(Vec::new());
        }
        Self(match Query::try_from_uri(uri) {
            Ok(Query(parameters)) => parameters,
            Err(_) => {
                violations.add("query", "is not a list of name=value pairs");
                Vec::new()
            }
        })
    }

    /// Those that stand in headers of these names instead.
    pub(super) fn of_headers(headers: &HeaderMap, names: &[&str]) -> Self {
        let lines = |name: &&str| {
            let name = (*name).to_owned();
            let values = headers.get_all(&name).iter();
            values.map(move |value| (name.clone(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        };
        Self(names.iter().flat_map(lines).collect())
    }

    /// The value of a parameter, if it is there.
    pub(super) fn text(&mut self, name: &str, violations: &mut Violations) -> Option<String> {
        let mut values = self.0.extract_if(.., |(given, _)| given == name).map(|(_, value)| value);
        let value = values.next();
        for _ in values {
            violations.add(name, "is given more than once");
        }
        value
    }

    /// `true` or `false`, if it is there.
    pub(super) fn boolean(&mut self, name: &str, violations: &mut Violations) -> Option<bool> {
        match self.text(name, violations)?.as_str() {
            "true" => Some(true),
            "false" => Some(false),
            _ => {
                violations.add(name, "must be true or false");
                None
            }
        }
    }

    /// A number that is not negative, if it is there.
    pub(super) fn number(&mut self, name: &str, violations: &mut Violations) -> Option<u64> {
        let number = self.text(name, violations)?.parse();
        number.map_err(|_| violations.add(name, "must be an integer of 0 or more")).ok()
    }

    /// `page_size`, at most 100, and `page_token`.
    pub(super) fn page(&mut self, violations: &mut Violations) -> (i32, String) {
        let size = self.number("page_size", violations).unwrap_or_default().min(MOST_ON_A_PAGE);
        let token = self.text("page_token", violations).unwrap_or_default();
        (i32::try_from(size).expect("at most a hundred"), token)
    }

    /// Refuses those that were not asked for.
    pub(super) fn finish(self, violations: &mut Violations) {
        for (name, _) in self.0 {
            violations.add(name, "is not a parameter of this call");
        }
    }
}
