use super::*;

#[test]
fn every_limit_has_a_policy() {
    let text = "
- namespace: shop
  max_value: 10
  seconds: 60
  conditions:
    - \"descriptors[0]['req.method'] == 'GET'\"
    - \"descriptors[0]['req.path'] != '/json'\"
    - \"descriptors[0].host == 'a' || descriptors[0].host == 'b'\"
  variables:
    - descriptors[0]['user_id']
- namespace: shop
  name: All Requests
  max_value: 1000
  seconds: 3600
  conditions:
  variables:
- namespace: other
  id: from-before
  max_value: 5
  seconds: 90
  conditions: [\"req.method == 'POST'\"]
  variables: [user_id]
";
    assert_eq!(
        policies_of(ImportSource::Limitador, text),
        [
            "other/from-before; req.method = POST; user_id; window 5/1m30s fixed_window; enforce",
            "shop/all-requests; -; -; window 1000/1h fixed_window; enforce",
            "shop/req.method-get.req.path-json.host-a-host-b.per-user_id.60s; req.method = GET, when (attributes['req.path'] != '/json') && (attributes.host == 'a' || attributes.host == 'b'); user_id; window 10/1m fixed_window; enforce",
        ]
    );
    let (text, _) = imported(ImportSource::Limitador, text);
    assert!(text.contains("[namespaces.\"shop\"]\nfirst_descriptor_only = true\n"), "{text}");
}

#[test]
fn what_has_no_counterpart_is_left_out_as_a_whole_and_told() {
    let text = "- namespace: shop
  max_value: 10
  seconds: 60
  conditions: [\"descriptors[1].a == 'x'\"]
  variables: []
- namespace: shop
  max_value: 10
  seconds: 60
  conditions: []
  variables: [\"descriptors[0].a + 'x'\"]
- namespace: shop
  max_value: 0
  seconds: 60
  conditions: []
  variables: []
- namespace: shop
  max_value: 7
  seconds: 0
- max_value: 7
- namespace: shop
  max_value: 2000000000
  seconds: 1
  colour: red
- namespace: shop
  max_value: 5
  seconds: 1
";
    let (file, left_out) = imported(ImportSource::Limitador, text);
    assert_eq!(
        left_out,
        [
            "4 [0].conditions[0]: looks at more than the first descriptor; the limit is left out",
            "10 [1].variables[0]: is more than a value of the first descriptor, and keys are made of values here; the limit is left out",
            "12 [2].max_value: a max_value of 0 denies everything, and only policies with a descriptor can here; the limit is left out",
            "18 [3].seconds: must be 1 to 315360000; the limit is left out",
            "19 [4]: has no namespace; the limit is left out",
            "19 [4]: has no seconds; the limit is left out",
            "23 [5].colour: is not a known key",
            "21 [5].max_value: is taken as 1000000000, the most that a limit has here",
            "24 [6]: is the same limit as one before it: there too only one of them counts",
        ]
    );
    assert_eq!(file.matches("[[policies]]").count(), 1);
}
