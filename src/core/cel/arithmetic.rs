//! Arithmetic without overflow.

use super::{
    cost::{Evaluated, failed},
    tree::Operator,
    value::Value,
};

pub(super) fn negate<'a>(value: &Value<'_>) -> Evaluated<'a> {
    match value {
        Value::Int(number) => match number.checked_neg() {
            Some(number) => Ok(Value::Int(number)),
            None => failed("- is out of range"),
        },
        Value::Double(number) => Ok(Value::Double(-number)),
        Value::Duration(duration) => match duration.checked_neg() {
            Some(duration) => Ok(Value::Duration(duration)),
            None => failed("- is out of range"),
        },
        other => failed(format!("- does not take {}", other.type_name())),
    }
}

pub(super) fn arithmetic<'a>(
    operator: Operator,
    left: &Value<'a>,
    right: &Value<'a>,
) -> Evaluated<'a> {
    use Operator::{Add, Divide, Multiply, Remainder, Subtract};
    let symbol = match operator {
        Add => "+",
        Subtract => "-",
        Multiply => "*",
        Divide => "/",
        _ => "%",
    };
    let result = match (left, right) {
        (Value::Int(left), Value::Int(right)) => match operator {
            Add => left.checked_add(*right),
            Subtract => left.checked_sub(*right),
            Multiply => left.checked_mul(*right),
            Divide => left.checked_div(*right),
            _ => left.checked_rem(*right),
        }
        .map(Value::Int),
        (Value::Uint(left), Value::Uint(right)) => match operator {
            Add => left.checked_add(*right),
            Subtract => left.checked_sub(*right),
            Multiply => left.checked_mul(*right),
            Divide => left.checked_div(*right),
            _ => left.checked_rem(*right),
        }
        .map(Value::Uint),
        (Value::Double(left), Value::Double(right)) if operator != Remainder => {
            Some(Value::Double(match operator {
                Add => left + right,
                Subtract => left - right,
                Multiply => left * right,
                _ => left / right,
            }))
        }
        (Value::Timestamp(left), Value::Timestamp(right)) if operator == Subtract => {
            Some(Value::Duration(left.duration_since(*right)))
        }
        (Value::Timestamp(at), Value::Duration(by)) if operator == Add => {
            at.checked_add(*by).ok().map(Value::Timestamp)
        }
        (Value::Duration(by), Value::Timestamp(at)) if operator == Add => {
            at.checked_add(*by).ok().map(Value::Timestamp)
        }
        (Value::Timestamp(at), Value::Duration(by)) if operator == Subtract => {
            at.checked_sub(*by).ok().map(Value::Timestamp)
        }
        (Value::Duration(left), Value::Duration(right)) if operator == Add => {
            left.checked_add(*right).map(Value::Duration)
        }
        (Value::Duration(left), Value::Duration(right)) if operator == Subtract => {
            left.checked_sub(*right).map(Value::Duration)
        }
        (left, right) => {
            let types = (left.type_name(), right.type_name());
            return failed(format!(
                "{symbol} does not take {} and {}",
                types.0, types.1
            ));
        }
    };
    match result {
        Some(result) => Ok(result),
        None => failed(format!("the result of {symbol} is out of range")),
    }
}
