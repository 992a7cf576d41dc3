//! Tests of lives and their ends, with small programs in Envoy's place.

use std::os::unix::process::ExitStatusExt;

use super::*;

const SIGKILL: i32 = 9;

fn spawned(script: &str) -> (Process, Arc<Words>) {
    let words = Arc::new(Words::default());
    let arguments = ["-c", script].map(OsString::from);
    (Process::spawn(Path::new("/bin/sh"), &arguments, &words).unwrap(), words)
}

#[tokio::test]
async fn id_status_and_last_words_are_the_programs_own() {
    let (mut process, words) = spawned("echo $$ >&2; echo access; echo '[info][main] x' >&2; exit 3");
    let pid = process.pid().unwrap();
    assert_eq!(process.ended().await.unwrap().code(), Some(3));
    assert_eq!(words.last(), [pid.to_string(), "[info][main] x".to_owned()]);
    assert_eq!((process.pid(), process.ended().await.unwrap().code()), (None, Some(3)));

    let (mut process, _) = spawned("kill -9 $$");
    assert_eq!(process.ended().await.unwrap().signal(), Some(SIGKILL));

    let words = Arc::new(Words::default());
    let mut process = Process::spawn(Path::new("/no/such/envoy"), &[], &words).unwrap();
    assert!(!process.ended().await.unwrap().success());
    assert!(words.last().iter().any(|line| line.contains("/no/such/envoy")), "{:?}", words.last());
}

#[tokio::test]
async fn the_end_of_our_pipe_ends_the_program() {
    let (mut process, _) = spawned("while :; do sleep 1000; done");
    drop(process.leash.take());
    assert_eq!(process.ended().await.unwrap().signal(), Some(SIGKILL));
}

#[tokio::test]
async fn the_watcher_ends_with_the_program_and_kills_nobody_then() {
    // The watcher is the one child; it must be gone for the pipe to its output to end.
    let (mut process, words) = spawned("echo first >&2; exit 0");
    assert!(process.ended().await.unwrap().success());
    assert!(process.leash.is_none());
    assert!(process.readers.is_empty(), "all was read");
    assert_eq!(words.last(), ["first"]);
}

#[tokio::test]
async fn killing_waits_for_the_end() {
    let (mut process, _) = spawned("exec sleep 1000");
    process.kill().await;
    assert_eq!(process.pid(), None);
    process.kill().await;
}
