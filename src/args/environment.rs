//! Variables of the Go EPP that do not have a module of their own.
//!
//! Those of v0.2 to v0.5.1 count only where a flag of that time is on the command line; v1.0.1 dropped them. [`bindings`]
//! is for those that stand for flags, [`built_in`] for those that chose and tuned the scheduler before it had a
//! configuration file. [`note_gates`] is for those that switched experiments on.

use std::fmt::{Display, Write as _};
use std::ops::RangeInclusive;
use std::str::FromStr;

use super::flags::{FLAGS, Flag, boolean};
use super::read::Env;
use crate::config::LEGACY_CONFIG;
use crate::config::build::MAX_WEIGHT;
use crate::config::problem::shown;

/// A variable's value; an empty one counts as none.
pub(super) fn variable(env: Env<'_>, name: &str) -> Option<String> {
    env(name).filter(|value| !value.is_empty())
}

/// The flags that are set by variables: row, variable, value.
pub(super) fn bindings(env: Env<'_>) -> Vec<(&'static Flag, &'static str, String)> {
    let bound = FLAGS.iter().filter_map(|flag| flag.env.map(|name| (flag, name)));
    bound.filter_map(|(flag, name)| variable(env, name).map(|value| (flag, name, value))).collect()
}

/// Chooses the scheduler, and tunes it.
const SWITCHES: [&str; 11] = [
    "EXPERIMENTAL_USE_SCHEDULER_V2",
    "ENABLE_REQ_HEADER_BASED_SCHEDULER_FOR_TESTING",
    "ENABLE_PREFIX_CACHE_SCHEDULING",
    "QUEUE_SCORE_WEIGHT",
    "KV_CACHE_SCORE_WEIGHT",
    "PREFIX_CACHE_SCORE_WEIGHT",
    "PREFIX_CACHE_HASH_BLOCK_SIZE",
    "PREFIX_CACHE_MAX_PREFIX_BLOCKS",
    "PREFIX_CACHE_LRU_CAPACITY",
    "QUEUING_THRESHOLD_LORA",
    "LORA_AFFINITY_THRESHOLD",
];

/// The configuration that variables choose where there is none; `has_config` says whether there is one, and then they
/// are only told to have no effect.
pub(super) fn built_in(env: Env<'_>, has_config: bool, notes: &mut Vec<String>) -> Option<String> {
    note_other_variables(env, notes);
    if has_config {
        let set: Vec<_> = SWITCHES.into_iter().filter(|name| variable(env, name).is_some()).collect();
        if !set.is_empty() {
            notes.push(format!("{}: no effect, because a configuration is given", set.join(", ")));
        }
        return None;
    }
    let mut read = Reader { env, notes };
    if read.is_set("ENABLE_REQ_HEADER_BASED_SCHEDULER_FOR_TESTING") {
        return Some(header_based());
    }
    if read.is_set("EXPERIMENTAL_USE_SCHEDULER_V2") {
        return Some(second_scheduler(&mut read));
    }
    let queue: i64 = read.number("QUEUING_THRESHOLD_LORA", 128, &(0..=i64::MAX));
    let affinity: f64 = read.number("LORA_AFFINITY_THRESHOLD", 0.999, &(0.0..=1.0));
    let tree = LEGACY_CONFIG.replace("threshold: 128", &format!("threshold: {queue}"));
    Some(tree.replace("threshold: 0.999", &format!("threshold: {affinity}")))
}

fn note_other_variables(env: Env<'_>, notes: &mut Vec<String>) {
    if let Some(value) = variable(env, "USE_STREAMING").filter(|value| boolean(value) != Some(true)) {
        notes.push(format!(
            "USE_STREAMING={value}: no effect; the gateway says with each request how it sends bodies, and both ways work"
        ));
    }
    for (old, new) in [
        ("KV_CACHE_THRESHOLD", "SD_KV_CACHE_UTIL_THRESHOLD"),
        ("QUEUE_THRESHOLD_CRITICAL", "SD_QUEUE_DEPTH_THRESHOLD"),
    ] {
        if variable(env, old).is_some() {
            notes.push(format!("{old}: no effect, as in v0.5.1; use {new}"));
        }
    }
}

