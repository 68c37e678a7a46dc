//! A policy file as text, of which only some is made a tree at a time.

use std::collections::BTreeMap;

use toml::{Table, Value};
use toml_parser::{
    Source,
    lexer::{Token, TokenKind},
};

use super::reader::{Faults, Fields, numbered, table};

/// The lists that are long where a file is.
const LISTS: [&str; 3] = ["plans", "policies", "overrides"];

/// Text that is made a tree at once, in bytes, if it can be cut: the tree takes some thirty times as much.
pub(super) const PIECE: usize = 65_536;

/// A file that is read from front to back.
pub(super) struct Document<'t> {
    /// All of it, but for the lists that are in pieces.
    pub(super) root: Fields,
    pieces: Pieces<'t>,
}

/// Of the lists that are written as `[[name]]`.
type Pieces<'t> = BTreeMap<&'static str, List<'t>>;

#[derive(Default)]
struct List<'t> {
    elements: usize,
    /// Some elements each.
    pieces: Vec<&'t str>,
}

/// What is in pieces is no TOML, or not together with the rest.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unfit;

impl<'t> Document<'t> {
    /// A file that is a tree already.
    pub(super) fn whole(table: Table) -> Self {
        Self { root: Fields::new("", table), pieces: Pieces::new() }
    }

    /// A file in pieces of about `piece` bytes. Where it says what it says in such a way that it takes all of it to tell, it gives nothing.
    pub(super) fn in_pieces(text: &'t str, piece: usize) -> Option<Self> {
        let (rest, pieces) = cut(text, piece)?;
        let root = Fields::new("", rest.parse().ok()?);
        Some(Self { root, pieces })
    }

    /// Reads every table of the list under `key`; elements that are none are noted and left out.
    pub(super) fn each<T>(
        &mut self,
        key: &'static str,
        faults: &mut Faults,
        mut read: impl FnMut(Fields, &mut Faults) -> T,
    ) -> Result<Vec<T>, Unfit> {
        let Some(List { elements, pieces }) = self.pieces.remove(key) else {
            let tables = self.root.tables(key, faults).unwrap_or_default();
            return Ok(tables.into_iter().map(|fields| read(fields, faults)).collect());
        };
        if self.root.value(key).is_some() {
            return Err(Unfit);
        }
        // What grows step by step is copied, and leaves holes in memory.
        let (mut all, mut count) = (Vec::with_capacity(elements), 0);
        for piece in pieces {
            let mut tree: Table = piece.parse().map_err(|_| Unfit)?;
            let Some(Value::Array(values)) = tree.remove(key).filter(|_| tree.is_empty()) else {
                return Err(Unfit);
            };
            let elements = numbered(key, count, values);
            count += elements.len();
            let tables = elements.into_iter().filter_map(|(path, value)| table(&path, value, faults));
            let tables: Vec<_> = tables.collect();
            all.extend(tables.into_iter().map(|fields| read(fields, faults)));
        }
        Ok(all)
    }
}

/// Cuts a text where elements of [`LISTS`] begin: what is in none of them, and the pieces of each.
fn cut(text: &str, piece: usize) -> Option<(String, Pieces<'_>)> {
    let (mut rest, mut pieces) = (String::new(), Pieces::new());
    let mut put = |list: Option<&'static str>, elements, text| match list {
        Some(list) => {
            let list = pieces.entry(list).or_default();
            list.elements += elements;
            list.pieces.push(text);
        }
        None => rest.push_str(text),
    };
    let (mut start, mut elements, mut list) = (0, 0, None);
    for Header { at, is_list, first, is_whole } in headers(text) {
        let first = first?;
        let known = LISTS.into_iter().find(|known| *known == first);
        let next = match known {
            Some(_) if is_list && is_whole => known,
            // A part of the element before it.
            Some(_) if known == list => continue,
            Some(_) => return None,
            None => None,
        };
        if next != list || at - start >= piece {
            put(list, elements, &text[start..at]);
            (start, elements, list) = (at, 0, next);
        }
        elements += 1;
    }
    put(list, elements, &text[start..]);
    Some((rest, pieces))
}

/// `[first.…]` or `[[first.…]]`.
struct Header<'t> {
    at: usize,
    is_list: bool,
    /// The first part of the name, if it is written bare.
    first: Option<&'t str>,
    /// Whether the name has no other part.
    is_whole: bool,
}

