//! What a request asks.

use std::{borrow::Cow, sync::Arc};

use smallvec::SmallVec;
use tidegate_chassis::error::Violations;
use tidegate_proto::view::{DescriptorView, LimitView, RateLimitView};
use tonic::Status;

use super::{super::error::invalid, UNITS};
use crate::{
    domain::{MAX_TOKENS, PolicySet},
    key::shortened,
    limiter::{Descriptor, Limiter, RequestLimit},
    policies::MAX_LEVELS,
};

pub(super) const MAX_DESCRIPTORS: usize = 64;
pub(super) const MAX_TEXT_BYTES: usize = 512;

/// A request whose fields are all valid.
pub(super) struct Question<'v> {
    descriptors: SmallVec<[Asked<'v>; 1]>,
}

struct Asked<'v> {
    entries: SmallVec<[(&'v str, Cow<'v, str>); 4]>,
    hits: u64,
    gives_back: bool,
    limit: Option<Arc<RequestLimit>>,
}

impl<'v> Question<'v> {
    /// Reads a request.
    ///
    /// # Errors
    ///
    /// `INVALID_REQUEST` with every wrong field.
    #[inline]
    pub(super) fn read(
        view: &RateLimitView<'v>,
        limiter: &Limiter,
        policies: &PolicySet,
    ) -> Result<Self, Status> {
        let of_request = u64::from(view.hits_addend.max(1));
        let mut descriptors = SmallVec::new();
        for descriptor in &view.descriptors {
            descriptors.push(Asked {
                entries: descriptor.entries.iter().map(|(key, value)| (*key, shortened(value))).collect(),
                // More than the largest limit is over every limit.
                hits: descriptor.hits_addend.unwrap_or(of_request).min(MAX_TOKENS),
                gives_back: descriptor.is_negative_hits,
                limit: None,
            });
        }
        let mut question = Self { descriptors };
        let has_limits = view.descriptors.iter().any(|descriptor| descriptor.limit.is_some());
        if has_limits || !is_valid(view) {
            question.read_limits(view, limiter, policies)?;
        }
        Ok(question)
    }

    /// The descriptors, in their order.
    #[inline]
    pub(super) fn descriptors(&self) -> SmallVec<[Descriptor<'_>; 1]> {
        let descriptors = self.descriptors.iter().map(|asked| Descriptor {
            entries: &asked.entries,
            hits: asked.hits,
            gives_back: asked.gives_back,
            limit: asked.limit.as_deref(),
        });
        descriptors.collect()
    }

    /// Reads the limits that descriptors bring with them, if all of the request is valid.
    fn read_limits(
        &mut self,
        view: &RateLimitView<'_>,
        limiter: &Limiter,
        policies: &PolicySet,
    ) -> Result<(), Status> {
        let mut violations = Violations::default();
        if view.domain.is_empty() {
            violations.add("domain", "must be set");
        }
        let count = view.descriptors.len();
        if !(1..=MAX_DESCRIPTORS).contains(&count) {
            violations.add("descriptors", format!("must be 1 to {MAX_DESCRIPTORS}, are {count}"));
            return Err(invalid(violations));
        }
        for (index, (asked, descriptor)) in self.descriptors.iter_mut().zip(&view.descriptors).enumerate() {
            check_descriptor(descriptor, index, &mut violations);
            let Some(limit) = descriptor.limit else { continue };
            match read_limit(view.domain, descriptor, limit, (limiter, policies)) {
                Ok(limit) => asked.limit = limit,
                Err((field, description)) => {
                    violations.add(format!("descriptors[{index}].limit.{field}"), description);
                }
            }
        }
        if violations.is_empty() { Ok(()) } else { Err(invalid(violations)) }
    }
}

fn read_limit(
    domain: &str,
    descriptor: &DescriptorView<'_>,
    limit: LimitView,
    (limiter, policies): (&Limiter, &PolicySet),
) -> Result<Option<Arc<RequestLimit>>, (&'static str, String)> {
    // The units of requests and answers are two enumerations of the same numbers.
    let unit = UNITS.iter().find(|(unit, ..)| i32::from(*unit) == limit.unit);
    let (_, name, period) = *unit.ok_or_else(|| ("unit", format!("is no unit: {}", limit.unit)))?;
    let keys: SmallVec<[&str; 4]> = descriptor.entries.iter().map(|(key, _)| *key).collect();
    let tokens = u64::from(limit.requests_per_unit).min(MAX_TOKENS);
    limiter.request_limit(policies, domain, &keys, (name, tokens, period)).map_err(|errors| {
        let descriptions: Vec<_> = errors.into_iter().map(|error| error.description).collect();
        ("requests_per_unit", descriptions.join("; "))
    })
}

/// Whether everything but the limits is valid.
#[inline]
fn is_valid(view: &RateLimitView<'_>) -> bool {
    !view.domain.is_empty()
        && (1..=MAX_DESCRIPTORS).contains(&view.descriptors.len())
        && view.descriptors.iter().all(|descriptor| {
            (1..=MAX_LEVELS).contains(&descriptor.entries.len())
                && descriptor.entries.iter().all(|(key, _)| (1..=MAX_TEXT_BYTES).contains(&key.len()))
        })
}

/// Refuses what only a wrong configuration of Envoy sends, never what its callers choose: a request that cannot be decided is let
/// through by default.
fn check_descriptor(descriptor: &DescriptorView<'_>, index: usize, violations: &mut Violations) {
    let count = descriptor.entries.len();
    if !(1..=MAX_LEVELS).contains(&count) {
        let description = format!("must be 1 to {MAX_LEVELS}, are {count}");
        violations.add(format!("descriptors[{index}].entries"), description);
    }
    for (entry, (key, _)) in descriptor.entries.iter().enumerate() {
        if !(1..=MAX_TEXT_BYTES).contains(&key.len()) {
            let description = format!("must be 1 to {MAX_TEXT_BYTES} bytes, is {}", key.len());
            violations.add(format!("descriptors[{index}].entries[{entry}].key"), description);
        }
    }
}
