//! Rows of the plugin specification, 1.4 and 5.5, against a table of stand-in plugin types.

use epp_framework::parameters::{Parameter, ParameterKind};
use proptest::prelude::*;

use super::*;
use crate::config::{ApiVersion, DEFAULT_CONFIG, read};

mod catalogue;
mod costs;
mod data_layer;
mod envelope;
mod flow_control;
mod parameters;
mod splits;
mod together;
mod trees;
mod unknown;
mod weights;

const SEED: &str = include_str!("../../../config/default-plugins.yaml");
const SEED_JSON: &str = include_str!("../../../tests/it/fixtures/config/seed.json");
const WEIGHTED: &str = include_str!("../../../tests/it/fixtures/config/weighted.yaml");
const ALIASES: &str = include_str!("../../../tests/it/fixtures/config/aliases.yaml");
const BROKEN: &str = include_str!("../../../tests/it/fixtures/config/broken.yaml");
const BROKEN_TOLD: &str = include_str!("../../../tests/it/fixtures/config/broken.txt");

/// Stands for the table of built-in plugins: same names, no capabilities.
const TYPES: &[PluginType] = &[
    plugin_type("queue-scorer", &[Kind::Scorer], &[]),
    plugin_type("kv-cache-utilization-scorer", &[Kind::Scorer], &[]),
    plugin_type(
        "prefix-cache-scorer",
        &[Kind::Scorer],
        &[
            integer("hashBlockSize", 64, 1, 65_536),
            integer("maxPrefixBlocksToMatch", 256, i64::MIN, i64::MAX),
            integer("lruCapacityPerServer", 31_250, 1, i64::MAX),
            Parameter {
                name: "exact",
                kind: ParameterKind::Boolean { default: true },
                unit: "",
                summary: "",
            },
        ],
    ),
    plugin_type("max-score-picker", &[Kind::Picker], &[integer("maxNumOfEndpoints", 1, i64::MIN, 100)]),
    plugin_type("random-picker", &[Kind::Picker], &[]),
    plugin_type("header-filter", &[Kind::Filter], &[]),
    PluginType {
        judge_profiles: |_, profiles| match profiles {
            [_] => Vec::new(),
            _ => vec![format!("takes exactly one profile, found {}", profiles.len())],
        },
        ..plugin_type("single-profile-handler", &[Kind::ProfileHandler], &[])
    },
    plugin_type("other-profile-handler", &[Kind::ProfileHandler], &[]),
    plugin_type("parser", &[], &[]),
];

const fn plugin_type(
    name: &'static str,
    kinds: &'static [Kind],
    parameters: &'static [Parameter],
) -> PluginType {
    PluginType { name, parameters, kinds, ..PluginType::PLAIN }
}

const fn integer(name: &'static str, default: i64, min: i64, max: i64) -> Parameter {
    Parameter { name, kind: ParameterKind::Integer { default, min, max }, unit: "", summary: "" }
}

const HEAD: &str = "apiVersion: inference.networking.x-k8s.io/v1alpha1\nkind: EndpointPickerConfig\n";
const LLM_D_HEAD: &str = "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\n";

/// One line per instance, profile and handler: what a composition comes to.
fn outline(composition: &Composition) -> String {
    let name = |instance: usize| composition.instances[instance].name.as_str();
    let mut lines = Vec::new();
    for instance in &composition.instances {
        lines.push(format!("{}:{}", instance.name, instance.plugin_type.name));
    }
    for profile in &composition.profiles {
        let filters: Vec<_> = profile.filters.iter().map(|&filter| name(filter).to_owned()).collect();
        let scorers: Vec<_> =
            profile.scorers.iter().map(|&(s, weight)| format!("{}*{weight}", name(s))).collect();
        let (filters, scorers) = (filters.join(" "), scorers.join(" "));
        lines.push(format!("{} [{filters}] [{scorers}] {}", profile.name, name(profile.picker)));
    }
    lines.push(name(composition.handler).to_owned());
    lines.join("\n")
}

/// The outline, or all errors; then all warnings.
#[track_caller]
fn told(text: &str) -> (Result<String, String>, String) {
    told_by(text, TYPES)
}

