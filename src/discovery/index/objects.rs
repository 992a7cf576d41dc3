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
    changed: bool,
}

impl<T> Default for Objects<T> {
    fn default() -> Self {
        Self { by_name: BTreeMap::new(), changed: false }
    }
}

impl<T: PartialEq> Objects<T> {
    /// Takes what is told; `keep` says an object's name and what is kept of it, if it counts.
    pub(super) fn tell<O>(&mut self, told: Told<O>, keep: impl Fn(O) -> (String, Option<T>)) {
        match told {
            Told::Apply(object) => self.apply(keep(object)),
            Told::Delete(name) => self.apply((name, None)),
            Told::Reset(objects) => {
                let mut all = Self::default();
                for object in objects {
                    all.apply(keep(object));
                }
                self.changed |= all.by_name != self.by_name;
                self.by_name = all.by_name;
            }
        }
    }

    /// Forgets what no longer counts.
    pub(super) fn retain(&mut self, keep: impl Fn(&T) -> bool) {
        let before = self.by_name.len();
        self.by_name.retain(|_, kept| keep(kept));
        self.changed |= self.by_name.len() != before;
    }

    /// Whether anything changed since this was last asked.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// What is kept, by name.
    pub(super) fn by_name(&self) -> &BTreeMap<String, T> {
        &self.by_name
    }

    fn apply(&mut self, (name, kept): (String, Option<T>)) {
        match kept {
            Some(kept) if self.by_name.get(&name) == Some(&kept) => {}
            Some(kept) => {
                self.by_name.insert(name, kept);
                self.changed = true;
            }
            None => self.changed |= self.by_name.remove(&name).is_some(),
        }
    }
}
