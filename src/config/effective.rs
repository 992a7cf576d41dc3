//! A configuration as it applies in effect, in the format that it is written in: [`show`].
//!
//! Every default is filled in and every injected plugin declared, so that loading it again composes the same. Comments
//! say what is a default, why a plugin is there, and what it does.

use std::fmt::Write as _;
use std::time::Duration;

use epp_framework::parameters::{Parameter, ParameterKind, ParameterValue, Parameters};
use epp_framework::plugin::Kind;

use super::build::{Composition, DEFAULT_WEIGHT, InstancePlan, ProfilePlan};
use super::flow_control::Band;
use super::{ApiVersion, EndpointPickerConfig, GIE_API, KIND, LLM_D_API, Located};
use crate::config::problem::shown;

/// What the text of a configuration comes to, which was composed from it.
pub fn of(text: &str, composition: &Composition) -> String {
    let (config, _) = super::read(text);
    config.map_or_else(String::new, |config| show(&config, composition))
}

/// What a composed configuration comes to, as YAML.
pub fn show(config: &EndpointPickerConfig, composition: &Composition) -> String {
    let api_version = match config.api_version {
        ApiVersion::Gie => GIE_API,
        ApiVersion::LlmD => LLM_D_API,
    };
    let mut text = format!("apiVersion: {api_version}\nkind: {KIND}\n");
    text.push_str("plugins:\n");
    for (at, plan) in composition.instances.iter().enumerate() {
        if at >= config.plugins.len() {
            let _ = writeln!(text, "# injected: {}", reason(config, composition, at));
        }
        plugin(&mut text, plan);
    }
    text.push_str("schedulingProfiles:\n");
    if config.profiles.is_empty() {
        text.push_str("# injected: no profile is declared\n");
    }
    for plan in &composition.profiles {
        profile(&mut text, plan, composition);
    }
    text.push_str("requestHandler:\n");
    let listed = if config.parsers.is_empty() { "  # default" } else { "" };
    let _ = writeln!(text, "  parsers:{listed}");
    for &parser in &composition.parsers {
        let _ = writeln!(text, "  - pluginRef: {}", scalar(&composition.instances[parser].name));
    }
    data_layer(&mut text, composition);
    flow_control(&mut text, config, composition);
    text.push_str(if config.gates.flow_control {
        "featureGates:\n- flowControl\n"
    } else {
        "featureGates: []\n"
    });
    text
}

/// Where endpoints, and data on them, come from. The default source is listed, so that nothing is added to it.
fn data_layer(text: &mut String, composition: &Composition) {
    let name = |at: usize| scalar(&composition.instances[at].name);
    text.push_str("dataLayer:\n");
    match composition.discovery {
        Some(discovery) => {
            let _ = writeln!(text, "  discovery:\n    pluginRef: {}", name(discovery));
        }
        None => text.push_str(
            "  # The command line says where endpoints are listed; `dataLayer.discovery` could, too.\n",
        ),
    }
    text.push_str("  injectDefaults: false\n");
    if !composition.sources.is_empty() {
        text.push_str("  sources:\n");
    }
    for plan in &composition.sources {
        let _ = writeln!(text, "  - pluginRef: {}", name(plan.source));
        if let Some(interval) = plan.interval {
            let _ = writeln!(text, "    interval: {}", span(interval));
        }
        if !plan.extractors.is_empty() {
            text.push_str("    extractors:\n");
        }
        for &extractor in &plan.extractors {
            let _ = writeln!(text, "    - pluginRef: {}", name(extractor));
        }
    }
}

