//! Clients that are quick, slow, silent, or of the wrong kind.

use std::net::SocketAddr;
use std::pin::pin;

use prometheus::Registry;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::yield_now;
use tonic::transport::server::Connected;

use super::*;
use crate::sockets::sockets;
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
    acceptor: Acceptor,
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
                () = yield_now() => {}
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
    let acceptor = Acceptor::with(sockets(listener), Some(tls), limits);
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
            // The client is done before the server is, which must not be out of patience meanwhile.
            while metrics.ok.get() < n_silent {
                yield_now().await;
            }
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
    let acceptor = Acceptor::with(sockets(listener), Some(tls), limits);
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

/// Reads until that fails or the client has closed, or nothing came for an hour.
async fn read_all(connection: &mut Connection) -> Option<io::ErrorKind> {
    let mut some = [0; 8];
    loop {
        match timeout(HOUR, connection.read(&mut some)).await {
            Ok(Ok(0)) => return Some(io::ErrorKind::UnexpectedEof),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Some(error.kind()),
            Err(_) => return None,
        }
    }
}

#[tokio::test]
async fn the_preface_has_a_deadline_in_clear_text_and_over_tls() {
    for (n_bytes, every_ms, in_time) in
        [(0, 0, false), (23, 0, false), (24, 0, true), (30, 300, true), (30, 600, false)]
    {
        for secure in [false, true] {
            let (listener, at, tls, pair) = listen().await;
            let mut connections = pin!(Acceptor::new(sockets(listener), secure.then_some(tls)).connections());
            // Bytes that the kernel holds back are late by a paused clock.
            let client = async {
                let stream: Box<dyn AsyncWrite + Unpin> = if secure {
                    let stream = connect(at, &pair, &["h2"]).await.unwrap();
                    stream.get_ref().0.set_nodelay(true).unwrap();
                    Box::new(stream)
                } else {
                    let stream = TcpStream::connect(at).await.unwrap();
                    stream.set_nodelay(true).unwrap();
                    Box::new(stream)
                };
                stream
            };
            let began = Instant::now();
            let (mut stream, connection) = tokio::join!(client, connections.next());
            // Paused clocks pass over handshakes, which are tasks of their own.
            tokio::time::pause();
            let writes = async {
                for _ in 0..n_bytes {
                    tokio::time::sleep(Duration::from_millis(every_ms)).await;
                    // Who was cut may notice.
                    let _ = stream.write_all(b"x").await;
                    let _ = stream.flush().await;
                }
            };
            let mut connection = connection.unwrap().unwrap();
            let read = async { (read_all(&mut connection).await, began.elapsed().as_secs()) };
            let ((), (failure, took_s)) = tokio::join!(writes, read);
            tokio::time::resume();
            let what = format!("{n_bytes} bytes, every {every_ms} ms, TLS: {secure}");
            assert_eq!(failure, (!in_time).then_some(io::ErrorKind::TimedOut), "{what}");
            assert!(in_time || (10..12).contains(&took_s), "{what}: {took_s} s");
        }
    }
}
