//! What a policy asks of a request where the plain conditions are not enough: an expression in CEL, the
//! [Common Expression Language](https://cel.dev).

mod kinds;
mod scope;

use std::{
    sync::{Arc, LazyLock},
    thread,
};

use cel::{
    Context, Env, Value,
    common::types::CelBool,
    parser::{Expression as Tree, ParseErrors, Parser},
};

use self::scope::Scope;
use super::matcher::Attributes;

/// Levels that parentheses, brackets and conditionals may be nested in the text.
const MAX_NESTING: u16 = 16;

/// Stack for the parser. It needs a fair part of a mebibyte for one level when it is built without
/// optimizations, and meets texts that nobody has looked at: [`MAX_NESTING`] levels in
/// [`MAX_BYTES`](Expression::MAX_BYTES) were measured to take less than 4 MiB.
const PARSER_STACK_BYTES: usize = 32 << 20;

/// What functions the interpreter has; all that are not in [`kinds`] are refused beforehand.
static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// An expression that is true or false of a request.
///
/// It sees `attributes`, a map of strings in which an attribute with an empty value is absent and the
/// last of a repeated name counts, and `cost`, an integer. [`parse`](Self::parse) refuses whatever is
/// not sure to be a bool, and everything that loops, so the work to evaluate it is bounded by its
/// length and by the values it looks at.
#[derive(Debug)]
pub struct Expression {
    text: Box<str>,
    tree: Tree,
}

impl Expression {
    /// The longest text in bytes.
    pub const MAX_BYTES: usize = 2_048;

    /// Reads an expression and checks that its parts fit together.
    ///
    /// # Errors
    ///
    /// What is wrong with it, to be read after the name of the field: the first fault of the syntax,
    /// else every operand that does not fit.
    pub fn parse(text: &str) -> Result<Self, Vec<String>> {
        if text.len() > Self::MAX_BYTES {
            return Err(vec![format!("must be at most {} bytes, is {}", Self::MAX_BYTES, text.len())]);
        }
        // A tree that is refused for its depth is taken down in there as well.
        let parsed = thread::scope(|scope| {
            let parser = thread::Builder::new().stack_size(PARSER_STACK_BYTES);
            parser.spawn_scoped(scope, || parse(text)).map(thread::ScopedJoinHandle::join)
        });
        LazyLock::force(&ENVIRONMENT); // so that no check has to
        match parsed {
            Ok(Ok(tree)) => Ok(Self { text: text.into(), tree: tree? }),
            Ok(Err(_)) => Err(vec!["cannot be read: the parser of expressions panicked".to_owned()]),
            Err(error) => Err(vec![format!("cannot be read, since no thread can be had for it: {error}")]),
        }
    }

    /// The text it was read from.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it is true of a check of `cost`. It is not if it cannot be evaluated, as when it asks
    /// for the value of an absent attribute or divides by zero.
    pub fn holds<A: Attributes + ?Sized + Sync>(&self, attributes: &A, cost: u64) -> bool {
        let scope = Scope::new(attributes, cost);
        let mut context = Context::with_env(Arc::clone(&ENVIRONMENT));
        context.set_variable_resolver(&scope);
        Value::resolve_val(&self.tree, &context)
            .is_ok_and(|value| value.downcast_ref::<CelBool>().is_some_and(|holds| *holds.inner()))
    }
}

fn parse(text: &str) -> Result<Tree, Vec<String>> {
    let tree = Parser::new().max_recursion_depth(MAX_NESTING).parse(text);
    let tree = tree.map_err(|errors| vec![describe(&errors)])?;
    kinds::check(&tree)?;
    Ok(tree)
}

/// The first fault: those after it seldom mean anything.
fn describe(errors: &ParseErrors) -> String {
    if errors.errors.iter().any(|error| error.msg.contains("Recursion limit")) {
        return format!("is nested more than {MAX_NESTING} levels deep");
    }
    errors.errors.first().map_or_else(
        || "is not a CEL expression".to_owned(),
        |error| {
            let (line, column) = error.pos;
            let message = error.msg.strip_prefix("Syntax error: ").unwrap_or(&error.msg);
            // What could stand there instead is nearly every token there is.
            let message = message.split(" expecting {").next().unwrap_or(message).replace('\n', " ");
            format!("is not a CEL expression: line {line}, column {column}: {message}")
        },
    )
}

#[cfg(test)]
mod tests;
