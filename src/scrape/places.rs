//! Where endpoints are, from their labels: [`tell`] leaves it on them, [`forget`] takes it away. Needs no page.

use epp_framework::attribute::{AttributeValue, Told};
use epp_framework::data::PlaceExtractor;
use epp_framework::endpoint::Endpoint;
use epp_framework::snapshot::Snapshot;

/// Leaves on each endpoint where it is. What is there already is not written again.
pub(super) fn tell(extractors: &[PlaceExtractor], snapshot: &Snapshot) {
    for endpoint in &snapshot.endpoints {
        for extractor in extractors {
            endpoint.store_attributes(&told(extractor, endpoint));
        }
    }
}

/// Takes away what these extractors left.
pub(super) fn forget(extractors: &[PlaceExtractor], snapshot: &Snapshot) {
    let keys = extractors.iter().flat_map(|extractor| extractor.keys.iter());
    let untold: Vec<Told> = keys.map(|&key| (key, None)).collect();
    snapshot.endpoints.iter().for_each(|endpoint| endpoint.store_attributes(&untold));
}

fn told(extractor: &PlaceExtractor, endpoint: &Endpoint) -> Vec<Told> {
    let labels = endpoint.labels();
    let words = extractor.labels.each_ref().map(|label| labels.get(label).cloned().unwrap_or_default());
    let value =
        words.iter().any(|word| !word.is_empty()).then(|| AttributeValue::Words(words.clone().into()));
    extractor.keys.iter().map(|&key| (key, value.clone())).collect()
}
