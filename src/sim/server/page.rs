//! The text exposition format as Python's client writes it: every value a float, labels sorted, `_created` samples
//! after each family, and the `name[]` filter by sample name. Entry point: [`Page`]. It knows no metric.

use std::fmt::Write as _;

use super::record::Histogram;

/// The labels of a page's engine samples, in the order of their names.
const ENGINE: &str = "engine=\"0\"";

/// One further label and its value.
pub(super) type Label<'a> = (&'a str, &'a str);

/// A metrics page being written.
#[derive(Debug)]
pub(super) struct Page<'a> {
    text: String,
    /// Names of the samples that are asked for; all when `None`.
    only: Option<&'a [String]>,
    model_name: String,
    created: f64,
    /// HELP and TYPE of the family at hand, written with its first sample.
    header: String,
}

impl<'a> Page<'a> {
    /// Begins a page. `created` is the Unix time in seconds that `_created` samples show.
    pub(super) fn new(model_name: &str, created: f64, only: Option<&'a [String]>) -> Self {
        let model_name = format!("model_name=\"{}\"", escape(model_name));
        Self { text: String::with_capacity(32 * 1024), only, model_name, created, header: String::new() }
    }

    /// Ends the page.
    pub(super) fn finish(self) -> String {
        self.text
    }

    /// Begins a family.
    pub(super) fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.header = format!("# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    /// Writes a sample with the labels given as text.
    pub(super) fn sample(&mut self, name: &str, labels: &str, value: f64) {
        if self.only.is_some_and(|only| !only.iter().any(|wanted| wanted == name)) {
            return;
        }
        self.text.push_str(&self.header);
        self.header.clear();
        self.text.push_str(name);
        if !labels.is_empty() {
            self.text.extend(["{", labels, "}"]);
        }
        self.text.push(' ');
        self.text.push_str(&number(value));
        self.text.push('\n');
    }

    /// Writes a gauge of the engine; one sample per label, or one without a further label.
    pub(super) fn gauge(&mut self, name: &str, help: &str, samples: &[(Option<Label<'_>>, f64)]) {
        self.family(name, "gauge", help);
        for (label, value) in samples {
            let labels = self.labels(*label);
            self.sample(name, &labels, *value);
        }
    }

    /// Writes a counter of the engine, named without `_total`.
    pub(super) fn counter(&mut self, name: &str, help: &str, samples: &[(Option<Label<'_>>, u64)]) {
        let total = format!("{name}_total");
        self.family(&total, "counter", help);
        for (label, value) in samples {
            let labels = self.labels(*label);
            self.sample(&total, &labels, *value as f64);
        }
        self.created(name, help, samples.iter().map(|(label, _)| *label));
    }

    /// Writes a histogram of the engine.
    pub(super) fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.family(name, "histogram", help);
        let bucket = format!("{name}_bucket");
        let mut n_below = 0;
        let edges = histogram.edges.iter().copied().chain([f64::INFINITY]);
        for (edge, n_within) in edges.zip(&histogram.n_within) {
            n_below += n_within;
            let labels = self.labels(Some(("le", &number(edge))));
            self.sample(&bucket, &labels, n_below as f64);
        }
        let labels = self.labels(None);
        self.sample(&format!("{name}_count"), &labels, n_below as f64);
        self.sample(&format!("{name}_sum"), &labels, histogram.sum);
        self.created(name, help, [None].into_iter());
    }

    fn created<'l>(&mut self, name: &str, help: &str, labels: impl Iterator<Item = Option<Label<'l>>>) {
        let created = format!("{name}_created");
        self.family(&created, "gauge", help);
        for label in labels {
            let labels = self.labels(label);
            self.sample(&created, &labels, self.created);
        }
    }

    fn labels(&self, label: Option<Label<'_>>) -> String {
        let mut text = String::from(ENGINE);
        let mut model_name = Some(self.model_name.as_str());
        if let Some((name, value)) = label {
            if name > "model_name" {
                text.extend([",", model_name.take().unwrap_or_default()]);
            }
            let _ = write!(text, ",{name}=\"{}\"", escape(value));
        }
        if let Some(model_name) = model_name {
            text.extend([",", model_name]);
        }
        text
    }
}

pub(super) fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Writes a number as Python's client does: a float always, and with an exponent from a million on.
fn number(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let plain = format!("{value:?}");
    if let Some((mantissa, exponent)) = plain.split_once('e') {
        let (sign, digits) = exponent.strip_prefix('-').map_or(("+", exponent), |digits| ("-", digits));
        return format!("{mantissa}e{sign}{digits:0>2}");
    }
    match plain.split_once('.') {
        Some((whole, fraction)) if value > 0.0 && whole.len() > 6 => {
            let digits = format!("{}.{}{fraction}", &whole[..1], &whole[1..]);
            format!("{}e+{:02}", digits.trim_end_matches('0').trim_end_matches('.'), whole.len() - 1)
        }
        _ => plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_look_as_python_writes_them() {
        for (value, want) in [
            (0.0, "0.0"),
            (7.0, "7.0"),
            (0.314_236_111_111_111_1, "0.3142361111111111"),
            (999_999.0, "999999.0"),
            (1_000_000.0, "1e+06"),
            (1_048_576.0, "1.048576e+06"),
            (1_795_236_846.28, "1.79523684628e+09"),
            (960_946_176.0, "9.60946176e+08"),
            (1e-7, "1e-07"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(number(value), want);
        }
    }

    #[test]
    fn labels_are_sorted_and_escaped() {
        let mut page = Page::new("a\"b\\c\nd", 1.5, None);
        page.gauge("g", "Says.", &[(None, 1.0), (Some(("le", "2")), 2.0), (Some(("reason", "x")), 3.0)]);
        let want = r#"# HELP g Says.
# TYPE g gauge
g{engine="0",model_name="a\"b\\c\nd"} 1.0
g{engine="0",le="2",model_name="a\"b\\c\nd"} 2.0
g{engine="0",model_name="a\"b\\c\nd",reason="x"} 3.0
"#;
        assert_eq!(page.finish(), want);
    }

    #[test]
    fn a_filter_goes_by_sample_name_and_leaves_no_empty_family() {
        let only = ["c_total".to_owned()];
        let mut page = Page::new("m", 1.5, Some(&only));
        page.gauge("g", "Says.", &[(None, 1.0)]);
        page.counter("c", "Counts.", &[(None, 2)]);
        let want =
            "# HELP c_total Counts.\n# TYPE c_total counter\nc_total{engine=\"0\",model_name=\"m\"} 2.0\n";
        assert_eq!(page.finish(), want);
    }
}
