//! What reporters are told to report: rows 55 and 56 of the gateway's specification, and where each mistake stands.

use epp_plugins::BUILT_IN;

use super::{HEAD, load, load_with_costs, told_by};

/// A configuration whose one reporter has this parameter; it stands at line 6.
fn with(plugin: &str, parameter: &str) -> String {
    format!("{HEAD}plugins:\n- type: {plugin}\n  parameters:\n    {parameter}\n")
}

fn costs(cost: &str) -> String {
    with("llm-request-costs", &format!("llmRequestCosts: [{{metadataKey: k, {cost}}}]"))
}

fn attributes(attribute: &str) -> String {
    with("request-attribute-reporter", &format!("attributes: [{attribute}]"))
}

#[test]
fn rows_55_56_what_cannot_be_reported_is_refused() {
    let cost = "plugin `llm-request-costs`: `plugins[0].parameters.llmRequestCosts[0]";
    let attribute = "plugin `request-attribute-reporter`: `plugins[0].parameters.attributes[0]";
    for (row, config, begins, ends) in [
        ("55", costs("type: CEL"), cost, "`: `cel` is required with type `CEL`"),
        ("55", costs("type: CEL, cel: 'input_tokens +'"), cost, "no CEL expression"),
        ("55", costs("type: CEL, cel: '1.0'"), cost, "found a double, if all counts are 0"),
        ("56", costs("type: Tokens"), cost, ".type`: expected one of `InputToken`, `CachedInputToken`"),
        ("no type", costs(""), cost, ".type` is required"),
        ("not CEL", costs("type: InputToken, cel: '1'"), cost, "`: `cel` is only for type `CEL`"),
        (
            "no key",
            with("llm-request-costs", "llmRequestCosts: [{type: InputToken}]"),
            cost,
            ".metadataKey` is required",
        ),
        (
            "no list",
            with("llm-request-costs", "llmRequestCosts: {}"),
            "plugin `llm-request-costs`",
            "a list of 0 to 100 maps",
        ),
        ("no map", with("llm-request-costs", "llmRequestCosts: [1]"), cost, "expected a map"),
        (
            "no attributes",
            with("request-attribute-reporter", "attributes: []"),
            "plugin",
            "a list of 1 to 100 maps",
        ),
        ("no name", attributes("{key: {}, expression: '1'}"), attribute, ".key.name` is required"),
        ("no expression", attributes("{key: {name: n}}"), attribute, ".expression` is required"),
        (
            "no bool",
            attributes("{key: {name: n}, expression: '1', condition: '1'}"),
            attribute,
            "expected a bool",
        ),
    ] {
        let errors = told_by(&config, BUILT_IN).0.expect_err(row);
        assert!(
            errors.starts_with(begins) && errors.contains(ends) && !errors.contains('\n'),
            "{row}: {errors}"
        );
    }
    let (_, problems) = load(&costs("type: CEL, cel: nowhere"), BUILT_IN);
    let errors = problems.iter().filter(|problem| problem.is_error());
    assert_eq!(errors.map(|problem| (problem.line, problem.column)).collect::<Vec<_>>(), [(6, 56)]);
}

#[test]
fn the_default_reporter_is_there_unless_one_is_declared() {
    for (config, want) in [
        (format!("{HEAD}plugins: [{{type: queue-scorer}}]\n"), "llm-request-costs"),
        (with("llm-request-costs", "llmRequestCosts: []"), "llm-request-costs"),
        (
            attributes("{key: {namespace: '', name: n}, expression: '1', condition: ''}"),
            "request-attribute-reporter",
        ),
    ] {
        let outline = told_by(&config, BUILT_IN).0.expect(&config);
        let reporters =
            outline.lines().filter(|line| line.starts_with("llm-") || line.starts_with("request-"));
        assert_eq!(reporters.collect::<Vec<_>>(), [format!("{want}:{want}")], "{config}");
    }
}

#[test]
fn costs_of_somebody_else_count_where_the_file_has_none() {
    let costs = |file: &str, costs: &str| {
        let (composition, problems) = load_with_costs(file, BUILT_IN, Some(costs));
        let told = problems.iter().filter(|problem| problem.is_error());
        let told: Vec<_> = told.map(|problem| problem.message.clone()).collect();
        let plans = composition.into_iter().flat_map(|composition| composition.instances);
        let plans = plans.filter(|plan| plan.plugin_type.name == "llm-request-costs");
        (plans.map(|plan| format!("{:?}", plan.parameters)).collect::<Vec<_>>(), told)
    };
    let given = r#"{"llmRequestCosts": [{"metadataKey": "given", "type": "OutputToken"}]}"#;
    for (file, want) in [
        (HEAD.to_owned(), "given"),
        (attributes("{key: {namespace: n, name: a}, expression: '1'}"), "given"),
        (with("llm-request-costs", "llmRequestCosts: [{metadataKey: own, type: InputToken}]"), "own"),
    ] {
        let (plans, told) = costs(&file, given);
        assert_eq!((plans.len(), told), (1, Vec::<String>::new()), "{file}");
        assert!(plans[0].contains(want), "{file}{plans:?}");
    }
    for (wrong, said) in [
        ("[", "the costs cannot be read: "),
        ("{llmRequestCosts: [{metadataKey: k, type: Tokens}]}", "expected one of `InputToken`"),
    ] {
        let (plans, told) = costs(HEAD, wrong);
        assert!(plans.is_empty() && told.len() == 1 && told[0].contains(said), "{wrong}: {told:?}");
    }
}
