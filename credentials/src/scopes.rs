//! Scopes, and what is required of them: `invoices:read and (invoices:write or admin)`.

use std::cmp::Ordering;

use smallvec::SmallVec;

/// The longest scope.
pub const MAX_SCOPE_BYTES: usize = 128;
/// The longest expression.
pub const MAX_EXPRESSION_BYTES: usize = 1_024;
/// The most names in an expression.
pub const MAX_EXPRESSION_NAMES: usize = 64;
/// How deep parentheses may stand in each other.
const MAX_DEPTH: usize = 32;

const AND: &str = "and";
const OR: &str = "or";

/// Whether a text can be a scope: 1 to 128 of `[a-z0-9._:*/-]`, but not `and` nor `or`.
#[must_use]
pub fn is_scope(text: &str) -> bool {
    (1..=MAX_SCOPE_BYTES).contains(&text.len())
        && text.bytes().all(is_scope_byte)
        && ![AND, OR].contains(&text)
}

fn is_scope_byte(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._:*/-".contains(&byte)
}

/// Whether one who has `scopes` (sorted by bytes) has this one: as it stands there, or by `name:*`, which is every scope that begins
/// with `name:`. A `*` elsewhere is a character as others.
#[must_use]
pub fn has_scope<S: AsRef<str>>(scopes: &[S], scope: &str) -> bool {
    let has = |wanted: &dyn Fn(&str) -> Ordering| {
        scopes.binary_search_by(|candidate| wanted(candidate.as_ref())).is_ok()
    };
    if has(&|candidate| candidate.cmp(scope)) {
        return true;
    }
    let colons = scope.bytes().enumerate().filter(|(_, byte)| *byte == b':').map(|(at, _)| at);
    colons.into_iter().any(|colon| {
        let wildcard = scope.as_bytes()[..=colon].iter().chain(b"*");
        has(&|candidate| candidate.as_bytes().iter().cmp(wildcard.clone()))
    })
}

