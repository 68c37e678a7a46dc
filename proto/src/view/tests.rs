use proptest::{collection::vec, option, prelude::*};
use prost::Message;

use super::*;
use crate::{
    Encoded,
    envoy::{
        extensions::common::ratelimit::v3::{
            RateLimitDescriptor,
            rate_limit_descriptor::{Entry, RateLimitOverride},
        },
        service::ratelimit::v3::RateLimitRequest,
    },
    ratelimit::v1::{CheckBatchRequest, CheckRequest, CheckStreamRequest, check_request::AttributesEntry},
};

fn as_read(check: &CheckRequest) -> CheckView<'_> {
    CheckView {
        namespace: &check.namespace,
        attributes: check.attributes.iter().map(|entry| (&*entry.key, &*entry.value)).collect(),
        cost: check.cost,
        dry_run: check.dry_run,
        idempotency_key: &check.idempotency_key,
        api_key: &check.api_key,
        client_ip: &check.client_ip,
        required_scopes: &check.required_scopes,
    }
}

fn read(message: &[u8]) -> Result<CheckView<'_>, Malformed> {
    let mut view = CheckView::default();
    view.merge(message).map(|()| view)
}

fn rate_limit_as_read(sent: &RateLimitRequest) -> RateLimitView<'_> {
    let descriptors = sent.descriptors.iter().map(|descriptor| DescriptorView {
        entries: descriptor.entries.iter().map(|entry| (&*entry.key, &*entry.value)).collect(),
        limit: descriptor
            .limit
            .as_ref()
            .map(|limit| LimitView { requests_per_unit: limit.requests_per_unit, unit: limit.unit }),
        hits_addend: descriptor.hits_addend,
        is_negative_hits: descriptor.is_negative_hits,
    });
    RateLimitView { domain: &sent.domain, descriptors: descriptors.collect(), hits_addend: sent.hits_addend }
}

/// Demands that the view of `message` and the generated code agree: whether it is one, and what it says.
fn agree(message: &[u8]) -> Result<(), TestCaseError> {
    let check = CheckRequest::decode(message);
    prop_assert_eq!(read(message).ok(), check.as_ref().ok().map(as_read));

    let stream = CheckStreamRequest::decode(message);
    let expected = stream
        .as_ref()
        .ok()
        .map(|sent| StreamCheckView { id: sent.id, check: sent.check.as_ref().map(as_read) });
    let encoded = Encoded::<CheckStreamRequest, _>::borrowed(message);
    prop_assert_eq!(encoded.view().ok(), expected);

    let batch = CheckBatchRequest::decode(message);
    let encoded = Encoded::<CheckBatchRequest>::from_bytes(message.to_vec());
    let expected: Option<Vec<_>> = batch.as_ref().ok().map(|sent| sent.checks.iter().map(as_read).collect());
    prop_assert_eq!(encoded.views().ok(), expected);

    let sent = RateLimitRequest::decode(message);
    let encoded = Encoded::<RateLimitRequest, _>::borrowed(message);
    let mut view = RateLimitView::default();
    let seen = encoded.read(&mut view).ok().map(|()| view);
    prop_assert_eq!(seen, sent.as_ref().ok().map(rate_limit_as_read));
    Ok(())
}

prop_compose! {
    fn check_request()(
        namespace in ".{0,20}",
        attributes in vec((".{0,12}", ".{0,200}"), 0..20),
        cost in option::of(any::<u64>()),
        dry_run in any::<bool>(),
        idempotency_key in ".{0,12}",
        (api_key, client_ip, required_scopes) in (".{0,12}", ".{0,12}", ".{0,12}"),
    ) -> CheckRequest {
        let attributes = attributes.into_iter().map(|(key, value)| AttributesEntry { key, value }).collect();
        CheckRequest {
            namespace,
            attributes,
            cost,
            dry_run,
            idempotency_key,
            api_key,
            client_ip,
            required_scopes,
        }
    }
}

prop_compose! {
    fn descriptor()(
        entries in vec((".{0,12}", ".{0,150}"), 0..6),
        limit in option::of((any::<u32>(), any::<i32>())),
        hits_addend in option::of(any::<u64>()),
        is_negative_hits in any::<bool>(),
    ) -> RateLimitDescriptor {
        RateLimitDescriptor {
            entries: entries.into_iter().map(|(key, value)| Entry { key, value }).collect(),
            limit: limit.map(|(requests_per_unit, unit)| RateLimitOverride { requests_per_unit, unit }),
            hits_addend,
            is_negative_hits,
        }
    }
}

