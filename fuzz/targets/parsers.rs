//! The parsers of the built-in table, as a configuration would have them.

use std::sync::Arc;

use epp_framework::parameters::Parameters;
use epp_framework::parsing::Parser;
use epp_framework::plugin::{BuildContext, Kind, PluginType};
use epp_framework::slot::SlotNames;
use epp_plugins::BUILT_IN;

fn build(plugin_type: &PluginType) -> Arc<dyn Parser> {
    let slots = SlotNames::default();
    let parameters = Parameters::defaults(plugin_type.parameters);
    let plugin = (plugin_type.build)(&parameters, &BuildContext::new(plugin_type.name, &slots));
    plugin.parser.expect("it says that it is a parser")
}

/// The parser of a type.
pub(crate) fn of(name: &str) -> Arc<dyn Parser> {
    build(BUILT_IN.iter().find(|built_in| built_in.name == name).expect("it is built in"))
}

/// One of each type.
pub(crate) fn all() -> Vec<Arc<dyn Parser>> {
    BUILT_IN.iter().filter(|built_in| built_in.kinds.contains(&Kind::Parser)).map(build).collect()
}
