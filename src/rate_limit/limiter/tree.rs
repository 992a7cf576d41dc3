//! Descriptors → places of limits: [`Tree`].
//!
//! Entry by entry, a value that is named goes before [`Value::Any`], and nothing is tried again: who takes the branch of
//! a named value stays on it.

use std::collections::HashMap;

use super::Value;

/// Limits by domain and descriptor.
#[derive(Debug, Default)]
pub(super) struct Tree {
    domains: HashMap<String, Node>,
    any_domain: Node,
}

#[derive(Debug, Default)]
struct Node {
    /// The limit whose descriptor ends here.
    limit: Option<usize>,
    /// By key.
    branches: HashMap<String, Branch>,
}

#[derive(Debug, Default)]
struct Branch {
    named: HashMap<String, Node>,
    any: Option<Box<Node>>,
}

impl Tree {
    /// Enters the limit at this place; the first of equals counts.
    pub(super) fn insert(&mut self, domain: Option<&str>, entries: &[(String, Value)], at: usize) {
        let mut node = match domain {
            Some(domain) => self.domains.entry(domain.to_owned()).or_default(),
            None => &mut self.any_domain,
        };
        for (key, value) in entries {
            let branch = node.branches.entry(key.clone()).or_default();
            node = match value {
                Value::Is(value) => branch.named.entry(value.clone()).or_default(),
                Value::Any => branch.any.get_or_insert_default(),
            };
        }
        node.limit.get_or_insert(at);
    }

    /// The place of the limit for this descriptor: the domain's own, or else that for all domains.
    pub(super) fn find(&self, domain: &str, descriptor: &[(&str, &str)]) -> Option<usize> {
        let own = self.domains.get(domain).and_then(|node| node.find(descriptor));
        own.or_else(|| self.any_domain.find(descriptor))
    }
}

impl Node {
    fn find(&self, descriptor: &[(&str, &str)]) -> Option<usize> {
        let mut node = self;
        for (key, value) in descriptor {
            let branch = node.branches.get(*key)?;
            node = branch.named.get(*value).or(branch.any.as_deref())?;
        }
        node.limit
    }
}