/// The same over another table of types.
#[track_caller]
fn told_by(text: &str, types: &'static [PluginType]) -> (Result<String, String>, String) {
    let (composition, problems) = load(text, types);
    let lines = |errors: bool| {
        let chosen = problems.iter().filter(|problem| problem.is_error() == errors);
        chosen.map(|problem| problem.message.clone()).collect::<Vec<_>>().join("\n")
    };
    let has_errors = problems.iter().any(Problem::is_error);
    assert_eq!(composition.is_none(), has_errors, "a composition, or an error");
    (composition.as_ref().map(outline).ok_or_else(|| lines(true)), lines(false))
}

#[track_caller]
fn composes(row: &str, body: &str, want: &str) {
    let (outline, warnings) = told(&format!("{HEAD}{body}"));
    assert_eq!(outline.as_deref(), Ok(want), "{row}");
    assert_eq!(warnings, "", "{row}");
}

#[track_caller]
fn fails(row: &str, body: &str, want: &str) {
    let (outline, _) = told(&format!("{HEAD}{body}"));
    assert_eq!(outline, Err(want.to_owned()), "{row}");
}

#[test]
fn g1_the_seed_gets_weights_picker_and_handler() {
    let want = "queue-scorer:queue-scorer\n\
        kv-cache-utilization-scorer:kv-cache-utilization-scorer\n\
        prefix-cache-scorer:prefix-cache-scorer\n\
        single-profile-handler:single-profile-handler\n\
        max-score-picker:max-score-picker\n\
        default [] [queue-scorer*1 kv-cache-utilization-scorer*1 prefix-cache-scorer*1] max-score-picker\n\
        single-profile-handler";
    for (name, text) in [("yaml", SEED), ("json", SEED_JSON)] {
        assert_eq!(told(text), (Ok(want.to_owned()), String::new()), "G1 {name}");
    }
    let (composition, _) = load(SEED, TYPES);
    let parameters = &composition.unwrap().instances[2].parameters;
    assert_eq!((parameters.integer("hashBlockSize"), parameters.boolean("exact")), (64, true));
}

#[test]
fn defaults_are_injected() {
    let handler = "{type: single-profile-handler}";
    for (row, body, want) in [
        (
            "G2",
            "plugins: [{type: header-filter}]".to_owned(),
            "header-filter:header-filter\nsingle-profile-handler:single-profile-handler\n\
             max-score-picker:max-score-picker\ndefault [header-filter] [] max-score-picker\nsingle-profile-handler",
        ),
        (
            "G2 in declaration order, without handlers and parsers",
            format!("plugins: [{{type: queue-scorer, name: z}}, {{type: parser}}, {{type: queue-scorer, name: a}}, {{type: random-picker}}, {handler}]"),
            "z:queue-scorer\nparser:parser\na:queue-scorer\nrandom-picker:random-picker\n\
             single-profile-handler:single-profile-handler\ndefault [] [z*1 a*1] random-picker\nsingle-profile-handler",
        ),
        (
            "G12",
            format!("plugins: [{{type: queue-scorer}}, {handler}]\nschedulingProfiles: [{{name: p, plugins: [{{pluginRef: queue-scorer}}]}}]"),
            "queue-scorer:queue-scorer\nsingle-profile-handler:single-profile-handler\n\
             max-score-picker:max-score-picker\np [] [queue-scorer*1] max-score-picker\nsingle-profile-handler",
        ),
        (
            "G13",
            "plugins: [{type: random-picker}]\nschedulingProfiles: [{name: p, plugins: [{pluginRef: random-picker}]}]".to_owned(),
            "random-picker:random-picker\nsingle-profile-handler:single-profile-handler\n\
             p [] [] random-picker\nsingle-profile-handler",
        ),
        (
            "G18",
            "plugins: [{type: random-picker}, {type: queue-scorer}]\n\
             schedulingProfiles: [{name: p, plugins: [{pluginRef: random-picker}, {pluginRef: queue-scorer}]}]".to_owned(),
            "random-picker:random-picker\nqueue-scorer:queue-scorer\nsingle-profile-handler:single-profile-handler\n\
             p [] [queue-scorer*1] random-picker\nsingle-profile-handler",
        ),
        (
            "1.5 the first declared picker is the default of profiles that name none",
            "plugins: [{type: random-picker}, {type: max-score-picker}, {type: other-profile-handler}]\n\
             schedulingProfiles: [{name: a, plugins: [{pluginRef: max-score-picker}]}, {name: b}]".to_owned(),
            "random-picker:random-picker\nmax-score-picker:max-score-picker\nother-profile-handler:other-profile-handler\n\
             a [] [] max-score-picker\nb [] [] random-picker\nother-profile-handler",
        ),
        (
            "E10 injected plugins can be referenced",
            "schedulingProfiles: [{name: p, plugins: [{pluginRef: max-score-picker}, {pluginRef: q}]}]\n\
             plugins: [{type: queue-scorer, name: q}]".to_owned(),
            "q:queue-scorer\nsingle-profile-handler:single-profile-handler\nmax-score-picker:max-score-picker\n\
             p [] [q*1] max-score-picker\nsingle-profile-handler",
        ),
    ] {
        composes(row, &body, want);
    }
}

