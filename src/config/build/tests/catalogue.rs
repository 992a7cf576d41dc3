//! What the built-in types of v1.5 and llm-d accept, refuse and warn of, over the real table.

use epp_plugins::BUILT_IN;

use super::{HEAD, told_by};

/// A configuration of these plugins, all of them in the one profile.
fn config(plugins: &str) -> String {
    format!("{HEAD}plugins:\n{plugins}")
}

#[track_caller]
fn refused(row: &str, plugins: &str, why: &str) {
    let told = told_by(&config(plugins), BUILT_IN).0.expect_err(row);
    assert!(told.contains(why), "{row}: {told}");
}

/// The warnings of a configuration that loads.
#[track_caller]
fn warnings(row: &str, plugins: &str) -> String {
    let (outline, warnings) = told_by(&config(plugins), BUILT_IN);
    outline.expect(row);
    warnings
}

#[test]
fn prefix_parameters_that_make_no_sense_are_refused() {
    for (row, plugins, why) in [
        ("P5", "- {type: prefix-cache-scorer, parameters: {matchLengthWeight: -0.1}}", "from 0 to 1"),
        ("P5", "- {type: prefix-cache-scorer, parameters: {matchLengthWeight: 1.1}}", "from 0 to 1"),
        (
            "P6",
            "- {type: prefix-cache-scorer, parameters: {matchLengthWeight: 0.5, matchLengthScaleTokens: 0}}",
            "`matchLengthScaleTokens` must be above 0",
        ),
        (
            "X15",
            "- {type: approx-prefix-cache-producer, parameters: {autoTune: false, blockSizeTokens: 0}}",
            "blocks have no size",
        ),
        (
            "X16",
            "- {type: approx-prefix-cache-producer, parameters: {maxPrefixTokensToMatch: -1}}",
            "an integer from 0",
        ),
        (
            "not a producer",
            "- type: queue-scorer\n- {type: prefix-cache-scorer, parameters: {prefixMatchInfoProducerName: queue-scorer}}",
            "is not a producer of prefix matches",
        ),
    ] {
        refused(row, plugins, why);
    }
    let scale = "- {type: prefix-cache-scorer, parameters: {matchLengthScaleTokens: 0}}";
    assert_eq!(warnings("P6: a scale that does not count", scale), "");
}

#[test]
fn a_prefix_scorer_that_reads_from_a_producer_says_what_of_its_own_does_nothing() {
    let sizes = "- {type: prefix-cache-scorer, parameters: {hashBlockSize: 32, lruCapacityPerServer: 31250}}";
    assert_eq!(warnings("alone", sizes), "");
    let told = warnings("with a producer", &format!("{sizes}\n- type: approx-prefix-cache-producer"));
    assert!(told.contains(
        "`hashBlockSize` does nothing here, prompts are matched by `approx-prefix-cache-producer`"
    ));
    assert!(!told.contains("lruCapacityPerServer"), "{told}");
    let both = "- {type: prefix-cache-scorer, parameters: {blockSize: 64, blockSizeTokens: 16}}";
    assert!(warnings("two sizes", both).contains("`blockSize` does nothing beside `blockSizeTokens`"));
}

#[test]
fn readers_of_prefix_matches_get_a_producer() {
    for (row, plugins, producer) in [
        ("none declared", "- type: token-load-scorer", "approx-prefix-cache-producer"),
        ("a scorer's own", "- type: token-load-scorer\n- {type: prefix-cache-scorer, name: p}", "p"),
        (
            "declared",
            "- type: prefix-cache-affinity-filter\n- {type: approx-prefix-cache-producer, name: a}\n- type: prefix-cache-scorer",
            "a",
        ),
    ] {
        let (composition, problems) = super::load(&config(plugins), BUILT_IN);
        let composition = composition.unwrap_or_else(|| panic!("{row}: {problems:?}"));
        let reader = composition.instances[0].parameters.reference("prefixMatchInfoProducerName");
        assert_eq!((reader, problems.len()), (Some(producer), 0), "{row}");
    }
}
