//! The recursive descent that makes the syntax tree of an expression.

use super::{
    MAX_DEPTH, MAX_LENGTH, ParseError,
    functions::{self, Function},
    lexer::{self, Lexeme, Token},
    pattern::Pattern,
    tree::{Access, Comprehension, Macro, Node, NodeKind, Operator},
};

/// Reads a condition, and counts its patterns.
pub(super) fn parse(source: &str) -> Result<(Node, u8), ParseError> {
    if source.len() > MAX_LENGTH {
        let message = format!(
            "the expression has {} bytes, and at most {MAX_LENGTH} are allowed",
            source.len()
        );
        return Err(lexer::error(source, 0, message));
    }
    let mut parser = Parser {
        source,
        tokens: lexer::tokens(source)?,
        next: 0,
        nesting: 0,
        names: Vec::new(),
        patterns: 0,
    };
    let root = parser.expression()?;
    if *parser.peek() != Token::End {
        return parser.unexpected();
    }
    if root.is_no_condition() {
        return Err(lexer::error(
            source,
            root.at,
            "the result must be true or false",
        ));
    }
    Ok((root, parser.patterns))
}

struct Parser<'s> {
    source: &'s str,
    tokens: Vec<Lexeme>,
    next: usize,
    /// The number of open expressions, each of which needs stack.
    nesting: u8,
    /// The variables of the macros around.
    names: Vec<String>,
    /// The number of patterns compiled.
    patterns: u8,
}

type Parsed = Result<Node, ParseError>;

