//! `flowControl` and the older `saturationDetector` of a file, as written: `read`.
//!
//! Judges shapes and ranges. Which plugins the names mean is left to `build`; nothing here queues a request.

use std::time::Duration;

use crate::args::{duration, quantity};
use crate::config::envelope::read_name;
use crate::config::node::{Fields, Node, Value};
use crate::config::problem::{Position, Problems};
use crate::config::{Located, Mistaken};

/// What the section says; absent fields have the defaults of whoever applies them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FlowControl {
    /// Where the section begins; `None` without one.
    pub at: Option<Position>,
    /// Bytes that may wait in all bands together; 0 is no limit.
    pub max_bytes: Option<u64>,
    /// Requests that may wait in all bands together; 0 is no limit.
    pub max_requests: Option<u64>,
    /// How long a request may wait; zero is for ever.
    pub default_request_ttl: Option<Duration>,
    /// The same while the pool has no endpoint; follows the other one where it is absent.
    pub no_endpoint_request_ttl: Option<Duration>,
    /// For priorities that no band is for.
    pub default_band: Option<Band>,
    /// For negative ones of them.
    pub default_negative_band: Option<Band>,
    /// Bands, each for one priority.
    pub bands: Vec<Band>,
    /// Name of the usage limit policy.
    pub usage_limit_policy: Option<Located<String>>,
    /// Name of the saturation detector; of two the one within `flowControl`.
    pub saturation_detector: Option<Located<String>>,
    /// Whether running requests may be evicted.
    pub enable_eviction: bool,
}

/// One priority band.
#[derive(Clone, Debug, PartialEq)]
pub struct Band {
    /// Where it is written.
    pub at: Position,
    /// Its priority; a default band has none.
    pub priority: Option<i32>,
    /// Bytes that may wait in it; 0 is no limit.
    pub max_bytes: Option<u64>,
    /// Requests that may wait in it; 0 is no limit.
    pub max_requests: Option<u64>,
    /// Name of the fairness policy.
    pub fairness_policy: Option<Located<String>>,
    /// Name of the ordering policy.
    pub ordering_policy: Option<Located<String>>,
}

impl FlowControl {
    /// Whether it says more than which saturation detector there is.
    pub fn queues(&self) -> bool {
        *self
            != Self { at: self.at, saturation_detector: self.saturation_detector.clone(), ..Self::default() }
    }
}

/// The detector that stands where a file asks for one and names none.
const DEFAULT_DETECTOR: &str = "utilization-detector";

/// Reads the two sections out of the envelope.
pub(super) fn read(envelope: &Fields<'_>, problems: &mut Problems) -> FlowControl {
    let mut read = FlowControl::default();
    if let Some(node) = envelope.get("saturationDetector") {
        read.saturation_detector = detector(node, "`saturationDetector`", problems);
    }
    let Some(node) = envelope.get("flowControl") else { return read };
    read.at = envelope.iter().find(|(key, ..)| *key == "flowControl").map(|(_, at, _)| at);
    let Some(fields) = node.fields("`flowControl`", problems) else { return read };
    fields.refuse_unknown(&KNOWN, problems);
    read.max_bytes = amount(&fields, "maxBytes", problems);
    read.max_requests = amount(&fields, "maxRequests", problems);
    read.default_request_ttl = span(&fields, "defaultRequestTTL", problems);
    read.no_endpoint_request_ttl = span(&fields, "noEndpointRequestTTL", problems);
    let single = |key: &str, problems: &mut Problems| band(fields.get(key)?, false, problems);
    read.default_band = single("defaultPriorityBand", problems);
    read.default_negative_band = single("defaultNegativePriorityBand", problems);
    if let Some(node) = fields.get("priorityBands") {
        let bands = node.list("`flowControl.priorityBands`", problems).iter();
        read.bands = bands.filter_map(|node| band(node, true, problems)).collect();
    }
    read.usage_limit_policy = fields
        .get("usageLimitPolicyPluginRef")
        .and_then(|node| name(node, "`usageLimitPolicyPluginRef`", problems));
    if let Some(node) = fields.get("saturationDetector") {
        let older = read.saturation_detector.take();
        read.saturation_detector = detector(node, "`flowControl.saturationDetector`", problems);
        if let Some(older) = older {
            let message = "`saturationDetector` does nothing beside `flowControl.saturationDetector`";
            problems.warning(older.at, message);
        }
    }
    match fields.get("enableEviction").map(|node| (&node.value, node)) {
        None => {}
        Some((&Value::Boolean(value), _)) => read.enable_eviction = value,
        Some((_, node)) => node.mismatch("`flowControl.enableEviction`", "`true` or `false`", problems),
    }
    refuse_second_bands(&read.bands, problems);
    read
}

