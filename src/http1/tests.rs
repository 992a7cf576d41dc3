//! Clients that ask, that stop in the middle, that stay, and that are too many.

use std::pin::pin;

use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};

use super::*;
use crate::sockets::sockets;

const SILENCE: Duration = Duration::from_secs(30);

const ASK: &[u8] = b"GET / HTTP/1.1\r\nhost: epp\r\n\r\n";

/// Runs `client` beside a server of at most `connections`; the server's page tells the client its own address.
async fn beside<T>(connections: usize, client: impl AsyncFnOnce(SocketAddr) -> T) -> T {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let page = async |ConnectInfo(peer): ConnectInfo<SocketAddr>| format!("you are {peer}!");
    let router = Router::new().route("/", get(page));
    let server = serve(sockets(listener), Limits { connections, silence: SILENCE }, router);
    tokio::select! {
        () = server => unreachable!("listeners do not end"),
        got = timeout(Duration::from_secs(3600), client(at)) => got.expect("within an hour"),
    }
}

/// Sends a request and reads its answer.
async fn ask(socket: &mut TcpStream) -> String {
    socket.write_all(ASK).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"!") {
        answer.push(socket.read_u8().await.unwrap());
    }
    String::from_utf8(answer).unwrap()
}

/// Waits until the server closes the connection, whatever it says before.
async fn closed(socket: &mut TcpStream) {
    let mut rest = Vec::new();
    // A reset is an end as well.
    let _ = socket.read_to_end(&mut rest).await;
}

#[tokio::test(start_paused = true)]
async fn a_head_that_does_not_end_is_waited_for_until_the_deadline() {
    for begun in [&b""[..], b"GET / HT", &ASK[..ASK.len() - 1]] {
        beside(8, async |at| {
            let mut socket = TcpStream::connect(at).await.unwrap();
            socket.write_all(begun).await.unwrap();
            let began = Instant::now();
            closed(&mut socket).await;
            assert_eq!(began.elapsed().as_secs(), SILENCE.as_secs(), "after {} bytes", begun.len());
        })
        .await;
    }
}

#[tokio::test]
async fn a_client_that_asks_again_in_time_stays() {
    beside(8, async |at| {
        let mut socket = TcpStream::connect(at).await.unwrap();
        let own = socket.local_addr().unwrap();
        for _ in 0..3 {
            let answer = ask(&mut socket).await;
            assert!(answer.ends_with(&format!("you are {own}!")), "{answer}");
            tokio::time::pause();
            let mut byte = [0];
            let silent = pin!(socket.read(&mut byte));
            assert!(timeout(SILENCE.mul_f64(0.9), silent).await.is_err(), "closed too early");
            tokio::time::resume();
        }
        tokio::time::pause();
        let began = Instant::now();
        closed(&mut socket).await;
        assert!(began.elapsed() <= SILENCE.mul_f64(0.1));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn silent_clients_lock_others_out_only_until_their_deadline() {
    beside(2, async |at| {
        let _silent = [TcpStream::connect(at).await.unwrap(), TcpStream::connect(at).await.unwrap()];
        let began = Instant::now();
        ask(&mut TcpStream::connect(at).await.unwrap()).await;
        assert!(began.elapsed() >= SILENCE);
    })
    .await;
}
