//! Which key the next check is for, and the encoded check of every key.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use anyhow::{Context, ensure};
use bytes::{BufMut, Bytes, BytesMut};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tidegate_proto::ratelimit::v1::{CheckRequest, check_request::AttributesEntry};

use super::args::{BenchArgs, Distribution};

/// The encoded check of every key, made once so that the generator spends nothing on it.
pub(crate) struct Checks {
    encoded: Bytes,
    /// Where each check ends; it begins where the one before it ends.
    ends: Vec<usize>,
}

impl Checks {
    /// Encodes the check of every key the arguments ask for.
    ///
    /// # Errors
    /// The file of API keys cannot be read, or there is none in it.
    pub(crate) fn new(args: &BenchArgs) -> anyhow::Result<Self> {
        let mut check = CheckRequest { namespace: args.namespace.clone(), ..CheckRequest::default() };
        if let Some(plan) = &args.plan {
            check.attributes.push(AttributesEntry { key: "plan".to_owned(), value: plan.clone() });
        }
        check.attributes.extend(args.attributes.iter().cloned().map(AttributesEntry::from));

        let mut checks = Self { encoded: Bytes::new(), ends: Vec::new() };
        let mut encoded = BytesMut::new();
        if let Some(path) = &args.api_keys {
            let file = || format!("--api-keys {}", path.display());
            let text = fs::read_to_string(path).with_context(file)?;
            for api_key in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
                api_key.clone_into(&mut check.api_key);
                checks.push(&mut encoded, &args.protocol.encode(&check));
            }
            ensure!(!checks.ends.is_empty(), "{}: there is no key in it", file());
        } else {
            check.attributes.insert(0, AttributesEntry::default());
            check.attributes[0].key.clone_from(&args.attribute_name);
            for key in 0..args.keys {
                // All keys have the same length, so that the number of keys is all that changes.
                check.attributes[0].value = format!("bench-{key:08}");
                checks.push(&mut encoded, &args.protocol.encode(&check));
            }
        }
        checks.encoded = encoded.freeze();
        Ok(checks)
    }

    fn push(&mut self, encoded: &mut BytesMut, check: &[u8]) {
        encoded.extend_from_slice(check);
        self.ends.push(encoded.len());
    }

    /// How many keys there are.
    pub(crate) fn count(&self) -> u32 {
        u32::try_from(self.ends.len()).expect("nobody has four billion API keys in a file")
    }

    /// The encoded check of one key.
    pub(crate) fn get(&self, key: u32) -> &[u8] {
        let key = key as usize;
        let begin = if key == 0 { 0 } else { self.ends[key - 1] };
        &self.encoded[begin..self.ends[key]]
    }
}

/// Draws keys.
#[derive(Clone)]
pub(crate) struct Keys {
    count: u32,
    draw: Draw,
}

#[derive(Clone)]
enum Draw {
    Uniform(StdRng),
    Zipf(StdRng, Zipf),
    Sequential(Arc<AtomicU32>),
}

impl Keys {
    /// Draws from `count` keys as the arguments say.
    pub(crate) fn new(args: &BenchArgs, count: u32) -> Self {
        let random = StdRng::seed_from_u64(args.seed);
        let draw = match args.distribution {
            Distribution::Uniform => Draw::Uniform(random),
            Distribution::Zipf => Draw::Zipf(random, Zipf::new(count, args.zipf_exponent)),
            Distribution::Sequential => Draw::Sequential(Arc::default()),
        };
        Self { count, draw }
    }

    /// The same distribution with draws of its own. Sequential keys go on over all forks together.
    pub(crate) fn fork(&mut self) -> Self {
        let mut fork = self.clone();
        if let Draw::Uniform(random) | Draw::Zipf(random, _) = &mut self.draw {
            let own = StdRng::from_rng(random);
            if let Draw::Uniform(random) | Draw::Zipf(random, _) = &mut fork.draw {
                *random = own;
            }
        }
        fork
    }

    /// The next key, below the number of keys.
    pub(crate) fn next(&mut self) -> u32 {
        match &mut self.draw {
            Draw::Uniform(random) => random.random_range(0..self.count),
            Draw::Zipf(random, zipf) => zipf.sample(random) - 1,
            Draw::Sequential(next) => next.fetch_add(1, Ordering::Relaxed) % self.count,
        }
    }
}

/// Ranks 1 to n, rank k in proportion to 1 / k^s, without a table: rejection-inversion.
///
/// W. Hörmann, G. Derflinger: "Rejection-inversion to generate variates from monotone discrete
/// distributions", ACM TOMACS 6 (1996). The histogram of the probabilities is covered by the curve
/// x^-s, a point under the curve is found by inverting its integral, and the few points above the
/// histogram are drawn again.
#[derive(Clone, Debug)]
struct Zipf {
    ranks: f64,
    exponent: f64,
    /// The integral at the left end of the area that is drawn from, and at its right end.
    left: f64,
    right: f64,
    /// A point no further than this below its rank needs no second look.
    sure: f64,
}

impl Zipf {
    fn new(ranks: u32, exponent: f64) -> Self {
        let mut zipf = Self { ranks: f64::from(ranks), exponent, left: 0.0, right: 0.0, sure: 0.0 };
        zipf.left = zipf.integral(1.5) - 1.0;
        zipf.right = zipf.integral(zipf.ranks + 0.5);
        zipf.sure = 2.0 - zipf.inverse(zipf.integral(2.5) - zipf.height(2.0));
        zipf
    }

    fn sample(&self, random: &mut StdRng) -> u32 {
        loop {
            let area = self.right + random.random::<f64>() * (self.left - self.right);
            let x = self.inverse(area);
            let rank = x.round().clamp(1.0, self.ranks);
            if rank - x <= self.sure || area >= self.integral(rank + 0.5) - self.height(rank) {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "the rank was clamped to 1..=ranks, and ranks came from a u32"
                )]
                return rank as u32;
            }
        }
    }

    fn height(&self, x: f64) -> f64 {
        x.powf(-self.exponent)
    }

    /// The integral of `height` from 1 to x.
    fn integral(&self, x: f64) -> f64 {
        let power = 1.0 - self.exponent;
        if power.abs() < 1e-9 { x.ln() } else { (x.powf(power) - 1.0) / power }
    }

    fn inverse(&self, area: f64) -> f64 {
        let power = 1.0 - self.exponent;
        if power.abs() < 1e-9 { area.exp() } else { (area * power + 1.0).powf(power.recip()) }
    }
}

/// Appends `check` as entry of a `CheckBatchRequest`.
pub(crate) fn put_batch_entry(buffer: &mut BytesMut, check: &[u8]) {
    const CHECKS: u8 = 1 << 3 | 2;
    buffer.put_u8(CHECKS);
    prost::encoding::encode_varint(check.len() as u64, buffer);
    buffer.put_slice(check);
}

/// Appends a `CheckStreamRequest`.
pub(crate) fn put_stream_request(buffer: &mut BytesMut, id: u64, check: &[u8]) {
    const ID: u8 = 1 << 3;
    const CHECK: u8 = 2 << 3 | 2;
    buffer.put_u8(ID);
    prost::encoding::encode_varint(id, buffer);
    buffer.put_u8(CHECK);
    prost::encoding::encode_varint(check.len() as u64, buffer);
    buffer.put_slice(check);
}

#[cfg(test)]
mod tests;
