//! Rows of the plugin specification, sections 1.1 to 1.5, 3.0, 3.13 and 5.5, release by release.

use epp_framework::plugin::Stability;
use epp_plugins::BUILT_IN;

use super::registry::Registered;
use super::*;

const HEAD: &str = "apiVersion: inference.networking.x-k8s.io/v1alpha1\nkind: EndpointPickerConfig\n";

/// The verdict, then every other note, of v1.0.1, v1.5 and llm-d.
fn told(text: &str) -> [Vec<String>; 3] {
    RELEASES.map(|(_, release)| {
        let notes = judge(release, text, BUILT_IN);
        notes.into_iter().map(|note| note.message).collect()
    })
}

/// Whether each release loads it, in a word; and all of its notes but the verdict, as one text.
fn outcomes(text: &str) -> [(&'static str, String); 3] {
    told(text).map(|notes| {
        let verdict = ["loads", "refuses", "crashes", "does not start", "takes its built-in"]
            .into_iter()
            .find(|word| notes[0].starts_with(word));
        (verdict.unwrap_or("?"), notes[1..].join("\n"))
    })
}

const OK: (&str, &str) = ("loads", "");

#[track_caller]
fn row(row: &str, body: &str, want: [(&str, &str); 3]) {
    let got = outcomes(&format!("{HEAD}{body}"));
    for (n, (verdict, notes)) in got.iter().enumerate() {
        // What llm-d says of the group is in a test of its own.
        let notes = notes.replace(&format!("takes `{GIE_API}`, and logs that it is deprecated"), "");
        assert_eq!((*verdict, notes.trim()), want[n], "{row}, {}", RELEASES[n].0);
    }
}

fn all<'a>(verdict: &'a str, notes: &'a str) -> [(&'a str, &'a str); 3] {
    [(verdict, notes); 3]
}

#[test]
fn the_envelope_is_judged() {
    let unknown = |field: &str| format!("refuses the unknown field `{field}`");
    let came = |field: &str, with: &str| format!("refuses the field `{field}`, which came with {with}");
    let no = "refuses";
    row(
        "E1 G3",
        "plugins: [testing 1 2 3]",
        all(no, "refuses the string `testing 1 2 3`, where a map is expected (plugins[])"),
    );
    row("E2 G41", "schedulingprofiles: []", all(no, &unknown("schedulingprofiles")));
    row(
        "G43",
        "plugins: [{type: queue-scorer, type: queue-scorer}]",
        all(no, "refuses the duplicate key `type`"),
    );
    row("README example", "plugins: [{type: queue-scorer, config: {}}]", all(no, &unknown("config")));
    for field in [
        "featureGates: []",
        "saturationDetector: {}",
        "dataLayer: {}",
        "flowControl: {}",
        "parser: {pluginRef: openai-parser}",
    ] {
        let key = field.split(':').next().unwrap();
        row("1.2", field, [(no, &came(key, "v1.5")), OK, OK]);
    }
    let handler = came("requestHandler", "llm-d");
    row("1.2", "requestHandler: {parsers: []}", [(no, &handler), (no, &handler), OK]);
    let (whole, nested) = (came("dataLayer", "v1.5"), came("injectDefaults", "llm-d"));
    row("1.8", "dataLayer: {injectDefaults: true}", [(no, &whole), (no, &nested), OK]);
    row("1.1 parameters: null", "plugins: [{type: queue-scorer, parameters: null}]", [OK; 3]);
}

#[test]
fn groups_and_kinds_are_judged() {
    for (text, want) in [
        ("apiVersion: inference.networking.x-k8s.io/v1alpha1\nkind: EndpointPickerConfig", ["loads"; 3]),
        ("apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig", ["refuses", "refuses", "loads"]),
        ("plugins: []", ["loads"; 3]),
        ("apiVersion: inference.networking.k8s.io/v1alpha1\nkind: EndpointPickerConfig", ["refuses"; 3]),
        ("kind: ConfigMap", ["refuses"; 3]),
        ("", ["does not start", "takes its built-in", "takes its built-in"]),
        ("plugins: [", ["refuses"; 3]),
    ] {
        assert_eq!(outcomes(text).map(|(verdict, _)| verdict), want, "{text}");
    }
    let [.., llm_d] = told(HEAD);
    assert_eq!(llm_d[1], format!("takes `{GIE_API}`, and logs that it is deprecated"));
}

#[test]
fn gates_are_judged() {
    let came = "refuses the field `featureGates`, which came with v1.5";
    let old = ("refuses", came);
    let unknown = |gate: &str| format!("refuses the unknown feature gate `{gate}`");
    row("G19 E15", "featureGates: [foo]", [old, ("refuses", &unknown("foo")), ("refuses", &unknown("foo"))]);
    row("1.3", "featureGates: [dataLayer]", [old, OK, ("refuses", &unknown("dataLayer"))]);
    row("1.3", "featureGates: [flowControl]", [old, OK, OK]);
    let maybe = "refuses the feature gate `flowControl=maybe`: it is neither true nor false";
    row(
        "G20",
        "featureGates: ['flowControl=maybe']",
        [old, ("refuses", &unknown("flowControl=maybe")), ("refuses", maybe)],
    );
    row("G21", "featureGates: ['flowControl=false']", [old, ("refuses", &unknown("flowControl=false")), OK]);
}

