//! A page of NVIDIA's DCGM exporter → how busy and how full the GPUs of an endpoint are. Entry point: [`read`]. Pure.
//!
//! An exporter beside the model server tells of the pod's GPUs alone; one per node names the pod that has each GPU. A page
//! that names any pod is of the second kind, and only what it says of the endpoint's own counts.

use std::sync::LazyLock;

use epp_framework::endpoint::Endpoint;

use super::exposition::{LabelValue, WantedNames, scan};

/// Utilisation in per cent, then memory in use and free in MiB.
static WANTED: LazyLock<WantedNames> = LazyLock::new(|| {
    let names = ["DCGM_FI_DEV_GPU_UTIL", "DCGM_FI_DEV_FB_USED", "DCGM_FI_DEV_FB_FREE"];
    WantedNames::new(names.map(str::to_owned).to_vec())
});

/// What a page says; `None` is nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Gpus {
    /// Utilisation of the busiest, 0–1.
    pub(super) utilization: Option<f64>,
    /// Fraction of the memory of all that is used, 0–1.
    pub(super) memory_used: Option<f64>,
}

/// Reads what `page` says of the GPUs of `endpoint`.
pub(super) fn read(page: &[u8], endpoint: &Endpoint) -> Gpus {
    let (mut own, mut unnamed) = (Tally::default(), Tally::default());
    let mut names_pods = false;
    for sample in scan(page, &WANTED) {
        if !sample.value.is_finite() || sample.value < 0.0 {
            continue;
        }
        let labels = sample.labels.pick(["pod", "namespace"]);
        let [pod, namespace] = labels.map(|label| label.map_or_else(String::new, |label| text(label)));
        if pod.is_empty() {
            unnamed.take(sample.name, sample.value);
            continue;
        }
        names_pods = true;
        let ours = namespace.is_empty() || namespace == endpoint.meta.namespace;
        if ours && is_pod_of(&pod, &endpoint.meta.name) {
            own.take(sample.name, sample.value);
        }
    }
    if names_pods { own.gpus() } else { unnamed.gpus() }
}

fn text(label: LabelValue<'_>) -> String {
    label.text().into_owned()
}

/// Whether an endpoint is one of a pod: it has the pod's name, or that of one of its ranks.
fn is_pod_of(pod: &str, endpoint: &str) -> bool {
    endpoint.strip_prefix(pod).is_some_and(|rest| {
        let rank = rest.strip_prefix("-rank-");
        rest.is_empty() || rank.is_some_and(|rank| rank.bytes().all(|byte| byte.is_ascii_digit()))
    })
}

#[derive(Default)]
struct Tally {
    busiest: Option<f64>,
    used: f64,
    free: f64,
    has_used: bool,
}

impl Tally {
    fn take(&mut self, name: usize, value: f64) {
        match name {
            0 => self.busiest = Some(self.busiest.map_or(value, |busiest| busiest.max(value))),
            1 => {
                self.used += value;
                self.has_used = true;
            }
            _ => self.free += value,
        }
    }

    fn gpus(&self) -> Gpus {
        let fraction = self.used / (self.used + self.free);
        Gpus {
            utilization: self.busiest.map(|percent| (percent / 100.0).min(1.0)),
            // Without what is free, what is used is a fraction of nothing that is known.
            memory_used: (self.has_used && self.free > 0.0 && fraction.is_finite()).then_some(fraction),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scrape::tests::endpoint;

    #[test]
    fn the_gpus_of_an_endpoint_are_told_apart_from_others() {
        let endpoint = endpoint(1, "10.0.0.1:8000".parse().unwrap());
        let line =
            |name: &str, labels: &str, value: &str| format!("DCGM_FI_DEV_{name}{{{labels}}} {value}\n");
        let gpu = |labels: &str, util: &str, used: &str, free: &str| {
            line("GPU_UTIL", labels, util) + &line("FB_USED", labels, used) + &line("FB_FREE", labels, free)
        };
        let gpus = |utilization, memory_used| Gpus { utilization, memory_used };
        for (name, page, want) in [
            ("beside the server", gpu("gpu=\"0\"", "40", "10", "30"), gpus(Some(0.4), Some(0.25))),
            (
                "the busiest of two, and the memory of both",
                gpu("gpu=\"0\"", "40", "10", "30") + &gpu("gpu=\"1\"", "70", "30", "10"),
                gpus(Some(0.7), Some(0.5)),
            ),
            (
                "one of a node's",
                gpu("pod=\"pod-1\",namespace=\"default\"", "20", "1", "3")
                    + &gpu("pod=\"pod-2\",namespace=\"default\"", "90", "9", "1")
                    + &gpu("pod=\"pod-1\",namespace=\"other\"", "80", "9", "1")
                    + &gpu("pod=\"\"", "70", "9", "1"),
                gpus(Some(0.2), Some(0.25)),
            ),
            ("all of them others'", gpu("pod=\"pod-2\"", "20", "1", "3"), Gpus::default()),
            ("utilisation alone", line("GPU_UTIL", "", "55"), gpus(Some(0.55), None)),
            ("memory alone", line("FB_USED", "", "1") + &line("FB_FREE", "", "1"), gpus(None, Some(0.5))),
            ("what is free is not told", line("FB_USED", "", "1"), Gpus::default()),
            ("a GPU without memory", line("FB_USED", "", "0") + &line("FB_FREE", "", "0"), Gpus::default()),
            ("more than all", line("GPU_UTIL", "", "101"), gpus(Some(1.0), None)),
            ("no value", gpu("", "NaN", "-1", "+Inf"), Gpus::default()),
            ("another page", "vllm:num_requests_waiting 1\n".to_owned(), Gpus::default()),
        ] {
            assert_eq!(read(page.as_bytes(), &endpoint), want, "{name}");
        }
    }

    #[test]
    fn ranks_are_of_their_pod() {
        for (pod, endpoint, want) in [
            ("a", "a", true),
            ("a", "a-rank-0", true),
            ("a", "a-rank-10", true),
            ("a", "a-b", false),
            ("a", "a-rank-x", false),
            ("a-rank-1", "a", false),
            ("a", "ab", false),
        ] {
            assert_eq!(is_pod_of(pod, endpoint), want, "{pod} {endpoint}");
        }
    }
}
