//! The rows on profile handlers that split requests and on their deciders, over the built-in types.

use epp_plugins::BUILT_IN;

use super::{LLM_D_HEAD, load, told_by};

const COMPOSITIONS: [(&str, &str, &str); 5] = [
    (
        "pd",
        include_str!("../../../../tests/it/fixtures/config/compositions/pd-epp-config.yaml"),
        "disagg-profile-handler",
    ),
    (
        "sim-pd",
        include_str!("../../../../tests/it/fixtures/config/compositions/sim-pd-epp-config.yaml"),
        "disagg-profile-handler",
    ),
    (
        "e-p-d",
        include_str!("../../../../tests/it/fixtures/config/compositions/sim-e-p-d-epp-config.yaml"),
        "disagg-profile-handler",
    ),
    (
        "e-pd",
        include_str!("../../../../tests/it/fixtures/config/compositions/sim-e-pd-epp-config.yaml"),
        "disagg-profile-handler",
    ),
    (
        "dp",
        include_str!("../../../../tests/it/fixtures/config/compositions/dp-epp-config.yaml"),
        "data-parallel-profile-handler",
    ),
];

/// A configuration: this handler, two deciders behind it, a scorer, and profiles of these names.
fn with(handler: &str, profiles: &[&str]) -> String {
    let profiles: Vec<_> = profiles.iter().map(|name| format!("{{name: {name}, plugins: []}}")).collect();
    format!(
        "{LLM_D_HEAD}plugins:\n- {handler}\n- {{type: always-disagg-pd-decider, name: p}}\n\
         - {{type: always-disagg-multimodal-decider, name: e}}\n- {{type: prefix-cache-scorer}}\n\
         schedulingProfiles: [{}]\n",
        profiles.join(", ")
    )
}

fn disagg(parameters: &str) -> String {
    format!("{{type: disagg-profile-handler, parameters: {parameters}}}")
}

const BOTH: &str = "{deciders: {prefill: p, encode: e}}";
const STAGES: &[&str] = &["decode", "prefill", "encode"];
const OTHERS_UNUSED: &str = "plugin `prefix-cache-scorer` is in no scheduling profile";

/// Section 6 of the plugin specification, and row G35: deciders may be declared after the handler.
#[test]
fn g35_compositions_with_several_kinds_of_workers_load() {
    for (name, text, handler) in COMPOSITIONS {
        let (composition, problems) = load(text, BUILT_IN);
        let composition = composition.unwrap_or_else(|| panic!("{name}: {problems:?}"));
        assert_eq!(composition.instances[composition.handler].plugin_type.name, handler, "{name}");
        // The one that is deprecated says so, and nothing else is told.
        let told: Vec<_> = problems.iter().map(|problem| problem.message.as_str()).collect();
        assert_eq!(told.len(), usize::from(name == "dp"), "{name}: {told:?}");
    }
}

/// Every problem of a configuration, one to a line.
#[track_caller]
fn refused(handler: &str, profiles: &[&str]) -> String {
    let (composition, problems) = load(&with(handler, profiles), BUILT_IN);
    let told: Vec<_> = problems.iter().map(ToString::to_string).collect();
    assert!(composition.is_none(), "{told:?}");
    told.join("\n")
}

#[test]
fn what_cannot_be_split_so_is_refused_with_its_place() {
    let older = "is of the older form, which does not mix with `profiles` and `deciders`";
    let no_say = "with which every prompt has a prefill worker, so that the decider `p` has no say";
    let plugin = "error: plugin `disagg-profile-handler`:";
    let deciders = "`plugins[0].parameters.deciders";
    for (row, parameters, want) in [
        (
            "D19",
            "{deciders: {prefill: nobody}}",
            format!("4:67: {plugin} {deciders}.prefill`: no plugin is named `nobody`"),
        ),
        (
            "D19: no decider",
            "{deciders: {encode: prefix-cache-scorer}}",
            format!("4:66: {plugin} {deciders}.encode`: `prefix-cache-scorer` is not a decider"),
        ),
        (
            "D20",
            "{stageOrder: prefill-first, deciders: {prefill: p}}",
            format!("4:46: {plugin} `stageOrder` is `prefill-first`, {no_say}"),
        ),
        ("D20: older form", "{stageOrder: PREFILL_FIRST, deciderPluginName: p}", no_say.to_owned()),
        (
            "D21",
            "{decodeProfile: decode, deciders: {prefill: p}}",
            format!("4:46: {plugin} `decodeProfile` {older}"),
        ),
        (
            "D21: deciders",
            "{profiles: {decode: decode}, encodeDeciderPluginName: e}",
            format!("`encodeDeciderPluginName` {older}"),
        ),
        (
            "an order that is none",
            "{stageOrder: encode-first}",
            "expected `decode-first` or `prefill-first`".to_owned(),
        ),
        (
            "both spellings",
            "{deciderPluginName: p, prefillDeciderPluginName: p}",
            "are the same parameter".to_owned(),
        ),
        ("no such profile", "{profiles: {decode: d}}", "needs a scheduling profile `d`".to_owned()),
    ] {
        let told = refused(&disagg(parameters), STAGES);
        assert!(told.contains(&want), "{row}: {told}");
    }
}

