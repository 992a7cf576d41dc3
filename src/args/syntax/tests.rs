//! The syntax, spelling by spelling.

use super::super::flags::FLAGS;
use super::*;

/// The flags of all versions.
fn grammar() -> Grammar {
    let mut grammar = Grammar::default();
    for flag in FLAGS {
        for name in [Some(flag.name), flag.camel].into_iter().flatten() {
            grammar.add(name, Known { flag: flag.name.to_owned(), kind: flag.kind, repeats: false });
        }
    }
    grammar.add_subcommand("sim");
    grammar
}

fn read_words(words: &[&str]) -> Result<Line, SyntaxError> {
    read(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>(), &grammar())
}

/// `flag=value` of each flag, and the notes.
fn served(words: &[&str]) -> (Vec<String>, Vec<String>) {
    match read_words(words) {
        Ok(Line::Serve { given, notes }) => {
            (given.iter().map(|given| format!("{}={}", given.flag, given.value)).collect(), notes)
        }
        other => panic!("{words:?}: {other:?}"),
    }
}

#[test]
fn gos_and_gnus_spellings_mean_the_same() {
    for words in [
        &["-pool-name", "x"][..],
        &["--pool-name", "x"],
        &["-pool-name=x"],
        &["--pool-name=x"],
        &["-poolName", "x"],
        &["--poolName", "x"],
        &["-poolName=x"],
        &["--poolName=x"],
    ] {
        assert_eq!(served(words), (vec!["pool-name=x".to_owned()], vec![]), "{words:?}");
    }
    for words in [&["-v", "4"][..], &["-v=4"], &["-v4"], &["--v=4"], &["--v", "4"], &["-v", "0x4"]] {
        assert_eq!(served(words), (vec!["v=4".to_owned()], vec![]), "{words:?}");
    }
}

#[test]
fn values_are_taken_as_they_stand() {
    for (words, want) in [
        (&["--lora-info-metric", ""][..], "lora-info-metric="),
        (&["--lora-info-metric="], "lora-info-metric="),
        (&["-loraInfoMetric", ""], "lora-info-metric="),
        (&["--config-text", "a: b=c\n-d"], "config-text=a: b=c\n-d"),
        (&["--config-text=a=b"], "config-text=a=b"),
        (&["-v", "-1"], "v=-1"),
        (&["--grpc-port", "0x2329"], "grpc-port=9001"),
        (&["--pool-name", "-"], "pool-name=-"),
        (&["--pool-name", "-unknown"], "pool-name=-unknown"),
        (&["--secure-serving"], "secure-serving=true"),
        (&["--secure-serving=F"], "secure-serving=false"),
        (&["-secureServing=0"], "secure-serving=false"),
        (&["-enablePprof=TRUE"], "enable-pprof=true"),
    ] {
        assert_eq!(served(words), (vec![want.to_owned()], vec![]), "{words:?}");
    }
}

#[test]
fn the_last_of_equal_flags_counts() {
    let words = ["--v", "1", "--pool-name=x", "-v=3"];
    assert_eq!(served(&words).0, ["pool-name=x", "v=3"]);
}

#[test]
fn two_names_of_a_flag_must_agree() {
    assert_eq!(served(&["-poolName", "x", "--pool-name=x"]).0, ["pool-name=x"]);
    assert_eq!(served(&["--secure-serving=1", "-secureServing"]).0, ["secure-serving=true"]);
    let both = [served(&["--grpc-port=1", "-grpcPort", "1"]), served(&["-grpcPort", "1", "--grpc-port=1"])];
    assert_eq!(both[0], both[1]);
    let refused = read_words(&["-poolName", "x", "--v=2", "--pool-name=y"]).unwrap_err().to_string();
    let want = "-poolName is `x` and --pool-name is `y`, which are the same flag: remove one of them";
    assert_eq!(refused, want);
}

#[test]
fn a_separate_truth_value_is_taken_with_a_word_of_warning_or_refused_where_go_ruled() {
    let (flags, notes) = served(&["--secure-serving", "false", "--v", "3"]);
    assert_eq!(flags, ["secure-serving=false", "v=3"]);
    assert!(notes.len() == 1 && notes[0].contains("--secure-serving=false"), "{notes:?}");
    for words in [["-secureServing", "false"], ["--enablePprof", "0"]] {
        let refused = read_words(&words).unwrap_err().to_string();
        assert!(refused.contains(&format!("write {}={}", words[0], words[1])), "{refused}");
    }
}

#[test]
fn words_that_are_no_flags_are_told_and_ignored() {
    let (flags, notes) = served(&["--v=3", "stray", "", "--pool-name=x", "--", "--v=5", "more"]);
    assert_eq!(flags, ["v=3", "pool-name=x"]);
    assert_eq!(notes.len(), 4, "{notes:?}");
    assert!(notes[0].contains("`stray`"));
}

#[test]
fn help_and_version_are_found_in_every_spelling() {
    for (words, want) in [
        (&["-h"][..], Line::Help { long: false }),
        (&["--h"], Line::Help { long: false }),
        (&["--help"], Line::Help { long: true }),
        (&["-help"], Line::Help { long: true }),
        (&["--v=3", "--help"], Line::Help { long: true }),
        (&["--version"], Line::Version),
        (&["-V"], Line::Version),
    ] {
        assert_eq!(read_words(words), Ok(want), "{words:?}");
    }
}

#[test]
fn what_cannot_be_read_is_refused_with_what_was_expected() {
    for (words, told) in [
        (&["--pool-nam", "x"][..], "unknown flag --pool-nam, did you mean `pool-name`?"),
        (&["-poolNam=x"], "unknown flag -poolNam, did you mean `poolName`?"),
        (&["---v"], "unknown flag ---v"),
        (&["-=x"], "unknown flag -"),
        (&["-vv"], "unknown flag -vv"),
        (&["--v4"], "unknown flag --v4"),
        (&["--pool-name"], "--pool-name needs a value, found the end of the line"),
        (&["--pool-name", "--v"], "--pool-name needs a value, found the flag --v"),
        (&["--pool-name", "-grpcPort=1"], "--pool-name needs a value, found the flag -grpcPort=1"),
        (&["-grpcPort", "x"], "invalid value `x` for -grpcPort: expected an integer"),
        (&["--secure-serving="], "invalid value `` for --secure-serving: expected true or false"),
        (&["--secure-serving=yes"], "invalid value `yes` for --secure-serving: expected true or false"),
        (&["--refresh-prometheus-metrics-interval=5"], "expected a duration such as 50ms"),
        (&["--zap-stacktrace-level=warn"], "expected one of info, error, panic"),
        (&["--v=3", "sim", "serve"], "the subcommand sim must come first"),
    ] {
        let error = read_words(words).unwrap_err().to_string();
        assert!(error.contains(told), "{words:?}: {error}");
    }
}

mod arbitrary {
    use proptest::prelude::*;

    proptest! {
        /// Invariant 6.
        #[test]
        fn no_words_panic(words in proptest::collection::vec("(-{0,3}[vh=aé]{0,4}|-v=?[0-9_x]{0,4}|--secure-serving|true|\\PC{0,8})", 0..6)) {
            let _ = super::super::read(&words, &super::grammar());
        }
    }
}
