//! The serving certificate: read from a folder, or self-signed and fresh at each start.

use std::path::Path;

use anyhow::Context;
use tonic::transport::Identity;

/// Reads `tls.crt` and `tls.key` from `folder`.
pub fn read(folder: &Path) -> anyhow::Result<Identity> {
    let read = |name: &str| {
        let path = folder.join(name);
        std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    Ok(Identity::from_pem(read("tls.crt")?, read("tls.key")?))
}

/// Makes a certificate that nobody needs to trust: gateways connect to a picker without verification by default.
pub fn self_signed() -> anyhow::Result<Identity> {
    let key = rcgen::KeyPair::generate()?;
    let mut params = rcgen::CertificateParams::new(Vec::new())?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::OrganizationName, "Inference Ext");
    params.key_usages =
        vec![rcgen::KeyUsagePurpose::DigitalSignature, rcgen::KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let certificate = params.self_signed(&key)?;
    Ok(Identity::from_pem(certificate.pem(), key.serialize_pem()))
}
