use proptest::prelude::*;
use rstest::rstest;

use super::*;

fn allows(expression: &str, scopes: &[&str]) -> bool {
    ScopeExpression::parse(expression).expect(expression).allows(scopes)
}

#[rstest]
#[case::nothing_is_required("", &[], true)]
#[case::spaces_require_nothing("  ", &[], true)]
#[case::one("a", &["a"], true)]
#[case::one_that_is_missing("a", &["b"], false)]
#[case::both("a and b", &["a", "b"], true)]
#[case::one_of_both("a and b", &["a"], false)]
#[case::one_is_enough("a or b", &["b"], true)]
#[case::neighbours_are_joined_by_and("a b", &["a"], false)]
#[case::neighbours_in_parentheses("(a)(b)", &["a", "b"], true)]
#[case::and_binds_stronger("a or b and c", &["a"], true)]
#[case::and_binds_stronger_from_the_left("a and b or c", &["c"], true)]
#[case::neighbours_bind_stronger("a b or c", &["c"], true)]
#[case::parentheses_bind_strongest("(a or b) and c", &["a"], false)]
#[case::nested("a and (b or (c and d))", &["a", "c", "d"], true)]
#[case::no_spaces_at_parentheses("a and(b or c)", &["a", "c"], true)]
#[case::words_within_names("android or order", &["order"], true)]
#[case::a_wildcard("invoices:read", &["invoices:*"], true)]
#[case::a_wildcard_further_down("a:b:c:d", &["a:b:*"], true)]
#[case::a_wildcard_is_not_the_name_itself("invoices", &["invoices:*"], false)]
#[case::a_wildcard_of_another_name("invoices2:read", &["invoices:*"], false)]
#[case::a_star_alone_is_a_name("a", &["*"], false)]
#[case::a_star_within_is_a_character("a:bc", &["a:b*"], false)]
#[case::a_wildcard_that_is_required("a:*", &["a:b"], false)]
#[case::among_many("m:x", &["a", "b:*", "m:*", "m:y", "z"], true)]
fn what_is_required_is_decided(#[case] expression: &str, #[case] scopes: &[&str], #[case] allowed: bool) {
    assert!(scopes.is_sorted(), "a case is wrong");
    assert_eq!(allows(expression, scopes), allowed);
}

#[rstest]
#[case::ends_after_and("a and", "wants a scope or \"(\" at byte 5")]
#[case::begins_with_or("or a", "wants a scope or \"(\" at byte 0")]
#[case::two_words("a and or b", "wants a scope or \"(\" at byte 6")]
#[case::empty_parentheses("()", "wants a scope or \"(\" at byte 1")]
#[case::not_closed("a and (b or c", "has no \")\" for the \"(\" at byte 6")]
#[case::not_opened("a) or b", "has no \"(\" for the \")\" at byte 1")]
#[case::upper_case("a AND b", "has 'A' at byte 2; scopes are of a-z, 0-9 and ._:*/-")]
#[case::upper_case_within("aB", "has 'B' at byte 1; scopes are of a-z, 0-9 and ._:*/-")]
#[case::another_letter("a ü", "has 'ü' at byte 2; scopes are of a-z, 0-9 and ._:*/-")]
#[case::a_tab("a\tb", "has '\\t' at byte 1; scopes are of a-z, 0-9 and ._:*/-")]
#[case::too_long(&"a ".repeat(513), "must be at most 1024 bytes")]
#[case::too_many(&"a ".repeat(65), "must have at most 64 names")]
#[case::a_long_name(&format!("b {}", "a".repeat(129)), "has a name of more than 128 bytes at byte 2")]
#[case::too_deep(&format!("{}a{}", "(".repeat(33), ")".repeat(33)), "must have parentheses at most 32 deep")]
fn what_cannot_be_read_is_explained(#[case] expression: &str, #[case] message: &str) {
    assert_eq!(ScopeExpression::parse(expression).unwrap_err().to_string(), message);
}