/// The headers of a text, if it is TOML. Brackets that are in a value are none.
fn headers(text: &str) -> impl Iterator<Item = Header<'_>> {
    let mut tokens = Source::new(text).lex().filter(|token| token.kind() != TokenKind::Whitespace).peekable();
    let (mut depth, mut begins_line) = (0_usize, true);
    std::iter::from_fn(move || {
        loop {
            let token = tokens.next()?;
            let began_line = std::mem::replace(&mut begins_line, token.kind() == TokenKind::Newline);
            match token.kind() {
                TokenKind::LeftSquareBracket if depth == 0 && began_line => {
                    let mut next_if = |kind| tokens.next_if(|token: &Token| token.kind() == kind);
                    let is_list = next_if(TokenKind::LeftSquareBracket).is_some();
                    let first = next_if(TokenKind::Atom).map(|token| token.span());
                    let is_whole = next_if(TokenKind::RightSquareBracket).is_some();
                    while tokens.next_if(|token| token.kind() != TokenKind::Newline).is_some() {}
                    return Some(Header {
                        at: token.span().start(),
                        is_list,
                        first: first.map(|span| &text[span.start()..span.end()]),
                        is_whole,
                    });
                }
                TokenKind::LeftSquareBracket | TokenKind::LeftCurlyBracket => depth += 1,
                TokenKind::RightSquareBracket | TokenKind::RightCurlyBracket => {
                    depth = depth.saturating_sub(1);
                }
                _ => {}
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::policies::{BUILT_IN, file::PolicyFile};

    const LISTED: &str = "builtin = false # [[policies]]\n[[policies]]\nname = 'one'\n[policies.match]\npath = '/a'\n\n\
        [[overrides]]\npolicy = '''\n[[policies]]\n'''\nkey = [\n[1], [\n[2]]]\n[[ policies ]] # more\nname = 2\n\
        [[policies.limits]]\nname = 'x'\n[defaults]\nenforcement = 'shadow'\n[[plans]]\nname = 'p'\n[overrides]\n";

    /// What is read of a text that is a tree as a whole.
    fn whole(text: &str) -> (String, Faults) {
        let mut faults = Faults::default();
        let file = PolicyFile::read(Document::whole(text.parse().expect("it is TOML")), &mut faults);
        (format!("{:?}", file.expect("a tree is whole")), faults)
    }

    #[rstest]
    #[case::the_built_in_policies(BUILT_IN)]
    #[case::every_kind_of_section(LISTED.trim_end_matches("[overrides]\n"))]
    #[case::nothing("")]
    #[case::nothing_but_a_list("[[plans]]\n[[plans]]\nname = 'p'\n[[plans]]")]
    #[case::a_list_that_nobody_knows("[[rules]]\na = 1\n[[policies]]\n[rules.b]\n")]
    #[case::lists_that_are_no_sections("plans = [{ name = 'a' }, 3]\n[[overrides]]\n[namespaces.'a.b']\n")]
    #[case::a_mark_of_the_byte_order("\u{feff}[[plans]]\nname = 'p'\n[[plans]]\n")]
    #[case::an_indented_header("  [[plans]]\n  name = 'p'\n\t[[ plans ]] # q\n\tname = 'q'")]
    #[case::a_table_of_several_lines(
        "[[policies]]\nplan = {\n  attribute = 'a',\n\n  default = [\n['x']],\n}\n[[policies]]\n"
    )]
    #[case::lines_of_windows(
        "[[plans]]\r\nname = 'p'\r\n[[plans]]\r\nname = 'q'\r\n[assignments.a]\r\nb = 'p'\r\n"
    )]
    fn what_is_read_in_pieces_is_what_is_read_as_a_whole(#[case] text: &str) {
        let (expected, expected_faults) = whole(text);
        for piece in [1, 30, 100, PIECE] {
            let mut faults = Faults::default();
            let document = Document::in_pieces(text, piece).expect("it can be cut");
            let file = PolicyFile::read(document, &mut faults).expect("its pieces are TOML");
            assert_eq!(format!("{file:?}"), expected, "in pieces of {piece} bytes");
            assert_eq!(faults.0, expected_faults.0, "in pieces of {piece} bytes");
        }
    }

    #[rstest]
    #[case::a_list_that_is_also_a_table(LISTED)]
    #[case::a_part_of_an_element_of_another_list("[[policies]]\n[[plans]]\n[policies.match]\n")]
    #[case::a_quoted_name("[['policies']]\n")]
    #[case::no_name("[]\n")]
    #[case::a_fault_of_the_rest("a = \n[[policies]]\n")]
    fn what_cannot_be_cut_is_not(#[case] text: &str) {
        assert!(Document::in_pieces(text, 1).is_none());
    }

    #[rstest]
    #[case::a_fault_of_a_piece("[[policies]]\na = 1\n[[policies]]\na = \n")]
    #[case::a_list_that_is_written_in_two_ways("policies = []\n[[policies]]\n")]
    fn what_is_no_toml_is_unfit(#[case] text: &str) {
        assert!(text.parse::<Table>().is_err());
        let document = Document::in_pieces(text, 1).expect("it can be cut");
        assert_eq!(PolicyFile::read(document, &mut Faults::default()).err(), Some(Unfit));
    }
}
