//! Clients that are quick, slow, silent, or of the wrong kind; and a listener that fails.

use std::net::SocketAddr;
use std::pin::pin;

use prometheus::Registry;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::transport::server::Connected;

use super::*;
use crate::tls::testing::{cert_path, connect, pair, write};

const HOUR: Duration = Duration::from_secs(3600);

/// A listener with its address, and TLS with the pair that it shows.
async fn listen() -> (TcpListener, SocketAddr, Tls, (String, String)) {
    let folder = tempfile::tempdir().unwrap();
    let pair = pair(2040);
    write(folder.path(), &pair);
    let (tls, _) = crate::tls::open(&cert_path(folder.path()), HOUR, &Registry::new()).unwrap().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    (listener, at, tls, pair)
}

/// Polls `acceptor` until `client` has ended and `noticed` holds of the number of connections that became ready: a
/// client knows the end of a handshake before the server does. Returns what the client got.
async fn beside<T>(
    acceptor: Acceptor<TcpIncoming>,
    client: impl Future<Output = T>,
    noticed: impl Fn(usize) -> bool,
) -> T {
    let mut ready = Vec::new();
    let (mut connections, mut client) = (pin!(acceptor.connections()), pin!(client));
    let both = async {
        let got = loop {
            tokio::select! {
                connection = connections.next() => ready.push(connection.unwrap()),
                got = &mut client => break got,
            }
        };
        while !noticed(ready.len()) {
            tokio::select! {
                connection = connections.next() => ready.push(connection.unwrap()),
                () = tokio::task::yield_now() => {}
            }
        }
        got
    };
    timeout(Duration::from_secs(60), both).await.expect("within a minute")
}

#[tokio::test]
async fn bytes_and_addresses_pass_with_and_without_tls() {
    for secure in [false, true] {
        let (listener, at, tls, pair) = listen().await;
        let mut connections = pin!(Acceptor::new(sockets(listener), secure.then_some(tls)).connections());
        let client = async {
            let mut echoed = [0; 4];
            if secure {
                let mut stream = connect(at, &pair, &["h2"]).await.unwrap();
                stream.write_all(b"ping").await.unwrap();
                stream.read_exact(&mut echoed).await.unwrap();
                (echoed, stream.get_ref().0.local_addr().unwrap())
            } else {
                let mut stream = TcpStream::connect(at).await.unwrap();
                stream.write_all(b"ping").await.unwrap();
                stream.read_exact(&mut echoed).await.unwrap();
                (echoed, stream.local_addr().unwrap())
            }
        };
        let server = async {
            let mut connection = connections.next().await.unwrap().unwrap();
            let mut got = [0; 4];
            connection.read_exact(&mut got).await.unwrap();
            connection.write_all(&got).await.unwrap();
            connection.flush().await.unwrap();
            let info = connection.connect_info();
            connection.shutdown().await.unwrap();
            (info.remote_addr(), info.local_addr())
        };
        let ((echoed, own), (remote, local)) = tokio::join!(client, server);
        assert_eq!((&echoed, remote, local), (b"ping", Some(own), Some(at)), "TLS: {secure}");
    }
}

#[tokio::test]
async fn http2_is_chosen_or_assumed_and_nothing_else() {
    for (offered, chosen) in [
        (vec!["h2"], Some("h2")),
        (vec!["http/1.1", "h2"], Some("h2")),
        (vec![], Some("")),
        (vec!["http/1.1"], None),
    ] {
        let (listener, at, tls, pair) = listen().await;
        let metrics = tls.metrics.clone();
        let noticed =
            |n_ready| (n_ready, metrics.failed.get()) == if chosen.is_some() { (1, 0) } else { (0, 1) };
        let acceptor = Acceptor::new(sockets(listener), Some(tls));
        let stream = beside(acceptor, connect(at, &pair, &offered), noticed).await;
        let protocol = stream.ok().map(|stream| {
            String::from_utf8(stream.get_ref().1.alpn_protocol().unwrap_or_default().to_vec()).unwrap()
        });
        assert_eq!(protocol.as_deref(), chosen, "{offered:?}");
    }
}

#[tokio::test]
async fn silent_clients_hold_nobody_up_and_the_oldest_makes_room() {
    let (listener, at, tls, pair) = listen().await;
    let metrics = tls.metrics.clone();
    let limits = Limits { handshakes: 3, deadline: HOUR, patience: Duration::ZERO };
    let acceptor = Acceptor::with(TcpIncoming::from(listener), Some(tls), limits);
    let clients = async {
        let mut silent = Vec::new();
        for n_silent in 1..=6 {
            let mut socket = TcpStream::connect(at).await.unwrap();
            // Half of them begin to say something: a record of a handshake, cut off.
            if n_silent % 2 == 0 {
                socket.write_all(&[22, 3, 1, 2, 0, 1]).await.unwrap();
            }
            silent.push(socket);
            connect(at, &pair, &["h2"]).await.expect("others are served");
        }
        let mut byte = [0];
        // The first was put out, the last is still there.
        assert!(matches!(silent[0].read(&mut byte).await, Ok(0) | Err(_)));
        assert!(silent[5].try_read(&mut byte).is_err());
    };
    beside(acceptor, clients, |n_ready| n_ready == 6 && metrics.displaced.get() >= 4).await;
}

#[tokio::test]
async fn a_crowd_waits_while_nobody_is_out_of_patience() {
    let (listener, at, tls, pair) = listen().await;
    let metrics = tls.metrics.clone();
    let limits = Limits { handshakes: 2, deadline: HOUR, patience: HOUR };
    let acceptor = Acceptor::with(TcpIncoming::from(listener), Some(tls), limits);
    let crowd = futures_util::future::join_all((0..40).map(|_| connect(at, &pair, &["h2"])));
    let streams = beside(acceptor, crowd, |n_ready| n_ready == 40).await;
    assert!(streams.iter().all(Result::is_ok));
    assert_eq!(metrics.displaced.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_handshake_ends_at_its_deadline() {
    let (listener, at, tls, _) = listen().await;
    let metrics = tls.metrics.clone();
    let began = Instant::now();
    let silent = async {
        let mut socket = TcpStream::connect(at).await.unwrap();
        socket.read(&mut [0]).await
    };
    let acceptor = Acceptor::new(sockets(listener), Some(tls));
    let read = beside(acceptor, silent, |n_ready| (n_ready, metrics.timeout.get()) == (0, 1)).await;
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    assert!(began.elapsed() >= LIMITS.deadline);
}

#[tokio::test(start_paused = true)]
async fn errors_of_the_listener_are_waited_out() {
    const EMFILE: i32 = 24;
    let (listener, at, _, _) = listen().await;
    let _client = TcpStream::connect(at).await.unwrap();
    let (socket, _) = listener.accept().await.unwrap();
    let errors = (0..20).map(|_| Err(io::Error::from_raw_os_error(EMFILE)));
    let sockets = stream::iter(errors.chain([Ok(socket)]));
    let began = Instant::now();
    let mut connections = pin!(Acceptor::with(sockets, None, LIMITS).connections());
    assert!(matches!(connections.next().await, Some(Ok(Connection::Plain(_)))));
    // 5, 10, 20 … 640 ms are eight pauses, then twelve of a second.
    assert_eq!(began.elapsed().as_millis(), 1275 + 12_000);
    assert!(connections.next().await.is_none());
}