#[rstest]
#[case::names(&"a ".repeat(64))]
#[case::depth(&format!("{}a{}", "(".repeat(32), ")".repeat(32)))]
#[case::all_at_once(&(1..64).fold("a".to_owned(), |inner, at| match at {
    1..=32 => format!("a or ({inner})"),
    _ => format!("a {inner}"),
}))]
fn the_bounds_themselves_are_taken(#[case] expression: &str) {
    assert!(allows(expression, &["a"]));
    assert!(!allows(expression, &["b"]));
}

#[rstest]
fn what_cannot_be_required_is_no_scope(
    #[values("", "and", "or", "A", "a b", "a(b", "ä", &"a".repeat(129))] text: &str,
) {
    assert!(!is_scope(text));
}

/// What an expression means, apart from how it is read.
#[derive(Clone, Debug)]
enum Tree {
    Name(String),
    And(Box<Tree>, Box<Tree>),
    Or(Box<Tree>, Box<Tree>),
}

impl Tree {
    fn allows(&self, scopes: &[String]) -> bool {
        match self {
            Self::Name(name) => scopes.iter().any(|scope| match scope.strip_suffix(":*") {
                Some(stem) => name == scope || name.starts_with(&format!("{stem}:")),
                None => name == scope,
            }),
            Self::And(left, right) => left.allows(scopes) && right.allows(scopes),
            Self::Or(left, right) => left.allows(scopes) || right.allows(scopes),
        }
    }

    /// With as few parentheses as there can be, and `and` left out where `style` says so.
    fn write(&self, style: u64) -> String {
        let within = |tree: &Self| match tree {
            Self::Or(..) => format!("({})", tree.write(style.rotate_right(1))),
            Self::Name(_) | Self::And(..) => tree.write(style.rotate_right(1)),
        };
        match self {
            Self::Name(name) => name.clone(),
            Self::And(left, right) if style & 1 == 1 => format!("{} {}", within(left), within(right)),
            Self::And(left, right) => format!("{} and {}", within(left), within(right)),
            Self::Or(left, right) => format!("{} or {}", left.write(style / 3), right.write(style / 5)),
        }
    }
}

fn any_scope() -> impl Strategy<Value = String> {
    "[ab](:[ab]){0,2}(:\\*)?"
}

fn any_tree() -> impl Strategy<Value = Tree> {
    any_scope().prop_map(Tree::Name).prop_recursive(5, 60, 2, |inner| {
        let pair = (inner.clone(), inner, any::<bool>());
        pair.prop_map(|(left, right, is_and)| match is_and {
            true => Tree::And(Box::new(left), Box::new(right)),
            false => Tree::Or(Box::new(left), Box::new(right)),
        })
    })
}

proptest! {
    #[test]
    fn an_expression_means_what_its_tree_means(
        tree in any_tree(), style in any::<u64>(), scopes in prop::collection::btree_set(any_scope(), 0..8),
    ) {
        let text = tree.write(style);
        let scopes: Vec<_> = scopes.into_iter().collect();
        let read = ScopeExpression::parse(&text).expect(&text);
        prop_assert_eq!(read.allows(&scopes), tree.allows(&scopes), "{}", text);
    }

    #[test]
    fn no_text_is_too_strange_to_read(text in any::<String>()) {
        if let Ok(read) = ScopeExpression::parse(&text) {
            prop_assert!(read.allows::<&str>(&[]) || !read.is_empty());
        }
    }

    #[test]
    fn no_heap_of_words_is_too_strange_to_read(
        words in prop::collection::vec(prop::sample::select(vec!["a", "and", "or", "(", ")"]), 0..100),
    ) {
        if let Ok(read) = ScopeExpression::parse(&words.join(" ")) {
            // There is no "not", so nothing is denied to one who has every scope, and nothing that is required given to one without.
            prop_assert!(read.allows(&["a"]));
            prop_assert_eq!(read.allows::<&str>(&[]), read.is_empty());
        }
    }
}
