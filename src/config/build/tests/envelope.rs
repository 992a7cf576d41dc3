//! The rows on `featureGates`, `dataLayer.discovery` and `requestHandler`.

use super::{HEAD, load, told, told_by};

#[test]
fn feature_gates_are_known() {
    for (row, gates, want) in [
        ("empty", "[]", Ok("")),
        ("G21", "['flowControl=false']", Ok("")),
        ("as Go parses", "['flowControl= F', 'flowControl=0']", Ok("")),
        ("harmless", "[dataLayer]", Ok("feature gate `dataLayer` does nothing here")),
        ("a third part", "['flowControl=false=true']", Ok("")),
        (
            "on",
            "[flowControl]",
            Ok("feature gate `flowControl`: no request waits yet, each is decided at once"),
        ),
        (
            "on",
            "['flowControl=TRUE']",
            Ok("feature gate `flowControl`: no request waits yet, each is decided at once"),
        ),
        (
            "G20",
            "['flowControl=maybe']",
            Err(
                "feature gate `flowControl`: expected `true` or `false`, found the string `flowControl=maybe`",
            ),
        ),
        (
            "G19",
            "[foo]",
            Err(
                "unknown feature gate `foo` (known gates: `flowControl`, `dataLayer`, `enableLegacyMetrics`, \
                 `prepareDataPlugins`, `haPopulateNonLeaderDatastore`)",
            ),
        ),
        ("no name", "[[]]", Err("feature gate: expected a string, found a list")),
        ("no list", "{}", Err("`featureGates`: expected a list, found a map")),
    ] {
        let (outline, warnings) =
            told(&format!("{HEAD}plugins: [{{type: queue-scorer}}]\nfeatureGates: {gates}"));
        let got = outline.as_ref().map(|_| warnings.as_str()).map_err(String::as_str);
        assert_eq!(got, want, "{row}");
    }
}

#[test]
fn a_plugin_may_list_the_endpoints() {
    let plugins = "plugins: [{type: file-discovery, parameters: {path: /a}}, {type: queue-scorer}]\n";
    let is_not_used =
        "plugin `file-discovery` does nothing, `dataLayer.discovery` does not name it".to_owned();
    for (name, data_layer, want) in [
        ("direct", "{discovery: {pluginRef: file-discovery}}", Ok(String::new())),
        ("nested", "{discovery: {endpoints: {pluginRef: file-discovery}}}", Ok(String::new())),
        (
            "both",
            "{discovery: {pluginRef: file-discovery, endpoints: {pluginRef: file-discovery}}}",
            Ok(String::new()),
        ),
        (
            "two",
            "{discovery: {pluginRef: file-discovery, endpoints: {pluginRef: b}}}",
            Err("`dataLayer.discovery` names two plugins, the other is `file-discovery`"),
        ),
        ("not used", "{injectDefaults: true}", Ok(is_not_used.clone())),
        ("nothing", "{discovery: {}}", Ok(is_not_used.clone())),
        ("no name", "{discovery: {pluginRef: null}}", Err("`dataLayer.discovery` has no `pluginRef`")),
        ("no name", "{discovery: {pluginRef: ''}}", Err("`pluginRef` is empty")),
        (
            "no such plugin",
            "{discovery: {pluginRef: file-discovry}}",
            Err("`dataLayer.discovery`: no plugin is named `file-discovry`, did you mean `file-discovery`?"),
        ),
        (
            "another kind",
            "{discovery: {pluginRef: queue-scorer}}",
            Err("`dataLayer.discovery`: `queue-scorer` lists no endpoints"),
        ),
    ] {
        let (outline, warnings) =
            told_by(&format!("{HEAD}{plugins}dataLayer: {data_layer}"), epp_plugins::BUILT_IN);
        assert_eq!(outline.map(|_| warnings), want.map_err(str::to_owned), "{name}");
    }
    for (parameters, want) in [
        ("", "plugin `f`: parameter `path` is required"),
        (", parameters: {watchFile: true}", "plugin `f`: parameter `path` is required"),
        (
            ", parameters: {path: ''}",
            "plugin `f`: parameter `path`: expected a string that is not empty, found the string ``",
        ),
        (
            ", parameters: {path: 1}",
            "plugin `f`: parameter `path`: expected a string that is not empty, found 1",
        ),
    ] {
        let config = format!("{HEAD}plugins: [{{type: file-discovery, name: f{parameters}}}]");
        assert_eq!(told_by(&config, epp_plugins::BUILT_IN).0, Err(want.to_owned()), "{parameters}");
    }
}

