mod conditions;
mod envoy;
mod limitador;

use super::*;
use crate::policies;

/// What is imported of a text, which makes a valid file; and what is left out, each as `line path: why`.
pub(super) fn imported(source: ImportSource, text: &str) -> (String, Vec<String>) {
    let files = [("config.yaml".to_owned(), text.to_owned())];
    let imported = import(source, &files).unwrap_or_else(|broken| panic!("{broken:?}"));
    let set = policies::parse(&imported.text, "imported", 1)
        .unwrap_or_else(|errors| panic!("{errors}\n{}", imported.text));
    assert_eq!(set.len(), imported.policies);
    let left_out =
        imported.left_out.iter().map(|left| format!("{} {}: {}", left.line, left.path, left.description));
    (imported.text, left_out.collect())
}

/// The policies of an imported text, each in one line, as `tidegate policies validate` shows them.
pub(super) fn policies_of(source: ImportSource, text: &str) -> Vec<String> {
    let (text, left_out) = imported(source, text);
    assert_eq!(left_out, [""; 0]);
    let set = policies::parse(&text, "imported", 1).expect("it was parsed before");
    let rows = set.summary().into_iter();
    rows.map(|row| {
        format!(
            "{}/{}; {}; {}; {}; {}",
            row.namespace, row.name, row.match_, row.key_by, row.limits, row.enforcement
        )
    })
    .collect()
}

#[test]
fn text_that_is_not_yaml_is_told_with_its_place() {
    let files = [
        ("good.yaml".to_owned(), "domain: a\n".to_owned()),
        ("bad.yaml".to_owned(), "domain: a\nkey: [1\nother: {\n".to_owned()),
    ];
    for source in [ImportSource::EnvoyRatelimit, ImportSource::Limitador] {
        let broken = import(source, &files).expect_err("it is broken");
        assert_eq!(broken.len(), 1);
        assert_eq!(broken[0].origin, "bad.yaml");
        assert!(broken[0].to_string().starts_with("bad.yaml:"), "{}", broken[0]);
        assert!(broken[0].description.starts_with("is not YAML: "), "{}", broken[0]);
    }
}

#[test]
fn several_files_become_one() {
    let of = |domain: &str| {
        let text = format!(
            "domain: {domain}\ndescriptors: [{{ key: a, rate_limit: {{ unit: day, requests_per_unit: 1 }} }}]"
        );
        (format!("{domain}.yaml"), text)
    };
    let imported = import(ImportSource::EnvoyRatelimit, &[of("one"), of("two")]).expect("it is YAML");
    assert_eq!((imported.policies, imported.left_out), (2, Vec::new()));
    let set = policies::parse(&imported.text, "imported", 1).expect("valid");
    assert!(
        ["one", "two"].iter().all(|name| set.namespace(name).is_some_and(|n| n.settings().envoy_compatible))
    );
}
