//! The bound of an evaluation, paid step by step.

use super::{
    EvaluationError, MAX_COST,
    value::{Fields, Value, compare_numbers},
};
use std::{cell::Cell, cmp::Ordering};

pub(super) type Evaluated<'a> = Result<Value<'a>, EvaluationError>;

/// Fails with a message.
pub(super) fn failed<'a>(message: impl Into<String>) -> Evaluated<'a> {
    Err(EvaluationError::Value(message.into()))
}

/// The steps that an evaluation has left.
pub(super) struct Cost {
    left: Cell<u64>,
}

impl Cost {
    pub(super) fn new() -> Self {
        Self {
            left: Cell::new(MAX_COST),
        }
    }

    /// Bytes of text that cost a step to copy or compare.
    const TEXT_STEP: usize = 32;

    pub(super) fn charge(&self, steps: u64) -> Result<(), EvaluationError> {
        match self.left.get().checked_sub(steps) {
            Some(left) => {
                self.left.set(left);
                Ok(())
            }
            None => {
                self.left.set(0);
                Err(EvaluationError::TooCostly)
            }
        }
    }

    pub(super) fn step(&self) -> Result<(), EvaluationError> {
        self.charge(1)
    }

    /// Charges for work on text of a length.
    pub(super) fn text(&self, length: usize) -> Result<(), EvaluationError> {
        self.charge(1 + (length / Self::TEXT_STEP) as u64)
    }

    /// Charges for a look-up: a literal has no index, and long keys cost more.
    pub(super) fn look_up(
        &self,
        fields: &Fields<'_>,
        key: &Value<'_>,
    ) -> Result<(), EvaluationError> {
        let comparison = match key {
            Value::Text(text) => (text.as_str().len() / Self::TEXT_STEP) as u64,
            _ => 0,
        };
        self.charge(match fields {
            Fields::Borrowed(fields) => {
                comparison * u64::from(1 + fields.len().checked_ilog2().unwrap_or(0))
            }
            Fields::Computed(fields) => (fields.len() as u64).saturating_mul(1 + comparison),
        })
    }

    /// Compares two values; those of different types are unequal.
    pub(super) fn equal(
        &self,
        left: &Value<'_>,
        right: &Value<'_>,
    ) -> Result<bool, EvaluationError> {
        self.step()?;
        match (left, right) {
            (Value::Null, Value::Null) => Ok(true),
            (Value::Bool(left), Value::Bool(right)) => Ok(left == right),
            (Value::Text(left), Value::Text(right)) => {
                self.text(left.as_str().len().min(right.as_str().len()))?;
                Ok(left.as_str() == right.as_str())
            }
            (Value::List(left), Value::List(right)) => {
                if left.len() != right.len() {
                    return Ok(false);
                }
                for (left, right) in left.iter().zip(right.iter()) {
                    if !self.equal(&left, &right)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            (Value::Map(left), Value::Map(right)) => {
                if left.len() != right.len() {
                    return Ok(false);
                }
                self.charge(left.len() as u64)?;
                for key in left.keys() {
                    self.look_up(left, &key)?;
                    self.look_up(right, &key)?;
                    let (Some(left), Some(right)) = (left.get(&key), right.get(&key)) else {
                        return Ok(false);
                    };
                    if !self.equal(&left, &right)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            (Value::Optional(left), Value::Optional(right)) => match (left, right) {
                (Some(left), Some(right)) => self.equal(left, right),
                (left, right) => Ok(left.is_none() && right.is_none()),
            },
            (Value::Timestamp(left), Value::Timestamp(right)) => Ok(left == right),
            (Value::Duration(left), Value::Duration(right)) => Ok(left == right),
            (left, right) => Ok(compare_numbers(left, right) == Some(Ordering::Equal)),
        }
    }
}