/// Variables that switched an experiment on, and what that means here.
const GATES: [(&str, &str); 2] = [
    ("ENABLE_EXPERIMENTAL_DATALAYER_V2", "metrics pages are read in one way, which is always on"),
    (
        "ENABLE_EXPERIMENTAL_FLOW_CONTROL_LAYER",
        "there is no flow control in this version; nothing queues, and what may be shed is refused while the pool is \
         saturated",
    ),
];

/// Tells what variables do not switch on. A start is not refused for them.
pub(super) fn note_gates(env: Env<'_>, notes: &mut Vec<String>) {
    for (name, means) in GATES {
        if variable(env, name).and_then(|value| boolean(&value)) == Some(true) {
            notes.push(format!("{name} has no effect: {means}"));
        }
    }
}

/// What a scorer may weigh.
const WEIGHTS: RangeInclusive<i64> = -MAX_WEIGHT..=MAX_WEIGHT;

struct Reader<'a, 'n> {
    env: Env<'a>,
    notes: &'n mut Vec<String>,
}

impl Reader<'_, '_> {
    fn is_set(&mut self, name: &str) -> bool {
        let Some(value) = variable(self.env, name) else { return false };
        boolean(&value).unwrap_or_else(|| {
            self.notes
                .push(format!("{name}: expected true or false, found {}; false applies", shown(&value)));
            false
        })
    }

    /// A number that the configuration takes.
    fn number<T: FromStr + Display + PartialOrd>(
        &mut self,
        name: &str,
        default: T,
        range: &RangeInclusive<T>,
    ) -> T {
        let Some(value) = variable(self.env, name) else { return default };
        value.parse().ok().filter(|number| range.contains(number)).unwrap_or_else(|| {
            let (least, most, found) = (range.start(), range.end(), shown(&value));
            self.notes.push(format!(
                "{name}: expected a number from {least} to {most}, found {found}; {default} applies"
            ));
            default
        })
    }
}

const HEAD: &str =
    "apiVersion: inference.networking.x-k8s.io/v1alpha1\nkind: EndpointPickerConfig\nplugins:\n";

fn header_based() -> String {
    format!(
        "{HEAD}- type: header-based-testing-filter\n- type: random-picker\n- type: single-profile-handler\n\
         schedulingProfiles:\n- name: default\n  plugins:\n  - pluginRef: header-based-testing-filter\n  - pluginRef: random-picker\n"
    )
}

