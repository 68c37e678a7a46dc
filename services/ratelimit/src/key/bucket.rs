//! Which keys lie together on one node of Redis Cluster.
//!
//! A cluster cuts keys into 16,384 slots by the CRC16 of what stands in the first braces, and a script works on keys of
//! one slot. So that subjects share slots, and their checks one call, the first value of a subject is hashed into
//! one of [`BUCKETS`], each of which has one tag for all of its keys.

use std::hash::Hasher;

use siphasher::sip::SipHasher24;

/// Slots of a cluster.
pub(crate) const SLOTS: u16 = 16_384;

/// How many buckets there are. Fewer make fuller calls and spread worse over many nodes: docs/adr/0014-buckets.md.
/// Part of every key, so a change forgets every counter.
pub(crate) const BUCKETS: u16 = 128;

/// Tag of each bucket: bucket `b` has the least number whose slot is in the `b`-th part of all slots. So the buckets lie evenly,
/// and each of n nodes with a range of slots has `BUCKETS / n` of them, one more or less.
pub(crate) const TAGS: [u16; BUCKETS as usize] = tags();

/// The tag of the bucket in which a subject with this first value is counted.
pub(super) fn tag(value: &str) -> u16 {
    let mut hasher = SipHasher24::new_with_keys(0x7469_6465_6761_7465, 0x0062_7563_6b65_7473);
    hasher.write(value.as_bytes());
    let bucket = hasher.finish() % u64::from(BUCKETS);
    TAGS[usize::try_from(bucket).expect("less than the number of buckets")]
}

/// The slot of a key of any form (Redis Cluster specification, "Key distribution model").
pub(crate) fn slot(key: &[u8]) -> u16 {
    let open = key.iter().position(|byte| *byte == b'{');
    let tag = open.and_then(|open| {
        let rest = &key[open + 1..];
        let length = rest.iter().position(|byte| *byte == b'}')?;
        (length > 0).then(|| &rest[..length])
    });
    crc16(tag.unwrap_or(key)) % SLOTS
}

const fn tags() -> [u16; BUCKETS as usize] {
    let mut tags = [u16::MAX; BUCKETS as usize];
    let (mut number, mut missing) = (0, BUCKETS);
    while missing > 0 {
        let bucket = (number_slot(number) / (SLOTS / BUCKETS)) as usize;
        if tags[bucket] == u16::MAX {
            tags[bucket] = number;
            missing -= 1;
        }
        number += 1;
    }
    tags
}

/// The slot of a tag that is a decimal number.
const fn number_slot(number: u16) -> u16 {
    let (mut crc, mut divisor) = (0, 10_000);
    while divisor > 0 {
        if number >= divisor || divisor == 1 {
            crc = crc16_step(crc, b'0' + (number / divisor % 10) as u8);
        }
        divisor /= 10;
    }
    crc % SLOTS
}

fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| crc16_step(crc, *byte))
}

/// CRC-16/XMODEM, polynomial 0x1021.
const fn crc16_step(crc: u16, byte: u8) -> u16 {
    let mut crc = crc ^ (byte as u16) << 8;
    let mut bit = 0;
    while bit < 8 {
        crc = if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 };
        bit += 1;
    }
    crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(slot(b"123456789"), 12_739);
        assert_eq!(slot(b"{user1000}.following"), slot(b"user1000"));
        assert_eq!(slot(b"foo{{bar}}zap"), slot(b"{bar"));
        assert_ne!(slot(b"foo{}{bar}"), slot(b"bar"), "an empty tag is none");
    }

    #[test]
    fn each_bucket_has_a_slot_in_its_part_of_them() {
        for (bucket, tag) in TAGS.iter().enumerate() {
            let slot = slot(format!("tg2:{{{tag}}}:1:a").as_bytes());
            assert_eq!(usize::from(slot / (SLOTS / BUCKETS)), bucket);
        }
    }

    /// A change of these forgets every counter in every Redis.
    #[test]
    fn tags_stay() {
        let values = ["", "acme", "203.0.113.7", "zoë:1"];
        assert_eq!(values.map(tag), [143, 62, 73, 161]);
        assert_eq!(TAGS[..6], [14, 10, 100, 18, 113, 117]);
        assert_eq!(TAGS.iter().map(|tag| u64::from(*tag)).sum::<u64>(), 11_664);
    }

    #[test]
    fn subjects_spread_evenly_over_the_buckets() {
        let mut counts = std::collections::HashMap::<u16, u32>::new();
        (0..128_000).for_each(|n| *counts.entry(tag(&format!("user-{n}"))).or_default() += 1);
        assert_eq!(counts.len(), usize::from(BUCKETS));
        assert!(counts.values().all(|count| (850..1_150).contains(count)), "{counts:?}");
    }
}