/// The parsers of a configuration by name and type, or its errors; and the warnings.
fn parsers(body: &str) -> (Result<String, String>, String) {
    let config = format!("{HEAD}{body}");
    let (told, warnings) = told_by(&config, epp_plugins::BUILT_IN);
    let named = told.map(|_| {
        let composition = load(&config, epp_plugins::BUILT_IN).0.unwrap();
        let parsers = composition.parsers.iter().map(|&at| {
            let plan = &composition.instances[at];
            if plan.name == plan.plugin_type.name {
                plan.name.clone()
            } else {
                format!("{}:{}", plan.name, plan.plugin_type.name)
            }
        });
        parsers.collect::<Vec<_>>().join(" ")
    });
    (named, warnings)
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn parsers_are_those_that_are_listed_or_the_default_ones() {
    let default = "openai-parser anthropic-parser vllmhttp-parser generic-parser";
    let queue = "plugins: [{type: queue-scorer}]\n";
    let two = "requestHandler: {parsers: [{pluginRef: openai-parser}, {pluginRef: passthrough-parser}]}\n";
    for (row, body, want, want_warnings) in [
        ("none listed", String::new(), Ok(default), ""),
        ("an empty list", "requestHandler: {parsers: []}\n".to_owned(), Ok(default), ""),
        ("G27: made by their types", two.to_owned(), Ok("openai-parser passthrough-parser"), ""),
        ("G25", "parser: {pluginRef: passthrough-parser}\n".to_owned(), Ok("passthrough-parser"), ""),
        (
            "the newer list counts",
            format!("{two}parser: {{pluginRef: vllmgrpc-parser}}\n"),
            Ok("openai-parser passthrough-parser"),
            "`parser` does nothing beside `requestHandler.parsers`",
        ),
        (
            "by its name",
            "plugins: [{type: queue-scorer}, {type: passthrough-parser, name: p}]\nparser: {pluginRef: p}\n"
                .to_owned(),
            Ok("p:passthrough-parser"),
            "",
        ),
        (
            "listed twice",
            "requestHandler: {parsers: [{pluginRef: openai-parser}, {pluginRef: openai-parser}]}\n"
                .to_owned(),
            Ok("openai-parser"),
            "parser `openai-parser` is listed twice",
        ),
        (
            "G28",
            "parser: {pluginRef: openai-pasrer}\n".to_owned(),
            Err("no plugin and no type of parser is named `openai-pasrer`, did you mean `openai-parser`?"),
            "",
        ),
        (
            "G28",
            "parser: {pluginRef: random-picker}\n".to_owned(),
            Err("plugin type `random-picker` is no parser"),
            "",
        ),
        (
            "E17",
            "parser: {pluginRef: queue-scorer}\n".to_owned(),
            Err("plugin `queue-scorer` is no parser"),
            "",
        ),
        (
            "nothing named",
            "requestHandler: {parsers: [{}]}\n".to_owned(),
            Err("entry of `requestHandler.parsers` has no `pluginRef`"),
            "",
        ),
    ] {
        let body = if body.contains("plugins:") { body } else { format!("{queue}{body}") };
        let (named, warnings) = parsers(&body);
        assert_eq!(named.as_deref().map_err(String::as_str), want, "{row}");
        if want.is_ok() {
            assert_eq!(warnings, want_warnings, "{row}");
        }
    }
    let alone = parsers("plugins: [{type: openai-parser}]\n").1;
    assert!(alone.starts_with("no scorer is declared, endpoints are picked at random"), "{alone}");
    let unlisted = "plugins: [{type: queue-scorer}, {type: sglanghttp-parser}]\n";
    let (named, warnings) = parsers(unlisted);
    assert_eq!(named.as_deref(), Ok(default));
    assert_eq!(
        warnings,
        "plugin `sglanghttp-parser` does nothing, `requestHandler.parsers` does not list it"
    );
}