/// What the file says of flow control; what it does not say, whoever applies it decides.
fn flow_control(text: &mut String, config: &EndpointPickerConfig, composition: &Composition) {
    let flow = &config.flow_control;
    let mut lines = String::new();
    let mut line = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            let _ = writeln!(lines, "  {key}: {value}");
        }
    };
    line("maxBytes", flow.max_bytes.map(|bytes| bytes.to_string()));
    line("maxRequests", flow.max_requests.map(|requests| requests.to_string()));
    line("defaultRequestTTL", flow.default_request_ttl.map(span));
    line("noEndpointRequestTTL", flow.no_endpoint_request_ttl.map(span));
    line("defaultPriorityBand", flow.default_band.as_ref().map(band));
    line("defaultNegativePriorityBand", flow.default_negative_band.as_ref().map(band));
    if !flow.bands.is_empty() {
        let bands: Vec<_> = flow.bands.iter().map(|one| format!("\n  - {}", band(one))).collect();
        line("priorityBands", Some(bands.concat()));
    }
    line("usageLimitPolicyPluginRef", flow.usage_limit_policy.as_ref().map(|name| quoted(&name.value)));
    let detector = composition.saturation.map(|at| scalar(&composition.instances[at].name));
    line("saturationDetector", detector.map(|name| format!("{{pluginRef: {name}}}")));
    line("enableEviction", flow.enable_eviction.then(|| "true".to_owned()));
    if !lines.is_empty() {
        let _ = write!(text, "flowControl:\n{}", lines.replace(": \n", ":\n"));
    }
}

/// A priority band in one line.
fn band(band: &Band) -> String {
    let name = |name: &Located<String>| quoted(&name.value);
    let fields = [
        ("priority", band.priority.map(|priority| priority.to_string())),
        ("maxBytes", band.max_bytes.map(|bytes| bytes.to_string())),
        ("maxRequests", band.max_requests.map(|requests| requests.to_string())),
        ("fairnessPolicyRef", band.fairness_policy.as_ref().map(name)),
        ("orderingPolicyRef", band.ordering_policy.as_ref().map(name)),
    ];
    let given = fields.into_iter().filter_map(|(key, value)| Some(format!("{key}: {}", value?)));
    format!("{{{}}}", given.collect::<Vec<_>>().join(", "))
}

/// Why a plugin is there that the file does not declare.
fn reason(config: &EndpointPickerConfig, composition: &Composition, at: usize) -> String {
    let plan = &composition.instances[at];
    if at == composition.handler {
        return "no profile handler is declared".to_owned();
    }
    if composition.parsers.contains(&at) {
        let says = if config.parsers.is_empty() { "lists nobody" } else { "lists its type" };
        return format!("`requestHandler.parsers` {says}");
    }
    if composition.profiles.iter().any(|profile| profile.picker == at) {
        return "a profile has no picker, and none is declared".to_owned();
    }
    let is_of_data = |kind: &Kind| matches!(kind, Kind::DataSource(_) | Kind::Extractor(_));
    if plan.plugin_type.kinds.iter().any(is_of_data) {
        return "the load of endpoints is read unless `dataLayer` says otherwise".to_owned();
    }
    if plan.plugin_type.kinds.contains(&Kind::Reporter) {
        return "no reporter is declared".to_owned();
    }
    let policies = [Kind::FairnessPolicy, Kind::OrderingPolicy, Kind::UsageLimitPolicy];
    if composition.saturation == Some(at) || policies.iter().any(|kind| plan.plugin_type.kinds.contains(kind))
    {
        return "`flowControl` names its type".to_owned();
    }
    let readers = composition.instances.iter().filter(|reader| {
        let declared = reader.plugin_type.parameters.iter();
        let mut producers = declared.filter(|it| matches!(it.kind, ParameterKind::Producer { .. }));
        producers.any(|it| reader.parameters.reference(it.name) == Some(&plan.name))
    });
    let readers: Vec<_> = readers.map(|reader| shown(&reader.name)).collect();
    match readers.as_slice() {
        [] => "it is needed".to_owned(),
        readers => format!("its values are read by {}", readers.join(", ")),
    }
}

