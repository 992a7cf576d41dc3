//! What of TLS is spoken, in Go's names: [`MinVersion`] and [`CipherSuites`].
//!
//! We have TLS 1.2 and 1.3, and of 1.2 the suites with forward secrecy and an AEAD.

use std::sync::Arc;

use clap::ValueEnum;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::version::TLS13;
use tokio_rustls::rustls::{ALL_VERSIONS, CipherSuite, SupportedCipherSuite, SupportedProtocolVersion};

static ONLY_TLS13: &[&SupportedProtocolVersion] = &[&TLS13];

/// The least version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MinVersion {
    /// As 1.2, which is the least there is.
    #[value(name = "VersionTLS10")]
    Tls10,
    /// As 1.2, which is the least there is.
    #[value(name = "VersionTLS11")]
    Tls11,
    /// TLS 1.2 and 1.3.
    #[value(name = "VersionTLS12")]
    Tls12,
    /// TLS 1.3 only.
    #[value(name = "VersionTLS13")]
    Tls13,
}

impl MinVersion {
    /// The versions that are left.
    pub fn versions(self) -> &'static [&'static SupportedProtocolVersion] {
        match self {
            Self::Tls10 | Self::Tls11 | Self::Tls12 => ALL_VERSIONS,
            Self::Tls13 => ONLY_TLS13,
        }
    }
}

/// Cipher suites of TLS 1.2; those of 1.3 cannot be chosen, as in Go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CipherSuites {
    /// All, unless some were named.
    named: Option<Vec<CipherSuite>>,
}

impl CipherSuites {
    /// Reads a comma list of Go's names; an empty one means all.
    pub fn parse(list: &str) -> Result<Self, String> {
        let names = list.split(',').map(str::trim).filter(|name| !name.is_empty());
        let suites: Vec<CipherSuite> = names.map(suite).collect::<Result<_, _>>()?;
        Ok(Self { named: Some(suites).filter(|suites| !suites.is_empty()) })
    }

    /// Whether suites of TLS 1.3 were named, which changes nothing.
    pub fn names_tls13(&self) -> bool {
        self.named.iter().flatten().any(|&named| is_tls13(named))
    }

    /// Whether a suite of TLS 1.2 is left.
    pub fn leaves_tls12(&self) -> bool {
        self.named.as_ref().is_none_or(|named| !named.iter().all(|&named| is_tls13(named)))
    }

    /// The cryptography that offers these suites, and all of TLS 1.3.
    pub fn provider(&self) -> Arc<CryptoProvider> {
        let mut provider = ring::default_provider();
        if let Some(named) = &self.named {
            provider.cipher_suites.retain(|suite| suite.tls13().is_some() || named.contains(&suite.suite()));
        }
        Arc::new(provider)
    }
}

fn is_tls13(named: CipherSuite) -> bool {
    ring::ALL_CIPHER_SUITES.iter().any(|suite| suite.suite() == named && suite.tls13().is_some())
}

fn suite(name: &str) -> Result<CipherSuite, String> {
    // Go knows these by an older name as well.
    let long = if name.ends_with("_CHACHA20_POLY1305") { format!("{name}_SHA256") } else { name.to_owned() };
    let known = ring::ALL_CIPHER_SUITES;
    known.iter().find(|suite| go_name(suite) == long).map(SupportedCipherSuite::suite).ok_or_else(|| {
        let known: Vec<String> = known.iter().map(go_name).collect();
        format!("no cipher suite {name:?}; known are {}", known.join(", "))
    })
}

fn go_name(suite: &SupportedCipherSuite) -> String {
    let name = format!("{:?}", suite.suite());
    name.strip_prefix("TLS13_").map_or(name.clone(), |rest| format!("TLS_{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(list: &str) -> Vec<String> {
        let provider = CipherSuites::parse(list).unwrap().provider();
        provider.cipher_suites.iter().filter(|suite| suite.tls13().is_none()).map(go_name).collect()
    }

    #[test]
    fn suites_have_the_names_of_go() {
        let all = offered("");
        assert_eq!(all.len(), 6);
        assert_eq!(offered(&all.join(",")), all);
        for (list, want) in [
            (
                "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305",
                vec!["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"],
            ),
            ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,", vec!["TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"]),
            // As in Go: a list without a suite of TLS 1.2 leaves none of them.
            ("TLS_AES_128_GCM_SHA256", vec![]),
        ] {
            assert_eq!(offered(list), want, "{list}");
            let n_tls13 = CipherSuites::parse(list).unwrap().provider().cipher_suites.len() - want.len();
            assert_eq!(n_tls13, 3, "{list}: those of TLS 1.3 stay");
        }
    }

    #[test]
    fn an_unknown_suite_is_refused_with_the_known_ones() {
        for list in
            ["TLS_RSA_WITH_AES_128_CBC_SHA", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,nonsense", "TLS13_X"]
        {
            let error = CipherSuites::parse(list).unwrap_err();
            let name = list.rsplit(',').next().unwrap();
            assert!(error.contains(&format!("{name:?}")), "{error}");
            for known in ["TLS_AES_256_GCM_SHA384", "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"]
                .iter()
                .chain(&["TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"])
            {
                assert!(error.contains(known), "{error}");
            }
        }
    }
}