#[test]
fn faulty_entries_are_refused() {
    for (row, body, want) in [
        ("G4: no value", "plugins: [{type: }]", "plugin has no `type`"),
        (
            "G3 E1",
            "plugins:\n- testing 1 2 3",
            "entry of `plugins`: expected a map, found the string `testing 1 2 3`",
        ),
        ("E1", "plugins: {}", "`plugins`: expected a list, found a map"),
        ("G4 E3", "plugins: [{parameters: {a: 1}}]", "plugin has no `type`"),
        ("E3", "plugins: [{name: a, type: ''}]", "plugin `a` has an empty `type`"),
        ("E3", "plugins: [{name: a, type: [b]}]", "`type`: expected a string, found a list"),
        (
            "G10 E4",
            "plugins: [{name: test1, type: parser}, {name: test1, type: parser}]",
            "plugin name `test1` is already taken at line 3",
        ),
        (
            "E4",
            "plugins: [{type: parser}, {type: parser}]",
            "plugin name `parser` is already taken at line 3; give this one a `name`",
        ),
        ("G6 E7", "schedulingProfiles: [{plugins: []}]", "scheduling profile has no `name`"),
        (
            "G11 E8",
            "schedulingProfiles: [{name: default}, {name: default}]\nplugins: [{type: other-profile-handler}]",
            "scheduling profile `default` is already defined at line 3",
        ),
        (
            "G7 E9",
            "schedulingProfiles: [{name: a, plugins: [{weight: 1}]}]",
            "entry of a profile's `plugins` has no `pluginRef`",
        ),
        (
            "G8 E10",
            "schedulingProfiles: [{name: a, plugins: [{pluginRef: plover}]}]",
            "no plugin is named `plover`; `plugins` declares none",
        ),
        (
            "E10",
            "plugins: [{type: parser}]\nschedulingProfiles: [{name: a, plugins: [{pluginRef: Parser}]}]",
            "no plugin is named `Parser`, did you mean `parser`?",
        ),
    ] {
        fails(row, body, want);
    }
    let (outline, _) = told(&format!("{HEAD}plugins: [{{type: queue-scorr}}]"));
    let message = outline.unwrap_err();
    let want = "unknown plugin type `queue-scorr`, did you mean `queue-scorer`?";
    assert_eq!(message, want, "G5 E5");
}

#[test]
fn the_envelope_is_strict() {
    for (row, body, want) in [
        (
            "G41 E2",
            "schedulingprofiles: []",
            "unknown field `schedulingprofiles`, did you mean `schedulingProfiles`?",
        ),
        ("E2", "plugins: [{type: parser, config: {}}]", "unknown field `config`, did you mean `parameters`?"),
        (
            "G43 E2",
            "plugins: [{type: parser, name: a, type: parser}]",
            "duplicate key `type`, first given at line 3",
        ),
        ("E2", "plugins: []\nplugins: []", "duplicate key `plugins`, first given at line 3"),
        (
            "NaN",
            "plugins: [{type: queue-scorer}]\nschedulingProfiles: [{name: a, plugins: [{pluginRef: queue-scorer, weight: .nan}]}]",
            "weight of `queue-scorer`: expected a finite number, found NaN",
        ),
    ] {
        fails(row, body, want);
    }
}

