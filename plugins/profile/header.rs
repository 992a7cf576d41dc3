//! `header-profile-handler`: the request names the profile that picks for it.

use std::sync::Arc;

use epp_framework::parameters::{Parameter, ParameterKind, Parameters};
use epp_framework::plugin::{BuildContext, Kind, Plugin, PluginType, Review, Stability, releases};
use epp_framework::scheduling::{Cycle, Decision, ProfileHandler, Unschedulable};
use smallvec::SmallVec;

/// `header-profile-handler`.
pub(crate) const TYPE: PluginType = PluginType {
    name: "header-profile-handler",
    summary: "Runs the profile that a header of the request names, and takes its picks.",
    about: "A request that names none has the default one; one that names a profile which is not there is refused with \
            429. If there is one profile only, it is run whatever the header says.",
    stability: Stability::Alpha,
    parameters: &[
        Parameter {
            name: "headerName",
            kind: ParameterKind::Text { default: Some("EPP-Profile"), check: check_name },
            unit: "",
            summary: "Name of the header; upper and lower case do not matter.",
        },
        Parameter {
            name: "defaultProfile",
            kind: ParameterKind::Text { default: Some("decode"), check: |_| None },
            unit: "",
            summary: "Profile of requests without the header, or with a blank one.",
        },
    ],
    kinds: &[Kind::ProfileHandler],
    build,
    releases: releases::LLM_D,
    review,
    ..PluginType::PLAIN
};

/// HTTP's rule for names.
fn check_name(name: &str) -> Option<String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    (!name.bytes().all(fits)).then(|| "expected the name of a header".to_owned())
}

fn review(review: &Review<'_>) -> Vec<String> {
    let (default, profiles) = (review.parameters.text("defaultProfile"), review.profiles);
    let refused = profiles.len() > 1 && !profiles.contains(&default);
    let told = || format!("no profile is named `{default}`, so requests without the header are refused");
    refused.then(told).into_iter().collect()
}

fn build(parameters: &Parameters, _cx: &BuildContext<'_>) -> Plugin {
    let header = parameters.text("headerName").to_ascii_lowercase();
    let handler = ByHeader { header: header.clone(), default: parameters.text("defaultProfile").to_owned() };
    Plugin { profile_handler: Some(Arc::new(handler)), request_headers: vec![header], ..Plugin::default() }
}

struct ByHeader {
    /// In lower case.
    header: String,
    default: String,
}

impl ProfileHandler for ByHeader {
    fn next(&self, cycle: &Cycle<'_>) -> SmallVec<[usize; 2]> {
        if !cycle.runs.is_empty() {
            return SmallVec::new();
        }
        let profiles = cycle.profiles;
        if profiles.len() == 1 {
            return SmallVec::from_iter([0]);
        }
        let named = cycle.request.headers.get(&self.header).map(str::trim).filter(|name| !name.is_empty());
        let name = named.unwrap_or(&self.default);
        profiles.iter().position(|profile| profile == name).into_iter().collect()
    }

    fn decide(&self, cycle: &Cycle<'_>) -> Result<Decision, Unschedulable> {
        let Some(run) = cycle.runs.first() else {
            // What the client wrote is not repeated.
            let unknown = Unschedulable::UnknownProfile {
                header: self.header.clone(),
                profiles: cycle.profiles.join(", "),
            };
            return Err(unknown);
        };
        match &run.picks {
            Some(picks) if !picks.is_empty() => Ok(Decision::of(run.profile, picks.clone())),
            _ => Err(Unschedulable::Drained {
                profile: cycle.profiles.get(run.profile).cloned().unwrap_or_default(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use epp_framework::endpoint::Load;
    use epp_framework::scheduling::ProfileRun;
    use smallvec::smallvec;

    use super::*;
    use crate::testing::{Pool, built};

    /// Section 2.4 of the plugin specification.
    #[test]
    fn the_header_names_the_profile() {
        let two: &[&str] = &["decode", "batch"];
        for (name, parameters, header, profiles, want) in [
            ("named", "{}", Some(("epp-profile", "batch")), two, Some(1)),
            ("blanks around it", "{}", Some(("epp-profile", " batch ")), two, Some(1)),
            ("none", "{}", None, two, Some(0)),
            ("blank", "{}", Some(("epp-profile", "  ")), two, Some(0)),
            ("unknown", "{}", Some(("epp-profile", "other")), two, None),
            ("in capitals", "{}", Some(("epp-profile", "Batch")), two, None),
            ("one profile", "{}", Some(("epp-profile", "other")), &["x"], Some(0)),
            ("no such default", "{}", None, &["x", "y"], None),
            (
                "other names",
                r#"{"headerName": "X-Which", "defaultProfile": "batch"}"#,
                Some(("x-which", "decode")),
                two,
                Some(0),
            ),
            ("another default", r#"{"defaultProfile": "batch"}"#, None, two, Some(1)),
        ] {
            let plugin = built(&TYPE, parameters);
            let handler = plugin.profile_handler.unwrap();
            let mut pool = Pool::new([Load::default()]);
            let header = header.map(|(name, value)| (name, value.to_owned()));
            assert!(header.as_ref().is_none_or(|(name, _)| plugin.request_headers == [*name]), "{name}");
            pool.request.headers = header.into_iter().collect();
            pool.profiles = profiles.iter().map(|&name| name.to_owned()).collect();
            let next = handler.next(&pool.cycle());
            assert_eq!(next.as_slice(), Vec::from_iter(want), "{name}");
            let Some(profile) = want else {
                let error = handler.decide(&pool.cycle()).unwrap_err().to_string();
                assert!(error.ends_with(&profiles.join(", ")) && !error.contains("other"), "{error}");
                continue;
            };
            pool.runs = smallvec![ProfileRun { profile, picks: Some(smallvec![0]) }];
            assert!(handler.next(&pool.cycle()).is_empty(), "{name}: once");
            let want = Ok(Decision::of(profile, smallvec![0]));
            assert_eq!(handler.decide(&pool.cycle()), want, "{name}");
            pool.runs[0].picks = None;
            let want = Err(Unschedulable::Drained { profile: profiles[profile].to_owned() });
            assert_eq!(handler.decide(&pool.cycle()), want, "{name}");
        }
    }

    #[test]
    fn names_that_no_header_can_have_are_refused() {
        for (name, fits) in [("EPP-Profile", true), ("x_y.z", true), ("a b", false), ("a:", false)] {
            assert_eq!(check_name(name).is_none(), fits, "{name}");
        }
    }
}