const KNOWN: [&str; 10] = [
    "maxBytes",
    "maxRequests",
    "defaultRequestTTL",
    "noEndpointRequestTTL",
    "defaultPriorityBand",
    "defaultNegativePriorityBand",
    "priorityBands",
    "usageLimitPolicyPluginRef",
    "saturationDetector",
    "enableEviction",
];

fn refuse_second_bands(bands: &[Band], problems: &mut Problems) {
    for (n, band) in bands.iter().enumerate() {
        if let Some(first) = bands[..n].iter().find(|first| first.priority == band.priority) {
            let priority = band.priority.unwrap_or_default();
            let message =
                format!("a band for priority {priority} is already defined at line {}", first.at.line);
            problems.error(band.at, message);
        }
    }
}

/// Keys of releases in which the detector was no plugin, in lower case.
const MISTAKEN_OF_DETECTOR: Mistaken = &[(
    &["queuedepththreshold", "kvcacheutilthreshold", "metricsstalenessthreshold"],
    "declare a `utilization-detector` in `plugins` with it among its `parameters`, and write \
     `pluginRef: utilization-detector` here",
)];

/// An empty section means the default detector.
fn detector(node: &Node, what: &str, problems: &mut Problems) -> Option<Located<String>> {
    let fields = node.fields(what, problems)?;
    fields.refuse_unknown_but(&["pluginRef"], MISTAKEN_OF_DETECTOR, problems);
    if fields.get("pluginRef").is_none() {
        return Some(Located { value: DEFAULT_DETECTOR.to_owned(), at: node.at });
    }
    read_name(&fields, problems)
}

fn band(node: &Node, listed: bool, problems: &mut Problems) -> Option<Band> {
    let fields = node.fields("priority band", problems)?;
    let known = ["priority", "maxBytes", "maxRequests", "fairnessPolicyRef", "orderingPolicyRef"];
    fields.refuse_unknown(&known, problems);
    let priority = match fields.get("priority") {
        None if listed => {
            problems.error(node.at, "priority band has no `priority`");
            None
        }
        None => None,
        Some(node) => {
            let priority = node.whole_number().and_then(|priority| i32::try_from(priority).ok());
            if priority.is_none() {
                node.mismatch("`priority`", "a whole number of 32 bits", problems);
            }
            priority
        }
    };
    let reference =
        |key: &str, problems: &mut Problems| name(fields.get(key)?, &format!("`{key}`"), problems);
    Some(Band {
        at: node.at,
        priority: priority.filter(|_| listed),
        max_bytes: amount(&fields, "maxBytes", problems),
        max_requests: amount(&fields, "maxRequests", problems),
        fairness_policy: reference("fairnessPolicyRef", problems),
        ordering_policy: reference("orderingPolicyRef", problems),
    })
    .filter(|band| !listed || band.priority.is_some())
}

fn name(node: &Node, what: &str, problems: &mut Problems) -> Option<Located<String>> {
    let value = node.string(what, problems).filter(|value| !value.is_empty())?;
    Some(Located { value: value.to_owned(), at: node.at })
}

/// A quantity as Kubernetes writes them, 0 or more.
fn amount(fields: &Fields<'_>, key: &str, problems: &mut Problems) -> Option<u64> {
    let node = fields.get(key)?;
    let amount = match &node.value {
        Value::String(text) if text == "0" => Some(0),
        Value::String(text) => quantity::parse(text).ok().and_then(|amount| u64::try_from(amount).ok()),
        _ => node.whole_number().and_then(|amount| u64::try_from(amount).ok()),
    };
    if amount.is_none() {
        node.mismatch(&format!("`{key}`"), "a quantity such as `1Gi` or `500`, at least 0", problems);
    }
    amount
}

fn span(fields: &Fields<'_>, key: &str, problems: &mut Problems) -> Option<Duration> {
    let node = fields.get(key)?;
    let span = match &node.value {
        Value::String(text) => duration::parse(text).ok(),
        _ => None,
    };
    if span.is_none() {
        node.mismatch(&format!("`{key}`"), "a span of time such as `30s`, at least 0s", problems);
    }
    span
}
