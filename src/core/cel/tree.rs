//! The syntax tree of an expression.

use super::{functions::Function, pattern::Pattern};

/// A node of the tree.
#[derive(Debug)]
pub(super) struct Node {
    pub kind: NodeKind,
    /// One more than that of its deepest child.
    pub depth: u8,
    /// The byte of the source where it begins.
    pub at: usize,
}

#[derive(Debug)]
pub(super) enum NodeKind {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(String),
    Variable(String),
    /// `operand.field`, `operand.?field`, or `has(operand.field)`.
    Select {
        operand: Box<Node>,
        field: String,
        access: Access,
    },
    Index {
        operand: Box<Node>,
        key: Box<Node>,
        optional: bool,
    },
    Call {
        function: Function,
        /// The receiver of a method comes first.
        arguments: Vec<Node>,
    },
    /// `text.matches(pattern)`.
    Matches {
        text: Box<Node>,
        pattern: Pattern,
    },
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
    Not(Box<Node>),
    Negate(Box<Node>),
    Binary {
        operator: Operator,
        sides: Box<[Node; 2]>,
    },
    And(Vec<Node>),
    Or(Vec<Node>),
    /// The condition, and the values if it holds and if not.
    Conditional(Box<[Node; 3]>),
    Comprehension(Box<Comprehension>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Plain,
    Optional,
    Test,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    Unequal,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    In,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

/// A macro over the elements of a list or the keys of a map.
#[derive(Debug)]
pub(super) struct Comprehension {
    pub kind: Macro,
    pub range: Node,
    pub variable: String,
    /// The condition of a `map` with three arguments.
    pub filter: Option<Node>,
    pub body: Node,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Macro {
    All,
    Exists,
    ExistsOne,
    Filter,
    Map,
}

impl Macro {
    pub(super) fn of(name: &str) -> Option<Self> {
        Some(match name {
            "all" => Macro::All,
            "exists" => Macro::Exists,
            "exists_one" | "existsOne" => Macro::ExistsOne,
            "filter" => Macro::Filter,
            "map" => Macro::Map,
            _ => return None,
        })
    }
}

impl Node {
    /// Returns the path of a field that is selected by names only, as `status.phase`.
    pub(super) fn path(&self) -> Option<String> {
        match &self.kind {
            NodeKind::Variable(name) => Some(name.clone()),
            NodeKind::Select { operand, field, .. } => Some(format!("{}.{field}", operand.path()?)),
            _ => None,
        }
    }

    pub(super) fn children(&self) -> Vec<&Node> {
        match &self.kind {
            NodeKind::Null
            | NodeKind::Bool(_)
            | NodeKind::Int(_)
            | NodeKind::Uint(_)
            | NodeKind::Double(_)
            | NodeKind::Text(_)
            | NodeKind::Variable(_) => Vec::new(),
            NodeKind::Select { operand, .. } => vec![operand],
            NodeKind::Matches { text: node, .. } | NodeKind::Not(node) | NodeKind::Negate(node) => {
                vec![node]
            }
            NodeKind::Index { operand, key, .. } => vec![operand, key],
            NodeKind::Call {
                arguments: nodes, ..
            }
            | NodeKind::List(nodes)
            | NodeKind::And(nodes)
            | NodeKind::Or(nodes) => nodes.iter().collect(),
            NodeKind::Map(entries) => entries.iter().flat_map(|(k, v)| [k, v]).collect(),
            NodeKind::Binary { sides, .. } => sides.iter().collect(),
            NodeKind::Conditional(nodes) => nodes.iter().collect(),
            NodeKind::Comprehension(comprehension) => [&comprehension.range, &comprehension.body]
                .into_iter()
                .chain(&comprehension.filter)
                .collect(),
        }
    }

    /// Returns whether its value cannot be true or false.
    pub(super) fn is_no_condition(&self) -> bool {
        match &self.kind {
            NodeKind::Null
            | NodeKind::Int(_)
            | NodeKind::Uint(_)
            | NodeKind::Double(_)
            | NodeKind::Text(_)
            | NodeKind::List(_)
            | NodeKind::Map(_)
            | NodeKind::Negate(_) => true,
            NodeKind::Binary { operator, .. } => matches!(
                operator,
                Operator::Add
                    | Operator::Subtract
                    | Operator::Multiply
                    | Operator::Divide
                    | Operator::Remainder
            ),
            NodeKind::Comprehension(comprehension) => {
                matches!(comprehension.kind, Macro::Filter | Macro::Map)
            }
            _ => false,
        }
    }
}
