//! Limitador's conditions and variables, which are expressions in CEL of `descriptors`, in words of ours.

use crate::{domain::Expression, policies::names};

/// What a condition asks of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// That an attribute has this very value.
    Is { attribute: String, value: String },
    /// An expression.
    When(String),
}

/// Reads a condition: an expression of the first descriptor, or `name == 'value'` and `name == value` as before version 2.
///
/// # Errors
///
/// Why it has no counterpart.
pub(super) fn condition(text: &str) -> Result<Condition, String> {
    let tokens = rewritten(&tokens(text))?;
    if !tokens.iter().any(|token| token.text == ATTRIBUTES) {
        return older(text, &tokens);
    }
    if tokens.iter().any(|token| token.content() == Some("")) {
        return Err(
            "compares with an empty text, and an attribute without a value counts as absent here".to_owned()
        );
    }
    if let Some((attribute, value)) = equality(&tokens) {
        return Ok(Condition::Is { attribute, value });
    }
    let when = joined(&tokens);
    Expression::parse(&when).map_err(|faults| faults.join("; "))?;
    Ok(Condition::When(when))
}

/// The attribute that a variable is.
///
/// # Errors
///
/// Why it is none.
pub(super) fn variable(text: &str) -> Result<String, String> {
    let tokens = rewritten(&tokens(text))?;
    let significant: Vec<_> = tokens.iter().filter(|token| token.kind != Kind::Space).collect();
    let name = match access(&significant) {
        Some((name, [])) => name,
        // As before version 2.
        _ if is_plain(text) => text.to_owned(),
        _ => {
            return Err(
                "is more than a value of the first descriptor, and keys are made of values here".to_owned()
            );
        }
    };
    names::attribute_fault(&name).map_or(Ok(name), Err)
}

const DESCRIPTORS: &str = "descriptors";
const ATTRIBUTES: &str = "attributes";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Space,
    Word,
    /// A string literal with its quotes.
    Text,
    Sign,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Token<'t> {
    kind: Kind,
    text: &'t str,
}

impl<'t> Token<'t> {
    /// What is in a plain literal: without prefix, escapes and triple quotes.
    fn content(self) -> Option<&'t str> {
        let quote = self.text.chars().next().filter(|quote| ['"', '\''].contains(quote))?;
        let inner = self.text.strip_prefix(quote)?.strip_suffix(quote)?;
        (!inner.contains(['\\', quote])).then_some(inner)
    }

    fn is(self, sign: &str) -> bool {
        self.kind == Kind::Sign && self.text == sign
    }
}

fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (kind, length) = match first {
            c if c.is_whitespace() => (Kind::Space, end(rest, char::is_whitespace)),
            c if is_word(c) => {
                let length = end(rest, is_word);
                let is_prefix = matches!(&rest[..length], "r" | "R" | "b" | "B" | "br" | "rb");
                match rest[length..].chars().next().filter(|quote| is_prefix && ['"', '\''].contains(quote)) {
                    Some(quote) => (Kind::Text, length + literal(&rest[length..], quote, true)),
                    None => (Kind::Word, length),
                }
            }
            '"' | '\'' => (Kind::Text, literal(rest, first, false)),
            c => (Kind::Sign, c.len_utf8()),
        };
        let (text, after) = rest.split_at(length);
        tokens.push(Token { kind, text });
        rest = after;
    }
    tokens
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn end(text: &str, belongs: impl Fn(char) -> bool) -> usize {
    text.find(|c| !belongs(c)).unwrap_or(text.len())
}

/// Bytes of the string literal that `text` begins with; all of it if it has no end.
fn literal(text: &str, quote: char, is_raw: bool) -> usize {
    let triple = quote.to_string().repeat(3);
    let fence = if text.starts_with(&triple) { triple } else { quote.to_string() };
    let mut at = fence.len();
    while at < text.len() {
        if text[at..].starts_with(&fence) {
            return at + fence.len();
        }
        let mut characters = text[at..].chars();
        let escapes = characters.next().is_some_and(|c| c == '\\' && !is_raw);
        at += text[at..].chars().next().map_or(1, char::len_utf8);
        if escapes {
            at += characters.next().map_or(0, char::len_utf8);
        }
    }
    text.len()
}