#[test]
fn pickers_and_handlers_are_counted() {
    let two = "schedulingProfiles: [{name: a}, {name: b}]";
    let pickers = "plugins: [{type: random-picker}, {type: max-score-picker}]";
    let second = "picker `max-score-picker` is a second one in profile";
    for (row, body, want) in [
        (
            "G14 E11",
            format!(
                "{pickers}\nschedulingProfiles: [{{name: p, plugins: [{{pluginRef: random-picker}}, {{pluginRef: max-score-picker}}]}}]"
            ),
            format!("{second} `p`, beside `random-picker`; keep one"),
        ),
        (
            "E11 in the synthesized profile",
            pickers.to_owned(),
            format!("{second} `default`, beside `random-picker`; keep one"),
        ),
        (
            "G15 E12",
            "plugins: [{type: single-profile-handler}, {type: other-profile-handler, name: o}]".to_owned(),
            "plugin `o` is a second profile handler, the first is `single-profile-handler` at line 3; keep one"
                .to_owned(),
        ),
        ("G16 E13", two.to_owned(), "2 profiles need a profile handler, none is declared; those for several are `other-profile-handler`".to_owned()),
        (
            "G17 E14",
            format!("plugins: [{{type: single-profile-handler}}]\n{two}"),
            "`single-profile-handler` takes exactly one profile, found 2; those for several are `other-profile-handler`".to_owned(),
        ),
        (
            "1.5 the name of an injected plugin is taken",
            "plugins: [{type: queue-scorer, name: max-score-picker}]".to_owned(),
            "plugin name `max-score-picker` is needed for the default plugin of that type".to_owned(),
        ),
    ] {
        fails(row, &body, &want);
    }
    // What is missing may be the plugin of unknown type: nothing more is told.
    for plugin in ["{type: nope}", "{type: nope, name: max-score-picker}"] {
        let (outline, _) = told(&format!("{HEAD}plugins: [{plugin}]\n{two}"));
        assert!(!outline.unwrap_err().contains('\n'), "{plugin}");
    }
}

#[test]
fn the_envelope_names_version_and_kind() {
    let none = "no plugins are declared, endpoints are picked at random";
    for (row, text, want) in [
        ("G22", LLM_D_HEAD, Ok(none)),
        ("G22", HEAD, Ok(none)),
        (
            "missing",
            "plugins: []",
            Ok("`apiVersion` is missing, `inference.networking.x-k8s.io/v1alpha1` is assumed\n\
                `kind` is missing, `EndpointPickerConfig` is assumed\n\
                no plugins are declared, endpoints are picked at random"),
        ),
        (
            "G23",
            "apiVersion: inference.networking.k8s.io/v1alpha1\nkind: EndpointPickerConfig",
            Err("`apiVersion`: expected `inference.networking.x-k8s.io/v1alpha1` or `llm-d.ai/v1alpha1`, \
                 found `inference.networking.k8s.io/v1alpha1`"),
        ),
        (
            "a manifest",
            "apiVersion: v1\nkind: ConfigMap",
            Err(
                "`apiVersion`: expected `inference.networking.x-k8s.io/v1alpha1` or `llm-d.ai/v1alpha1`, found `v1`\n\
                 `kind`: expected `EndpointPickerConfig`, found `ConfigMap`",
            ),
        ),
    ] {
        let (outline, warnings) = told(text);
        let got = outline.as_ref().map(|_| warnings.as_str()).map_err(String::as_str);
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<std::collections::BTreeSet<_>>();
        assert_eq!(got.map(lines).map_err(lines), want.map(lines).map_err(lines), "{row}");
    }
}

#[test]
fn g38_no_configuration_is_the_default_one() {
    let (want, warnings) = told(DEFAULT_CONFIG);
    assert_eq!(warnings, "");
    let profile =
        "default [] [queue-scorer*2 kv-cache-utilization-scorer*2 prefix-cache-scorer*3] max-score-picker";
    assert!(want.as_ref().unwrap().contains(profile));
    for text in ["", "\n", "# nothing\n", "---\n", "null"] {
        let warning = crate::config::EMPTY;
        assert_eq!(told(text), (want.clone(), warning.to_owned()), "{text:?}");
    }
}

