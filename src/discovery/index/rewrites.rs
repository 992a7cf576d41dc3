//! Which model a request is sent to when it asks for another: [`Rewrites::target`].
//!
//! Made from `InferenceModelRewrite` objects and the older `InferenceModel`. Draws no random number itself.

use std::collections::BTreeMap;
use std::sync::Arc;

/// The pool that an object is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolRef {
    /// Its name.
    pub name: String,
    /// Its API group, with the kind's default filled in.
    pub group: String,
}

/// An `InferenceModelRewrite`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelRewrite {
    /// Its name.
    pub name: String,
    /// The pool it is for.
    pub pool: PoolRef,
    /// When it was created, in seconds since 1970.
    pub created: i64,
    /// Its rules.
    pub rules: Vec<RewriteRule>,
}

/// A rule of a [`ModelRewrite`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RewriteRule {
    /// Requests it is for: those that one of these matches, or all if there is none.
    pub matches: Vec<RewriteMatch>,
    /// What requests are sent to.
    pub targets: Vec<RewriteTarget>,
}

/// Requests that a rule is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RewriteMatch {
    /// The model that they ask for, compared byte by byte; none means any. An empty one matches nothing.
    pub model: Option<String>,
    /// Headers that they have, names in lower case, with exactly these values; all of them.
    pub headers: Vec<(String, String)>,
}

impl From<&str> for RewriteMatch {
    fn from(model: &str) -> Self {
        Self { model: Some(model.to_owned()), headers: Vec::new() }
    }
}

/// A model that requests are sent to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RewriteTarget {
    /// Its name; an empty one is never chosen.
    pub model: String,
    /// Its share. If no target has one, all are chosen equally; if some have, the others are never chosen.
    pub weight: Option<u32>,
}

/// An `InferenceModel`, as v0.5.1 and older have them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InferenceModel {
    /// The object's name.
    pub name: String,
    /// The pool it is for; the group does not count.
    pub pool: PoolRef,
    /// When it was created, in seconds since 1970.
    pub created: i64,
    /// The model that requests ask for.
    pub model_name: String,
    /// How much its requests matter; unset means [`Criticality::Standard`].
    pub criticality: Option<Criticality>,
    /// What requests are sent to; none means the model itself.
    pub targets: Vec<RewriteTarget>,
}

/// How much the requests of an [`InferenceModel`] matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Criticality {
    /// Never shed.
    Critical,
    /// The usual.
    #[default]
    Standard,
    /// The first to be shed.
    Sheddable,
}

impl Criticality {
    /// The objective's priority that stands for it.
    pub fn priority(self) -> i32 {
        match self {
            Self::Critical => 1,
            Self::Standard => 0,
            Self::Sheddable => -1,
        }
    }
}

/// Priority by the model that requests ask for, as `models` say.
///
/// If several are for one model, the oldest one counts, of equally old ones the first by name.
pub fn model_priorities<'a>(models: impl IntoIterator<Item = &'a InferenceModel>) -> BTreeMap<String, i32> {
    let priority = |model: &InferenceModel| model.criticality.unwrap_or_default().priority();
    oldest(models).into_iter().map(|(name, model)| (name.to_owned(), priority(model))).collect()
}

fn oldest<'a>(models: impl IntoIterator<Item = &'a InferenceModel>) -> BTreeMap<&'a str, &'a InferenceModel> {
    let mut models: Vec<_> = models.into_iter().collect();
    models.sort_by_key(|model| (model.created, &model.name));
    let mut by_model = BTreeMap::new();
    for model in models {
        by_model.entry(model.model_name.as_str()).or_insert(model);
    }
    by_model
}

/// The rules of a pool.
///
/// A rule that names the model goes before one for every model, and both before an [`InferenceModel`]. Among equals the
/// one that asks for more headers counts, then the oldest object (of equally old ones the first by name), within an
/// object the first rule. A rule none of whose targets can be chosen is as if it were not there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewrites {
    exact: BTreeMap<String, Vec<Rewrite>>,
    generic: Vec<Rewrite>,
    models: BTreeMap<String, Targets>,
}

