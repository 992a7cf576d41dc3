//! What a gRPC port does with clients that fall silent before HTTP/2 begins, and after.

use std::net::Ipv4Addr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, pause, sleep};

use super::*;

/// HTTP/2's preface, and an empty SETTINGS frame, which follows it.
const HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";

/// The answer to that frame.
const SETTINGS_ACK: [u8; 9] = [0, 0, 0, 4, 1, 0, 0, 0, 0];

/// Says `hello` to a gRPC port and then nothing. Returns how many seconds the connection is kept.
async fn kept_s(hello: &[u8]) -> u64 {
    let listener = bind("a test", None, 0).await.unwrap();
    let at = (Ipv4Addr::LOCALHOST, listener.local_addr().unwrap().port());
    let flag = || watch::Sender::new(false).subscribe();
    let health = Readiness::new(flag(), flag(), flag()).into_server();
    let incoming = Acceptor::new(sockets(listener), None).connections();
    let client = async {
        let began = Instant::now();
        let mut socket = TcpStream::connect(at).await.unwrap();
        socket.write_all(hello).await.unwrap();
        let mut frame = [0; 9];
        while hello == HELLO && frame != SETTINGS_ACK {
            socket.read_exact(&mut frame).await.unwrap();
            socket.read_exact(&mut vec![0; usize::from(frame[2])]).await.unwrap();
        }
        // Not before the server has read everything: a paused clock does not wait for what a task is yet to read.
        pause();
        // A reset is an end as well.
        let _ = socket.read_to_end(&mut Vec::new()).await;
        began.elapsed().as_secs()
    };
    tokio::select! {
        end = grpc().add_service(health).serve_with_incoming(incoming) => panic!("listeners do not end: {end:?}"),
        kept_s = client => kept_s,
        () = sleep(Duration::from_secs(3600)) => panic!("kept for an hour"),
    }
}

/// Fails unless the connection is kept this long, or a little longer: until the clock is paused, it goes on.
async fn assert_kept(hello: &[u8], least_s: u64) {
    let kept_s = kept_s(hello).await;
    assert!((least_s..least_s + 5).contains(&kept_s), "{kept_s} s, expected {least_s}");
}

#[tokio::test]
async fn clients_that_never_begin_http2_are_cut() {
    assert_kept(b"", 10).await;
}

#[tokio::test]
async fn clients_that_stop_within_the_preface_are_cut() {
    assert_kept(&HELLO[..23], 10).await;
}

#[tokio::test]
async fn clients_that_answer_no_ping_are_cut() {
    // The ping comes after 30 s; its answer may take ten more.
    assert_kept(HELLO, 40).await;
}
