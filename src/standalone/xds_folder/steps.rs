//! In which order files are written so that nothing that serves refers to what is not there: [`Steps`]. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::standalone::xds::{XdsFile, XdsKind};

/// What is to be written, and what is left to be done later.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Steps {
    /// Files that may be written together, in the order of the steps; none is empty.
    pub steps: Vec<Vec<XdsFile>>,
    /// The clusters without those that nobody needs any more.
    pub clusters_at_last: Option<XdsFile>,
    /// Paths of files that nobody needs any more.
    pub unused: Vec<String>,
}

impl Steps {
    /// From the files that are `held`, of which those in `wanted` are in use, to `files`. `clusters_between` are the
    /// clusters of both; without it those of `files` do.
    ///
    /// Certificates and endpoints come first, then clusters, routes that are new, listeners, and routes that change.
    pub fn new(
        held: &BTreeMap<String, XdsFile>,
        wanted: &BTreeSet<String>,
        files: &[XdsFile],
        clusters_between: Option<&XdsFile>,
    ) -> Self {
        let changes = |file: &&XdsFile| held.get(&file.path).is_none_or(|old| old.text != file.text);
        // A file that lies there unused is as good as a new one: nobody looks at it yet.
        let is_new = |file: &&XdsFile| !wanted.contains(&file.path);
        let some = |want: &dyn Fn(&&XdsFile) -> bool| -> Vec<_> {
            files.iter().filter(changes).filter(want).cloned().collect()
        };
        let clusters = files.iter().find(|file| file.kind == XdsKind::Clusters);
        let between = clusters_between.or(clusters);
        let steps = vec![
            some(&|file| matches!(file.kind, XdsKind::Secret | XdsKind::Endpoints)),
            between.filter(changes).cloned().into_iter().collect(),
            some(&|file| file.kind == XdsKind::Routes && is_new(file)),
            some(&|file| file.kind == XdsKind::Listeners),
            some(&|file| file.kind == XdsKind::Routes && !is_new(file)),
        ];
        let paths: BTreeSet<_> = files.iter().map(|file| &file.path).collect();
        let unused = held.values().filter(|file| {
            !paths.contains(&file.path) && !matches!(file.kind, XdsKind::Clusters | XdsKind::Listeners)
        });
        Self {
            steps: steps.into_iter().filter(|step| !step.is_empty()).collect(),
            clusters_at_last: clusters
                .filter(|last| between.is_some_and(|now| now.text != last.text))
                .cloned(),
            unused: unused.map(|file| file.path.clone()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> XdsFile {
        let kind = match path.split(['/', '.']).next().unwrap() {
            "sds" => XdsKind::Secret,
            "eds" => XdsKind::Endpoints,
            "cds" => XdsKind::Clusters,
            "rds" => XdsKind::Routes,
            _ => XdsKind::Listeners,
        };
        XdsFile { path: path.to_owned(), kind, text: text.to_owned() }
    }

    fn files(files: &[(&str, &str)]) -> Vec<XdsFile> {
        files.iter().map(|(path, text)| file(path, text)).collect()
    }

    /// What is written, as `path=text`, step by step; then what is left.
    fn told(steps: &Steps) -> (Vec<String>, Option<&str>, Vec<&str>) {
        let step = |step: &Vec<XdsFile>| {
            let files: Vec<_> = step.iter().map(|file| format!("{}={}", file.path, file.text)).collect();
            files.join(" ")
        };
        let last = steps.clusters_at_last.as_ref().map(|file| &*file.text);
        (steps.steps.iter().map(step).collect(), last, steps.unused.iter().map(|path| &**path).collect())
    }

    #[test]
    fn makes_before_it_breaks() {
        let old =
            [("lds", "l1"), ("cds", "ab"), ("rds/a", "a1"), ("rds/b", "b1"), ("eds/a", "1"), ("sds/c", "1")];
        let held: BTreeMap<_, _> = files(&old).into_iter().map(|file| (file.path.clone(), file)).collect();
        let wanted: BTreeSet<_> = held.keys().filter(|path| *path != "rds/b").cloned().collect();
        let check = |new: &[(&str, &str)], between: Option<&str>, want: (&[&str], Option<&str>, &[&str])| {
            let between = between.map(|text| file("cds", text));
            let steps = Steps::new(&held, &wanted, &files(new), between.as_ref());
            let (written, last, unused) = told(&steps);
            assert_eq!(
                (&*written, last, &*unused),
                (&want.0.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>()[..], want.1, want.2),
                "{new:?}"
            );
        };
        // X10: nothing changes, nothing is written.
        check(&old, None, (&[], None, &[]));
        check(&old, Some("ab"), (&[], None, &[]));
        // Everything changes; rds/b lies there, but is not used yet.
        let all = [
            ("lds", "l2"),
            ("cds", "bc"),
            ("rds/a", "a2"),
            ("rds/b", "b2"),
            ("rds/d", "d"),
            ("eds/d", "1"),
            ("eds/a", "2"),
            ("sds/c", "2"),
        ];
        let steps = ["eds/d=1 eds/a=2 sds/c=2", "cds=abc", "rds/b=b2 rds/d=d", "lds=l2", "rds/a=a2"];
        check(&all, Some("abc"), (&steps, Some("bc"), &[]));
        // X4: a pool goes away.
        let fewer = [("lds", "l1"), ("cds", "a"), ("rds/a", "a2"), ("sds/c", "1")];
        check(&fewer, Some("ab"), (&["rds/a=a2"], Some("a"), &["eds/a", "rds/b"]));
        // Only routes.
        let mut routes = old;
        routes[2].1 = "a2";
        check(&routes, None, (&["rds/a=a2"], None, &[]));
        // A cluster comes.
        let mut more = old;
        more[1].1 = "abc";
        check(&more, None, (&["cds=abc"], None, &[]));
    }
}