impl Rewrites {
    /// Makes the rules that `rewrites` and `models` say.
    pub fn new<'a>(
        rewrites: impl IntoIterator<Item = &'a ModelRewrite>,
        models: impl IntoIterator<Item = &'a InferenceModel>,
    ) -> Self {
        let mut rewrites: Vec<_> = rewrites.into_iter().collect();
        rewrites.sort_by_key(|rewrite| (rewrite.created, &rewrite.name));
        let mut all = Self::default();
        for rule in rewrites.into_iter().flat_map(|rewrite| &rewrite.rules) {
            let Some(targets) = Targets::new(&rule.targets).map(Arc::new) else { continue };
            if rule.matches.is_empty() {
                all.generic.push(Rewrite { headers: Vec::new(), targets: targets.clone() });
            }
            for found in &rule.matches {
                let rewrite = Rewrite { headers: found.headers.clone(), targets: targets.clone() };
                match found.model.as_deref() {
                    Some("") => {}
                    Some(model) => all.exact.entry(model.to_owned()).or_default().push(rewrite),
                    // Without anything to match it is not generic: it says that it matches something.
                    None if found.headers.is_empty() => {}
                    None => all.generic.push(rewrite),
                }
            }
        }
        for rewrites in all.exact.values_mut().chain([&mut all.generic]) {
            rewrites.sort_by_key(|rewrite| std::cmp::Reverse(rewrite.headers.len()));
            // Behind one that takes everything nothing counts.
            let last = rewrites.iter().position(|rewrite| rewrite.headers.is_empty());
            rewrites.truncate(last.map_or(usize::MAX, |last| last + 1));
        }
        for (name, model) in oldest(models) {
            all.models.extend(Targets::new(&model.targets).map(|targets| (name.to_owned(), targets)));
        }
        all
    }

    /// The model that a request for `model` is sent to, if a rule says so; `header` knows its headers by their names in
    /// lower case, `chance` is uniform in \[0, 1).
    pub fn target<'h>(
        &self,
        model: &str,
        header: impl Fn(&str) -> Option<&'h str>,
        chance: f64,
    ) -> Option<&str> {
        let has = |(name, value): &(String, String)| header(name) == Some(value);
        let mut rewrites = self.exact.get(model).into_iter().flatten().chain(&self.generic);
        let rewrite = rewrites.find(|rewrite| rewrite.headers.iter().all(has));
        let targets = rewrite.map(|rewrite| &*rewrite.targets);
        Some(targets.or_else(|| self.models.get(model))?.choose(chance))
    }
}

impl Rewrites {
    /// The models that requests may be sent to by a rule; some more than once.
    pub fn targets(&self) -> impl Iterator<Item = &str> {
        let rules = self.exact.values().flatten().chain(&self.generic).map(|rewrite| &*rewrite.targets);
        rules.chain(self.models.values()).flat_map(|targets| targets.up_to.iter().map(|(_, model)| &**model))
    }
}

/// Where the requests go that have some headers.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rewrite {
    headers: Vec<(String, String)>,
    targets: Arc<Targets>,
}

/// The targets of a rule that can be chosen, of which there is one at least.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Targets {
    /// The sum of all weights so far, and the model.
    up_to: Vec<(u64, String)>,
}

impl Targets {
    fn new(targets: &[RewriteTarget]) -> Option<Self> {
        let weighted = targets.iter().any(|target| target.weight.is_some());
        let mut sum = 0;
        let mut up_to = Vec::with_capacity(targets.len());
        for target in targets {
            let weight = if weighted { target.weight.unwrap_or(0) } else { 1 };
            if weight > 0 && !target.model.is_empty() {
                sum += u64::from(weight);
                up_to.push((sum, target.model.clone()));
            }
        }
        (!up_to.is_empty()).then_some(Self { up_to })
    }

    fn choose(&self, chance: f64) -> &str {
        let last = self.up_to.len() - 1;
        let drawn = chance * self.up_to[last].0 as f64;
        let at = self.up_to.partition_point(|&(up_to, _)| up_to as f64 <= drawn);
        &self.up_to[at.min(last)].1
    }
}

#[cfg(test)]
mod tests;
