//! Evaluation of the tree, counted step by step.

use super::{
    EvaluationError,
    arithmetic::{arithmetic, negate},
    cost::{Cost, Evaluated, failed},
    functions::{self, Function},
    tree::{Access, Comprehension, Macro, Node, NodeKind, Operator},
    value::{Fields, List, Text, Value},
};
use serde_json::{Map, Value as Json};
use std::{cmp::Ordering, rc::Rc};

/// Evaluates a condition on an object.
pub(super) fn evaluate(root: &Node, object: &Map<String, Json>) -> Result<bool, EvaluationError> {
    let evaluation = Evaluation {
        object,
        cost: Cost::new(),
    };
    match evaluation.eval(root, None)? {
        Value::Bool(result) => Ok(result),
        other => Err(EvaluationError::Value(format!(
            "its result is not true or false, but of type {}",
            other.type_name()
        ))),
    }
}

/// A variable of a macro, and those around it.
struct Scope<'s, 'a> {
    name: &'a str,
    value: Value<'a>,
    outer: Option<&'s Scope<'s, 'a>>,
}

struct Evaluation<'a> {
    object: &'a Map<String, Json>,
    cost: Cost,
}

type Around<'s, 'a> = Option<&'s Scope<'s, 'a>>;

impl<'a> Evaluation<'a> {
    fn eval(&self, node: &'a Node, scope: Around<'_, 'a>) -> Evaluated<'a> {
        self.cost.step()?;
        match &node.kind {
            NodeKind::Null => Ok(Value::Null),
            NodeKind::Bool(value) => Ok(Value::Bool(*value)),
            NodeKind::Int(number) => Ok(Value::Int(*number)),
            NodeKind::Uint(number) => Ok(Value::Uint(*number)),
            NodeKind::Double(number) => Ok(Value::Double(*number)),
            NodeKind::Text(text) => Ok(Value::Text(Text::Borrowed(text))),
            NodeKind::Variable(name) => self.variable(name, scope),
            NodeKind::Select {
                operand,
                field,
                access,
            } => {
                let value = self.eval(operand, scope)?;
                self.select(operand, &value, field, *access)
            }
            NodeKind::Index {
                operand,
                key,
                optional,
            } => {
                let value = self.eval(operand, scope)?;
                let key = self.eval(key, scope)?;
                self.index(&value, &key, *optional)
            }
            NodeKind::Call {
                function,
                arguments,
            } => self.call(*function, arguments, scope),
            NodeKind::Matches { text, pattern } => match self.eval(text, scope)? {
                Value::Text(text) => Ok(Value::Bool(pattern.is_match(text.as_str(), &self.cost)?)),
                other => failed(format!("matches() does not take {}", other.type_name())),
            },
            NodeKind::List(nodes) => Ok(Value::list(self.eval_all(nodes, scope)?)),
            NodeKind::Map(entries) => {
                let entries = entries
                    .iter()
                    .map(|(key, value)| Ok((self.eval(key, scope)?, self.eval(value, scope)?)))
                    .collect::<Result<Rc<[_]>, EvaluationError>>()?;
                Ok(Value::Map(Fields::Computed(entries)))
            }
            NodeKind::Not(node) => match self.eval(node, scope)? {
                Value::Bool(value) => Ok(Value::Bool(!value)),
                other => failed(format!("! does not take {}", other.type_name())),
            },
            NodeKind::Negate(node) => negate(&self.eval(node, scope)?),
            NodeKind::Binary { operator, sides } => {
                let [left, right] = &**sides;
                let (left, right) = (self.eval(left, scope)?, self.eval(right, scope)?);
                self.binary(*operator, &left, &right)
            }
            NodeKind::And(nodes) => {
                self.first_decisive(nodes.iter().map(|node| self.eval(node, scope)), false)
            }
            NodeKind::Or(nodes) => {
                self.first_decisive(nodes.iter().map(|node| self.eval(node, scope)), true)
            }
            NodeKind::Conditional(nodes) => {
                let [condition, then, otherwise] = &**nodes;
                match self.eval(condition, scope)? {
                    Value::Bool(true) => self.eval(then, scope),
                    Value::Bool(false) => self.eval(otherwise, scope),
                    other => failed(format!("?: does not take {}", other.type_name())),
                }
            }
            NodeKind::Comprehension(comprehension) => self.comprehension(comprehension, scope),
        }
    }

    /// Calls a function; an alternative that is not needed is not evaluated.
    fn call(
        &self,
        function: Function,
        arguments: &'a [Node],
        scope: Around<'_, 'a>,
    ) -> Evaluated<'a> {
        let mut values = Vec::with_capacity(arguments.len());
        for argument in arguments {
            if let Some(decided) = function.decided(&values) {
                return Ok(decided);
            }
            values.push(self.eval(argument, scope)?);
        }
        function.call(&values, &self.cost)
    }

