mod properties;

use rstest::rstest;

use super::*;

const REQUEST: [(&str, &str); 7] = [
    ("method", "GET"),
    ("path", "/v2/things"),
    ("items", "12"),
    ("method", "POST"),
    ("user-agent", "curl/8"),
    ("region", ""),
    ("words", "a \"ü\" b"),
];

fn holds(text: &str, cost: u64) -> bool {
    let expression = Expression::parse(text).unwrap_or_else(|faults| panic!("{text}: {faults:?}"));
    expression.holds(&REQUEST[..], cost)
}

fn faults(text: &str) -> Vec<String> {
    Expression::parse(text).expect_err("refused")
}

#[rstest]
#[case::equality("attributes.path == '/v2/things'")]
#[case::inequality("attributes.path != '/v2'")]
#[case::the_last_of_a_repeated_name("attributes.method == 'POST'")]
#[case::a_name_that_is_no_identifier("attributes['user-agent'].startsWith('curl/')")]
#[case::beginning("attributes.path.startsWith('/v2/')")]
#[case::end("attributes.path.endsWith('/things')")]
#[case::middle("attributes.path.contains('/th')")]
#[case::a_list("attributes.method in ['PUT', 'POST']")]
#[case::a_list_of_ints("cost in [1, 2, 3]")]
#[case::presence("has(attributes.path) && 'user-agent' in attributes")]
#[case::absence("!has(attributes.host) && !('host' in attributes)")]
#[case::an_empty_value_is_absent("!has(attributes.region)")]
#[case::the_cost("cost > 2 && cost <= 3")]
#[case::arithmetic("cost * 2 + 1 == 7 && cost % 2 == 1 && 7 / 2 == cost && -cost == 0 - 3")]
#[case::a_number_in_a_value("int(attributes.items) >= 12")]
#[case::a_number_as_a_string("attributes.items == string(4 * cost)")]
#[case::length_in_characters("size(attributes.words) == 7 && attributes.words.size() == 7")]
#[case::the_order_of_strings("attributes.method > 'GET'")]
#[case::joining("attributes.method + ' ' + attributes.path == 'POST /v2/things'")]
#[case::a_condition("(attributes.method == 'POST' ? cost : 1) == 3")]
#[case::or_stops_at_what_is_true("has(attributes.path) || attributes.host == 'x'")]
#[case::or_absorbs_what_cannot_be_evaluated("attributes.host == 'x' || cost == 3")]
#[case::a_raw_string("attributes.path == r'/v2/things'")]
#[case::a_comment("cost == 3 // tokens")]
#[case::several_lines("cost == 3\n  && attributes.method == 'POST'\n")]
fn holds_of_the_request(#[case] text: &str) {
    assert!(holds(text, 3));
}

#[rstest]
#[case::false_of_it("attributes.method == 'GET'")]
#[case::an_absent_attribute("attributes.host == 'x'")]
#[case::unlike_an_absent_attribute("attributes.host != 'x'")]
#[case::not_like_an_absent_attribute("!(attributes.host == 'x')")]
#[case::an_attribute_with_an_empty_value("attributes.region == ''")]
#[case::an_absent_attribute_by_index("attributes['x-' + attributes.host] == 'x'")]
#[case::and_with_what_cannot_be_evaluated("cost == 3 && attributes.host == 'x'")]
#[case::division_by_zero("cost / (cost - 3) == 1")]
#[case::remainder_by_zero("cost % (cost - 3) == 1")]
#[case::overflow("9223372036854775807 + cost > 0")]
#[case::overflow_of_a_product("9223372036854775807 * cost > 0")]
#[case::overflow_of_a_difference("-9223372036854775807 - cost < 0")]
#[case::overflow_of_a_quotient("(-9223372036854775807 - 1) / (2 - cost) > 0")]
#[case::overflow_of_a_remainder("(-9223372036854775807 - 1) % (2 - cost) == 0")]
#[case::overflow_of_a_negation("-(-9223372036854775807 - 1) > 0")]
#[case::no_number("int(attributes.path) > 0")]
fn does_not_hold_of_the_request(#[case] text: &str) {
    assert!(!holds(text, 3));
}

