//! Whether addresses are free: [`probe`]. Envoy would not find out: it shares its ports with whoever else does.

use std::io;
use std::net::{SocketAddr, TcpListener};

/// An address that Envoy could not listen on, or would share.
#[derive(Debug, thiserror::Error)]
#[error("{whose}: {}", told(*address, error))]
pub struct PortTaken {
    /// Whose address it is, as people know it: `listener default/gw/http` ….
    pub whose: String,
    /// The address.
    pub address: SocketAddr,
    /// What is in the way.
    pub error: io::Error,
}

/// Tries to listen on each address, for a moment; tells those where that fails.
pub fn probe<'a>(addresses: impl IntoIterator<Item = (&'a str, SocketAddr)>) -> Vec<PortTaken> {
    let taken = |(whose, address): (&str, SocketAddr)| {
        let error = TcpListener::bind(address).err()?;
        Some(PortTaken { whose: whose.to_owned(), address, error })
    };
    addresses.into_iter().filter_map(taken).collect()
}

fn told(address: SocketAddr, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => format!("{address} is in use by another program"),
        io::ErrorKind::PermissionDenied => {
            format!("no permission to listen on {address}: ports below 1024 need a privilege")
        }
        io::ErrorKind::AddrNotAvailable => format!("{address} is no address of this machine"),
        _ => format!("cannot listen on {address}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taken_addresses_are_told_with_their_listener() {
        let holder = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = holder.local_addr().unwrap();
        let elsewhere = SocketAddr::from(([192, 0, 2, 1], 1));
        let asked = [("listener a", taken), ("b", ([127, 0, 0, 1], 0).into()), ("c", elsewhere)];
        let told: Vec<_> = probe(asked).iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                format!("listener a: {taken} is in use by another program"),
                "c: 192.0.2.1:1 is no address of this machine".to_owned(),
            ]
        );
    }
}