prop_compose! {
    fn rate_limit_request()(
        domain in ".{0,20}",
        descriptors in vec(descriptor(), 0..4),
        hits_addend in any::<u32>(),
    ) -> RateLimitRequest {
        RateLimitRequest { domain, descriptors, hits_addend }
    }
}

/// Encoded messages of each kind, whole ones and such as have been cut, changed, and put together.
fn messages() -> impl Strategy<Value = Vec<u8>> {
    let whole = prop_oneof![
        check_request().prop_map(|check| check.encode_to_vec()),
        (any::<u64>(), option::of(check_request()))
            .prop_map(|(id, check)| CheckStreamRequest { id, check }.encode_to_vec()),
        vec(check_request(), 0..4).prop_map(|checks| CheckBatchRequest { checks }.encode_to_vec()),
        rate_limit_request().prop_map(|request| request.encode_to_vec()),
        vec(any::<u8>(), 0..40),
    ];
    let changes = vec((any::<prop::sample::Index>(), any::<u8>()), 0..3);
    (vec(whole, 1..3), changes, any::<prop::sample::Index>(), any::<bool>()).prop_map(
        |(parts, changes, end, cut)| {
            let mut message = parts.concat();
            if !message.is_empty() {
                for (place, byte) in changes {
                    let place = place.index(message.len());
                    message[place] = byte;
                }
                if cut {
                    message.truncate(end.index(message.len()));
                }
            }
            message
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn views_read_what_the_generated_code_reads_and_refuse_what_it_refuses(message in messages()) {
        agree(&message)?;
    }
}

#[test]
fn views_refuse_what_the_generated_code_refuses() {
    let cases: [&[u8]; 12] = [
        &[0x0a, 1, 0xff],                                        // no UTF-8
        &[0x0a, 100, b'x'],                                      // longer than the message
        &[0x1a, 1, b'1'],                                        // a string for a number
        &[0x08, 1],                                              // a number for a string
        &[0x18, 0x80],                                           // a cut varint
        &[0x18, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2], // more than 64 bits
        &[0x0f, 0],                                              // no such wire type
        &[0x00, 1],                                              // field 0
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0x0f, 0],                // field above 2^29
        &[0x74],                                                 // the end of a group that was not begun
        &[0x12, 2, 0x0a, 5, b'a', b'b', b'c', b'd', b'e'],       // an entry longer than its message
        &[0x73, 0x08, 1],                                        // a group without an end
    ];
    for message in cases {
        assert!(CheckRequest::decode(message).is_err(), "{message:x?}");
        assert_eq!(read(message), Err(Malformed), "{message:x?}");
        agree(message).unwrap();
    }
}

#[test]
fn fields_of_a_later_version_are_stepped_over() {
    let check = CheckRequest { namespace: "edge".to_owned(), ..CheckRequest::default() };
    let mut message = check.encode_to_vec();
    message.extend_from_slice(&[0x7a, 2, 1, 2, 0x7d, 0, 0, 0, 0, 0x73, 0x08, 1, 0x74, 0x78, 9]);
    assert_eq!(read(&message), Ok(as_read(&check)));
    agree(&message).unwrap();
}

#[test]
fn entries_in_every_form_are_read_as_the_generated_code_reads_them() {
    let forms: [&[u8]; 11] = [
        &[0x0a, 1, b'n', 0x12, 1, b'v'],
        &[0x12, 1, b'v', 0x0a, 1, b'n'],
        &[0x0a, 1, b'n'],
        &[0x12, 1, b'v'],
        &[],
        &[0x0a, 1, b'n', 0x12, 1, b'v', 0x18, 7],
        &[0x0a, 1, b'n', 0x12, 1, b'v', 0x12, 1, b'w'],
        &[0x0a, 1, b'n', 0x0a, 1, b'm', 0x12, 1, b'v'],
        &[0x0a, 0x81, 0x00, b'n', 0x12, 0x81, 0x00, b'v'],
        &[0x0a, 1, b'n', 0x12, 2, b'v'],
        &[0x0a, 1, 0xff, 0x12, 1, b'v'],
    ];
    for form in forms {
        agree(&[&[0x12, u8::try_from(form.len()).expect("short")], form].concat()).unwrap();
    }
    for length in [0, 1, 126, 127, 128, 129, 300] {
        for (key, value) in [("n".repeat(length), "v".to_owned()), ("n".to_owned(), "v".repeat(length))] {
            let attributes = vec![AttributesEntry { key, value }];
            agree(&CheckRequest { attributes, ..CheckRequest::default() }.encode_to_vec()).unwrap();
        }
    }
}
