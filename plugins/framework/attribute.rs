//! Attributes of an endpoint: small values that sources of data leave on it, for plugins to read in a cycle.
//!
//! Entry point: [`Attributes::number`]. A key is interned when a plugin is built, so reading one hashes nothing and
//! allocates nothing. [`Endpoint`](crate::endpoint::Endpoint) holds the attributes; who writes them, drops them as well.

use std::sync::Arc;

/// Producer and name of an attribute, interned in the pool's [`SlotNames`](crate::slot::SlotNames).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AttributeKey(pub(crate) u32);

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum AttributeValue {
    /// A finite number.
    Number(f64),
    /// Words, such as the models that are served, or a [place](Place); shared, since every change of another attribute
    /// makes all of them anew.
    Words(Arc<[String]>),
}

/// What a source says now of one attribute; `None` is nothing.
pub type Told = (AttributeKey, Option<AttributeValue>);

/// The attributes of one endpoint at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attributes(Vec<(AttributeKey, AttributeValue)>);

impl Attributes {
    /// The value, if its source says one now.
    pub fn get(&self, key: AttributeKey) -> Option<&AttributeValue> {
        let at = self.0.binary_search_by_key(&key, |(known, _)| *known).ok()?;
        Some(&self.0[at].1)
    }

    /// The value, if it is a number.
    pub fn number(&self, key: AttributeKey) -> Option<f64> {
        match self.get(key)? {
            AttributeValue::Number(value) => Some(*value),
            AttributeValue::Words(_) => None,
        }
    }

    /// The value, if it is words.
    pub fn words(&self, key: AttributeKey) -> Option<&[String]> {
        match self.get(key)? {
            AttributeValue::Words(words) => Some(words),
            AttributeValue::Number(_) => None,
        }
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (AttributeKey, &AttributeValue)> {
        self.0.iter().map(|(key, value)| (*key, value))
    }

    /// Whether what is told is what is there.
    pub(crate) fn say(&self, told: &[Told]) -> bool {
        told.iter().all(|(key, value)| self.get(*key) == value.as_ref())
    }

    /// The same with what is told in the place of what was.
    pub(crate) fn with(&self, told: &[Told]) -> Self {
        let untold = self.0.iter().filter(|(key, _)| told.iter().all(|(other, _)| other != key));
        let told = told.iter().filter_map(|(key, value)| Some((*key, value.clone()?)));
        let mut now: Vec<_> = untold.cloned().chain(told).collect();
        now.sort_by_key(|(key, _)| *key);
        Self(now)
    }
}

/// How near two places are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Nearness {
    /// In the same region.
    Region,
    /// In the same zone.
    Zone,
    /// In the same rack.
    Rack,
    /// On the same host.
    Host,
}

/// Where an endpoint is, as an attribute holds it: the words host, rack, zone and region; an empty one is not known.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a>(pub &'a [String]);

impl Place<'_> {
    const LEVELS: [Nearness; 4] = [Nearness::Host, Nearness::Rack, Nearness::Zone, Nearness::Region];

    /// Whether anything is known.
    pub fn is_known(&self) -> bool {
        self.0.iter().any(|word| !word.is_empty())
    }

    /// The nearest level that both share. What is not known is shared with nobody.
    pub fn nearness(&self, other: Place<'_>) -> Option<Nearness> {
        let shared = self.0.iter().zip(other.0).position(|(a, b)| !a.is_empty() && a == b)?;
        Self::LEVELS.get(shared).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_source_tells_replaces_what_it_told_and_nothing_else() {
        let [a, b, c] = [AttributeKey(0), AttributeKey(1), AttributeKey(2)];
        let number = |value| Some(AttributeValue::Number(value));
        let first = Attributes::default().with(&[(c, number(3.0)), (a, number(1.0))]);
        assert!(first.say(&[(a, number(1.0)), (b, None)]) && !first.say(&[(a, None)]));
        let words = Some(AttributeValue::Words(["w".to_owned()].into()));
        let second = first.with(&[(a, None), (b, words)]);
        assert_eq!((second.number(a), second.number(b), second.number(c)), (None, None, Some(3.0)));
        assert_eq!(second.words(b), Some(&["w".to_owned()][..]));
        assert_eq!(second.words(c), None);
        let third = second.with(&[(c, number(4.0))]);
        let shared = second.words(b).zip(third.words(b)).map(|(words, same)| std::ptr::eq(words, same));
        assert_eq!(shared, Some(true), "no word is copied because of another attribute");
        assert_eq!(second.iter().map(|(key, _)| key).collect::<Vec<_>>(), [b, c]);
    }

    #[test]
    fn places_share_the_nearest_level_that_both_know() {
        let place = |words: &str| words.split('/').map(str::to_owned).collect::<Vec<_>>();
        for (a, b, want) in [
            ("h/r/z/g", "h/r/z/g", Some(Nearness::Host)),
            ("h/r/z/g", "i/r/z/g", Some(Nearness::Rack)),
            ("h//z/g", "i//z/g", Some(Nearness::Zone)),
            ("h/r/z/g", "i/s/y/g", Some(Nearness::Region)),
            ("///", "///", None),
            ("h///", "///", None),
            ("h/r/z/g", "i/s/y/f", None),
        ] {
            assert_eq!(Place(&place(a)).nearness(Place(&place(b))), want, "{a} {b}");
        }
        assert!(!Place(&place("///")).is_known() && Place(&place("//z/")).is_known());
        assert!(Nearness::Host > Nearness::Rack && Nearness::Zone > Nearness::Region);
    }
}
