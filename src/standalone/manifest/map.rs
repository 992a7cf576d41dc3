//! A map of a manifest as its reader sees it: [`Map`], whose getters tell the field's path with every mistake.
//!
//! A field that was never asked for is unknown, which [`Map::finish`] tells.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::values;
use crate::config::Located;
use crate::config::node::{Node, Value};
use crate::config::problem::{Position, Problem, Problems, did_you_mean, shown, shown_list};

/// What the readers of one object tell.
#[derive(Debug, Default)]
pub struct Log {
    /// Whether the object is shown on a page, where some things may be left out.
    pub is_page: bool,
    problems: RefCell<Problems>,
    /// Fields that have no effect here.
    ignored: RefCell<Vec<(String, Position)>>,
    /// Fields that must be there, and are not.
    missing: RefCell<Vec<String>>,
}

impl Log {
    /// A log of an object that stands on a page, or in a file of its own.
    pub fn new(is_page: bool) -> Self {
        Self { is_page, ..Self::default() }
    }

    /// Tells that something is wrong.
    pub fn error(&self, at: Position, message: impl Into<String>) {
        self.problems.borrow_mut().error(at, message);
    }

    /// Tells that somebody should look at something.
    pub fn warning(&self, at: Position, message: impl Into<String>) {
        self.problems.borrow_mut().warning(at, message);
    }

    /// Tells that something has no effect.
    pub fn note(&self, at: Position, message: impl Into<String>) {
        self.problems.borrow_mut().push(Problem::note(at, message));
    }

    /// The required fields that are missing, by path.
    pub fn missing(&self) -> Vec<String> {
        self.missing.borrow().clone()
    }

    /// Everything: problems, and what is ignored.
    pub fn into_parts(self) -> (Vec<Problem>, Vec<(String, Position)>) {
        (self.problems.into_inner().into_vec(), self.ignored.into_inner())
    }
}

/// An open map.
pub struct Map<'a> {
    /// Where it begins.
    pub at: Position,
    /// Its path in the object; empty at the top.
    pub path: String,
    log: &'a Log,
    entries: Vec<(&'a str, Position, &'a Node)>,
    asked: RefCell<Vec<&'a str>>,
}

impl<'a> Map<'a> {
    /// Opens a map, or tells that it is none.
    pub fn open(node: &'a Node, path: String, log: &'a Log) -> Option<Self> {
        let what = if path.is_empty() { "the object" } else { &path };
        let fields = node.fields(what, &mut log.problems.borrow_mut())?;
        let entries = fields.iter().collect();
        Some(Self { at: fields.at, path, log, entries, asked: RefCell::default() })
    }