fn plugin(text: &mut String, plan: &InstancePlan) {
    let _ = writeln!(text, "# {}", plan.plugin_type.summary);
    let _ = writeln!(text, "- name: {}\n  type: {}", scalar(&plan.name), plan.plugin_type.name);
    let mut inner = String::new();
    parameters(&mut inner, plan.plugin_type.parameters, &plan.parameters, 4);
    if inner.lines().any(|line| !line.trim_start().starts_with('#')) {
        text.push_str("  parameters:\n");
    }
    text.push_str(&inner);
}

fn profile(text: &mut String, plan: &ProfilePlan, composition: &Composition) {
    let _ = writeln!(text, "- name: {}\n  plugins:", scalar(&plan.name));
    let mut entry = |at: usize, weight: Option<f64>| {
        let _ = writeln!(text, "  - pluginRef: {}", scalar(&composition.instances[at].name));
        if let Some(weight) = weight {
            let default = if weight.to_bits() == DEFAULT_WEIGHT.to_bits() { "  # default" } else { "" };
            let _ = writeln!(text, "    weight: {weight}{default}");
        }
    };
    // What filters and scores is listed once. Both lists are in the order of the file, so they meet at each of those.
    let is_scorer = |at: usize| plan.scorers.iter().any(|&(scorer, _)| scorer == at);
    let mut scorers = plan.scorers.iter();
    for &filter in &plan.filters {
        if is_scorer(filter) {
            for &(at, weight) in scorers.by_ref() {
                entry(at, Some(weight));
                if at == filter {
                    break;
                }
            }
        } else {
            entry(filter, None);
        }
    }
    scorers.for_each(|&(at, weight)| entry(at, Some(weight)));
    entry(plan.picker, None);
}

/// The parameters of one map, a line each or more.
fn parameters(text: &mut String, declared: &'static [Parameter], values: &Parameters, indent: usize) {
    let defaults = Parameters::defaults(declared);
    for ((parameter, (name, value)), (_, default)) in declared.iter().zip(values.iter()).zip(defaults.iter())
    {
        let blank = " ".repeat(indent);
        match value {
            ParameterValue::Absent => match parameter.kind {
                ParameterKind::Ignored { .. } => {}
                _ => {
                    let _ = writeln!(text, "{blank}# {name}: not given. {}", parameter.summary);
                }
            },
            ParameterValue::Map(inner) => {
                let ParameterKind::Map { fields, .. } = parameter.kind else { continue };
                let mut lines = String::new();
                parameters(&mut lines, fields(), inner, indent + 2);
                let empty =
                    if lines.lines().all(|line| line.trim_start().starts_with('#')) { " {}" } else { "" };
                let _ = write!(text, "{blank}{name}:{empty}\n{lines}");
            }
            ParameterValue::List(items) => list(text, parameter, items, indent),
            ParameterValue::TextMap(entries) if entries.is_empty() => {
                let _ = writeln!(text, "{blank}{name}: {{}}");
            }
            ParameterValue::TextMap(entries) => {
                let _ = writeln!(text, "{blank}{name}:");
                for (key, value) in entries {
                    let _ = writeln!(text, "{blank}  {}: {}", scalar(key), scalar(value));
                }
            }
            value if is_left_open(parameter, value) => {
                let _ = writeln!(text, "{blank}# {name}: not given. {}", parameter.summary);
            }
            value => {
                let is_default = value == default || is_default_producer(parameter, value);
                let said = [if is_default { "default" } else { "" }, parameter.unit];
                let said: Vec<_> = said.into_iter().filter(|word| !word.is_empty()).collect();
                let comment =
                    if said.is_empty() { String::new() } else { format!("  # {}", said.join("; ")) };
                let _ = writeln!(text, "{blank}{name}: {}{comment}", plain(value));
            }
        }
    }
}

