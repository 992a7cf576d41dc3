//! What is valid on a command line, but may surprise: [`review`], one line each, for the log.

use super::quantity::shown;
use super::{ServeArgs, TlsArgs};
use crate::tls::versions::MinVersion;

/// Says what the writer of these flags probably does not mean.
pub(super) fn review(args: &ServeArgs) -> Vec<String> {
    let mut notes = Vec::new();
    let limits = &args.limits;
    for (flag, bytes, then) in [
        (
            "--grpc-max-recv-msg-size",
            limits.grpc_max_recv_msg_size,
            "longer bodies that come BUFFERED end their stream with OUT_OF_RANGE",
        ),
        (
            "--grpc-max-send-msg-size",
            limits.grpc_max_send_msg_size,
            "longer bodies that come BUFFERED and are rewritten end their stream with OUT_OF_RANGE",
        ),
        (
            "--max-unfinished-bytes",
            Some(limits.max_unfinished_bytes),
            "longer bodies that come in pieces get 503",
        ),
    ] {
        if let Some(bytes) = bytes.filter(|&bytes| bytes < limits.max_body_bytes) {
            let longest = shown(limits.max_body_bytes);
            notes.push(format!("{flag} ({}) is below --max-body-bytes ({longest}): {then}", shown(bytes)));
        }
    }
    review_tls(&args.tls, &mut notes);
    notes
}

fn review_tls(tls: &TlsArgs, notes: &mut Vec<String>) {
    if !tls.secure_serving {
        if tls.cert_path.is_some() {
            notes.push("--cert-path is not used, because of --secure-serving=false".to_owned());
        }
        return;
    }
    if tls.tls_cipher_suites.names_tls13() {
        notes.push("--tls-cipher-suites: names of TLS 1.3 choose nothing, its suites are all on".to_owned());
    }
    if !tls.tls_cipher_suites.leaves_tls12() && tls.tls_min_version != MinVersion::Tls13 {
        notes.push("--tls-cipher-suites names no suite of TLS 1.2: TLS 1.2 is off".to_owned());
    }
}
