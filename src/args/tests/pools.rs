//! `--pool`: how often it may stand, what it goes with, and the pools that are served.

use super::{refusal, with, with_env};

#[test]
fn each_of_several_pools_is_served_and_the_last_of_other_flags_counts() {
    let line = ["--pool=d/a", "--grpc-port=1", "--pool", "e/a,port=2", "--grpc-port=3"];
    let args = with_env(&line, &[]).unwrap();
    let served: Vec<_> = args.served().iter().map(|pool| (pool.full_name(), pool.port)).collect();
    assert_eq!(served, [("d/a".to_owned(), None), ("e/a".to_owned(), Some(2))]);
    assert_eq!(args.listeners.grpc_port, 3);
    let one = with(&["--pool-namespace=n", "--endpoints-file=f"]).unwrap().served();
    assert_eq!((one.len(), one[0].full_name().as_str(), one[0].port), (1, "n/p", None));
    assert_eq!(one[0].endpoints_file.as_deref(), Some(std::path::Path::new("f")));
}

#[test]
fn pools_that_contradict_are_refused() {
    for (line, said) in [
        (&["--pool=d/a", "--pool-name=a"][..], "--pool and --pool-name each say what the pool is"),
        (&["--pool=d/a", "--pool-namespace=d"], "--pool and --pool-namespace each say"),
        (&["--pool=d/a", "--endpoints-file=f"], "--pool and --endpoints-file each say"),
        (
            &["--pool=d/a", "--endpoint-selector=a=b", "--endpoint-target-ports=1"],
            "--pool and --endpoint-selector each say",
        ),
        (&["--pool=d/a", "--pool=d/a,port=1"], "--pool d/a is given twice"),
        (&["--pool=d/a,port=1", "--pool=d/b,port=1"], "--pool d/b: port 1 is that of d/a"),
        (&["--pool=d/a,port=9002"], "--pool d/a: port 9002 is that of --grpc-port"),
        (&["--pool=a"], "expected NAMESPACE/NAME"),
        (&[], "--pool-name"),
    ] {
        let told = refusal(with_env(line, &[]));
        assert!(told.contains(said), "{line:?}: {told}");
        assert_eq!(told.lines().filter(|line| line.starts_with("--pool")).count().max(1), 1, "{told}");
    }
    let chosen = [&["--pool=d/a,port=0", "--pool=d/b,port=0"][..]];
    assert!(chosen.iter().all(|line| with_env(line, &[]).is_ok()), "ports of the system's choice");
}
