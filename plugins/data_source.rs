//! Declarations of where data on endpoints comes from, one file per type; the server polls what they name.

pub(crate) mod dcgm;
pub(crate) mod events;
pub(crate) mod metrics;
pub(crate) mod models;

use std::time::Duration;

use epp_framework::data::{DataSource, PageSource};
use epp_framework::parameters::{Parameter, ParameterKind, Parameters};
use epp_framework::plugin::Plugin;

/// Least time between two polls of an endpoint: pages cost the server more than us.
const MIN_INTERVAL: Duration = Duration::from_millis(10);

const INSECURE_SKIP_VERIFY: Parameter = Parameter {
    name: "insecureSkipVerify",
    kind: ParameterKind::Boolean { default: true },
    unit: "",
    summary: "Whether any certificate is taken; with false it must be one that the system trusts, for the endpoint's IP \
              address.",
};

const CA_CERT_PATH: Parameter = Parameter {
    name: "caCertPath",
    kind: ParameterKind::Ignored {
        because: "authorities are those of the system, or of the file in SSL_CERT_FILE",
    },
    unit: "",
    summary: "File with the authorities that may vouch for servers.",
};

const CLIENT_CERT_PATH: Parameter =
    client("clientCertPath", "File with a certificate for servers that ask for one.");
const CLIENT_KEY_PATH: Parameter = client("clientKeyPath", "File with the key of that certificate.");

const fn client(name: &'static str, summary: &'static str) -> Parameter {
    let kind = ParameterKind::Ignored { because: "no certificate is shown to servers" };
    Parameter { name, kind, unit: "", summary }
}

const fn scheme(default: &'static str, summary: &'static str) -> Parameter {
    let kind = ParameterKind::Word { of: &["http", "https"], default: Some(default) };
    Parameter { name: "scheme", kind, unit: "", summary }
}

const fn path(default: &'static str, summary: &'static str) -> Parameter {
    let kind = ParameterKind::Text { default: Some(default), check: check_path };
    Parameter { name: "path", kind, unit: "", summary }
}

const fn port(default: i64, summary: &'static str) -> Parameter {
    let kind = ParameterKind::Integer { default, min: 0, max: 65_535 };
    Parameter { name: "port", kind, unit: "", summary }
}

const fn interval(default: Duration, summary: &'static str) -> Parameter {
    Parameter {
        name: "interval",
        kind: ParameterKind::Span { default, min: MIN_INTERVAL },
        unit: "",
        summary,
    }
}

/// Takes what the fetcher takes, so that no page is found to be unreachable when it is to be polled.
fn check_path(text: &str) -> Option<String> {
    let (path, query) = text.split_once('?').unwrap_or((text, ""));
    let fits = |text: &str, refused: &str| {
        text.chars().all(|letter| letter.is_ascii_graphic() && !refused.contains(letter))
    };
    let is_path = path.starts_with('/') && fits(path, "<>`") && fits(query, "<>\"");
    (!is_path).then(|| "expected a path as in a URL, beginning with `/`".to_owned())
}

/// The page that parameters with these names tell of. What is empty, or not said, is left to flags.
fn page(parameters: &Parameters) -> PageSource {
    let text = |name| Some(parameters.text(name)).filter(|text| !text.is_empty());
    PageSource {
        tls: text("scheme").map(|scheme| scheme == "https"),
        skip_verify: (!parameters.boolean("insecureSkipVerify")).then_some(false),
        path: text("path").map(str::to_owned),
        on_host: false,
        port: u16::try_from(parameters.integer("port")).ok(),
        interval: Some(parameters.span("interval")).filter(|interval| !interval.is_zero()),
    }
}

/// The same of a page that flags say nothing of.
fn own_page(parameters: &Parameters) -> PageSource {
    let skip_verify = Some(parameters.boolean("insecureSkipVerify"));
    PageSource { skip_verify, ..page(parameters) }
}

fn of_page(source: PageSource) -> Plugin {
    Plugin { data_source: Some(DataSource::Page(source)), ..Plugin::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_checked() {
        for (path, fits) in [
            ("/", true),
            ("/a?b=c", true),
            ("a", false),
            ("/a b", false),
            ("/m<x", false),
            ("/m`x", false),
            ("/m?`x", true),
            ("/m?\"x", false),
            ("/é", false),
            ("http://h/p", false),
        ] {
            assert_eq!(check_path(path).is_none(), fits, "{path}");
        }
    }
}
