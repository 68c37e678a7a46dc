//! Named limits, and how they are counted under one policy.

use std::{
    hash::Hasher,
    sync::{Arc, OnceLock},
};

use siphasher::sip128::{Hasher128, SipHasher24};

use super::{Layout, Limit, Period, Rule};

/// A named bundle of limits, as people are sold it.
#[derive(Debug)]
pub struct Plan {
    /// Name, as `free`. The limits of a policy without a plan go by the name of the policy.
    pub name: Arc<str>,
    /// The limits in the order they were written; none if the plan is unlimited.
    pub limits: Arc<[BundleLimit]>,
    /// What the store runs.
    pub layout: Arc<Layout>,
    /// What this replica runs by itself when the store is gone: its share of each limit. Absent if a
    /// share is less than a token.
    pub local_layout: Option<Arc<Layout>>,
    /// How many replicas share a limit when each has to count by itself.
    pub replicas: u32,
}

/// One limit with the name that answers give it.
#[derive(Debug)]
pub struct BundleLimit {
    /// "plan/limit" or "policy/limit", as `free/minute`.
    pub full_name: Arc<str>,
    /// The limit.
    pub limit: Limit,
    /// Room for what answers say of the limit whatever its state is: the adapter that writes them computes it once.
    pub label: OnceLock<Box<[u8]>>,
    /// The same for answers of Envoy's protocol.
    pub envoy_label: OnceLock<Box<[u8]>>,
}

impl Plan {
    /// A plan of `limits`, whose names differ; unlimited if there are none. `replicas` is how many
    /// replicas share a limit when each has to count by itself.
    pub fn new(name: &str, limits: &[Limit], replicas: u32) -> Self {
        let rules: Vec<_> = limits.iter().map(|limit| limit.rule).collect();
        let shares: Option<Vec<_>> =
            limits.iter().map(|limit| limit.share(replicas).map(|share| share.rule)).collect();
        Self {
            name: name.into(),
            limits: limits
                .iter()
                .map(|limit| BundleLimit {
                    full_name: format!("{name}/{}", limit.name).into(),
                    limit: limit.clone(),
                    label: OnceLock::new(),
                    envoy_label: OnceLock::new(),
                })
                .collect(),
            layout: Arc::new(Layout::new(rules)),
            local_layout: shares.map(|shares| Arc::new(Layout::new(shares))),
            replicas,
        }
    }

    /// Whether it limits nothing.
    pub fn is_unlimited(&self) -> bool {
        self.limits.is_empty()
    }
}

/// The limits of one plan under one policy, with everything that can be computed beforehand.
#[derive(Debug)]
pub struct Bundle {
    /// Name of the plan, or of the policy if the limits are its own.
    pub plan: Arc<str>,
    /// The limits in the order of the layouts; none if unlimited.
    pub limits: Arc<[BundleLimit]>,
    /// What the store runs.
    pub layout: Arc<Layout>,
    /// What this replica runs by itself when the store is gone; absent if a share is less than a token.
    pub local_layout: Option<Arc<Layout>>,
    /// How many replicas share a limit when each has to count by itself.
    pub replicas: u32,
    /// Whether there is no limit at all.
    pub unlimited: bool,
    /// The largest cost that every limit could ever admit; `u64::MAX` if unlimited.
    pub min_capacity: u64,
    /// Index into `limits` of the limit that `min_capacity` comes from; 0 if unlimited.
    pub min_capacity_limit: usize,
    /// How long a lease of its concurrency limits lasts at most, in microseconds: the least of them. Absent if there are none.
    pub lease_us: Option<u64>,
    /// `:<length>:<namespace><length>:<policy><identity>`, the part of a cell's key that does not
    /// depend on the request. Lengths are decimal numbers of bytes.
    ///
    /// The identity is 16 hexadecimal digits of a hash over the attributes of the key and over the names,
    /// algorithms and periods of the limits. Neither the numbers nor the name of the plan are in it, so
    /// what was counted stays counted when a limit is raised or lowered, or a caller moves to another
    /// plan with the same windows.
    pub key_suffix: Box<[u8]>,
    /// Hash of `key_suffix`, for stores that hold nothing longer than this process does.
    pub key_hash: u128,
}

impl Bundle {
    /// The limits of `plan` as policy `policy` of `namespace` counts them by the attributes `key_by`.
    pub fn new(namespace: &str, policy: &str, key_by: &[impl AsRef<str>], plan: &Plan) -> Self {
        let least = plan
            .limits
            .iter()
            .map(|limit| limit.limit.capacity())
            .enumerate()
            .min_by_key(|(_, capacity)| *capacity);
        let (min_capacity_limit, min_capacity) = least.unwrap_or((0, u64::MAX));
        let key_suffix = format!(
            ":{}:{namespace}{}:{policy}{:016x}",
            namespace.len(),
            policy.len(),
            identity(key_by, &plan.limits)
        );
        Self {
            plan: Arc::clone(&plan.name),
            limits: Arc::clone(&plan.limits),
            layout: Arc::clone(&plan.layout),
            local_layout: plan.local_layout.clone(),
            replicas: plan.replicas,
            unlimited: plan.is_unlimited(),
            min_capacity,
            min_capacity_limit,
            lease_us: plan.layout.lease_us(),
            key_hash: hash(key_suffix.as_bytes()),
            key_suffix: key_suffix.into_bytes().into(),
        }
    }
}

fn hash(bytes: &[u8]) -> u128 {
    let mut hasher = SipHasher24::new();
    hasher.write(bytes);
    hasher.finish128().as_u128()
}

/// Keys of counters are made of this: the same on every replica, in every version. Changing what is
/// hashed, or the hash, forgets every counter.
fn identity(key_by: &[impl AsRef<str>], limits: &[BundleLimit]) -> u64 {
    let mut hasher = SipHasher24::new_with_keys(0x7469_6465_6761_7465, 0x6c69_6d69_745f_6964);
    hasher.write(&(key_by.len() as u64).to_le_bytes());
    for name in key_by {
        write_text(&mut hasher, name.as_ref());
    }
    for BundleLimit { limit, .. } in limits {
        write_text(&mut hasher, &limit.name);
        let algorithm = match limit.rule {
            Rule::SlidingWindow(_) => 1,
            Rule::SlidingLog(_) => 2,
            Rule::TokenBucket(_) => 3,
            Rule::FixedWindow(_) => 4,
            Rule::Concurrency(_) => 5,
        };
        let (unit, length_us) = match limit.period {
            // Each lease knows when it expires, and none is forgotten when others shall last longer.
            _ if matches!(limit.rule, Rule::Concurrency(_)) => (0, 0),
            // Only a fixed window knows on which day a week starts.
            Period::Week if !matches!(limit.rule, Rule::FixedWindow(_)) => (0, limit.period.length_us(0)),
            Period::Micros(us) => (0, us),
            Period::Week => (1, 0),
            Period::Month => (2, 0),
        };
        for word in [algorithm, unit, length_us] {
            hasher.write(&u64::to_le_bytes(word));
        }
    }
    hasher.finish128().h1
}

fn write_text(hasher: &mut SipHasher24, text: &str) {
    hasher.write(&(text.len() as u64).to_le_bytes());
    hasher.write(text.as_bytes());
}
