//! What Envoy made of the files that it watches, read from its statistics: [`Subscriptions`]. Pure.

use std::collections::BTreeMap;

use crate::standalone::xds::{XdsFile, XdsKind};

/// The page of statistics: `update_(attempt|success|rejected|failure)$|warming(_clusters)?$`.
pub const PAGE: &str =
    "/stats?filter=update_%28attempt%7Csuccess%7Crejected%7Cfailure%29%24%7Cwarming%28_clusters%29%3F%24";

/// What became of one file's versions so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// How often it was read.
    pub attempts: u64,
    /// How often it was taken.
    pub taken: u64,
    /// How often it was not.
    pub refused: u64,
}

impl Counts {
    fn and(self, other: Self) -> Self {
        Self {
            attempts: self.attempts + other.attempts,
            taken: self.taken + other.taken,
            refused: self.refused + other.refused,
        }
    }
}

/// What became of a file that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Envoy has not read it yet.
    Unread,
    /// It took it, or nobody needs it yet.
    Taken,
    /// It did not take it.
    Refused,
}

/// All files that Envoy watches, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscriptions {
    /// By the scope of the statistics.
    counts: BTreeMap<String, Counts>,
    /// Clusters and listeners that are not ready for use yet.
    pub warming: u64,
}

impl Subscriptions {
    /// Reads [`PAGE`].
    pub fn read(page: &str) -> Self {
        let mut all = Self::default();
        for line in page.lines() {
            let Some((name, value)) = line.rsplit_once(": ") else { continue };
            let (Some((scope, stat)), Ok(value)) = (name.rsplit_once('.'), value.parse::<u64>()) else {
                continue;
            };
            if matches!(name, "cluster_manager.warming_clusters" | "listener_manager.total_listeners_warming")
            {
                all.warming += value;
            }
            let added = match stat {
                "update_attempt" => Counts { attempts: value, ..Counts::default() },
                "update_success" => Counts { taken: value, ..Counts::default() },
                "update_rejected" | "update_failure" => Counts { refused: value, ..Counts::default() },
                _ => continue,
            };
            let counts = all.counts.entry(scope.to_owned()).or_default();
            *counts = counts.and(added);
        }
        all
    }

    /// What became of a file; `None` while Envoy does not watch it.
    pub fn of(&self, file: &XdsFile) -> Option<Counts> {
        let name = resource(&file.path);
        let is_its = |scope: &str| match file.kind {
            XdsKind::Listeners => scope == "listener_manager.lds",
            XdsKind::Clusters => scope == "cluster_manager.cds",
            XdsKind::Endpoints => scope.strip_prefix("cluster.") == Some(&*name),
            XdsKind::Routes => ends_with(scope, ".rds.", &name),
            XdsKind::Secret => scope.strip_prefix("sds.") == Some(&*name) || ends_with(scope, ".sds.", &name),
        };
        // Several listeners may read one file.
        let its = self.counts.iter().filter(|(scope, counts)| is_its(scope) && counts.attempts > 0);
        its.map(|(_, counts)| *counts).reduce(Counts::and)
    }

    /// What became of a file that was written after `before`.
    pub fn fate(&self, before: &Self, file: &XdsFile) -> Fate {
        let Some(then) = before.of(file) else {
            // What nobody watched may be watched by now, and refused.
            let is_refused = self.of(file).is_some_and(|now| now.taken == 0 && now.refused > 0);
            return if is_refused { Fate::Refused } else { Fate::Taken };
        };
        // It may be watched no more, or not again yet where Envoy was started anew.
        let Some(now) = self.of(file) else { return Fate::Unread };
        // After a new start everything is counted from zero.
        let then = if now.attempts < then.attempts { Counts::default() } else { then };
        if now.attempts == then.attempts {
            Fate::Unread
        } else if now.refused > then.refused {
            Fate::Refused
        } else {
            Fate::Taken
        }
    }

    /// Whether Envoy refused the last version that it read of this file, as far as the counts can tell: it has taken
    /// none.
    pub fn has_none(&self, file: &XdsFile) -> bool {
        self.of(file).is_some_and(|counts| counts.taken == 0 && counts.refused > 0)
    }
}

