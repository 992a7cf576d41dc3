//! What changes in a pool: [`Change`], and [`diff`] from one list of endpoints to the next.
//!
//! Sources of endpoints (a file, a cluster) yield changes; the datastore's writer applies them. Pure.

pub mod fed;
pub mod file;
pub mod file_source;
pub mod index;
pub mod kube;
mod list;

use std::collections::HashMap;

use epp_framework::endpoint::EndpointMeta;

/// One change of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The endpoint is new, or something about it is.
    Upsert(EndpointMeta),
    /// The endpoint is gone.
    Remove {
        /// Its name.
        name: String,
        /// Its namespace.
        namespace: String,
    },
}

/// The changes that lead from `old` to `new`, in each of which names are unique within a namespace.
///
/// Removals come first, so that an address may pass to another name; then what is new or differs, in the order of
/// `new`. Equal lists, in whatever order, yield nothing.
pub fn diff(old: &[EndpointMeta], new: &[EndpointMeta]) -> Vec<Change> {
    let (old_by_name, new_by_name) = (by_name(old), by_name(new));
    let removed = old.iter().filter(|endpoint| !new_by_name.contains_key(&key(endpoint)));
    let removed = removed.map(|endpoint| Change::Remove {
        name: endpoint.name.clone(),
        namespace: endpoint.namespace.clone(),
    });
    let changed = new.iter().filter(|endpoint| old_by_name.get(&key(endpoint)) != Some(endpoint));
    removed.chain(changed.cloned().map(Change::Upsert)).collect()
}

fn by_name(endpoints: &[EndpointMeta]) -> HashMap<(&str, &str), &EndpointMeta> {
    endpoints.iter().map(|endpoint| (key(endpoint), endpoint)).collect()
}

fn key(endpoint: &EndpointMeta) -> (&str, &str) {
    (&endpoint.namespace, &endpoint.name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn endpoint(namespace: &str, name: &str, port: u16) -> EndpointMeta {
        EndpointMeta {
            name: name.into(),
            namespace: namespace.into(),
            address: "10.0.0.1".parse().unwrap(),
            port,
            labels: BTreeMap::new(),
        }
    }

    fn remove(namespace: &str, name: &str) -> Change {
        Change::Remove { name: name.into(), namespace: namespace.into() }
    }

    #[test]
    fn diffs_remove_first_and_leave_alone_what_is_equal() {
        let (a, b, c) = (endpoint("x", "a", 1), endpoint("x", "b", 2), endpoint("x", "c", 3));
        let moved = endpoint("x", "a", 4);
        let heir = endpoint("x", "d", 2);
        let elsewhere = endpoint("y", "a", 1);
        for (name, old, new, want) in [
            ("nothing", vec![], vec![], vec![]),
            ("reordered", vec![a.clone(), b.clone()], vec![b.clone(), a.clone()], vec![]),
            (
                "first read",
                vec![],
                vec![b.clone(), a.clone()],
                vec![Change::Upsert(b.clone()), Change::Upsert(a.clone())],
            ),
            ("emptied", vec![a.clone(), b.clone()], vec![], vec![remove("x", "a"), remove("x", "b")]),
            (
                "moved",
                vec![a.clone(), c.clone()],
                vec![moved.clone(), c.clone()],
                vec![Change::Upsert(moved)],
            ),
            ("inherited", vec![b.clone()], vec![heir.clone()], vec![remove("x", "b"), Change::Upsert(heir)]),
            (
                "namespaces",
                vec![a.clone()],
                vec![elsewhere.clone()],
                vec![remove("x", "a"), Change::Upsert(elsewhere)],
            ),
        ] {
            assert_eq!(diff(&old, &new), want, "{name}");
        }
    }

    proptest! {
        #[test]
        fn applied_diffs_lead_to_the_new_list(
            old in prop::collection::btree_map("[a-d]", 1u16..4, 0..4),
            new in prop::collection::btree_map("[a-d]", 1u16..4, 0..4),
        ) {
            let list = |ports: &BTreeMap<String, u16>| {
                ports.iter().map(|(name, &port)| endpoint("x", name, port)).collect::<Vec<_>>()
            };
            let mut applied = old.clone();
            for change in diff(&list(&old), &list(&new)) {
                match change {
                    Change::Upsert(endpoint) => drop(applied.insert(endpoint.name, endpoint.port)),
                    Change::Remove { name, .. } => prop_assert!(applied.remove(&name).is_some()),
                }
            }
            prop_assert_eq!(applied, new);
        }
    }
}