#[test]
fn plugins_are_judged() {
    let unknown = |name: &str| format!("refuses the unknown plugin type `{name}`");
    row("G4 E3", "plugins: [{parameters: {}}]", all("refuses", "refuses a plugin without `type`"));
    row(
        "G10 E4",
        "plugins: [{type: queue-scorer}, {type: queue-scorer}]",
        all("refuses", "refuses the name `queue-scorer` a second time, after line 3"),
    );
    row("G5 E5", "plugins: [{type: nope}]", all("refuses", &unknown("nope")));
    row("of v0.5.1", "plugins: [{type: low-queue-filter}]", all("refuses", &unknown("low-queue-filter")));
    row(
        "an alias of v0.5.1",
        "plugins: [{type: kv-cache-scorer}]",
        all("refuses", &unknown("kv-cache-scorer")),
    );
    row("ours", "plugins: [{type: llm-request-costs}]", all("refuses", &unknown("llm-request-costs")));
    let latency = unknown("latency-scorer");
    row("3.0", "plugins: [{type: latency-scorer}]", [("refuses", &latency), OK, OK]);
    let affinity = unknown("session-affinity-scorer");
    row(
        "E23 G37",
        "plugins: [{type: session-affinity-scorer}]",
        [
            ("refuses", &affinity),
            ("refuses", &affinity),
            (
                "loads",
                "refuses the plugin type `session-affinity-scorer` unless started with --allow-experimental-plugins",
            ),
        ],
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn parameters_are_judged() {
    let prefix =
        |parameters: &str| format!("plugins: [{{type: prefix-cache-scorer, parameters: {{{parameters}}}}}]");
    let ignores = |key: &str| format!("ignores the parameter `{key}`");
    let unknown = |key: &str| format!("refuses the unknown parameter `{key}`");
    let key = "hashBlockSize";
    row("3.13", &prefix("hashBlockSize: 64"), [OK, ("loads", &ignores(key)), ("refuses", &unknown(key))]);
    row(
        "G9 E6",
        &prefix("hashBlockSize: asdf"),
        [
            ("refuses", "refuses the string `asdf` as parameter `hashBlockSize`"),
            ("loads", &ignores(key)),
            ("refuses", &unknown(key)),
        ],
    );
    row(
        "3.5",
        &prefix("HASHBLOCKSIZE: 0"),
        [
            ("loads", "loads this, and hangs at the first request: a block has no bytes"),
            ("loads", &ignores("HASHBLOCKSIZE")),
            ("refuses", &unknown("HASHBLOCKSIZE")),
        ],
    );
    let most = "maxPrefixBlocksToMatch";
    row("3.13", &prefix("maxPrefixBlocksToMatch: 8"), [OK, OK, ("refuses", &unknown(most))]);
    row(
        "3.13",
        &prefix("lruCapacityPerServer: 8"),
        [
            OK,
            ("loads", "takes the parameter `lruCapacityPerServer`, which does nothing there"),
            ("refuses", &unknown("lruCapacityPerServer")),
        ],
    );
    row(
        "3.13",
        &prefix("blockSizeTokens: 16"),
        [("loads", &ignores("blockSizeTokens")), OK, ("refuses", &unknown("blockSizeTokens"))],
    );
    row(
        "3.5",
        &prefix("matchLengthWeight: 0.5"),
        [("loads", &ignores("matchLengthWeight")), ("loads", &ignores("matchLengthWeight")), OK],
    );
    row(
        "ours",
        "plugins: [{type: queue-scorer, parameters: {anticipate: false}}]",
        all("loads", &ignores("anticipate")),
    );
    row(
        "G42",
        "plugins: [{type: max-score-picker, parameters: {extra: 1}}]",
        [("loads", &ignores("extra")), ("loads", &ignores("extra")), ("refuses", &unknown("extra"))],
    );
    row(
        "1.5 item 6",
        "plugins: [{type: prefix-cache-scorer, parameters: {autoTune: false}}, {type: approx-prefix-cache-producer}]",
        [
            (
                "refuses",
                "ignores the parameter `autoTune`\nrefuses the unknown plugin type `approx-prefix-cache-producer`",
            ),
            (
                "loads",
                "ignores the parameter `autoTune`: `approx-prefix-cache-producer` is declared and has its own",
            ),
            ("refuses", &unknown("autoTune")),
        ],
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn profiles_are_judged() {
    let profile = |entries: &str| {
        format!(
            "plugins: [{{type: queue-scorer}}, {{type: max-score-picker}}]\nschedulingProfiles: [{{name: p, plugins: [{entries}]}}]"
        )
    };
    row(
        "G6 E7",
        "schedulingProfiles: [{plugins: []}]",
        all("refuses", "refuses a scheduling profile without `name`"),
    );
    row(
        "G8 E10",
        &profile("{pluginRef: plover}"),
        all("refuses", "refuses the reference to `plover`, which no plugin is named"),
    );
    row(
        "G39",
        &profile("{pluginRef: queue-scorer, weight: 2.5}"),
        [("refuses", "refuses the weight 2.5: it takes whole numbers only"), OK, OK],
    );
    row("a whole number", &profile("{pluginRef: queue-scorer, weight: 2.0}"), [OK; 3]);
    row(
        "G18",
        &profile("{pluginRef: max-score-picker}, {pluginRef: queue-scorer}"),
        [
            ("crashes", "crashes at start: scorer `queue-scorer` has no weight, and stands behind a picker"),
            OK,
            OK,
        ],
    );
    row(
        "G18 weighted",
        &profile("{pluginRef: max-score-picker}, {pluginRef: queue-scorer, weight: 1}"),
        [OK; 3],
    );
    row(
        "E11",
        &profile("{pluginRef: max-score-picker}, {pluginRef: max-score-picker}"),
        all("refuses", "refuses a second picker in the profile, beside `max-score-picker`"),
    );
    row(
        "1.5 item 4",
        "plugins: [{type: max-score-picker}, {type: random-picker}]\nschedulingProfiles: [{name: p}]",
        all(
            "loads",
            "gives this profile any of the declared pickers, by chance: `max-score-picker`, `random-picker`",
        ),
    );
    let two = "schedulingProfiles: [{name: a}, {name: b}]";
    row("G16 E13", two, all("refuses", "refuses 2 profiles without a profile handler"));
    let single = "refuses `single-profile-handler` with 2 profiles";
    row(
        "G17 E14",
        &format!("plugins: [{{type: single-profile-handler}}]\n{two}"),
        [
            ("loads", "loads 2 profiles with `single-profile-handler`, and fails every request"),
            ("refuses", single),
            ("refuses", single),
        ],
    );
    row(
        "E12",
        "plugins: [{type: single-profile-handler}, {type: single-profile-handler, name: o}]",
        all("refuses", "refuses a second profile handler, `single-profile-handler`"),
    );
    row(
        "1.9",
        "plugins: [{type: prefix-cache-scorer}]\nschedulingProfiles: [{name: p}]",
        [
            (
                "loads",
                "runs `prefix-cache-scorer` for every request all the same, and logs an error each time",
            ),
            OK,
            OK,
        ],
    );
}

#[test]
fn parsers_are_judged() {
    let came = ("refuses", "refuses the field `parser`, which came with v1.5");
    row(
        "E17",
        "parser: {pluginRef: passthrough-parser}",
        [came, ("refuses", "refuses the parser `passthrough-parser`, which no plugin is named"), OK],
    );
    row("E17", "parser: {pluginRef: openai-parser}", [came, OK, OK]);
    let no_parser = "refuses `generic-parser` as a parser";
    row(
        "ours",
        "parser: {pluginRef: generic-parser}",
        [
            came,
            ("refuses", "refuses the parser `generic-parser`, which no plugin is named"),
            ("refuses", no_parser),
        ],
    );
}

#[test]
fn what_is_added_is_told() {
    let seed = include_str!("../../../config/default-plugins.yaml");
    let [old, middle, new] = told(seed).map(|notes| notes[0].clone());
    assert_eq!(old, "loads this configuration, and adds `max-score-picker`, `single-profile-handler`");
    let data = "`metrics-data-source`, `core-metrics-extractor`, `utilization-detector`, `fcfs-ordering-policy`, \
                `global-strict-fairness-policy`, `static-usage-limit-policy`";
    let begins = format!("{old}, `approx-prefix-cache-producer`, ");
    assert_eq!(middle, format!("{begins}`openai-parser`, {data}"));
    assert_eq!(
        new,
        format!(
            "{begins}`token-producer`, `openai-parser`, `anthropic-parser`, `vllmhttp-parser`, `passthrough-parser`, {data}"
        )
    );
    let [old, ..] = told(&format!("{HEAD}plugins: [{{type: queue-scorer}}]")).map(|notes| notes[0].clone());
    assert!(old.ends_with("; one profile, `default`, has all plugins, in an order by chance"), "{old}");
}

/// What the declarations of the built-in types say of releases is what the table of those releases says.
#[test]
fn the_table_agrees_with_the_declarations() {
    for built_in in BUILT_IN {
        let spellings = || std::iter::once(&built_in.name).chain(built_in.aliases);
        for (_, release) in RELEASES {
            let declared = built_in.releases.contains(&release);
            let known =
                spellings().filter_map(|name| Registered::find(name)).any(|known| known.is_in(release));
            assert_eq!(known, declared, "{} in {}", built_in.name, name(release));
        }
        if let Some(known) = Registered::find(built_in.name) {
            assert_eq!(known.is_alpha, built_in.stability == Stability::Alpha, "{}", built_in.name);
        }
    }
}
