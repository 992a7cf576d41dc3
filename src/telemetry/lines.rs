//! The form of log lines: JSON with the keys of zap, or a line for people. An event is one line, whatever is in it.

use std::fmt::{self, Write as _};
use std::time::{Duration, SystemTime};

use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::time::TimeEncoding;
use crate::args::Encoder;

/// Keys of every JSON line; a field of that name is written with a `_` behind it.
const KEYS: [&str; 5] = ["level", "ts", "logger", "caller", "msg"];

/// Writes lines.
pub(super) struct Lines {
    pub(super) encoder: Encoder,
    pub(super) time: TimeEncoding,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let line = match self.encoder {
            Encoder::Json => json(event.metadata(), &fields, self.time, now),
            Encoder::Console => console(event.metadata(), &fields, self.time, now),
        };
        writer.write_str(&line)?;
        writer.write_char('\n')
    }
}

/// The fields of an event, in order.
#[derive(Default)]
struct Fields {
    message: String,
    /// Set for what libraries say through `log`: their own name for themselves.
    log_target: Option<String>,
    rest: Vec<(&'static str, Value)>,
}

impl Fields {
    fn push(&mut self, field: &Field, value: impl Into<Value>) {
        let value = value.into();
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            ("message", other) => self.message = other.to_string(),
            ("log.target", Value::String(target)) => self.log_target = Some(target),
            (name, _) if name.starts_with("log.") => {}
            (name, value) => self.rest.push((name, value)),
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.push(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.push(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.push(field, value);
    }
}

fn json(metadata: &Metadata<'_>, fields: &Fields, time: TimeEncoding, now: Duration) -> String {
    let ts = time.write(now);
    let ts = if time.is_number() { ts } else { quoted(&ts) };
    let level = quoted(level(*metadata.level()));
    let (logger, msg) = (quoted(&logger(metadata, fields)), quoted(&fields.message));
    let mut line = format!(r#"{{"level":{level},"ts":{ts},"logger":{logger}"#);
    if let (Some(file), Some(at)) = (metadata.file(), metadata.line()) {
        let caller = quoted(&format!("{}:{at}", short(file)));
        let _ = write!(line, r#","caller":{caller}"#);
    }
    let _ = write!(line, r#","msg":{msg}"#);
    for (name, value) in &fields.rest {
        let mark = if KEYS.contains(name) { "_" } else { "" };
        let _ = write!(line, ",{}:{value}", quoted(&format!("{name}{mark}")));
    }
    line.push('}');
    line
}

fn console(metadata: &Metadata<'_>, fields: &Fields, time: TimeEncoding, now: Duration) -> String {
    let (ts, level, logger) = (time.write(now), metadata.level(), logger(metadata, fields));
    let mut line = format!("{ts} {level} {}: ", logger.strip_prefix("epp.").unwrap_or(&logger));
    // The message is ours and fixed, but libraries may write anything.
    for c in fields.message.chars() {
        if c.is_control() { line.extend(c.escape_default()) } else { line.push(c) }
    }
    for (name, value) in &fields.rest {
        let _ = match value {
            Value::String(text) if is_plain(text) => write!(line, " {name}={text}"),
            Value::String(text) => write!(line, " {name}={text:?}"),
            other => write!(line, " {name}={other}"),
        };
    }
    line
}

/// Whether a value can be told from what is around it without quotes.
fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'=')
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// The levels as zap writes them where the Go EPP logs: its `TRACE` is level 5.
fn level(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "Level(-5)",
    }
}

/// The crate and the module in it, such as `epp.scrape`.
fn logger(metadata: &Metadata<'_>, fields: &Fields) -> String {
    let target = fields.log_target.as_deref().unwrap_or(metadata.target());
    let mut parts = target.split("::");
    match (parts.next(), parts.next()) {
        (Some(krate), Some(module)) => format!("{krate}.{module}"),
        _ => target.to_owned(),
    }
}

/// A file of ours is named from the repository's root; of a library's path the last three parts are enough.
fn short(file: &str) -> &str {
    match file.rmatch_indices('/').nth(2) {
        Some((at, _)) if file.starts_with('/') => &file[at + 1..],
        _ => file,
    }
}

#[cfg(test)]
mod tests;