#[test]
fn what_has_no_effect_is_a_warning() {
    let (outline, warnings) = told(&format!(
        "{HEAD}plugins: [{{type: parser}}, {{type: queue-scorer}}, {{type: header-filter}}, {{type: single-profile-handler}}]\n\
         schedulingProfiles: [{{name: p, plugins: [{{pluginRef: parser}}, {{pluginRef: header-filter, weight: 2}}]}}]"
    ));
    assert!(outline.unwrap().contains("p [header-filter] [] max-score-picker"));
    let want = "plugin `queue-scorer` is in no scheduling profile\n\
        plugin `parser` does nothing in a profile\n\
        weight of `header-filter` does nothing, it is no scorer";
    assert_eq!(warnings, want);
}

#[test]
fn several_instances_of_a_type_keep_their_own_parameters() {
    let (composition, problems) = load(WEIGHTED, TYPES);
    let composition = composition.unwrap();
    assert_eq!(problems, []);
    let blocks = |instance: usize| composition.instances[instance].parameters.integer("hashBlockSize");
    assert_eq!((blocks(0), blocks(1)), (16, 256));
    assert!(
        outline(&composition)
            .contains("main [] [short-blocks*2.5 long-blocks*1 queue-scorer*0.1] max-score-picker")
    );

    let (composition, problems) = load(ALIASES, TYPES);
    let composition = composition.unwrap();
    assert_eq!(problems, []);
    assert_eq!(composition.instances[0].parameters, composition.instances[1].parameters);
    assert_eq!(composition.instances[1].parameters.integer("maxPrefixBlocksToMatch"), 128);
    assert_eq!(composition.profiles[0].scorers, [(0, 1.0), (1, 16.0)]);
}

#[test]
fn all_problems_are_told_at_once_with_their_places() {
    let (composition, problems) = load(BROKEN, TYPES);
    assert!(composition.is_none());
    let told: String = problems.iter().map(|problem| problem.in_file("broken.yaml") + "\n").collect();
    assert_eq!(told, BROKEN_TOLD);
}

#[test]
fn reading_keeps_what_is_sound() {
    let (config, problems) = read(BROKEN);
    let config = config.unwrap();
    assert_eq!(config.api_version, ApiVersion::LlmD);
    assert_eq!((config.plugins.len(), config.profiles.len()), (6, 3));
    assert!(problems.iter().all(Problem::is_error));
    assert_eq!(read("[").0, None);
}

#[test]
fn numbers_of_entries_are_bounded() {
    let many = |entry: &str| vec![entry; MAX_ENTRIES + 1].join(", ");
    for (what, body) in [
        ("plugins", format!("plugins: [{}]", many("{type: parser}"))),
        ("scheduling profiles", format!("schedulingProfiles: [{}]", many("{name: a}"))),
        (
            "references to plugins",
            format!("schedulingProfiles: [{{name: a, plugins: [{}]}}]", many("{pluginRef: b}")),
        ),
    ] {
        fails(what, &body, &format!("expected at most 1000 {what}, found 1001"));
    }
}

proptest! {
    #[test]
    fn no_text_panics(text in ".{0,200}") {
        drop(load(&text, TYPES));
    }

    #[test]
    fn no_mutation_panics(at in 0..WEIGHTED.len(), with in "\\PC|[\n\t:&*\\[{-]", cut in 0..40usize) {
        for text in [WEIGHTED, ALIASES, BROKEN] {
            let at = at.min(text.len() - 1);
            let mut mutated = text.to_owned();
            mutated.replace_range(at..(at + cut).min(text.len()), &with);
            let (composition, problems) = load(&mutated, TYPES);
            prop_assert_eq!(composition.is_none(), problems.iter().any(Problem::is_error));
            if let Some(composition) = composition {
                outline(&composition);
            }
            drop(load(&text[..at], TYPES));
        }
    }
}
