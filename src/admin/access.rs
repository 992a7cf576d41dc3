//! The flags of metrics and debug pages → what they mean together: [`Access::of`].

use std::path::PathBuf;

use crate::args::{AdminArgs, DebugAccess};

/// Who may read what, and how the port is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// Whether readers of `/metrics` are reviewed.
    pub metrics_auth: bool,
    /// The certificate's folder and the clients' authority, if the port speaks TLS.
    pub tls: Option<(PathBuf, Option<PathBuf>)>,
    /// Who may read the debug pages.
    pub debug: Debug,
}

/// Who may read the debug pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Debug {
    /// Nobody: there are none.
    Off,
    /// Callers on this machine.
    Loopback,
    /// Whom the Kubernetes API allows it.
    Review,
    /// Who has the token in this file.
    Token(PathBuf),
}

impl Access {
    /// What the flags mean; `from_api` says whether the pool comes from a Kubernetes API.
    pub fn of(args: &AdminArgs, from_api: bool) -> Result<Self, String> {
        let metrics_auth = args.metrics_endpoint_auth.unwrap_or(from_api);
        let tls = match (&args.metrics_cert_dir, &args.metrics_client_ca_file) {
            (None, None) => None,
            (None, Some(_)) => {
                return Err(
                    "--metrics-client-ca-file asks clients for certificates, which needs TLS: expected \
                            --metrics-cert-dir"
                        .to_owned(),
                );
            }
            (Some(_), None) if !metrics_auth => {
                return Err("--metrics-cert-dir alone would encrypt the metrics for anybody: expected \
                            --metrics-client-ca-file or --metrics-endpoint-auth"
                    .to_owned());
            }
            (Some(folder), client_ca) => Some((folder.clone(), client_ca.clone())),
        };
        Ok(Self { metrics_auth, tls, debug: Debug::of(args, from_api)? })
    }
}

impl Debug {
    fn of(args: &AdminArgs, from_api: bool) -> Result<Self, String> {
        match (args.debug_access, &args.debug_token_file) {
            (None | Some(DebugAccess::Token), Some(file)) => Ok(Self::Token(file.clone())),
            (Some(_), Some(_)) => {
                Err("--debug-token-file is for --debug-access=token: set only one of them".to_owned())
            }
            (Some(DebugAccess::Token), None) => {
                Err("--debug-access=token needs a token: expected --debug-token-file".to_owned())
            }
            (Some(DebugAccess::Off), None) => Ok(Self::Off),
            (Some(DebugAccess::Loopback), None) => Ok(Self::Loopback),
            (Some(DebugAccess::Review), None) => Ok(Self::Review),
            (None, None) => Ok(if from_api { Self::Off } else { Self::Loopback }),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::Args;

    fn access(flags: &[&str], from_api: bool) -> Result<Access, String> {
        Access::of(&Args::try_parse_from([&["epp"], flags].concat()).unwrap().serve.admin, from_api)
    }

    #[test]
    fn the_flags_mean_this_together() {
        let token = || Debug::Token("t".into());
        for (flags, from_api, metrics_auth, debug) in [
            (&[][..], false, false, Debug::Loopback),
            (&[], true, true, Debug::Off),
            (&["--metrics-endpoint-auth"], false, true, Debug::Loopback),
            (&["--metrics-endpoint-auth=false"], true, false, Debug::Off),
            (&["--debug-access=off"], false, false, Debug::Off),
            (&["--debug-access=loopback"], true, true, Debug::Loopback),
            (&["--debug-access=review"], false, false, Debug::Review),
            (&["--debug-token-file=t"], false, false, token()),
            (&["--debug-token-file=t", "--debug-access=token"], true, true, token()),
        ] {
            let want = Access { metrics_auth, tls: None, debug };
            assert_eq!(access(flags, from_api), Ok(want), "{flags:?} {from_api}");
        }
    }

    /// Section 1.2 of the functional specification, `metrics-cert-dir`.
    #[test]
    fn tls_without_anybody_asked_who_they_are_is_refused() {
        let (dir, ca) = ("--metrics-cert-dir=d", "--metrics-client-ca-file=c");
        for (flags, from_api, want) in [
            (&[dir][..], true, Ok(None)),
            (&[dir, "--metrics-endpoint-auth"], false, Ok(None)),
            (&[dir, ca], false, Ok(Some("c"))),
            (&[dir, ca], true, Ok(Some("c"))),
            (&[dir], false, Err("--metrics-client-ca-file or --metrics-endpoint-auth")),
            (&[dir, "--metrics-endpoint-auth=false"], true, Err("--metrics-client-ca-file or")),
            (&[ca], true, Err("--metrics-cert-dir")),
            (&["--debug-access=token"], true, Err("--debug-token-file")),
            (&["--debug-access=off", "--debug-token-file=t"], true, Err("--debug-access=token")),
        ] {
            let access = access(flags, from_api).map(|access| access.tls);
            match (access, want) {
                (Ok(tls), Ok(ca)) => assert_eq!(tls, Some(("d".into(), ca.map(PathBuf::from))), "{flags:?}"),
                (Err(why), Err(named)) => assert!(why.contains(named), "{flags:?}: {why}"),
                (got, want) => panic!("{flags:?} {from_api}: {got:?} instead of {want:?}"),
            }
        }
    }
}
