//! Families of several registries → one page, on which each is once: [`page`].

use std::collections::BTreeMap;

use prometheus::TextEncoder;
use prometheus::proto::{LabelPair, MetricFamily};

/// The label that names a pool where there are several.
pub const POOL_LABEL: &str = "inference_pool";

/// The label that names its namespace.
pub const POOL_NAMESPACE_LABEL: &str = "inference_pool_namespace";

/// What one registry has, and the pool that it is about if the page is to say it: namespace and name.
pub type Gathered<'a> = (Vec<MetricFamily>, Option<[&'a str; 2]>);

/// The page in the text format 0.0.4.
pub fn page<'a>(gathered: impl IntoIterator<Item = Gathered<'a>>) -> String {
    let mut families: BTreeMap<String, MetricFamily> = BTreeMap::new();
    for (mut family, pool) in
        gathered.into_iter().flat_map(|(found, pool)| found.into_iter().map(move |one| (one, pool)))
    {
        if let Some(pool) = pool {
            label(&mut family, pool);
        }
        match families.get_mut(family.name()) {
            Some(known) => known.mut_metric().append(family.mut_metric()),
            None => drop(families.insert(family.name().to_owned(), family)),
        }
    }
    TextEncoder::new().encode_to_string(&families.into_values().collect::<Vec<_>>()).unwrap_or_default()
}

fn label(family: &mut MetricFamily, [namespace, name]: [&str; 2]) {
    for metric in family.mut_metric() {
        let mut labels = metric.take_label();
        for (label, value) in [(POOL_LABEL, name), (POOL_NAMESPACE_LABEL, namespace)] {
            let mut pair = LabelPair::default();
            pair.set_name(label.to_owned());
            pair.set_value(value.to_owned());
            labels.push(pair);
        }
        labels.sort_by(|one, other| one.name().cmp(other.name()));
        metric.set_label(labels);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;
    use crate::metrics::process::ProcessMetrics;

    #[test]
    fn each_family_is_once_and_each_series_says_its_pool() {
        let (process, one, other) = (ProcessMetrics::new(), Metrics::new(), Metrics::new());
        one.model("m", "t").count_request(1);
        other.model("m", "t").count_request(1);
        let page = page([
            (process.registry().gather(), None),
            (one.registry().gather(), Some(["x", "a"])),
            (other.registry().gather(), Some(["y", "a"])),
        ]);
        for line in [
            r#"inference_model_request_total{inference_pool="a",inference_pool_namespace="x",model_name="m",target_model_name="t"} 1"#,
            r#"inference_model_request_total{inference_pool="a",inference_pool_namespace="y",model_name="m",target_model_name="t"} 1"#,
            r#"epp_request_cost_errors_total{inference_pool="a",inference_pool_namespace="x"} 0"#,
            "epp_extproc_streams 0",
        ] {
            assert!(page.lines().any(|found| found == line), "no {line} in\n{page}");
        }
        let mut types: Vec<_> = page.lines().filter(|line| line.starts_with("# TYPE ")).collect();
        let n_types = types.len();
        types.sort_unstable();
        types.dedup();
        assert_eq!(types.len(), n_types);
        let mut series: Vec<_> = page.lines().filter_map(|line| Some(line.rsplit_once(' ')?.0)).collect();
        let n_series = series.len();
        series.sort_unstable();
        series.dedup();
        assert_eq!(series.len(), n_series, "{page}");
    }

    #[test]
    fn one_pool_is_as_it_would_be_by_itself() {
        let metrics = Metrics::new();
        metrics.model("m", "t").count_request(1);
        assert_eq!(page([(metrics.registry().gather(), None)]), metrics.render());
    }
}