#[test]
fn handlers_and_profiles_must_fit() {
    let pd = |parameters: &str| format!("{{type: pd-profile-handler, parameters: {parameters}}}");
    let decider = |parameters: &str| format!("{{type: prefix-based-pd-decider, parameters: {parameters}}}");
    let circle = "{type: decision-tree-filter, parameters: {current: {pluginRef: decision-tree-filter}}}";
    let negative = "expected an integer of at least 0, found -1";
    for (row, handler, want) in [
        (
            "G15",
            format!("{}\n- {{type: single-profile-handler}}", disagg(BOTH)),
            "second profile handler, the first is `disagg-profile-handler` at line 4",
        ),
        ("G16", "{type: queue-scorer}".to_owned(), "3 profiles need a profile handler, none is declared"),
        (
            "G17",
            "{type: single-profile-handler}".to_owned(),
            "4:10: error: `single-profile-handler` takes exactly one profile, found 3",
        ),
        (
            "G17: data-parallel",
            "{type: data-parallel-profile-handler}".to_owned(),
            "`data-parallel-profile-handler` takes exactly one profile, found 3",
        ),
        ("D11", decider("{nonCachedTokens: -1}"), negative),
        ("D11: promptTokens", decider("{promptTokens: -1}"), negative),
        (
            "pd: no decider",
            pd("{}"),
            "deciderPluginName, by default`: no plugin is named `prefix-based-pd-decider`",
        ),
        ("pd: an empty name", pd("{deciderPluginName: ''}"), "expected the name of a plugin"),
        ("pd: no port", pd("{deciderPluginName: p, primaryPort: 65536}"), "an integer from 0 to 65535"),
        ("G36", circle.to_owned(), "plugins refer to one another in a circle"),
    ] {
        let told = refused(&handler, STAGES);
        assert!(told.contains(want), "{row}: {told}");
    }
    let told = refused(&disagg(BOTH), &["prefill", "encode"]);
    let want = "`disagg-profile-handler` needs a scheduling profile `decode` to pick who answers, found `prefill`, \
                `encode`";
    assert!(told.contains(want), "{told}");
}

/// The warnings of a configuration, but for that on the scorer.
fn warnings(name: &str, handler: &str, profiles: &[&str]) -> Vec<String> {
    let (outline, warnings) = told_by(&with(handler, profiles), BUILT_IN);
    outline.unwrap_or_else(|errors| panic!("{name}: {errors}"));
    warnings.lines().filter(|told| *told != OTHERS_UNUSED).map(str::to_owned).collect()
}

#[test]
fn what_may_surprise_of_stages_is_a_warning() {
    let unused = |name: &str| format!("plugin `{name}` does nothing, no profile handler refers to it");
    let handler = |told: &str| format!("plugin `disagg-profile-handler`: {told}");
    let more: &[&str] = &["decode", "prefill", "encode", "more"];
    for (name, parameters, profiles, want) in [
        ("nothing", BOTH, STAGES, vec![]),
        (
            "older form",
            "{prefillDeciderPluginName: p, encodeDeciderPluginName: e}",
            STAGES,
            vec![handler("`prefillDeciderPluginName` is of the older form, write `profiles` and `deciders`")],
        ),
        (
            "a stage that never runs",
            "{deciders: {encode: e}}",
            STAGES,
            vec![handler("profile `prefill` never runs, `deciders.prefill` is not set"), unused("p")],
        ),
        ("prefill first", "{stageOrder: prefill-first, deciders: {encode: e}}", STAGES, vec![unused("p")]),
        (
            "a stage without a profile",
            BOTH,
            &["decode", "prefill"],
            vec![handler("no profile is named `encode`, so there is no encode stage")],
        ),
        (
            "a profile that is no stage",
            BOTH,
            more,
            vec![handler("profile `more` never runs, it is none of the stages")],
        ),
    ] {
        assert_eq!(warnings(name, &disagg(parameters), profiles), want, "{name}");
    }
}