impl Parser<'_> {
    fn peek(&self) -> &Token {
        &self.tokens[self.next].token
    }

    fn at(&self) -> usize {
        self.tokens[self.next].at
    }

    /// Takes a symbol, if it is the next token.
    fn take(&mut self, symbol: &'static str) -> bool {
        let is_next = *self.peek() == Token::Symbol(symbol);
        self.next += usize::from(is_next);
        is_next
    }

    fn expect(&mut self, symbol: &'static str) -> Result<(), ParseError> {
        if self.take(symbol) {
            return Ok(());
        }
        let found = self.describe();
        self.fail(self.at(), format!("expected {symbol:?}, found {found}"))
    }

    fn ident(&mut self) -> Result<String, ParseError> {
        if let Token::Ident(name) = self.peek() {
            let name = name.clone();
            self.next += 1;
            return Ok(name);
        }
        let found = self.describe();
        self.fail(self.at(), format!("expected a name, found {found}"))
    }

    fn describe(&self) -> String {
        match self.peek() {
            Token::End => "the end".to_owned(),
            Token::Symbol(symbol) => format!("{symbol:?}"),
            Token::Ident(name) => format!("{name:?}"),
            Token::Text(_) => "text".to_owned(),
            Token::Int(_) | Token::Uint(_) | Token::Double(_) => "a number".to_owned(),
        }
    }

    fn unexpected<T>(&self) -> Result<T, ParseError> {
        self.fail(self.at(), format!("{} is unexpected", self.describe()))
    }

    fn fail<T>(&self, at: usize, message: impl Into<String>) -> Result<T, ParseError> {
        Err(lexer::error(self.source, at, message))
    }

    /// Creates a node, unless it is nested too deeply.
    fn node(&self, at: usize, kind: NodeKind) -> Parsed {
        let mut node = Node { kind, depth: 0, at };
        let deepest = node.children().iter().map(|child| child.depth).max();
        node.depth = deepest.map_or(0, |depth| depth + 1);
        match node.depth < MAX_DEPTH {
            true => Ok(node),
            false => self.fail(at, "the expression is nested too deeply"),
        }
    }

    fn expression(&mut self) -> Parsed {
        let at = self.at();
        self.nesting += 1;
        if self.nesting >= MAX_DEPTH {
            return self.fail(at, "the expression is nested too deeply");
        }
        let mut node = self.alternatives()?;
        if self.take("?") {
            let then = self.alternatives()?;
            self.expect(":")?;
            let otherwise = self.expression()?;
            node = self.node(at, NodeKind::Conditional(Box::new([node, then, otherwise])))?;
        }
        self.nesting -= 1;
        Ok(node)
    }

    fn alternatives(&mut self) -> Parsed {
        let at = self.at();
        let first = self.conjunction()?;
        if *self.peek() != Token::Symbol("||") {
            return Ok(first);
        }
        let mut all = vec![first];
        while self.take("||") {
            all.push(self.conjunction()?);
        }
        self.node(at, NodeKind::Or(all))
    }

    fn conjunction(&mut self) -> Parsed {
        let at = self.at();
        let first = self.binary(0)?;
        if *self.peek() != Token::Symbol("&&") {
            return Ok(first);
        }
        let mut all = vec![first];
        while self.take("&&") {
            all.push(self.binary(0)?);
        }
        self.node(at, NodeKind::And(all))
    }

    /// Reads operators that bind at least as strongly as a level, from the left.
    fn binary(&mut self, level: u8) -> Parsed {
        const STRONGEST: u8 = 2;
        if level > STRONGEST {
            return self.unary();
        }
        let at = self.at();
        let mut node = self.binary(level + 1)?;
        while let Some(operator) = self.operator(level) {
            self.next += 1;
            let right = self.binary(level + 1)?;
            let sides = Box::new([node, right]);
            node = self.node(at, NodeKind::Binary { operator, sides })?;
        }
        Ok(node)
    }

    fn operator(&self, level: u8) -> Option<Operator> {
        Some(match (level, self.peek()) {
            (0, Token::Symbol("==")) => Operator::Equal,
            (0, Token::Symbol("!=")) => Operator::Unequal,
            (0, Token::Symbol("<")) => Operator::Less,
            (0, Token::Symbol("<=")) => Operator::LessEqual,
            (0, Token::Symbol(">")) => Operator::Greater,
            (0, Token::Symbol(">=")) => Operator::GreaterEqual,
            (0, Token::Ident(name)) if name == "in" => Operator::In,
            (1, Token::Symbol("+")) => Operator::Add,
            (1, Token::Symbol("-")) => Operator::Subtract,
            (2, Token::Symbol("*")) => Operator::Multiply,
            (2, Token::Symbol("/")) => Operator::Divide,
            (2, Token::Symbol("%")) => Operator::Remainder,
            _ => return None,
        })
    }

    fn unary(&mut self) -> Parsed {
        let at = self.at();
        let mut operators = Vec::new();
        loop {
            if self.take("!") {
                operators.push(false);
            } else if self.take("-") {
                // The least number has no positive counterpart.
                if let Token::Int(magnitude) = *self.peek() {
                    self.next += 1;
                    let Some(number) = 0_i64.checked_sub_unsigned(magnitude) else {
                        return self.fail(at, "the number is too large");
                    };
                    let number = self.node(at, NodeKind::Int(number))?;
                    let node = self.members(number)?;
                    return self.negations(at, operators, node);
                }
                operators.push(true);
            } else {
                break;
            }
        }
        let primary = self.primary()?;
        let node = self.members(primary)?;
        self.negations(at, operators, node)
    }

    fn negations(&self, at: usize, operators: Vec<bool>, mut node: Node) -> Parsed {
        for is_minus in operators.into_iter().rev() {
            let operand = Box::new(node);
            node = match is_minus {
                true => self.node(at, NodeKind::Negate(operand))?,
                false => self.node(at, NodeKind::Not(operand))?,
            };
        }
        Ok(node)
    }

    fn members(&mut self, mut node: Node) -> Parsed {
        loop {
            let at = node.at;
            if self.take(".") {
                let access = match self.take("?") {
                    true => Access::Optional,
                    false => Access::Plain,
                };
                let named_at = self.at();
                let field = self.ident()?;
                if access == Access::Plain && self.take("(") {
                    node = self.method(node, &field, named_at)?;
                    continue;
                }
                let operand = Box::new(node);
                let kind = NodeKind::Select {
                    operand,
                    field,
                    access,
                };
                node = self.node(at, kind)?;
            } else if self.take("[") {
                let optional = self.take("?");
                let key = Box::new(self.expression()?);
                self.expect("]")?;
                let operand = Box::new(node);
                let kind = NodeKind::Index {
                    operand,
                    key,
                    optional,
                };
                node = self.node(at, kind)?;
            } else {
                return Ok(node);
            }
        }
    }

    fn primary(&mut self) -> Parsed {
        let at = self.at();
        let token = self.peek().clone();
        self.next += usize::from(token != Token::End);
        let kind = match token {
            Token::Int(number) => match i64::try_from(number) {
                Ok(number) => NodeKind::Int(number),
                Err(_) => return self.fail(at, "the number is too large"),
            },
            Token::Uint(number) => NodeKind::Uint(number),
            Token::Double(number) => NodeKind::Double(number),
            Token::Text(text) => NodeKind::Text(text),
            Token::Ident(name) => return self.name(at, name),
            // A leading point only says that the name is global.
            Token::Symbol(".") => {
                let name = self.ident()?;
                return self.name(at, name);
            }
            Token::Symbol("(") => {
                let node = self.expression()?;
                self.expect(")")?;
                return Ok(node);
            }
            Token::Symbol("[") => NodeKind::List(self.arguments("]")?),
            Token::Symbol("{") => NodeKind::Map(self.entries()?),
            Token::Symbol(_) | Token::End => {
                self.next -= usize::from(token != Token::End);
                return self.unexpected();
            }
        };
        self.node(at, kind)
    }

    fn name(&mut self, at: usize, name: String) -> Parsed {
        if self.take("(") {
            return self.function(at, &name);
        }
        if *self.peek() == Token::Symbol("{") {
            return self.fail(at, format!("messages are not supported: {name}{{…}}"));
        }
        let kind = match name.as_str() {
            "true" => NodeKind::Bool(true),
            "false" => NodeKind::Bool(false),
            "null" => NodeKind::Null,
            "in" => return self.fail(at, "\"in\" needs a value at its left"),
            "self" | "object" if !self.names.contains(&name) => {
                return self.fail(
                    at,
                    format!("there is no variable `{name}`: write `status.phase`, not `{name}.status.phase`"),
                );
            }
            _ => NodeKind::Variable(name),
        };
        self.node(at, kind)
    }

    /// Reads arguments and the symbol behind them.
    fn arguments(&mut self, end: &'static str) -> Result<Vec<Node>, ParseError> {
        let mut arguments = Vec::new();
        while !self.take(end) {
            arguments.push(self.expression()?);
            if !self.take(",") {
                self.expect(end)?;
                break;
            }
        }
        Ok(arguments)
    }

    fn entries(&mut self) -> Result<Vec<(Node, Node)>, ParseError> {
        let mut entries = Vec::new();
        while !self.take("}") {
            let key = self.expression()?;
            self.expect(":")?;
            entries.push((key, self.expression()?));
            if !self.take(",") {
                self.expect("}")?;
                break;
            }
        }
        Ok(entries)
    }

    fn function(&mut self, at: usize, name: &str) -> Parsed {
        let mut arguments = self.arguments(")")?;
        if name == "has" {
            return match (arguments.pop(), arguments.is_empty()) {
                (
                    Some(Node {
                        kind:
                            NodeKind::Select {
                                operand,
                                field,
                                access: Access::Plain,
                            },
                        ..
                    }),
                    true,
                ) => {
                    let access = Access::Test;
                    let kind = NodeKind::Select {
                        operand,
                        field,
                        access,
                    };
                    self.node(at, kind)
                }
                _ => self.fail(at, "has() takes one field, as has(status.phase)"),
            };
        }
        if name == "matches" && arguments.len() == 2 {
            let pattern = arguments.pop();
            let text = arguments.pop();
            return self.matches(at, text, pattern);
        }
        self.call(
            at,
            name,
            functions::global(name, arguments.len()),
            arguments,
        )
    }

    fn method(&mut self, receiver: Node, name: &str, named_at: usize) -> Parsed {
        let at = receiver.at;
        if let Some(kind) = Macro::of(name) {
            return self.comprehension(receiver, kind, name);
        }
        let mut arguments = self.arguments(")")?;
        if name == "matches" && arguments.len() == 1 {
            return self.matches(at, Some(receiver), arguments.pop());
        }
        if let NodeKind::Variable(library) = &receiver.kind
            && functions::is_library(library)
        {
            let name = format!("{library}.{name}");
            let function = functions::global(&name, arguments.len());
            return self.call(at, &name, function, arguments);
        }
        let function = functions::method(name, arguments.len());
        arguments.insert(0, receiver);
        self.call(named_at, name, function, arguments)
    }

    fn call(
        &self,
        at: usize,
        name: &str,
        function: Result<Function, String>,
        arguments: Vec<Node>,
    ) -> Parsed {
        match function {
            Ok(function) => self.node(
                at,
                NodeKind::Call {
                    function,
                    arguments,
                },
            ),
            Err(message) => self.fail(at, format!("{name}(): {message}")),
        }
    }

    /// Compiles the pattern once, and bounds how many there are.
    fn matches(&mut self, at: usize, text: Option<Node>, pattern: Option<Node>) -> Parsed {
        const MAX_PATTERNS: u8 = 4;
        let (Some(text), Some(pattern)) = (text, pattern) else {
            return self.unexpected();
        };
        let NodeKind::Text(source) = &pattern.kind else {
            return self.fail(
                pattern.at,
                "the pattern of matches() must be text in quotes",
            );
        };
        if self.patterns == MAX_PATTERNS {
            let message = format!("an expression has at most {MAX_PATTERNS} patterns");
            return self.fail(pattern.at, message);
        }
        self.patterns += 1;
        match Pattern::compile(source) {
            Ok(compiled) => self.node(
                at,
                NodeKind::Matches {
                    text: Box::new(text),
                    pattern: compiled,
                },
            ),
            Err(message) => self.fail(pattern.at, message),
        }
    }

    fn comprehension(&mut self, range: Node, kind: Macro, name: &str) -> Parsed {
        let at = range.at;
        let named_at = self.at();
        let variable = self.ident()?;
        self.expect(",")?;
        self.names.push(variable.clone());
        let mut body = self.expression()?;
        let mut filter = None;
        if kind == Macro::Map && self.take(",") {
            filter = Some(std::mem::replace(&mut body, self.expression()?));
        }
        self.names.pop();
        if !self.take(")") {
            return self.fail(
                named_at,
                format!("{name}() takes a name and a condition, as {name}(e, e.status == 'True')"),
            );
        }
        let comprehension = Comprehension {
            kind,
            range,
            variable,
            filter,
            body,
        };
        self.node(at, NodeKind::Comprehension(Box::new(comprehension)))
    }
}
