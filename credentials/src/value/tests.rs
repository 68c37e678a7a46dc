use proptest::prelude::*;
use regex::Regex;
use rstest::rstest;

use super::*;

/// A value whose random digits are all `digit`.
fn value(prefix: &str, environment: Environment, digit: u8) -> KeyValue {
    let prefix = Prefix::parse(prefix).expect("a prefix");
    KeyValue::generate(&prefix, environment, |bytes| bytes.fill(digit))
}

fn any_value() -> impl Strategy<Value = KeyValue> {
    let environment = prop_oneof![Just(Environment::Live), Just(Environment::Test)];
    ("[a-z0-9]{1,16}", environment, any::<u64>()).prop_map(|(prefix, environment, seed)| {
        let mut state = seed | 1;
        KeyValue::generate(&Prefix::parse(&prefix).expect("a prefix"), environment, |bytes| {
            for byte in bytes {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                *byte = state.to_be_bytes()[0];
            }
        })
    })
}

#[test]
fn a_value_is_made_of_prefix_environment_digits_and_checksum() {
    let value = value("tk", Environment::Live, 10);
    assert_eq!(value.expose(), format!("tk_live_{}{}", "A".repeat(32), "2LBMqv"));
    assert_eq!(value.key_prefix(), "tk_live_AAAAAA");
}

#[test]
fn its_value_is_not_shown_in_logs() {
    assert_eq!(format!("{:?}", value("acme", Environment::Test, 61)), "KeyValue(acme_test_zzzzzz…)");
}

#[test]
fn a_hash_is_the_sha_256_of_the_whole_value() {
    // FIPS 180-2, B.1.
    let hex: String = key_hash("abc").iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    let value = value("tk", Environment::Live, 1);
    assert_eq!(value.hash(), key_hash(value.expose()));
}

#[rstest]
#[case::nothing("", KeyShape::Impossible)]
#[case::too_long(&"a".repeat(513), KeyShape::Impossible)]
#[case::as_long_as_may_be(&"a".repeat(512), KeyShape::Foreign)]
#[case::checksum("tk_live_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA000000", KeyShape::BadChecksum)]
#[case::another_environment("tk_prod_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA000000", KeyShape::Foreign)]
#[case::one_digit_less("tk_live_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA000000", KeyShape::Foreign)]
#[case::one_digit_more("tk_live_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA000000", KeyShape::Foreign)]
#[case::no_digit("tk_live_AAAAAAAAAAAAAAAA_AAAAAAAAAAAAAAA000000", KeyShape::Foreign)]
#[case::no_prefix("_live_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA000000", KeyShape::Foreign)]
#[case::upper_case_prefix("TK_live_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA000000", KeyShape::Foreign)]
#[case::long_prefix("abcdefghijklmnopq_live_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA000000", KeyShape::Foreign)]
#[case::a_line_after_it("tk_live_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA2LBMqv\n", KeyShape::Foreign)]
#[case::not_ascii("tk_live_ÄAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA000000", KeyShape::Foreign)]
fn what_a_value_can_be_is_told_by_looking_at_it(#[case] value: &str, #[case] shape: KeyShape) {
    assert_eq!(key_shape(value), shape);
}

#[rstest]
fn a_prefix_is_short_and_plain(#[values("", "TK", "a_b", "ä", "abcdefghijklmnopq", "a b")] text: &str) {
    assert_eq!(Prefix::parse(text), Err(PrefixError));
}

#[rstest]
#[case::in_code("let key = \"VALUE\";")]
#[case::in_an_environment("TIDEGATE_KEY=VALUE\n")]
#[case::in_an_address("https://example.com/?key=VALUE&x=1")]
#[case::in_a_header("Authorization: Bearer VALUE")]
fn the_scanner_finds_keys_where_they_are_left(#[case] text: &str) {
    let value = value(DEFAULT_PREFIX, Environment::Live, 33);
    let scanner = Regex::new(SCANNER_REGEX).expect("a regex");
    let text = text.replace("VALUE", value.expose());
    assert_eq!(scanner.find(&text).map(|found| found.as_str()), Some(value.expose()));
}

#[rstest]
#[case::one_digit_less("tk_live_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA000000")]
#[case::one_digit_more("tk_live_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA000000")]
#[case::what_people_are_shown("tk_live_abc123")]
#[case::another_environment("tk_prod_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA000000")]
#[case::another_prefix("sk_live_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA000000")]
#[case::the_end_of_a_word("stk_live_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA000000")]
#[case::no_separators("tkliveAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA000000")]
fn the_scanner_passes_over_what_only_resembles_a_key(#[case] text: &str) {
    assert!(!Regex::new(SCANNER_REGEX).expect("a regex").is_match(text), "{text}");
}

#[test]
fn the_published_scanner_is_that_of_the_default_prefix() {
    assert_eq!(scanner_regex(&Prefix::parse(DEFAULT_PREFIX).expect("a prefix")), SCANNER_REGEX);
}

proptest! {
    #[test]
    fn every_value_is_ours_and_found_by_the_scanner_of_its_prefix(value in any_value()) {
        prop_assert_eq!(key_shape(value.expose()), KeyShape::Ours);
        let prefix = value.expose().split('_').next().expect("a prefix");
        let scanner = Regex::new(&scanner_regex(&Prefix::parse(prefix).expect("a prefix"))).expect("a regex");
        let found = scanner.find(value.expose()).map(|found| found.as_str());
        prop_assert_eq!(found, Some(value.expose()));
    }

    #[test]
    fn a_value_with_one_other_character_is_not_ours(
        value in any_value(), at in any::<prop::sample::Index>(), to in 0x21_u8..0x7F,
    ) {
        let mut bytes = value.expose().as_bytes().to_vec();
        let at = at.index(bytes.len());
        prop_assume!(bytes[at] != to);
        bytes[at] = to;
        let text = String::from_utf8(bytes).expect("ASCII");
        // A burst of at most 8 bits never leaves a CRC as it was.
        prop_assert_ne!(key_shape(&text), KeyShape::Ours);
    }

    #[test]
    fn no_text_is_too_strange_to_look_at(text in any::<String>()) {
        prop_assert_ne!(key_shape(&text), KeyShape::Ours);
    }
}