    /// Where to tell what its readers find.
    pub fn log(&self) -> &'a Log {
        self.log
    }

    /// The path of a field.
    pub fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Where a field's value is, or else the map.
    pub fn at(&self, key: &str) -> Position {
        self.peek(key).map_or(self.at, |node| node.at)
    }

    /// Whether the field is given; it is still to be asked for.
    pub fn has(&self, key: &str) -> bool {
        self.peek(key).is_some()
    }

    fn peek(&self, key: &str) -> Option<&'a Node> {
        let (.., node) = self.entries.iter().find(|(known, ..)| *known == key)?;
        Some(*node).filter(|node| node.value != Value::Null)
    }

    /// A field's node; `null` counts as absent.
    pub fn node(&self, key: &'a str) -> Option<&'a Node> {
        let mut asked = self.asked.borrow_mut();
        if !asked.contains(&key) {
            asked.push(key);
        }
        self.peek(key)
    }

    /// Tells that a field must be there.
    pub fn lacks(&self, key: &str) {
        let path = self.path_of(key);
        self.log.error(self.at, format!("{path} is missing, and must be given"));
        self.log.missing.borrow_mut().push(path);
    }

    /// Tells something about a field.
    pub fn error(&self, key: &str, message: impl std::fmt::Display) {
        self.log.error(self.at(key), format!("{}: {message}", self.path_of(key)));
    }

    /// The same, as a warning.
    pub fn warning(&self, key: &str, message: impl std::fmt::Display) {
        self.log.warning(self.at(key), format!("{}: {message}", self.path_of(key)));
    }

    /// A text.
    pub fn text(&self, key: &'a str) -> Option<Located<String>> {
        let node = self.node(key)?;
        let value = node.string(&self.path_of(key), &mut self.log.problems.borrow_mut())?;
        Some(Located { value: value.to_owned(), at: node.at })
    }

    /// A text that must be there.
    pub fn required(&self, key: &'a str) -> Option<Located<String>> {
        if !self.has(key) {
            self.lacks(key);
        }
        self.text(key)
    }

    /// A text that `check` takes; else its message is told, and the text dropped.
    pub fn checked(&self, key: &'a str, check: fn(&str) -> Result<(), String>) -> Option<Located<String>> {
        let text = self.text(key)?;
        self.check(key, &text, check).then_some(text)
    }

    /// The same, where it must be there.
    pub fn required_checked(
        &self,
        key: &'a str,
        check: fn(&str) -> Result<(), String>,
    ) -> Option<Located<String>> {
        if !self.has(key) {
            self.lacks(key);
        }
        self.checked(key, check)
    }

    fn check(&self, key: &str, text: &Located<String>, check: fn(&str) -> Result<(), String>) -> bool {
        let result = check(&text.value);
        if let Err(expected) = &result {
            let found = shown(&text.value);
            self.log.error(text.at, format!("{}: expected {expected}, found {found}", self.path_of(key)));
        }
        result.is_ok()
    }

    /// Texts of a list, each checked.
    pub fn texts(
        &self,
        key: &'a str,
        most: usize,
        check: fn(&str) -> Result<(), String>,
    ) -> Vec<Located<String>> {
        let mut texts = Vec::new();
        for (path, node) in self.items(key, most) {
            let Some(value) = node.string(&path, &mut self.log.problems.borrow_mut()) else { continue };
            match check(value) {
                Ok(()) => texts.push(Located { value: value.to_owned(), at: node.at }),
                Err(expected) => {
                    self.log.error(node.at, format!("{path}: expected {expected}, found {}", shown(value)));
                }
            }
        }
        texts
    }

    /// One of some words.
    pub fn choice(&self, key: &'a str, words: &[&'static str]) -> Option<Located<&'static str>> {
        let text = self.text(key)?;
        let found = words.iter().find(|word| **word == text.value);
        if found.is_none() {
            let hint = did_you_mean(&text.value, words.iter().copied());
            let (found, words) = (shown(&text.value), shown_list(words.iter().copied()));
            self.error(key, format!("expected one of {words}, found {found}{hint}"));
        }
        found.map(|word| Located { value: *word, at: text.at })
    }

    /// A whole number within a range.
    pub fn integer(&self, key: &'a str, range: RangeInclusive<i64>) -> Option<i64> {
        let node = self.node(key)?;
        let expected = || format!("an integer from {} to {}", range.start(), range.end());
        let number = node.whole_number().and_then(|number| i64::try_from(number).ok());
        let number = number.filter(|number| range.contains(number));
        if number.is_none() {
            node.mismatch(&self.path_of(key), &expected(), &mut self.log.problems.borrow_mut());
        }
        number
    }

    /// A port.
    pub fn port(&self, key: &'a str) -> Option<u16> {
        self.integer(key, 1..=65535).and_then(|port| u16::try_from(port).ok())
    }

    /// A duration of the Gateway API.
    pub fn duration(&self, key: &'a str) -> Option<Duration> {
        let text = self.checked(key, values::duration)?;
        values::milliseconds(&text.value).map(Duration::from_millis)
    }

    /// A switch.
    pub fn boolean(&self, key: &'a str) -> Option<bool> {
        let node = self.node(key)?;
        if let Value::Boolean(value) = node.value {
            return Some(value);
        }
        node.mismatch(&self.path_of(key), "`true` or `false`", &mut self.log.problems.borrow_mut());
        None
    }

    /// A map below.
    pub fn map(&self, key: &'a str) -> Option<Map<'a>> {
        Map::open(self.node(key)?, self.path_of(key), self.log)
    }

    /// A map below that must be there.
    pub fn required_map(&self, key: &'a str) -> Option<Map<'a>> {
        if !self.has(key) {
            self.lacks(key);
        }
        self.map(key)
    }

    /// Items of a list with their paths, at most so many; those beyond are told and left out.
    pub fn items(&self, key: &'a str, most: usize) -> Vec<(String, &'a Node)> {
        let Some(node) = self.node(key) else { return Vec::new() };
        let path = self.path_of(key);
        let items = node.list(&path, &mut self.log.problems.borrow_mut());
        if items.len() > most {
            self.error(key, format!("expected at most {most} entries, found {}", items.len()));
        }
        items.iter().take(most).enumerate().map(|(n, item)| (format!("{path}[{n}]"), item)).collect()
    }

    /// Maps of a list, at most so many.
    pub fn maps(&self, key: &'a str, most: usize) -> Vec<Map<'a>> {
        let items = self.items(key, most).into_iter();
        items.filter_map(|(path, item)| Map::open(item, path, self.log)).collect()
    }

    /// A map of texts, such as labels.
    pub fn labels(&self, key: &'a str) -> BTreeMap<String, Located<String>> {
        let mut labels = BTreeMap::new();
        let Some(map) = self.map(key) else { return labels };
        for &(name, _, node) in &map.entries {
            if let Value::String(value) = &node.value {
                labels.insert(name.to_owned(), Located { value: value.clone(), at: node.at });
                continue;
            }
            let (path, found) = (format!("{}[{}]", map.path, shown(name)), node.describe());
            let message = format!("{path}: expected a string, found {found}; quote the value");
            map.log.error(node.at, message);
        }
        labels
    }

    /// Fields that are right and have no effect here.
    pub fn ignore(&self, keys: &[&'a str]) {
        for &key in keys {
            if let Some(node) = self.node(key) {
                let path = self.path_of(key);
                let path = path.split('[').map(|part| part.split_once(']').map_or(part, |(_, rest)| rest));
                self.log.ignored.borrow_mut().push((path.collect(), node.at));
            }
        }
    }

    /// Fields that say nothing about how requests are served.
    pub fn pass(&self, keys: &[&'a str]) {
        self.asked.borrow_mut().extend(keys);
    }

    /// Tells the fields that nobody asked for.
    pub fn finish(self) {
        let asked = self.asked.borrow();
        for &(key, at, _) in self.entries.iter().filter(|(key, ..)| !asked.contains(key)) {
            let known = asked.iter().copied();
            let hint = match did_you_mean(key, known.clone()) {
                hint if hint.is_empty() => format!(", expected one of {}", shown_list(known)),
                hint => hint,
            };
            let path = self.path_of(key);
            self.log.warning(at, format!("{path}: unknown field {}, it has no effect{hint}", shown(key)));
        }
    }
}
