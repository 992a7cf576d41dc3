//! The parsers of the built-in table, as a configuration would have them.

use std::sync::Arc;

use epp_framework::parameters::{ParameterKind, ParameterValue, Parameters};
use epp_framework::parsing::Parser;
use epp_framework::plugin::{BuildContext, Kind, PluginType};
use epp_framework::slot::SlotNames;
use epp_plugins::BUILT_IN;

fn build(plugin_type: &PluginType, switch: bool) -> Arc<dyn Parser> {
    let slots = SlotNames::default();
    let mut parameters = Parameters::defaults(plugin_type.parameters);
    for parameter in plugin_type.parameters {
        if let ParameterKind::Boolean { .. } = parameter.kind {
            parameters.set(parameter.name, ParameterValue::Boolean(switch));
        }
    }
    let plugin = (plugin_type.build)(&parameters, &BuildContext::new(plugin_type.name, &slots));
    plugin.parser.expect("it says that it is a parser")
}

/// The parser of a type, with everything off that can be switched.
pub(crate) fn of(name: &str) -> Arc<dyn Parser> {
    build(BUILT_IN.iter().find(|built_in| built_in.name == name).expect("it is built in"), false)
}

/// One of each type, with everything on that can be switched.
pub(crate) fn all() -> Vec<Arc<dyn Parser>> {
    let parsers = BUILT_IN.iter().filter(|built_in| built_in.kinds.contains(&Kind::Parser));
    parsers.map(|built_in| build(built_in, true)).collect()
}
