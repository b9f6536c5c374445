//! The Common Expression Language (CEL) with bounds: conditions on a JSON object.
//!
//! ```text
//! text ─▶ lexer ─▶ parser ─▶ Node (nesting ≤ MAX_DEPTH) ─▶ eval (at most MAX_COST steps) ─▶ true, false, or why not
//! ```
//!
//! An expression may come from one tenant and the object from another, so every step is bounded:
//! the text by [`MAX_LENGTH`], the nesting of the tree (and with it the stack) by [`MAX_DEPTH`],
//! and time and memory of an evaluation by [`MAX_COST`]. The bounds are counted, not timed: an
//! expression gives the same result on a busy machine. Of the crates that implement CEL, none has
//! such bounds (see `docs/architecture.md`).
//!
//! The language is that of Flux' `healthCheckExprs`: the macros and operators of CEL, optional
//! fields (`a.?b`), and the functions of `functions`. The fields of the object are the variables.
//! Left out, with an error when the expression is read: messages, bytes, and other functions.

mod arithmetic;
mod cost;
mod eval;
mod functions;
mod lexer;
mod parser;
mod pattern;
#[cfg(test)]
mod tests;
mod tree;
mod value;

use serde_json::{Map, Value};
use std::{fmt, sync::Arc};
use tree::Node;

/// The longest text of an expression, in bytes.
pub const MAX_LENGTH: usize = 4096;

/// The deepest nesting of an expression.
pub const MAX_DEPTH: u8 = 48;

/// The most steps of one evaluation: a few milliseconds, and a few megabytes.
pub const MAX_COST: u64 = 100_000;

/// A condition on a JSON object, read and checked.
#[derive(Clone)]
pub struct Expression(Arc<Parsed>);

struct Parsed {
    source: String,
    root: Node,
    patterns: u8,
}

/// An expression that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}, at character {position}")]
pub struct ParseError {
    pub message: String,
    /// The character of the expression, from 1.
    pub position: usize,
}

/// An evaluation without a result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvaluationError {
    /// A missing field, or a value of another type than the operation needs.
    #[error("{0}")]
    Value(String),
    #[error("it takes more than {MAX_COST} steps for this object")]
    TooCostly,
}

impl Expression {
    /// Reads an expression.
    ///
    /// # Errors
    /// The first mistake: of syntax, an unknown function, or a bound.
    pub fn parse(source: &str) -> Result<Self, ParseError> {
        let (root, patterns) = parser::parse(source)?;
        Ok(Self(Arc::new(Parsed {
            source: source.to_owned(),
            root,
            patterns,
        })))
    }

    /// Returns the text of the expression.
    pub fn source(&self) -> &str {
        &self.0.source
    }

    /// Returns how many patterns of `matches` were compiled.
    pub fn patterns(&self) -> u8 {
        self.0.patterns
    }

    /// Evaluates the condition; the fields of the object are its variables.
    ///
    /// # Errors
    /// If a field is missing, a value has the wrong type, or a bound is exceeded.
    pub fn evaluate(&self, object: &Map<String, Value>) -> Result<bool, EvaluationError> {
        eval::evaluate(&self.0.root, object)
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expression").field(&self.0.source).finish()
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.0.source == other.0.source
    }
}

impl Eq for Expression {}
