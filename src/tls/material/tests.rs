//! Files that are right, and all the ways in which they are not.

use super::*;
use crate::tls::testing::{args, pair};

fn refusal(flags: &[&str], texts: &[&str]) -> String {
    let recipe = Recipe::new(&args(flags)).unwrap();
    let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
    assert_eq!(recipe.files().len(), texts.len());
    match recipe.build(&texts) {
        Ok(_) => String::new(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_refusal_names_the_file_and_quotes_nothing_of_it() {
    let (certificate, key) = pair(2040);
    let (_, other_key) = pair(2040);
    let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let broken = key.replace('M', "!");
    let no_key = key.replacen("MIG", "AAA", 1);
    let no_certificate = certificate.replacen("MII", "AAA", 1);
    let small = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VuBCIEIGD/x0sBnqQ9AKDW7CzYzwx5g5rYc2YCVQTOG3MxUM9n\n\
                 -----END PRIVATE KEY-----\n";
    for (certificate, key, want) in [
        (certificate.as_str(), key.as_str(), ""),
        ("", &key, "expected PEM certificates in certs/tls.crt"),
        ("-----BEGIN CERTIFICATE-----\n!!\n", &key, "expected PEM certificates in certs/tls.crt"),
        (&key, &key, "expected PEM certificates in certs/tls.crt"),
        (&no_certificate, &key, "the certificate in certs/tls.crt cannot be used"),
        (&certificate, "", "expected a PEM private key in certs/tls.key"),
        (&certificate, &certificate, "expected a PEM private key in certs/tls.key"),
        (&certificate, &encrypted, "expected a PEM private key in certs/tls.key"),
        (&certificate, &broken, "expected a PEM private key in certs/tls.key"),
        (&certificate, &no_key, "the private key in certs/tls.key is of no kind that can be used"),
        (&certificate, small, "the private key in certs/tls.key is of no kind that can be used"),
        (
            &certificate,
            &other_key,
            "the private key in certs/tls.key does not fit the certificate in certs/tls.crt",
        ),
    ] {
        let told = refusal(&["--cert-path", "certs"], &[certificate, key]);
        assert!(told.starts_with(want) && told.is_empty() == want.is_empty(), "{told:?}, expected {want:?}");
        assert!(!key.lines().any(|line| line.len() > 20 && told.contains(line)), "{told}");
    }
}

#[test]
fn the_clients_authority_must_be_one() {
    let (certificate, key) = pair(2040);
    for (authority, want) in [
        (certificate.as_str(), ""),
        ("", "expected PEM certificates in ca.crt"),
        (&key, "expected PEM certificates in ca.crt"),
        (&certificate.replacen("MII", "AAA", 1), "the certificates in ca.crt cannot verify clients"),
    ] {
        let told = refusal(&["--client-ca-file", "ca.crt"], &[authority]);
        assert!(told.starts_with(want) && told.is_empty() == want.is_empty(), "{told:?}, expected {want:?}");
    }
}

#[test]
fn a_self_signed_certificate_stays_the_same_and_says_when_it_ends() {
    let recipe = Recipe::new(&args(&[])).unwrap();
    assert!(recipe.files().is_empty());
    let Identity::SelfSigned(before) = &recipe.identity else { panic!("there are no files") };
    assert!(recipe.build(&[]).unwrap().expiry.is_some());
    let fresh = Recipe::new(&args(&[])).unwrap();
    let Identity::SelfSigned(after) = &fresh.identity else { panic!("there are no files") };
    assert_ne!(before.cert, after.cert, "but each process has its own");
}
