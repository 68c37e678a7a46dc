//! Query parameters of the views. Everything that is wrong is collected, so that one answer lists it all.

use http::Uri;
use tidegate_proto::ratelimit::v1::{PolicyStatsOrder, TopKeyKind, UsageWindow};

use super::super::query::Parameters;
use crate::problem::{Problem, Violations};

const DEFAULT_LIMIT: usize = 50;
const MAX_LIMIT: usize = 1_000;
const LONGEST_NAME: usize = 128;

const KINDS: [(&str, TopKeyKind); 4] = [
    ("hot", TopKeyKind::Hot),
    ("denied", TopKeyKind::Denied),
    ("near_limit", TopKeyKind::NearLimit),
    ("shadow_denied", TopKeyKind::ShadowDenied),
];

const WINDOWS: [(&str, UsageWindow); 2] = [("recent", UsageWindow::Recent), ("hour", UsageWindow::Hour)];

const ORDERS: [(&str, PolicyStatsOrder); 4] = [
    ("checks", PolicyStatsOrder::Checks),
    ("denied", PolicyStatsOrder::Denied),
    ("near_limit", PolicyStatsOrder::NearLimit),
    ("shadow_denied", PolicyStatsOrder::ShadowDenied),
];

/// What is asked of a view.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) namespace: String,
    pub(super) policy: String,
    pub(super) window: UsageWindow,
    pub(super) limit: usize,
    /// Of keys only.
    pub(super) kind: TopKeyKind,
    /// Of policies only.
    pub(super) order: PolicyStatsOrder,
}

impl Asked {
    /// What is asked of the keys.
    ///
    /// # Errors
    /// 400 that lists every wrong parameter.
    pub(super) fn of_keys(uri: &Uri) -> Result<Self, Box<Problem>> {
        Self::read(uri, |asked, parameters, violations| {
            asked.kind = one_of(&KINDS, "kind", parameters, violations).unwrap_or(asked.kind);
        })
    }

    /// What is asked of the policies.
    ///
    /// # Errors
    /// 400 that lists every wrong parameter.
    pub(super) fn of_policies(uri: &Uri) -> Result<Self, Box<Problem>> {
        Self::read(uri, |asked, parameters, violations| {
            asked.order = one_of(&ORDERS, "order_by", parameters, violations).unwrap_or(asked.order);
        })
    }

    /// Reads the parameters; `read_own` reads those that only one view has.
    fn read(
        uri: &Uri,
        read_own: impl Fn(&mut Self, &mut Parameters, &mut Violations),
    ) -> Result<Self, Box<Problem>> {
        let mut violations = Violations::default();
        let mut parameters = Parameters::of(uri, &mut violations);
        let mut asked = Self {
            namespace: parameters.text("namespace", &mut violations).unwrap_or_default(),
            policy: parameters.text("policy", &mut violations).unwrap_or_default(),
            window: one_of(&WINDOWS, "window", &mut parameters, &mut violations)
                .unwrap_or(UsageWindow::Recent),
            limit: DEFAULT_LIMIT,
            kind: TopKeyKind::Hot,
            order: PolicyStatsOrder::Checks,
        };
        if !is_namespace(&asked.namespace) {
            violations.add("namespace", "must be at most 128 bytes of A-Z a-z 0-9 . _ / -");
        }
        if asked.policy.len() > LONGEST_NAME {
            violations.add("policy", "must be at most 128 bytes");
        }
        match parameters.text("limit", &mut violations).map(|limit| limit.parse()) {
            None => {}
            Some(Ok(limit @ 1..=MAX_LIMIT)) => asked.limit = limit,
            Some(_) => violations.add("limit", "must be an integer from 1 to 1000"),
        }
        read_own(&mut asked, &mut parameters, &mut violations);
        parameters.finish(&mut violations);
        violations.into_result().map(|()| asked)
    }
}

fn one_of<T: Copy>(
    words: &[(&str, T)],
    name: &str,
    parameters: &mut Parameters,
    violations: &mut Violations,
) -> Option<T> {
    let value = parameters.text(name, violations)?;
    let found = words.iter().find(|(word, _)| *word == value).map(|(_, meaning)| *meaning);
    if found.is_none() {
        let list: Vec<_> = words.iter().map(|(word, _)| *word).collect();
        violations.add(name, format!("must be one of {}", list.join(", ")));
    }
    found
}

fn is_namespace(name: &str) -> bool {
    let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'/' | b'-');
    name.len() <= LONGEST_NAME && name.bytes().all(is_fit)
}
