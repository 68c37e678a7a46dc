use proptest::prelude::*;

use super::{Expression, REQUEST};
use crate::domain::{Condition, Pattern};

/// Parts of expressions, and of what is none.
const TOKENS: &str = "attributes~cost~.path~['items']~.host~'a'~\"é\"~''~0~1~-9223372036854775808~\
    9223372036854775807~true~false~null~1.5~2u~b'a'~ + ~ - ~-~ * ~ / ~ % ~ == ~ != ~ < ~ >= ~ in ~ && ~ || ~!~ ? ~ : ~\
    (~)~[~]~{~}~, ~size(~int(~string(~.size()~.startsWith(~.contains(~.endsWith(~has(~.all(x, ~.map(x, ~x~@~`~\\~//~\
    \n~.~?~'";

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

prop_compose! {
    /// A plain condition, and the same in CEL.
    fn condition()(
        patterns in prop::collection::vec(("[aé'\\\\*]{1,2}", 0..8), 1..4),
    ) -> (Condition, String) {
        let (patterns, texts): (Vec<_>, Vec<_>) = patterns
            .into_iter()
            .map(|(text, form)| match form {
                0 => (Pattern::Present, "'x' in attributes".to_owned()),
                1..4 => (
                    Pattern::Prefix(text.as_str().into()),
                    format!("attributes.x.startsWith({})", quoted(&text)),
                ),
                _ => (Pattern::Exact(text.as_str().into()), format!("attributes['x'] == {}", quoted(&text))),
            })
            .unzip();
        (Condition::new("x", patterns), texts.join(" || "))
    }
}

/// An expression whose parts fit, grown by the choices in `seeds`.
fn grow(kind: &str, seeds: &mut impl Iterator<Item = u8>, depth: usize) -> String {
    let forms = match (kind, depth) {
        ("bool", 0) => "true; false",
        ("bool", _) => {
            "(B && B); (B || B); !B; (B ? B : B); (B == B); (B != B); (I == I); (S != S); (I < I); (S <= S); (I > I); \
             (S >= S); (S in attributes); (S in [S, S]); (I in [I]); has(attributes.x); S.contains(S); \
             S.startsWith(S); S.endsWith(S)"
        }
        ("int", 0) => "cost; 0; -1; 9223372036854775807; -9223372036854775808",
        ("int", _) => "(I + I); (I - I); (I * I); (I / I); (I % I); -(I); (B ? I : I); size(S); int(S)",
        (_, 0) => "attributes.path; attributes.items; attributes.host; ''; 'é\\u00fc'; 'x'",
        _ => "(S + S); (B ? S : S); attributes[S]; string(I)",
    };
    let forms: Vec<_> = forms.split("; ").collect();
    let form = forms[usize::from(seeds.next().unwrap_or(0)) % forms.len()];
    let depth = depth.saturating_sub(1);
    form.chars()
        .map(|letter| match letter {
            'B' => grow("bool", seeds, depth),
            'I' => grow("int", seeds, depth),
            'S' => grow("string", seeds, depth),
            other => other.to_string(),
        })
        .collect()
}

proptest! {
    #[test]
    fn what_fits_is_accepted_and_can_be_evaluated(
        seeds in prop::collection::vec(any::<u8>(), 1..60),
        depth in 1_usize..6,
        cost in any::<u64>(),
    ) {
        let text = grow("bool", &mut seeds.into_iter(), depth);
        prop_assume!(text.len() <= Expression::MAX_BYTES);
        let expression = Expression::parse(&text);
        prop_assert!(expression.is_ok(), "{text}: {expression:?}");
        expression.expect("just seen").holds(&REQUEST[..], cost);
    }

    #[test]
    fn an_expression_holds_where_the_condition_that_says_the_same_does(
        (condition, text) in condition(),
        requests in prop::collection::vec(
            prop::collection::vec((prop::sample::select(&["x", "y"]), "[aé'\\\\*]{0,3}"), 0..4), 20),
    ) {
        let expression = Expression::parse(&text).expect("sound");
        for request in requests {
            prop_assert_eq!(expression.holds(&request[..], 1), condition.holds(&request[..]), "{}", text);
        }
    }

    #[test]
    fn whatever_is_written_is_refused_or_evaluated(
        tokens in prop::collection::vec(prop::sample::select(TOKENS.split('~').collect::<Vec<_>>()), 0..40),
        cost in any::<u64>(),
    ) {
        if let Ok(expression) = Expression::parse(&tokens.concat()) {
            expression.holds(&REQUEST[..], cost);
        }
    }
}
