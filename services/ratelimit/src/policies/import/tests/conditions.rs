use rstest::rstest;

use crate::policies::import::condition::{Condition, condition, variable};

#[rstest]
#[case::by_name("descriptors[0].method == 'POST'", "method", "POST")]
#[case::by_index("descriptors[0]['req.method'] == \"POST\"", "req.method", "POST")]
#[case::spaces(" descriptors [ 0 ] . method=='POST' ", "method", "POST")]
#[case::value_first("'POST' == descriptors[0].method", "method", "POST")]
#[case::another_quote_in_it("descriptors[0].path == \"it's\"", "path", "it's")]
#[case::before_version_2("req.method == 'POST'", "req.method", "POST")]
#[case::without_quotes("method == POST", "method", "POST")]
fn plain_comparison_becomes_a_match(#[case] text: &str, #[case] attribute: &str, #[case] value: &str) {
    let expected = Condition::Is { attribute: attribute.to_owned(), value: value.to_owned() };
    assert_eq!(condition(text), Ok(expected));
}

#[rstest]
#[case::unlike("descriptors[0]['path'] != '/x'", "attributes['path'] != '/x'")]
#[case::one_of(
    "descriptors[0].m == 'a' || descriptors[0].m == 'b'",
    "attributes.m == 'a' || attributes.m == 'b'"
)]
#[case::a_function("descriptors[0].path.startsWith('/v1')", "attributes.path.startsWith('/v1')")]
#[case::a_star("descriptors[0].path == '/v1/*'", "attributes.path == '/v1/*'")]
#[case::the_word_in_a_text("descriptors[0].x != 'descriptors[0]'", "attributes.x != 'descriptors[0]'")]
#[case::a_field_of_that_name("descriptors[0].limit != 'a'", "attributes.limit != 'a'")]
#[case::an_escape("descriptors[0].x == 'a\\'b'", "attributes.x == 'a\\'b'")]
#[case::unlike_before_version_2("method != 'POST'", "attributes[\"method\"] != \"POST\"")]
fn anything_else_becomes_an_expression(#[case] text: &str, #[case] when: &str) {
    assert_eq!(condition(text), Ok(Condition::When(when.to_owned())));
}

#[rstest]
#[case::the_second("descriptors[1].a == 'x'", "looks at more than the first descriptor")]
#[case::how_many("descriptors.size() > 1", "looks at more than the first descriptor")]
#[case::the_limit("limit.name == descriptors[0].name", "looks at the limit itself")]
#[case::an_empty_text("descriptors[0].a == ''", "compares with an empty text")]
#[case::a_macro("descriptors.exists(d, d.a == 'x')", "looks at more than the first descriptor")]
#[case::a_regular_expression("descriptors[0].a.matches('x+')", "matches")]
#[case::no_truth("descriptors[0].a", "must be a bool")]
#[case::nothing("true", "asks for nothing")]
#[case::no_expression("descriptors[0].a ==", "is not a CEL expression")]
#[case::another_variable("attributes.a == descriptors[0].a", "nothing that they know")]
fn what_has_no_counterpart_is_told(#[case] text: &str, #[case] why: &str) {
    let told = condition(text).expect_err("it has none");
    assert!(told.contains(why), "{told}");
}

#[rstest]
#[case("descriptors[0].user_id", "user_id")]
#[case("descriptors[0]['user.id']", "user.id")]
#[case("user_id", "user_id")]
fn variable_is_an_attribute(#[case] text: &str, #[case] name: &str) {
    assert_eq!(variable(text), Ok(name.to_owned()));
}

#[rstest]
#[case("descriptors[1].user_id", "looks at more")]
#[case("descriptors[0].a + descriptors[0].b", "is more than a value")]
#[case("descriptors[0]['user id']", "names of attributes")]
#[case("'a'", "is more than a value")]
fn variable_that_is_none_is_told(#[case] text: &str, #[case] why: &str) {
    let told = variable(text).expect_err("it is none");
    assert!(told.contains(why), "{told}");
}
