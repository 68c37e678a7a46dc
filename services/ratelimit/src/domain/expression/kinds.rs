//! What the parts of an expression are, found before any request is seen.

use std::fmt;

use cel::{
    common::ast::{CallExpr, Expr, LiteralValue, operators},
    parser::Expression as Tree,
};

use super::scope::{ATTRIBUTES, COST};

/// Levels of the tree, each a call of the interpreter within another. A chain of `&&` or `||` takes
/// as many as its logarithm, since the parser balances it; any other chain takes one for each link.
pub(super) const MAX_DEPTH: usize = 32;

/// What a part can be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Bool,
    Int,
    Text,
    Ints,
    Texts,
    Attributes,
    /// It has a fault, which is noted.
    Faulty,
}

use Kind::{Attributes, Bool, Faulty, Int, Ints, Text, Texts};

/// What the operators and functions take, a receiver first, and what they give.
const CALLS: &[(&str, &[Kind], Kind)] = &[
    (operators::LOGICAL_AND, &[Bool, Bool], Bool),
    (operators::LOGICAL_OR, &[Bool, Bool], Bool),
    (operators::LOGICAL_NOT, &[Bool], Bool),
    (operators::CONDITIONAL, &[Bool, Bool, Bool], Bool),
    (operators::CONDITIONAL, &[Bool, Int, Int], Int),
    (operators::CONDITIONAL, &[Bool, Text, Text], Text),
    (operators::EQUALS, &[Bool, Bool], Bool),
    (operators::EQUALS, &[Int, Int], Bool),
    (operators::EQUALS, &[Text, Text], Bool),
    (operators::NOT_EQUALS, &[Bool, Bool], Bool),
    (operators::NOT_EQUALS, &[Int, Int], Bool),
    (operators::NOT_EQUALS, &[Text, Text], Bool),
    (operators::LESS, &[Int, Int], Bool),
    (operators::LESS, &[Text, Text], Bool),
    (operators::LESS_EQUALS, &[Int, Int], Bool),
    (operators::LESS_EQUALS, &[Text, Text], Bool),
    (operators::GREATER, &[Int, Int], Bool),
    (operators::GREATER, &[Text, Text], Bool),
    (operators::GREATER_EQUALS, &[Int, Int], Bool),
    (operators::GREATER_EQUALS, &[Text, Text], Bool),
    (operators::ADD, &[Int, Int], Int),
    (operators::ADD, &[Text, Text], Text),
    (operators::SUBSTRACT, &[Int, Int], Int),
    (operators::MULTIPLY, &[Int, Int], Int),
    (operators::DIVIDE, &[Int, Int], Int),
    (operators::MODULO, &[Int, Int], Int),
    (operators::NEGATE, &[Int], Int),
    (operators::IN, &[Text, Attributes], Bool),
    (operators::IN, &[Text, Texts], Bool),
    (operators::IN, &[Int, Ints], Bool),
    (operators::INDEX, &[Attributes, Text], Text),
    ("size", &[Text], Int),
    ("int", &[Text], Int),
    ("string", &[Int], Text),
];

/// As [`CALLS`], written with a dot behind the first.
const METHODS: &[(&str, &[Kind], Kind)] = &[
    ("contains", &[Text, Text], Bool),
    ("endsWith", &[Text, Text], Bool),
    ("size", &[Text], Int),
    ("startsWith", &[Text, Text], Bool),
];

/// Checks that every part fits, that the whole is a bool, and that it is not too deep.
pub(super) fn check(tree: &Tree) -> Result<(), Vec<String>> {
    let mut faults = Faults(Vec::new());
    let kind = faults.kind_of(tree, 1);
    if !matches!(kind, Bool | Faulty) {
        faults.note(format!("must be a bool, is {kind}"));
    }
    if faults.0.is_empty() { Ok(()) } else { Err(faults.0) }
}

struct Faults(Vec<String>);

impl Faults {
    fn note(&mut self, fault: impl Into<String>) -> Kind {
        let fault = fault.into();
        if !self.0.contains(&fault) {
            self.0.push(fault);
        }
        Faulty
    }

    fn kind_of(&mut self, tree: &Tree, depth: usize) -> Kind {
        if depth > MAX_DEPTH {
            return self.note(format!("is more than {MAX_DEPTH} operations deep"));
        }
        match &tree.expr {
            Expr::Literal(literal) => match literal {
                LiteralValue::Boolean(_) => Bool,
                LiteralValue::Int(_) => Int,
                LiteralValue::String(_) => Text,
                LiteralValue::Bytes(_)
                | LiteralValue::Double(_)
                | LiteralValue::Null
                | LiteralValue::UInt(_) => {
                    self.note("has a literal that is neither a bool, nor an int, nor a string")
                }
            },
            Expr::Ident(name) => match name.as_str() {
                ATTRIBUTES => Attributes,
                COST => Int,
                _ => self.note(format!("there is no variable {name:?}; there are {ATTRIBUTES} and {COST}")),
            },
            Expr::Select(select) => match self.kind_of(&select.operand, depth + 1) {
                Attributes if select.test => Bool,
                Attributes => Text,
                Faulty => Faulty,
                other => self.note(format!("{other} has no field {:?}", select.field)),
            },
            Expr::List(list) => {
                let mut kinds: Vec<_> =
                    list.elements.iter().map(|element| self.kind_of(element, depth + 1)).collect();
                kinds.dedup();
                match kinds[..] {
                    [Int] => Ints,
                    [Text] => Texts,
                    [] => self.note("has an empty list"),
                    _ if kinds.contains(&Faulty) => Faulty,
                    _ => self.note("has a list that is neither of ints nor of strings"),
                }
            }
            Expr::Call(call) => self.kind_of_call(call, depth),
            Expr::Comprehension(_) => {
                self.note("must not loop: all, exists, exists_one, filter and map are not available")
            }
            Expr::Map(_) | Expr::Struct(_) => self.note("has a map; there is none but attributes"),
            Expr::Unspecified => self.note("is empty"),
        }
    }

    fn kind_of_call(&mut self, call: &CallExpr, depth: usize) -> Kind {
        let operands = call.target.as_deref().into_iter().chain(&call.args);
        let operands: Vec<_> = operands.map(|operand| self.kind_of(operand, depth + 1)).collect();
        let known = if call.target.is_some() { METHODS } else { CALLS };
        let name = call.func_name.as_str();
        if !known.iter().any(|(known, ..)| *known == name) {
            let functions = known.iter().map(|(name, ..)| *name).filter(|name| !is_operator(name));
            let functions: Vec<_> = functions.collect();
            let form = if call.target.is_some() { "method" } else { "function" };
            return self.note(format!("there is no {form} {name:?}; there are {}", functions.join(", ")));
        }
        if operands.contains(&Faulty) {
            return Faulty;
        }
        match known.iter().find(|(known, takes, _)| *known == name && **takes == operands[..]) {
            Some((_, _, gives)) => *gives,
            None => {
                let shown = name.replace(['_', '@'], "");
                let operands: Vec<_> = operands.iter().map(ToString::to_string).collect();
                self.note(format!("{shown} cannot be applied to {}", operands.join(" and ")))
            }
        }
    }
}

fn is_operator(name: &str) -> bool {
    !name.bytes().all(|byte| byte.is_ascii_alphabetic())
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Bool => "a bool",
            Self::Int => "an int",
            Self::Text => "a string",
            Self::Ints => "a list of ints",
            Self::Texts => "a list of strings",
            Self::Attributes => "the map of attributes",
            Self::Faulty => "faulty",
        })
    }
}