#[rstest]
#[case::nothing("", "is not a CEL expression: line 1, column 1: mismatched input '<EOF>'")]
#[case::half_an_operation(
    "cost >\n  ",
    "is not a CEL expression: line 2, column 3: mismatched input '<EOF>'"
)]
#[case::a_word_too_many(
    "cost == 1 as",
    "is not a CEL expression: line 1, column 11: extraneous input 'as' expecting <EOF>"
)]
#[case::a_variable_that_does_not_exist(
    "request.path == '/'",
    "there is no variable \"request\"; there are attributes and cost"
)]
#[case::a_function_that_does_not_exist(
    "lower(attributes.path) == '/'",
    "there is no function \"lower\"; there are size, int, string"
)]
#[case::a_method_that_does_not_exist(
    "attributes.path.matches('a+')",
    "there is no method \"matches\"; there are contains, endsWith, size, startsWith"
)]
#[case::a_field_of_a_string("attributes.geo.country == 'CH'", "a string has no field \"country\"")]
#[case::an_int("cost + 1", "must be a bool, is an int")]
#[case::a_string("attributes.path", "must be a bool, is a string")]
#[case::the_attributes("attributes", "must be a bool, is the map of attributes")]
#[case::a_list("['a']", "must be a bool, is a list of strings")]
#[case::a_string_where_an_int_must_be("attributes.items > 3", "> cannot be applied to a string and an int")]
#[case::an_int_where_a_bool_must_be("!cost", "! cannot be applied to an int")]
#[case::branches_that_differ(
    "(true ? 1 : 'x') == 1",
    "?: cannot be applied to a bool and an int and a string"
)]
#[case::a_name_that_is_an_int(
    "attributes[1] == 'x'",
    "[] cannot be applied to the map of attributes and an int"
)]
#[case::a_string_in_ints("attributes.path in [1]", "in cannot be applied to a string and a list of ints")]
#[case::a_mixed_list("attributes.path in ['a', 1]", "has a list that is neither of ints nor of strings")]
#[case::an_empty_list("attributes.path in []", "has an empty list")]
#[case::a_double("cost > 1.5", "has a literal that is neither a bool, nor an int, nor a string")]
#[case::an_unsigned_int("cost > 1u", "has a literal that is neither a bool, nor an int, nor a string")]
#[case::a_map("{'a': 1}['a'] == 1", "has a map; there is none but attributes")]
#[case::a_loop(
    "['a', 'b'].exists(p, attributes.path.startsWith(p))",
    "must not loop: all, exists, exists_one, filter and map are not available"
)]
#[case::a_loop_over_the_attributes(
    "attributes.all(name, name != 'x')",
    "must not loop: all, exists, exists_one, filter and map are not available"
)]
fn is_refused(#[case] text: &str, #[case] fault: &str) {
    assert_eq!(faults(text), [fault]);
}

#[test]
fn every_operand_that_does_not_fit_is_listed_once() {
    let text = "host == 'a' && cost == 'x' || host == 'b' && method.lower() == 'get'";
    assert_eq!(
        faults(text),
        [
            "there is no variable \"host\"; there are attributes and cost",
            "== cannot be applied to an int and a string",
            "there is no variable \"method\"; there are attributes and cost",
            "there is no method \"lower\"; there are contains, endsWith, size, startsWith",
        ]
    );
}

#[test]
fn the_length_is_bounded() {
    let of = |bytes: usize| format!("true{}", " ".repeat(bytes - 4));
    assert!(Expression::parse(&of(Expression::MAX_BYTES)).is_ok());
    assert_eq!(faults(&of(Expression::MAX_BYTES + 1)), ["must be at most 2048 bytes, is 2049"]);
}

/// Each as long as a text may be, or nearly.
#[rstest]
#[case::parentheses("(", "true", ")")]
#[case::open_parentheses("(", "", "")]
#[case::lists("[", "1", "]")]
#[case::maps("{1:", "1", "}")]
#[case::negated_parentheses("!(", "true", ")")]
#[case::calls("size(", "'a'", ")")]
#[case::indexes("attributes[", "'a'", "]")]
#[case::conditionals("true?true:", "true", "")]
#[case::loops("[1].all(x,", "true", ")")]
#[case::sums("1+", "1 == 1", "")]
#[case::joined_strings("''+", "'' == ''", "")]
#[case::comparisons("true==", "true", "")]
#[case::fields("", "attributes", ".a")]
#[case::methods("", "'a'", ".size()")]
#[case::indexes_in_a_row("", "attributes", "['a']")]
// What made older releases of the parser panic, or take gigabytes: cel-rust issues 305 and 306.
#[case::errors_in_braces("{", "?[((((((((((({{{{{{{{{{l\0?(-", "")]
#[case::dense_operators("!!(!!!!!!(!!!!(((((!!(!!(!!!!((", "1", "")]
fn a_bomb_of_nesting_is_refused(#[case] open: &str, #[case] core: &str, #[case] close: &str) {
    let levels = (Expression::MAX_BYTES - core.len()) / (open.len() + close.len());
    let bomb = [&open.repeat(levels), core, &close.repeat(levels)].concat();
    assert!(!faults(&bomb).is_empty());
}

#[test]
fn too_much_nesting_is_called_that() {
    let nested = |levels| "(".repeat(levels) + "true" + &")".repeat(levels);
    assert!(Expression::parse(&nested(15)).is_ok());
    assert_eq!(faults(&nested(17)), ["is nested more than 16 levels deep"]);
    let chain = |links| "1 + ".repeat(links) + "1 > 0";
    assert!(holds(&chain(kinds::MAX_DEPTH - 2), 1));
    assert_eq!(faults(&chain(kinds::MAX_DEPTH)), ["is more than 32 operations deep"]);
}

#[test]
fn a_long_chain_of_alternatives_is_no_nesting() {
    let chain = (0..90).map(|n| format!("cost == {n}")).collect::<Vec<_>>().join(" || ");
    assert!(holds(&chain, 89));
    assert!(!holds(&chain, 90));
}
