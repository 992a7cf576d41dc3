//! The objects of one kind that count, by name: `Objects::tell` takes what a source tells of them.
//!
//! What counts, and what is kept of it, is the caller's to say.

use std::collections::BTreeMap;

/// What a source tells of the objects of one kind, whose names are unique.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told<T> {
    /// The object is so now.
    Apply(T),
    /// No object has this name any more.
    Delete(String),
    /// These are all there are.
    Reset(Vec<T>),
}

/// What is kept of each object that counts.
pub(super) struct Objects<T> {
    by_name: BTreeMap<String, T>,
    /// What was kept of those that may have changed since this was last asked.
    changed: BTreeMap<String, Option<T>>,
}

impl<T> Default for Objects<T> {
    fn default() -> Self {
        Self { by_name: BTreeMap::new(), changed: BTreeMap::new() }
    }
}

impl<T: PartialEq> Objects<T> {
    /// Takes what is told; `keep` says an object's name and what is kept of it, if it counts.
    pub(super) fn tell<O>(&mut self, told: Told<O>, keep: impl Fn(O) -> (String, Option<T>)) {
        match told {
            Told::Apply(object) => {
                let (name, kept) = keep(object);
                self.set(name, kept);
            }
            Told::Delete(name) => self.set(name, None),
            Told::Reset(objects) => {
                // What is listed twice counts as it was last.
                let listed: BTreeMap<_, _> = objects.into_iter().map(keep).collect();
                let left: Vec<_> =
                    self.by_name.keys().filter(|name| !listed.contains_key(*name)).cloned().collect();
                for name in left {
                    self.set(name, None);
                }
                for (name, kept) in listed {
                    self.set(name, kept);
                }
            }
        }
    }

    /// Those that may have changed since this was last asked, with what was kept of them.
    pub(super) fn take_changed(&mut self) -> BTreeMap<String, Option<T>> {
        std::mem::take(&mut self.changed)
    }

    /// What is kept, by name.
    pub(super) fn by_name(&self) -> &BTreeMap<String, T> {
        &self.by_name
    }

    fn set(&mut self, name: String, kept: Option<T>) {
        if self.by_name.get(&name) == kept.as_ref() {
            return;
        }
        let before = match kept {
            Some(kept) => self.by_name.insert(name.clone(), kept),
            None => self.by_name.remove(&name),
        };
        self.changed.entry(name).or_insert(before);
    }
}
