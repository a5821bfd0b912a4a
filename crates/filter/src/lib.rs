//! One filter tree for OPATH (`-Filter`) and OData (`$filter`), and its evaluator.
//!
//! This crate knows no SQL: `store` lowers what it can, the rest is evaluated over a stream.

mod evaluate;
mod opath;

pub use opath::{ParseError, parse_opath};

use exops_psobject::Value;

/// Comparison operators of OPATH. Text compares without case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operator {
    /// `-eq`
    Equal,
    /// `-ne`
    NotEqual,
    /// `-lt`
    Less,
    /// `-le`
    LessOrEqual,
    /// `-gt`
    Greater,
    /// `-ge`
    GreaterOrEqual,
    /// `-like`: `*` stands for any text
    Like,
    /// `-notlike`
    NotLike,
}

/// A filter over the properties of one object.
#[derive(Debug, Clone, PartialEq)]
pub enum Filter {
    /// Matches everything.
    All,
    /// One property against one literal. A list property matches when any item does.
    Compare {
        /// Property name as written.
        property: String,
        /// The comparison.
        operator: Operator,
        /// Text, number, boolean or null.
        value: Value,
    },
    /// Every part must match.
    And(Vec<Filter>),
    /// At least one part must match.
    Or(Vec<Filter>),
    /// The part must not match.
    Not(Box<Filter>),
}

impl Filter {
    /// Names of all properties that the filter reads, as written, in order, with repeats.
    #[must_use]
    pub fn properties(&self) -> Vec<&str> {
        let mut names = Vec::new();
        let mut stack = vec![self];
        while let Some(filter) = stack.pop() {
            match filter {
                Self::All => {}
                Self::Compare { property, .. } => names.push(property.as_str()),
                Self::And(parts) | Self::Or(parts) => stack.extend(parts.iter().rev()),
                Self::Not(part) => stack.push(part),
            }
        }
        names
    }
}