/// What `EXPERIMENTAL_USE_SCHEDULER_V2` switched on in v0.4: two scorers, or three.
fn second_scheduler(read: &mut Reader<'_, '_>) -> String {
    let mut text = format!("{HEAD}- type: queue-scorer\n- type: kv-cache-utilization-scorer\n");
    let mut weights: Vec<(&str, i64)> = vec![
        ("queue-scorer", read.number("QUEUE_SCORE_WEIGHT", 1, &WEIGHTS)),
        ("kv-cache-utilization-scorer", read.number("KV_CACHE_SCORE_WEIGHT", 1, &WEIGHTS)),
    ];
    if read.is_set("ENABLE_PREFIX_CACHE_SCHEDULING") {
        let block: u32 = read.number("PREFIX_CACHE_HASH_BLOCK_SIZE", 64, &(1..=1 << 20));
        let longest: u32 = read.number("PREFIX_CACHE_MAX_PREFIX_BLOCKS", 128, &(1..=1 << 20));
        // It was one list for all servers; here each has its own, so this is the most that any could have held.
        let capacity: u32 = read.number("PREFIX_CACHE_LRU_CAPACITY", 50_000, &(1..=1 << 28));
        let _ = write!(
            text,
            "- type: prefix-cache-scorer\n  parameters: {{hashBlockSize: {block}, maxPrefixBlocksToMatch: {longest}, \
             lruCapacityPerServer: {capacity}}}\n"
        );
        weights.push(("prefix-cache-scorer", read.number("PREFIX_CACHE_SCORE_WEIGHT", 1, &WEIGHTS)));
    }
    text += "- type: max-score-picker\n- type: single-profile-handler\n";
    text += "schedulingProfiles:\n- name: schedulerv2\n  plugins:\n";
    for (scorer, weight) in weights {
        let _ = writeln!(text, "  - {{pluginRef: {scorer}, weight: {weight}}}");
    }
    text + "  - pluginRef: max-score-picker\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::build;

    fn chosen(variables: &[(&str, &str)], has_config: bool) -> (Option<String>, Vec<String>) {
        let env = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        let mut notes = Vec::new();
        (built_in(&env, has_config, &mut notes), notes)
    }

    #[test]
    fn without_a_configuration_the_scheduler_of_v0_4_is_chosen_by_variables() {
        assert_eq!(chosen(&[], false), (Some(LEGACY_CONFIG.to_owned()), vec![]));
        let tuned = [("QUEUING_THRESHOLD_LORA", "50"), ("LORA_AFFINITY_THRESHOLD", "0.5")];
        let tree = chosen(&tuned, false).0.unwrap();
        assert!(tree.contains("threshold: 50\n") && tree.contains("threshold: 0.5\n"), "{tree}");
        assert_eq!(tree.lines().count(), LEGACY_CONFIG.lines().count());
        let v2 = ("EXPERIMENTAL_USE_SCHEDULER_V2", "True");
        let testing = ("ENABLE_REQ_HEADER_BASED_SCHEDULER_FOR_TESTING", "1");
        let header = chosen(&[v2, testing], false).0.unwrap();
        assert!(header.contains("pluginRef: header-based-testing-filter"), "it wins over V2");
        let (text, notes) = chosen(&[v2, ("QUEUE_SCORE_WEIGHT", "3"), ("KV_CACHE_SCORE_WEIGHT", "x")], false);
        let text = text.unwrap();
        assert!(text.contains("{pluginRef: queue-scorer, weight: 3}"), "{text}");
        assert!(text.contains("weight: 1}") && !text.contains("prefix"), "{text}");
        assert!(notes.len() == 1 && notes[0].contains("KV_CACHE_SCORE_WEIGHT") && notes[0].contains("`x`"));
    }

    #[test]
    fn the_second_scheduler_of_v0_4_is_a_configuration_that_builds() {
        let all = [
            ("EXPERIMENTAL_USE_SCHEDULER_V2", "true"),
            ("ENABLE_PREFIX_CACHE_SCHEDULING", "true"),
            ("PREFIX_CACHE_HASH_BLOCK_SIZE", "32"),
            ("PREFIX_CACHE_SCORE_WEIGHT", "5"),
        ];
        for variables in [&all[..1], &all[..]] {
            let text = chosen(variables, false).0.unwrap();
            let (composition, problems) = build::load(&text, epp_plugins::BUILT_IN);
            assert!(composition.is_some() && problems.is_empty(), "{text}\n{problems:?}");
        }
    }

    #[test]
    fn numbers_out_of_range_are_ignored_with_a_warning_that_names_the_variable() {
        let prefix = [("EXPERIMENTAL_USE_SCHEDULER_V2", "1"), ("ENABLE_PREFIX_CACHE_SCHEDULING", "1")];
        for (name, inside, outside) in [
            ("QUEUING_THRESHOLD_LORA", "0", "-1"),
            ("QUEUING_THRESHOLD_LORA", "9223372036854775807", "9223372036854775808"),
            ("LORA_AFFINITY_THRESHOLD", "0", "-0.1"),
            ("LORA_AFFINITY_THRESHOLD", "1", "1.1"),
            ("LORA_AFFINITY_THRESHOLD", "1e-3", "NaN"),
            ("LORA_AFFINITY_THRESHOLD", "1.0", "inf"),
            ("PREFIX_CACHE_HASH_BLOCK_SIZE", "1", "0"),
            ("PREFIX_CACHE_HASH_BLOCK_SIZE", "1048576", "1048577"),
            ("PREFIX_CACHE_MAX_PREFIX_BLOCKS", "1", "0"),
            ("PREFIX_CACHE_MAX_PREFIX_BLOCKS", "1048576", "1048577"),
            ("PREFIX_CACHE_LRU_CAPACITY", "1", "0"),
            ("PREFIX_CACHE_LRU_CAPACITY", "268435456", "268435457"),
            ("QUEUE_SCORE_WEIGHT", "1000000000000", "1000000000001"),
            ("KV_CACHE_SCORE_WEIGHT", "1000000000000", "9223372036854775807"),
            ("PREFIX_CACHE_SCORE_WEIGHT", "-1000000000000", "-1000000000001"),
        ] {
            let switches = if name.contains("THRESHOLD") { &[][..] } else { &prefix[..] };
            for (value, notes_expected) in [(inside, 0), (outside, 1)] {
                let (text, notes) = chosen(&[switches, &[(name, value)]].concat(), false);
                let (composition, problems) = build::load(&text.unwrap(), epp_plugins::BUILT_IN);
                assert!(composition.is_some(), "{name}={value}: {problems:?}");
                assert_eq!(notes.len(), notes_expected, "{name}={value}: {notes:?}");
                assert!(notes.iter().all(|note| note.contains(name) && note.contains(value)), "{notes:?}");
            }
        }
    }

    #[test]
    fn with_a_configuration_variables_are_named_as_without_effect() {
        let (text, notes) =
            chosen(&[("EXPERIMENTAL_USE_SCHEDULER_V2", "true"), ("QUEUE_SCORE_WEIGHT", "2")], true);
        assert_eq!(text, None);
        assert_eq!(notes.len(), 1);
        assert!(notes[0].starts_with("EXPERIMENTAL_USE_SCHEDULER_V2, QUEUE_SCORE_WEIGHT: "), "{notes:?}");
    }

    #[test]
    fn experiments_that_are_switched_on_are_told_as_without_effect() {
        for (name, _) in GATES {
            for (value, told) in
                [("true", true), ("1", true), ("false", false), ("0", false), ("", false), ("yes", false)]
            {
                let env = |asked: &str| (asked == name).then(|| value.to_owned());
                let mut notes = Vec::new();
                note_gates(&env, &mut notes);
                assert_eq!(notes.len(), usize::from(told), "{name}={value}: {notes:?}");
                assert!(notes.iter().all(|note| note.starts_with(name)), "{notes:?}");
            }
        }
    }

    #[test]
    fn other_old_variables_are_told_with_what_replaced_them() {
        for (name, value, told) in [
            ("USE_STREAMING", "true", None),
            ("USE_STREAMING", "false", Some("the gateway says")),
            ("USE_STREAMING", "maybe", Some("the gateway says")),
            ("KV_CACHE_THRESHOLD", "0.9", Some("use SD_KV_CACHE_UTIL_THRESHOLD")),
            ("QUEUE_THRESHOLD_CRITICAL", "9", Some("use SD_QUEUE_DEPTH_THRESHOLD")),
            ("QUEUE_THRESHOLD_CRITICAL", "", None),
        ] {
            let notes = chosen(&[(name, value)], true).1;
            assert_eq!(notes.len(), usize::from(told.is_some()), "{name}={value}: {notes:?}");
            assert!(told.is_none_or(|told| notes[0].contains(told) && notes[0].contains(name)), "{notes:?}");
        }
    }
}