fn ends_with(scope: &str, infix: &str, name: &str) -> bool {
    scope.strip_suffix(name).is_some_and(|rest| rest.ends_with(infix))
}

/// The name of the resource in a file, as statistics have it.
fn resource(path: &str) -> String {
    let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
    let name = name.rsplit_once('.').map_or(name, |(name, _)| name);
    name.replace('~', "/").replace(':', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Envoy 1.40 has it.
    const PAGE: &str = "\
cluster.default/a_80.update_attempt: 2
cluster.default/a_80.update_rejected: 1
cluster.default/a_80.update_success: 1
cluster.b.update_attempt: 0
cluster_manager.cds.update_attempt: 3
cluster_manager.cds.update_failure: 1
cluster_manager.cds.update_rejected: 1
cluster_manager.cds.update_success: 1
cluster_manager.cds.update_duration: No recorded values
cluster_manager.warming_clusters: 2
cluster.a.warming_state: 1
http.http-1.rds.default/gw/http.update_attempt: 1
http.http-1.rds.default/gw/http.update_success: 1
http.http-2.rds.default/gw/http.update_attempt: 2
http.http-2.rds.default/gw/http.update_success: 2
http.http-2.rds.other/default/gw/http.update_attempt: 9
listener_manager.lds.update_attempt: 1
listener_manager.lds.update_success: 1
listener_manager.total_listeners_warming: 1
sds.default/cert.update_attempt: 4
sds.default/cert.update_success: 4
";

    fn file(kind: XdsKind, path: &str) -> XdsFile {
        XdsFile { path: path.to_owned(), kind, text: String::new() }
    }

    #[test]
    fn counts_are_found_by_path() {
        let subscriptions = Subscriptions::read(PAGE);
        assert_eq!(subscriptions.warming, 3);
        for (kind, path, want) in [
            (XdsKind::Endpoints, "eds/default~a:80.yaml", Some((2, 1, 1))),
            (XdsKind::Endpoints, "eds/b.yaml", None),
            (XdsKind::Clusters, "cds.yaml", Some((3, 1, 2))),
            (XdsKind::Listeners, "lds.yaml", Some((1, 1, 0))),
            // X9: names with slashes.
            (XdsKind::Routes, "rds/default~gw~http.yaml", Some((3, 3, 0))),
            (XdsKind::Routes, "rds/http.yaml", None),
            (XdsKind::Secret, "sds/default~cert.yaml", Some((4, 4, 0))),
        ] {
            let counts = subscriptions.of(&file(kind, path));
            let want = want.map(|(attempts, taken, refused)| Counts { attempts, taken, refused });
            assert_eq!(counts, want, "{path}");
        }
    }

    #[test]
    fn fates_follow_from_two_looks() {
        let lds = file(XdsKind::Listeners, "lds.yaml");
        let look = |attempts: u64, taken: u64, rejected: u64, failed: u64| {
            Subscriptions::read(&format!(
                "listener_manager.lds.update_attempt: {attempts}\nlistener_manager.lds.update_success: {taken}\n\
                 listener_manager.lds.update_rejected: {rejected}\nlistener_manager.lds.update_failure: {failed}\n"
            ))
        };
        let before = look(5, 3, 1, 1);
        for (now, want) in [
            (look(5, 3, 1, 1), Fate::Unread),
            (look(6, 4, 1, 1), Fate::Taken),
            (look(6, 3, 2, 1), Fate::Refused),
            (look(6, 3, 1, 2), Fate::Refused),
            (look(1, 1, 0, 0), Fate::Taken),
            (look(1, 0, 1, 0), Fate::Refused),
            (Subscriptions::default(), Fate::Unread),
        ] {
            assert_eq!(now.fate(&before, &lds), want, "{now:?}");
        }
        let nobody = Subscriptions::default();
        for (now, want) in [
            (nobody.clone(), Fate::Taken),
            (look(1, 1, 0, 0), Fate::Taken),
            (look(1, 0, 1, 0), Fate::Refused),
        ] {
            assert_eq!(now.fate(&nobody, &lds), want, "{now:?}");
        }
        assert!(look(2, 0, 1, 1).has_none(&lds) && !before.has_none(&lds));
    }
}