#[test]
fn what_is_old_or_has_no_effect_is_told_once() {
    let deprecated = |name: &str, instead: &str| format!("plugin type `{name}` is deprecated: {instead}");
    let unused = |name: &str| format!("plugin `{name}` does nothing, no profile handler refers to it");
    let old_headers = |name: &str| format!("{}\n- {{type: {name}}}", disagg(BOTH));
    let does_nothing = "it does nothing, since profile handlers set the headers themselves";
    let nothing = |name: &str| vec![deprecated(name, does_nothing)];
    let threshold = "plugin `pd-profile-handler`: parameter `threshold` does nothing: declare a \
                     `prefix-based-pd-decider` with `nonCachedTokens`, which counts tokens; for 0, which splits \
                     every request, an `always-disagg-pd-decider`";
    let zero = "{type: prefix-based-pd-decider, name: d}\n\
                - {type: disagg-profile-handler, parameters: {deciders: {prefill: d, encode: e}}}";
    for (name, handler, profiles, want) in [
        (
            "pd",
            "{type: pd-profile-handler, parameters: {deciderPluginName: p, threshold: 10}}".to_owned(),
            &STAGES[..2],
            vec![
                deprecated("pd-profile-handler", "use `disagg-profile-handler`"),
                threshold.to_owned(),
                unused("e"),
            ],
        ),
        (
            "pd without a prefill profile",
            "{type: pd-profile-handler, parameters: {deciderPluginName: p}}".to_owned(),
            &STAGES[..1],
            vec![
                "plugin `pd-profile-handler`: no profile is named `prefill`, so there is no prefill stage".to_owned(),
                deprecated("pd-profile-handler", "use `disagg-profile-handler`"),
                unused("e"),
            ],
        ),
        ("prefill", old_headers("prefill-header-handler"), STAGES, nothing("prefill-header-handler")),
        ("headers", old_headers("disagg-headers-handler"), STAGES, nothing("disagg-headers-handler")),
        (
            "a decider that never says yes",
            zero.to_owned(),
            STAGES,
            vec!["plugin `d`: `nonCachedTokens` is 0, so no prompt is computed elsewhere".to_owned(), unused("p")],
        ),
        (
            "header, no such default",
            "{type: header-profile-handler}".to_owned(),
            &STAGES[1..],
            vec![
                "plugin `header-profile-handler`: no profile is named `decode`, so requests without the header are \
                 refused"
                    .to_owned(),
                unused("p"),
                unused("e"),
            ],
        ),
    ] {
        assert_eq!(warnings(name, &handler, profiles), want, "{name}");
    }
}

/// The decider reads what the scorer leaves, by name or by default.
#[test]
fn deciders_read_the_prefix_matches_of_the_scorer() {
    for (name, parameters, want) in [
        ("by default", "{nonCachedTokens: 16}", "prefix-cache-scorer"),
        (
            "by name",
            "{nonCachedTokens: 16, prefixMatchInfoProducerName: prefix-cache-scorer}",
            "prefix-cache-scorer",
        ),
    ] {
        let decider =
            format!("{{type: prefix-based-pd-decider, parameters: {parameters}}}\n- {}", disagg(BOTH));
        let (composition, problems) = load(&with(&decider, STAGES), BUILT_IN);
        let composition = composition.unwrap_or_else(|| panic!("{name}: {problems:?}"));
        let read = composition.instances[0].parameters.reference("prefixMatchInfoProducerName");
        assert_eq!(read, Some(want), "{name}");
    }
}

#[test]
fn the_example_of_the_page_loads_without_a_warning() {
    let page = include_str!("../../../../docs/disaggregation.md");
    let example = page.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next());
    let (composition, problems) = load(example.expect("it has one"), BUILT_IN);
    assert!(composition.is_some() && problems.is_empty(), "{problems:?}");
}