    fn eval_all(
        &self,
        nodes: &'a [Node],
        scope: Around<'_, 'a>,
    ) -> Result<Vec<Value<'a>>, EvaluationError> {
        nodes.iter().map(|node| self.eval(node, scope)).collect()
    }

    fn variable(&self, name: &str, mut scope: Around<'_, 'a>) -> Evaluated<'a> {
        while let Some(around) = scope {
            if around.name == name {
                return Ok(around.value.clone());
            }
            scope = around.outer;
        }
        match self.object.get(name) {
            Some(value) => Ok(value.into()),
            None => failed(format!("the object has no field `{name}`")),
        }
    }

    /// Combines conditions: one that decides counts more than a failure of another.
    fn first_decisive(
        &self,
        results: impl Iterator<Item = Evaluated<'a>>,
        decisive: bool,
    ) -> Evaluated<'a> {
        let mut failure = None;
        for result in results {
            match result {
                Ok(Value::Bool(value)) if value == decisive => return Ok(Value::Bool(decisive)),
                Ok(Value::Bool(_)) => {}
                Ok(other) => {
                    let operator = if decisive { "||" } else { "&&" };
                    let message = format!("{operator} does not take {}", other.type_name());
                    failure = failure.or(Some(EvaluationError::Value(message)));
                }
                Err(EvaluationError::TooCostly) => return Err(EvaluationError::TooCostly),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        failure.map_or(Ok(Value::Bool(!decisive)), Err)
    }

    /// Selects a field by name.
    fn select(
        &self,
        operand: &Node,
        value: &Value<'a>,
        field: &str,
        access: Access,
    ) -> Evaluated<'a> {
        let key = Value::Text(Text::Borrowed(field));
        let (value, is_optional) = match value {
            Value::Optional(None) if access == Access::Test => return Ok(Value::Bool(false)),
            Value::Optional(None) => return Ok(Value::optional(None)),
            Value::Optional(Some(value)) => (&**value, true),
            value => (value, false),
        };
        let Value::Map(fields) = value else {
            return failed(format!(
                "{} is no map, and has no field `{field}`",
                operand
                    .path()
                    .unwrap_or_else(|| value.type_name().to_owned())
            ));
        };
        self.cost.look_up(fields, &key)?;
        let found = fields.get(&key);
        match (found, access) {
            (found, Access::Test) => Ok(Value::Bool(found.is_some())),
            (found, Access::Optional) => Ok(Value::optional(found)),
            (found, Access::Plain) if is_optional => Ok(Value::optional(found)),
            (Some(found), Access::Plain) => Ok(found),
            (None, Access::Plain) => failed(match operand.path() {
                Some(path) => format!("{path} has no field `{field}`"),
                None => format!("there is no field `{field}`"),
            }),
        }
    }

    fn index(&self, value: &Value<'a>, key: &Value<'a>, optional: bool) -> Evaluated<'a> {
        let (value, optional) = match value {
            Value::Optional(None) => return Ok(Value::optional(None)),
            Value::Optional(Some(value)) => (&**value, true),
            value => (value, optional),
        };
        let found = match value {
            Value::List(list) => match key.as_index() {
                Some(index) => list.get(index),
                None if matches!(key, Value::Int(_)) => None,
                None => return failed(format!("a list has no index {}", key.type_name())),
            },
            Value::Map(fields) => {
                self.cost.look_up(fields, key)?;
                fields.get(key)
            }
            other => return failed(format!("[] does not take {}", other.type_name())),
        };
        match (found, optional) {
            (found, true) => Ok(Value::optional(found)),
            (Some(found), false) => Ok(found),
            (None, false) => failed(match key {
                Value::Int(number) => format!("there is no element {number}"),
                Value::Text(text) => {
                    format!(
                        "there is no key {:?}",
                        crate::core::text::plain(text.as_str())
                    )
                }
                other => format!("there is no such {}", other.type_name()),
            }),
        }
    }

    fn binary(&self, operator: Operator, left: &Value<'a>, right: &Value<'a>) -> Evaluated<'a> {
        let ordered = |fits: fn(Ordering) -> bool| match left.compare(right) {
            Some(ordering) => Ok(Value::Bool(fits(ordering))),
            // NaN is neither less nor greater.
            None if is_number(left) && is_number(right) => Ok(Value::Bool(false)),
            None => failed(format!(
                "{} and {} have no order",
                left.type_name(),
                right.type_name()
            )),
        };
        if let (Value::Text(left), Value::Text(right)) = (left, right) {
            self.cost
                .text(left.as_str().len().min(right.as_str().len()))?;
        }
        match operator {
            Operator::Equal => Ok(Value::Bool(self.cost.equal(left, right)?)),
            Operator::Unequal => Ok(Value::Bool(!self.cost.equal(left, right)?)),
            Operator::Less => ordered(Ordering::is_lt),
            Operator::LessEqual => ordered(Ordering::is_le),
            Operator::Greater => ordered(Ordering::is_gt),
            Operator::GreaterEqual => ordered(Ordering::is_ge),
            Operator::In => match right {
                Value::List(list) => Ok(Value::Bool(functions::contains(list, left, &self.cost)?)),
                Value::Map(fields) => {
                    self.cost.look_up(fields, left)?;
                    Ok(Value::Bool(fields.get(left).is_some()))
                }
                other => failed(format!("in does not take {}", other.type_name())),
            },
            Operator::Add => match (left, right) {
                (Value::Text(left), Value::Text(right)) => {
                    functions::concatenate(left, right, &self.cost)
                }
                (Value::List(left), Value::List(right)) => {
                    self.cost.charge((left.len() + right.len()) as u64)?;
                    Ok(Value::list(left.iter().chain(right.iter()).collect()))
                }
                _ => arithmetic(operator, left, right),
            },
            Operator::Subtract | Operator::Multiply | Operator::Divide | Operator::Remainder => {
                arithmetic(operator, left, right)
            }
        }
    }

    fn comprehension(&self, macro_: &'a Comprehension, scope: Around<'_, 'a>) -> Evaluated<'a> {
        let elements = match self.eval(&macro_.range, scope)? {
            Value::List(list) => list,
            Value::Map(fields) => {
                self.cost.charge(fields.len() as u64)?;
                List::Computed(fields.keys().into())
            }
            other => {
                return failed(format!(
                    "a macro takes a list or a map, not {}",
                    other.type_name()
                ));
            }
        };
        let eval = |node: &'a Node, value: &Value<'a>| {
            let inner = Scope {
                name: &macro_.variable,
                value: value.clone(),
                outer: scope,
            };
            self.eval(node, Some(&inner))
        };
        let holds = |node: &'a Node, value: &Value<'a>| match eval(node, value)? {
            Value::Bool(holds) => Ok(holds),
            other => Err(EvaluationError::Value(format!(
                "the condition of a macro is not true or false, but {}",
                other.type_name()
            ))),
        };
        match macro_.kind {
            Macro::All | Macro::Exists => {
                let results = elements.iter().map(|value| eval(&macro_.body, &value));
                self.first_decisive(results, macro_.kind == Macro::Exists)
            }
            Macro::ExistsOne => {
                let mut count = 0;
                for value in elements.iter() {
                    count += u64::from(holds(&macro_.body, &value)?);
                }
                Ok(Value::Bool(count == 1))
            }
            Macro::Filter => {
                let mut found = Vec::new();
                for value in elements.iter() {
                    if holds(&macro_.body, &value)? {
                        found.push(value);
                    }
                }
                Ok(Value::list(found))
            }
            Macro::Map => {
                let mut mapped = Vec::new();
                for value in elements.iter() {
                    let is_included = match &macro_.filter {
                        Some(filter) => holds(filter, &value)?,
                        None => true,
                    };
                    if is_included {
                        mapped.push(eval(&macro_.body, &value)?);
                    }
                }
                Ok(Value::list(mapped))
            }
        }
    }
}

fn is_number(value: &Value<'_>) -> bool {
    matches!(value, Value::Int(_) | Value::Uint(_) | Value::Double(_))
}
