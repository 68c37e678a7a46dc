use super::*;

fn batch(checks: &[&[u8]]) -> Encoded<CheckBatchRequest> {
    let mut bytes = Vec::new();
    for check in checks {
        bytes.extend_from_slice(&[0x0a, u8::try_from(check.len()).expect("a short message")]);
        bytes.extend_from_slice(check);
    }
    Encoded::from_bytes(bytes)
}

/// Fields of the violations of `INVALID_REQUEST`.
fn fields(status: &Status) -> Vec<String> {
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let details = status.get_error_details();
    assert_eq!(details.error_info().expect("ErrorInfo").reason, "INVALID_REQUEST");
    let violations = details.bad_request().map(|bad| bad.field_violations.clone()).unwrap_or_default();
    violations.into_iter().map(|violation| violation.field).collect()
}

#[test]
fn messages_come_back_from_their_encoded_form() {
    let check = CheckRequest { namespace: "edge".to_owned(), cost: Some(3), ..CheckRequest::default() };
    let encoded = Encoded::from(&check);
    assert_eq!(encoded.as_bytes(), check.encode_to_vec());
    assert_eq!(encoded.decode().unwrap(), check);
    assert_eq!(encoded.view().unwrap().namespace, "edge");
    let streamed = CheckStreamRequest { id: 7, check: Some(check) };
    let encoded = Encoded::from(&streamed);
    assert_eq!(encoded.view().unwrap().check.unwrap().cost, Some(3));
}

#[test]
fn field_of_one_check_that_does_not_decode_is_named_with_its_index() {
    let edge = [0x0a, 1, b'e'];
    let cases: [(&[&[u8]], &[&str]); 4] = [
        (&[&edge, &[0x0a, 1, 0xff]], &["checks[1].namespace"]),
        (&[&edge, &edge, &[0x12, 3, 0x12, 1, 0xc0]], &["checks[2].attributes.value"]),
        (&[&edge, &[0x00, 1]], &["checks[1]"]),
        (&[&[0x18, 0x80], &[0x0a, 1, 0xff]], &["checks[0].cost"]),
    ];
    for (checks, expected) in cases {
        let status = batch(checks).views().unwrap_err();
        assert_eq!(fields(&status), expected, "{checks:x?}");
    }
    let cut = Encoded::<CheckBatchRequest>::from_bytes(vec![0x0a, 9, 0x0a]);
    assert_eq!(fields(&cut.count().unwrap_err()), ["checks"]);
    assert_eq!(fields(&cut.views().unwrap_err()), ["checks"]);
}

#[test]
fn views_of_a_batch_keep_its_order() {
    let encoded = batch(&[&[0x0a, 1, b'a'], &[], &[0x0a, 1, b'c']]);
    assert_eq!(encoded.count().unwrap(), 3);
    let names: Vec<_> = encoded.views().unwrap().iter().map(|view| view.namespace.to_owned()).collect();
    assert_eq!(names, ["a", "", "c"]);
}

#[test]
fn refusals_of_single_messages_name_the_field() {
    let check = Encoded::<CheckRequest>::from_bytes(vec![0x1a, 1, b'1']);
    assert_eq!(fields(&check.view().unwrap_err()), ["cost"]);
    let streamed = Encoded::<CheckStreamRequest>::from_bytes(vec![0x12, 3, 0x0a, 1, 0xff]);
    assert_eq!(fields(&streamed.view().unwrap_err()), ["check.namespace"]);
}
