//! A CEL expression over what is known of an answer: [`Expression`].
//!
//! The crate `cel` parses and evaluates; it has no type checker, so what is wrong with types shows when an expression is
//! tried, and unknown functions in what the trial reaches. Unknown variables are refused everywhere. So are loops (`all`,
//! `exists`, `filter`, `map`): without them an expression takes no longer than it is long.

use std::sync::Arc;

use cel::common::ast::{EntryExpr, Expr, IdedExpr};
use cel::{Context, Env, ExecutionError, Program, Value};

/// Longest expression, in bytes: parser and evaluation recurse.
const MAX_BYTES: usize = 2048;

/// Most characters of a message of the crate that are repeated.
const MAX_MESSAGE: usize = 200;

/// A compiled expression.
pub(super) struct Expression {
    program: Program,
    env: Arc<Env>,
    /// Variables that it reads.
    variables: Vec<String>,
}

impl Expression {
    /// Compiles `text`, which may read these variables; the error says what is wrong.
    pub(super) fn compile(text: &str, known: &[&str]) -> Result<Self, String> {
        if text.len() > MAX_BYTES {
            return Err(format!("expected at most {MAX_BYTES} bytes, found {}", text.len()));
        }
        let env = Arc::new(Env::stdlib());
        let program = env.compile(text).map_err(|errors| {
            let first = errors.errors.first().map_or("it cannot be read", |error| error.msg.as_str());
            format!("no CEL expression: {}", printable(first))
        })?;
        if loops(program.expression()) {
            return Err("`all`, `exists`, `exists_one`, `filter` and `map` are not supported".to_owned());
        }
        let references = program.references();
        let mut variables: Vec<_> = references.variables().into_iter().map(str::to_owned).collect();
        variables.sort_unstable();
        if let Some(unknown) = variables.iter().find(|name| !known.contains(&name.as_str())) {
            let known = known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            return Err(format!("unknown variable `{}`, there are {known}", printable(unknown)));
        }
        Ok(Self { program, env, variables })
    }

    /// Evaluates it; `value` gives the value of a variable. The error says why it has none.
    pub(super) fn evaluate(&self, value: impl Fn(&str) -> Value) -> Result<Value, String> {
        let mut context = Context::with_env(self.env.clone());
        for name in &self.variables {
            context.add_variable_from_value(name.as_str(), value(name));
        }
        self.program.execute(&context).map_err(|error| told(&error))
    }
}

/// The number that `value` is, if it can be a cost.
pub(super) fn whole(value: &Value) -> Result<u64, String> {
    match value {
        Value::UInt(value) => Ok(*value),
        Value::Int(value) => u64::try_from(*value).map_err(|_| format!("expected at least 0, found {value}")),
        other => Err(format!("expected an int or uint, found {}", kind(other))),
    }
}

/// What CEL calls the type of a value.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Int(_) => "an int",
        Value::UInt(_) => "a uint",
        Value::Float(_) => "a double",
        Value::Bool(_) => "a bool",
        Value::String(_) => "a string",
        Value::List(_) => "a list",
        Value::Map(_) => "a map",
        _ => "another type",
    }
}

fn told(error: &ExecutionError) -> String {
    match error {
        ExecutionError::UnsupportedBinaryOperator(operator, left, right) => {
            format!("cannot compute `{operator}` of {} and {}", kind(left), kind(right))
        }
        ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => "division by 0".to_owned(),
        ExecutionError::Overflow(operator, ..) => format!("`{operator}` is out of range"),
        other => printable(&other.to_string()),
    }
}

fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_MESSAGE).collect()
}

/// Whether a loop is anywhere in it.
fn loops(node: &IdedExpr) -> bool {
    match &node.expr {
        Expr::Comprehension(_) => true,
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => false,
        Expr::Call(call) => call.target.as_deref().is_some_and(loops) || call.args.iter().any(loops),
        Expr::List(list) => list.elements.iter().any(loops),
        Expr::Select(select) => loops(&select.operand),
        Expr::Map(map) => map.entries.iter().any(|entry| entry_loops(&entry.expr)),
        Expr::Struct(of) => of.entries.iter().any(|entry| entry_loops(&entry.expr)),
    }
}

fn entry_loops(entry: &EntryExpr) -> bool {
    match entry {
        EntryExpr::StructField(field) => loops(&field.value),
        EntryExpr::MapEntry(entry) => loops(&entry.key) || loops(&entry.value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value, or what is wrong.
    fn found(text: &str) -> Result<u64, String> {
        let expression = Expression::compile(text, &["n", "model"])?;
        let variable = |name: &str| if name == "n" { Value::UInt(7) } else { "m".into() };
        whole(&expression.evaluate(variable)?)
    }

    #[test]
    fn expressions_are_evaluated_or_refused() {
        for (text, want) in [
            ("n", 7),
            ("n * 2u + uint(1)", 15),
            ("model == 'm' ? 3 : n", 3),
            ("int(double(n) * 0.5)", 3),
            ("n == 0u ? 0u : 14u / n", 2),
        ] {
            assert_eq!(found(text), Ok(want), "{text}");
        }
        for (text, want) in [
            ("", "no CEL expression"),
            ("n +", "no CEL expression"),
            ("n * 0.5", "cannot compute `mul` of a uint and a double"),
            ("n * 2", "cannot compute `mul` of a uint and an int"),
            ("n / 0u", "division by 0"),
            ("n - 8u", "`sub` is out of range"),
            ("-1", "expected at least 0, found -1"),
            ("0.5", "expected an int or uint, found a double"),
            ("model", "found a string"),
            ("true ? n : other", "unknown variable `other`, there are `n`, `model`"),
            ("nowhere(n)", "nowhere"),
            ("[1, 2].map(x, x)[0]", "are not supported"),
            ("{'a': [n].exists(x, true)}.a ? 1 : 2", "are not supported"),
        ] {
            let found = found(text).expect_err(text);
            assert!(found.contains(want), "{text}: {found}");
        }
    }

    /// The longest ones neither exhaust a thread's stack nor take long, whatever they nest.
    #[test]
    fn expressions_are_bounded() {
        for unit in [
            "(", "n+", "n?", "!", "-", "[", "{1:", "n.", "n[", "f(", "n&&", "n==", "'", "n?n:", "a.b(", "\\",
            "n<",
        ] {
            let text = unit.repeat(MAX_BYTES / unit.len());
            for text in [text.clone(), text + "n"] {
                let _ = found(&text);
            }
        }
        assert!(found(&format!("n{}", "+n".repeat(MAX_BYTES / 2 - 1))).is_ok());
        assert_eq!(
            found(&"n".repeat(MAX_BYTES + 1)),
            Err("expected at most 2048 bytes, found 2049".to_owned())
        );
    }
}