/// What is required, as it is read; small ones take no memory of their own.
///
/// `and` binds stronger than `or`; names that follow each other without a word between them are joined by `and`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScopeExpression<'t> {
    /// In postfix order; empty requires nothing.
    steps: SmallVec<[Step<'t>; 8]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step<'t> {
    Name(&'t str),
    And,
    Or,
}

/// Why an expression cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScopeExpressionError {
    /// It is too long.
    #[error("must be at most {MAX_EXPRESSION_BYTES} bytes")]
    TooLong,
    /// It has too many names.
    #[error("must have at most {MAX_EXPRESSION_NAMES} names")]
    TooManyNames,
    /// Parentheses stand too deep in each other.
    #[error("must have parentheses at most {MAX_DEPTH} deep")]
    TooDeep,
    /// A character that no scope has.
    #[error("has {character:?} at byte {at}; scopes are of a-z, 0-9 and ._:*/-")]
    Character {
        /// Which one.
        character: char,
        /// Where.
        at: usize,
    },
    /// A name is too long.
    #[error("has a name of more than {MAX_SCOPE_BYTES} bytes at byte {at}")]
    LongName {
        /// Where it begins.
        at: usize,
    },
    /// A name or a parenthesis is missing.
    #[error("wants a scope or \"(\" at byte {at}")]
    NameMissing {
        /// Where.
        at: usize,
    },
    /// A parenthesis is not closed.
    #[error("has no \")\" for the \"(\" at byte {at}")]
    Unclosed {
        /// Where it was opened.
        at: usize,
    },
    /// A parenthesis is closed that was not opened.
    #[error("has no \"(\" for the \")\" at byte {at}")]
    Unopened {
        /// Where it is closed.
        at: usize,
    },
}

impl<'t> ScopeExpression<'t> {
    /// Reads an expression. One of nothing but spaces requires nothing.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong with it.
    pub fn parse(text: &'t str) -> Result<Self, ScopeExpressionError> {
        if text.len() > MAX_EXPRESSION_BYTES {
            return Err(ScopeExpressionError::TooLong);
        }
        let mut parser = Parser { text, at: 0, next: None, names: 0, depth: 0, steps: SmallVec::new() };
        parser.advance()?;
        if parser.next.is_some() {
            parser.alternatives()?;
        }
        match parser.next {
            None => Ok(Self { steps: parser.steps }),
            // All else is taken as the next of what is joined by `and`.
            Some((at, _)) => Err(ScopeExpressionError::Unopened { at }),
        }
    }

    /// Whether it requires nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Whether one with these scopes (sorted by bytes) has what is required. Takes no memory.
    #[must_use]
    pub fn allows<S: AsRef<str>>(&self, scopes: &[S]) -> bool {
        // A stack of truths, the last one lowest; there are never more of them than names.
        let mut truths = 0_u64;
        for step in &self.steps {
            let last = truths & 1;
            truths = match step {
                Step::Name(name) => truths << 1 | u64::from(has_scope(scopes, name)),
                Step::And => truths >> 1 & (last | !1),
                Step::Or => truths >> 1 | last,
            };
        }
        self.steps.is_empty() || truths & 1 == 1
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'t> {
    Name(&'t str),
    And,
    Or,
    Open,
    Close,
}

/// Reads by descent; the depth of its calls is bounded by [`MAX_DEPTH`].
struct Parser<'t> {
    text: &'t str,
    at: usize,
    /// What stands next, and where.
    next: Option<(usize, Token<'t>)>,
    names: usize,
    depth: usize,
    steps: SmallVec<[Step<'t>; 8]>,
}

impl<'t> Parser<'t> {
    fn alternatives(&mut self) -> Result<(), ScopeExpressionError> {
        self.conjunction()?;
        while let Some((_, Token::Or)) = self.next {
            self.advance()?;
            self.conjunction()?;
            self.steps.push(Step::Or);
        }
        Ok(())
    }

    fn conjunction(&mut self) -> Result<(), ScopeExpressionError> {
        self.operand()?;
        loop {
            match self.next {
                Some((_, Token::And)) => self.advance()?,
                Some((_, Token::Name(_) | Token::Open)) => {}
                Some((_, Token::Or | Token::Close)) | None => return Ok(()),
            }
            self.operand()?;
            self.steps.push(Step::And);
        }
    }

    fn operand(&mut self) -> Result<(), ScopeExpressionError> {
        match self.next {
            Some((_, Token::Name(name))) => {
                self.names += 1;
                if self.names > MAX_EXPRESSION_NAMES {
                    return Err(ScopeExpressionError::TooManyNames);
                }
                self.steps.push(Step::Name(name));
                self.advance()
            }
            Some((at, Token::Open)) => {
                self.depth += 1;
                if self.depth > MAX_DEPTH {
                    return Err(ScopeExpressionError::TooDeep);
                }
                self.advance()?;
                self.alternatives()?;
                let Some((_, Token::Close)) = self.next else {
                    return Err(ScopeExpressionError::Unclosed { at });
                };
                self.depth -= 1;
                self.advance()
            }
            Some((at, Token::And | Token::Or | Token::Close)) => {
                Err(ScopeExpressionError::NameMissing { at })
            }
            None => Err(ScopeExpressionError::NameMissing { at: self.text.len() }),
        }
    }

    fn advance(&mut self) -> Result<(), ScopeExpressionError> {
        let rest = &self.text[self.at..];
        let word = rest.trim_start_matches(' ');
        let at = self.at + rest.len() - word.len();
        let Some(first) = word.chars().next() else {
            self.next = None;
            return Ok(());
        };
        let length = word.bytes().take_while(|byte| is_scope_byte(*byte)).count();
        let (token, length) = match (first, &word[..length]) {
            ('(', _) => (Token::Open, 1),
            (')', _) => (Token::Close, 1),
            (character, "") => return Err(ScopeExpressionError::Character { character, at }),
            (_, AND) => (Token::And, length),
            (_, OR) => (Token::Or, length),
            (_, name) if name.len() > MAX_SCOPE_BYTES => return Err(ScopeExpressionError::LongName { at }),
            (_, name) => (Token::Name(name), length),
        };
        self.at = at + length;
        self.next = Some((at, token));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
