//! `modelRewrites` of the endpoints file: which model a request is sent to.
//!
//! ```yaml
//! modelRewrites:
//! - name: canary
//!   rules:
//!   - matches: [{model: {value: llama}, headers: [{name: x-tier, value: gold}]}]
//!     targets: [{modelRewrite: llama-v2, weight: 1}, {modelRewrite: llama-v1, weight: 9}]
//! ```
//!
//! An entry is written like the `spec` of an `InferenceModelRewrite`; of several the one above counts first.

use super::Reader;
use crate::config::node::{Fields, Node, Value};
use crate::config::problem::shown;
use crate::discovery::index::rewrites::{ModelRewrite, RewriteMatch, RewriteRule, RewriteTarget, Rewrites};

/// Largest weight of a target, as the CRD has it.
const MAX_WEIGHT: u32 = 1_000_000;

impl<'a> Reader<'a> {
    /// Reads the entries of `modelRewrites`.
    pub(super) fn rewrites(&mut self, entries: &'a [Node]) -> Rewrites {
        let mut rewrites: Vec<ModelRewrite> = Vec::new();
        for (created, node) in (0..).zip(entries) {
            let Some(fields) = node.fields("entry of `modelRewrites`", &mut self.problems) else { continue };
            fields.refuse_unknown(&["name", "pool", "rules"], &mut self.problems);
            self.same_pool(&fields);
            let name = self.required(&fields, "name").and_then(|node| self.name(node, "name"));
            let Some(name) = name else { continue };
            if rewrites.iter().any(|other| other.name == name) {
                self.problems.error(fields.at, format!("model rewrite {} is listed twice", shown(name)));
            }
            let rules = self.list(&fields, "rules").iter().filter_map(|node| self.rule(node)).collect();
            rewrites.push(ModelRewrite { name: name.to_owned(), created, rules, ..ModelRewrite::default() });
        }
        Rewrites::new(&rewrites, [])
    }

    fn rule(&mut self, node: &'a Node) -> Option<RewriteRule> {
        let fields = node.fields("entry of `rules`", &mut self.problems)?;
        fields.refuse_unknown(&["matches", "targets"], &mut self.problems);
        let matches =
            fields.get("matches").map_or(&[][..], |node| node.list("`matches`", &mut self.problems));
        let matches = matches.iter().filter_map(|node| self.matched(node)).collect();
        let targets: Vec<_> =
            self.list(&fields, "targets").iter().filter_map(|node| self.target(node)).collect();
        if fields.get("targets").is_some_and(Node::is_empty) {
            self.problems.error(fields.at, "`targets` is empty, the rule would do nothing");
        }
        let n_weighted = targets.iter().filter(|target| target.weight.is_some()).count();
        if n_weighted > 0 && n_weighted < targets.len() {
            let message = "some `targets` have a `weight` and some do not, which would never be chosen";
            self.problems.error(fields.at, message);
        }
        Some(RewriteRule { matches, targets })
    }

    fn matched(&mut self, node: &'a Node) -> Option<RewriteMatch> {
        let fields = node.fields("entry of `matches`", &mut self.problems)?;
        fields.refuse_unknown(&["model", "headers"], &mut self.problems);
        let model = fields.get("model").map(|node| self.value_to_match(node, "`model`"));
        let headers =
            fields.get("headers").map_or(&[][..], |node| node.list("`headers`", &mut self.problems));
        let headers: Vec<_> = headers.iter().filter_map(|node| self.header(node)).collect();
        if model.is_none() && fields.get("headers").is_none_or(Node::is_empty) {
            self.problems.error(fields.at, "entry of `matches` has neither `model` nor `headers`");
        }
        Some(RewriteMatch { model: model.flatten(), headers })
    }

    /// `{type: Exact, value: a}`, or only `a`.
    fn value_to_match(&mut self, node: &'a Node, what: &str) -> Option<String> {
        if let Value::String(_) = node.value {
            return self.text(node, what);
        }
        let fields = node.fields(what, &mut self.problems)?;
        fields.refuse_unknown(&["type", "value"], &mut self.problems);
        self.exact(&fields);
        self.required(&fields, "value").and_then(|node| self.text(node, "`value`"))
    }

    fn header(&mut self, node: &'a Node) -> Option<(String, String)> {
        let fields = node.fields("entry of `headers`", &mut self.problems)?;
        fields.refuse_unknown(&["type", "name", "value"], &mut self.problems);
        self.exact(&fields);
        let name = self.required(&fields, "name").and_then(|node| self.text(node, "`name`"));
        let value = self.required(&fields, "value").and_then(|node| self.text(node, "`value`"));
        Some((name?.to_ascii_lowercase(), value?))
    }

    fn exact(&mut self, fields: &Fields<'a>) {
        let Some(node) = fields.get("type") else { return };
        let kind = node.string("`type`", &mut self.problems);
        if kind.is_some_and(|kind| kind != "Exact") {
            node.mismatch("`type`", "`Exact`", &mut self.problems);
        }
    }

    fn target(&mut self, node: &'a Node) -> Option<RewriteTarget> {
        let fields = node.fields("entry of `targets`", &mut self.problems)?;
        fields.refuse_unknown(&["modelRewrite", "weight"], &mut self.problems);
        let model = self.required(&fields, "modelRewrite").and_then(|node| self.text(node, "`modelRewrite`"));
        let weight = fields.get("weight").map(|node| {
            let weight = node.whole_number().and_then(|weight| u32::try_from(weight).ok());
            let weight = weight.filter(|weight| (1..=MAX_WEIGHT).contains(weight));
            if weight.is_none() {
                node.mismatch("`weight`", &format!("an integer from 1 to {MAX_WEIGHT}"), &mut self.problems);
            }
            weight
        });
        Some(RewriteTarget { model: model?, weight: weight.flatten() })
    }

    fn list(&mut self, fields: &Fields<'a>, key: &str) -> &'a [Node] {
        self.required(fields, key).map_or(&[], |node| node.list(&shown(key), &mut self.problems))
    }

    /// A string that is not empty.
    fn text(&mut self, node: &'a Node, what: &str) -> Option<String> {
        let text = node.string(what, &mut self.problems)?;
        if text.is_empty() {
            self.problems.error(node.at, format!("{what} is empty"));
            return None;
        }
        Some(text.to_owned())
    }
}