fn list(text: &mut String, parameter: &Parameter, items: &[Parameters], indent: usize) {
    let ParameterKind::List { fields, .. } = parameter.kind else { return };
    let (blank, name) = (" ".repeat(indent), parameter.name);
    if items.is_empty() {
        let _ = writeln!(text, "{blank}{name}: []");
        return;
    }
    let _ = writeln!(text, "{blank}{name}:");
    for item in items {
        let mut lines = String::new();
        parameters(&mut lines, fields(), item, indent + 2);
        // The first line that says something begins the item.
        let (comments, rest): (Vec<_>, Vec<_>) =
            lines.lines().partition(|line| line.trim_start().starts_with('#'));
        match rest.split_first() {
            Some((first, rest)) => {
                let _ = writeln!(text, "{blank}- {}", first.trim_start());
                rest.iter().chain(&comments).for_each(|line| {
                    let _ = writeln!(text, "{line}");
                });
            }
            None => {
                let _ = writeln!(text, "{blank}- {{}}");
            }
        }
    }
}

/// Whether a default stands for no value: an empty text, a span below the least, a number that leaves it to the flags.
fn is_left_open(parameter: &Parameter, value: &ParameterValue) -> bool {
    match (parameter.kind, value) {
        (ParameterKind::Text { default: Some(""), .. }, ParameterValue::Text(text)) => text.is_empty(),
        (ParameterKind::Span { default, min }, ParameterValue::Span(span)) => {
            *span == default && default < min
        }
        (ParameterKind::Integer { default: 0, .. }, ParameterValue::Integer(0)) => {
            parameter.summary.contains("0 is as the flags say")
        }
        _ => false,
    }
}

fn is_default_producer(parameter: &Parameter, value: &ParameterValue) -> bool {
    match (&parameter.kind, value) {
        (ParameterKind::Producer { of, .. }, ParameterValue::Reference(name)) => {
            name == of.default_producer()
        }
        _ => false,
    }
}

/// A value in one line, as the loader reads it.
pub(super) fn plain(value: &ParameterValue) -> String {
    match value {
        ParameterValue::Absent => "not given".to_owned(),
        ParameterValue::Boolean(value) => value.to_string(),
        ParameterValue::Integer(value) => value.to_string(),
        ParameterValue::Float(value) => value.to_string(),
        ParameterValue::Span(value) => span(*value),
        ParameterValue::Text(text) | ParameterValue::Reference(text) => scalar(text),
        ParameterValue::Texts(texts) => {
            format!("[{}]", texts.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(", "))
        }
        ParameterValue::TextMap(entries) => {
            let entry = |(key, value): &(String, String)| format!("{}: {}", quoted(key), quoted(value));
            format!("{{{}}}", entries.iter().map(entry).collect::<Vec<_>>().join(", "))
        }
        ParameterValue::Map(map) => {
            let given = map.iter().filter(|(_, value)| **value != ParameterValue::Absent);
            let given = given.map(|(name, value)| format!("{name}: {}", plain(value)));
            format!("{{{}}}", given.collect::<Vec<_>>().join(", "))
        }
        ParameterValue::List(items) => {
            let items = items.iter().map(|item| plain(&ParameterValue::Map(item.clone())));
            format!("[{}]", items.collect::<Vec<_>>().join(", "))
        }
    }
}

/// A span in Go's notation, in the greatest unit that is exact.
pub(super) fn span(span: Duration) -> String {
    let nanos = span.as_nanos();
    let units = [
        ("h", 3_600_000_000_000),
        ("m", 60_000_000_000),
        ("s", 1_000_000_000),
        ("ms", 1_000_000),
        ("us", 1_000),
    ];
    let exact = units.into_iter().find(|(_, unit)| nanos > 0 && nanos.is_multiple_of(*unit));
    match exact {
        Some((name, unit)) => format!("{}{name}", nanos / unit),
        None if nanos == 0 => "0s".to_owned(),
        None => format!("{nanos}ns"),
    }
}

/// A string as a YAML scalar: bare where it cannot be taken for anything else.
fn scalar(text: &str) -> String {
    let bare = text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c));
    let reserved = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    if bare && !reserved.contains(&text.to_ascii_lowercase().as_str()) {
        text.to_owned()
    } else {
        quoted(text)
    }
}

fn quoted(text: &str) -> String {
    // JSON's strings are YAML's.
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests;