/// The same of our `attributes` instead of `descriptors[0]`.
fn rewritten<'t>(tokens: &[Token<'t>]) -> Result<Vec<Token<'t>>, String> {
    let mut rewritten: Vec<Token<'t>> = Vec::new();
    let mut rest = tokens;
    while let Some((token, after)) = rest.split_first() {
        let is_field =
            rewritten.iter().rev().find(|token| token.kind != Kind::Space).is_some_and(|token| token.is("."));
        rest = after;
        if token.kind != Kind::Word || is_field {
            rewritten.push(*token);
            continue;
        }
        match token.text {
            DESCRIPTORS => {
                rest = first_index(after).ok_or("looks at more than the first descriptor")?;
                rewritten.push(Token { kind: Kind::Word, text: ATTRIBUTES });
            }
            "limit" => return Err("looks at the limit itself".to_owned()),
            ATTRIBUTES | "cost" => return Err(format!("{:?} is nothing that they know", token.text)),
            _ => rewritten.push(*token),
        }
    }
    Ok(rewritten)
}

/// What is behind `[0]`.
fn first_index<'s, 't>(tokens: &'s [Token<'t>]) -> Option<&'s [Token<'t>]> {
    let mut rest = tokens;
    for expected in ["[", "0", "]"] {
        let at = rest.iter().position(|token| token.kind != Kind::Space)?;
        if rest[at].text != expected {
            return None;
        }
        rest = &rest[at + 1..];
    }
    Some(rest)
}

/// Name and value, if all that is asked is that an attribute has a value.
fn equality(tokens: &[Token<'_>]) -> Option<(String, String)> {
    let significant: Vec<_> = tokens.iter().filter(|token| token.kind != Kind::Space).collect();
    let is_equal = |tokens: &[&Token<'_>]| matches!(tokens, [a, b] if a.is("=") && b.is("="));
    let (name, value) = match &significant[..] {
        [value, a, b, rest @ ..] if value.kind == Kind::Text && is_equal(&[a, b]) => {
            let (name, after) = access(rest)?;
            (after.is_empty().then_some(name)?, value)
        }
        all => {
            let (name, after) = access(all)?;
            let [a, b, value] = after else { return None };
            (is_equal(&[a, b]).then_some(name)?, value)
        }
    };
    let value = value.content().filter(|value| !value.contains('*'))?;
    (names::attribute_fault(&name).is_none() && value.len() <= names::MAX_VALUE_BYTES)
        .then(|| (name, value.to_owned()))
}

/// The attribute whose value `tokens` begin with, and what is behind it.
fn access<'s, 't>(tokens: &'s [&'s Token<'t>]) -> Option<(String, &'s [&'s Token<'t>])> {
    match tokens {
        [root, dot, name, rest @ ..] if root.text == ATTRIBUTES && dot.is(".") && name.kind == Kind::Word => {
            Some((name.text.to_owned(), rest))
        }
        [root, open, name, close, rest @ ..] if root.text == ATTRIBUTES && open.is("[") && close.is("]") => {
            Some((name.content()?.to_owned(), rest))
        }
        _ => None,
    }
}

/// `name == 'value'`, `name != 'value'`, or `name == value` without quotes.
fn older(text: &str, tokens: &[Token<'_>]) -> Result<Condition, String> {
    let none = || "asks for nothing of a descriptor".to_owned();
    let (name, rest) = text.split_once(['=', '!']).ok_or_else(none)?;
    let rest = rest.strip_prefix('=').ok_or_else(none)?;
    let is_equal = text[name.len()..].starts_with("==");
    let (name, value) = (name.trim(), rest.trim());
    let quoted = tokens.last().filter(|token| token.text == value).and_then(|token| token.content());
    let value = quoted.or_else(|| is_plain(value).then_some(value)).filter(|value| !value.is_empty());
    let value =
        value.filter(|_| is_plain(name) && names::attribute_fault(name).is_none()).ok_or_else(none)?;
    Ok(match is_equal && !value.contains('*') {
        true => Condition::Is { attribute: name.to_owned(), value: value.to_owned() },
        false => {
            let sign = if is_equal { "==" } else { "!=" };
            Condition::When(format!("attributes[{name:?}] {sign} {value:?}"))
        }
    })
}

fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| is_word(c) || ['.', '-', '/'].contains(&c))
}

fn joined(tokens: &[Token<'_>]) -> String {
    let text: String = tokens.iter().map(|token| token.text).collect();
    text.trim().to_owned()
}
